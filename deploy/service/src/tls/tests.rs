use std::sync::Mutex;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tracing::Subscriber;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::*;

const HOST: &str = "node.test";

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self {
            issuer: Issuer::new(params, key),
            pem,
            der,
        }
    }

    /// A certificate until the end of the year before `end`, and its key.
    fn sign(&self, end: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(end, 1, 1);
        (
            params.signed_by(&key, &self.issuer).unwrap().pem(),
            key.serialize_pem(),
        )
    }
}

struct Place {
    _directory: TempDir,
    files: Files,
}

impl Place {
    fn new((certificate, key): &(String, String)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files = Files {
            certificates: directory.path().join("cert.pem"),
            key: directory.path().join("key.pem"),
            client_authorities: None,
        };
        let place = Self {
            _directory: directory,
            files,
        };
        place.put(certificate, key);
        place
    }

    fn put(&self, certificate: &str, key: &str) {
        std::fs::write(&self.files.certificates, certificate).unwrap();
        std::fs::write(&self.files.key, key).unwrap();
    }

    fn load(&self) -> Result<Tls, TlsError> {
        Tls::load(self.files.clone(), &["h2", "http/1.1"], SystemTime::now())
    }
}

fn client(authority: &Authority, own: Option<&(String, String)>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(Path::new("own"), certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A resumed session shows the certificate of its first handshake.
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// One connection; the certificate the server showed.
async fn connect(tls: &Tls, client: Arc<ClientConfig>) -> io::Result<Vec<u8>> {
    let (near, far) = tokio::io::duplex(16 * 1024);
    let acceptor = TlsAcceptor::from(tls.server_config());
    let server = tokio::spawn(async move {
        let mut stream = acceptor.accept(far).await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await
    });
    let name = ServerName::try_from(HOST).unwrap();
    let mut stream = TlsConnector::from(client).connect(name, near).await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    server.await.unwrap()?;
    assert_eq!(said, "hello");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    Ok(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec())
}

fn der((certificate, _): &(String, String)) -> Vec<u8> {
    CertificateDer::from_pem_slice(certificate.as_bytes())
        .unwrap()
        .to_vec()
}

#[tokio::test]
async fn a_new_certificate_is_used_and_a_broken_one_is_not() {
    let authority = Authority::new();
    let (first, second, expired) = (
        authority.sign(2100),
        authority.sign(2200),
        authority.sign(2001),
    );
    let place = Place::new(&first);
    let mut tls = place.load().unwrap();
    let expiry = tls.expiry();
    let client = client(&authority, None);
    assert_eq!(
        connect(&tls, Arc::clone(&client)).await.unwrap(),
        der(&first)
    );
    let before = expiry.at();

    let warnings = Warnings::default();
    let _guard =
        tracing::subscriber::set_default(tracing_subscriber::registry().with(warnings.clone()));
    let now = SystemTime::now();
    let broken = [
        ("no certificate at all", first.1.as_str()),
        (expired.0.as_str(), expired.1.as_str()),
        (second.0.as_str(), first.1.as_str()),
    ];
    for (count, (certificate, key)) in broken.into_iter().enumerate() {
        place.put(certificate, key);
        for _ in 0..3 {
            tls.look(now);
        }
        assert_eq!(
            connect(&tls, Arc::clone(&client)).await.unwrap(),
            der(&first)
        );
        assert_eq!(warnings.count(), count + 1, "one complaint for each");
    }

    place.put(&second.0, &second.1);
    tls.look(now);
    assert_eq!(connect(&tls, client).await.unwrap(), der(&second));
    assert_eq!(warnings.count(), broken.len());
    assert!(expiry.at() > before);
}

#[tokio::test(start_paused = true)]
async fn files_are_looked_at_without_being_asked() {
    let authority = Authority::new();
    let (first, second) = (authority.sign(2100), authority.sign(2200));
    let place = Place::new(&first);
    let tls = place.load().unwrap();
    let expiry = tls.expiry();
    let before = expiry.at();
    let stop = CancellationToken::new();
    let watching = tokio::spawn(tls.watch(stop.clone()));
    place.put(&second.0, &second.1);
    tokio::time::timeout(3 * LOOK_EVERY, async {
        while expiry.at() == before {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await
    .unwrap();
    stop.cancel();
    watching.await.unwrap().unwrap();
}

#[test]
fn what_cannot_be_used_is_said_at_start() {
    let authority = Authority::new();
    let good = authority.sign(2100);
    let check = |certificate: &str, key: &str, expected: &str| {
        let place = Place::new(&(certificate.to_owned(), key.to_owned()));
        let said = Chain(&place.load().unwrap_err()).to_string();
        assert!(said.contains(expected), "{said}");
    };
    let expired = authority.sign(2001);
    check(
        &expired.0,
        &expired.1,
        "cert.pem expired at 978307200 s since 1970",
    );
    check("", &good.1, "cert.pem has no certificate");
    check(&good.0, "", "key.pem is not usable PEM");
    check(&good.0, &authority.sign(2100).1, "do not belong together");

    let place = Place::new(&good);
    std::fs::remove_file(&place.files.key).unwrap();
    let said = Chain(&place.load().unwrap_err()).to_string();
    assert!(
        said.starts_with("cannot read ") && said.contains("key.pem: "),
        "{said}"
    );
}

#[tokio::test]
async fn clients_are_asked_for_a_certificate_of_the_right_authority() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut place = Place::new(&authority.sign(2100));
    let path = place.files.key.with_file_name("clients.pem");
    std::fs::write(&path, &authority.pem).unwrap();
    place.files.client_authorities = Some(path);
    let tls = place.load().unwrap();
    let (known, unknown) = (authority.sign(2100), stranger.sign(2100));
    assert!(
        connect(&tls, client(&authority, Some(&known)))
            .await
            .is_ok()
    );
    assert!(
        connect(&tls, client(&authority, Some(&unknown)))
            .await
            .is_err()
    );
    assert!(connect(&tls, client(&authority, None)).await.is_err());
}

/// Counts warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<usize>>);

impl Warnings {
    fn count(&self) -> usize {
        *self.0.lock().unwrap()
    }
}

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == tracing::Level::WARN {
            *self.0.lock().unwrap() += 1;
        }
    }
}
