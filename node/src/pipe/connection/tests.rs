//! Who is let in and who is not, over real QUIC on the loopback interface.

use std::net::Ipv4Addr;
use std::path::Path as FilePath;

use pipemesh_proto::auth::PipeKey;
use pipemesh_topology::{NodeRecord, NodeState, PipeAddress, Snapshot};
use rcgen::{CertificateParams, DnType, Issuer, KeyPair, SanType, date_time_ymd};
use tokio::sync::watch;

use super::super::tls::TlsError;
use super::*;
use crate::config::ControlTls;

struct Side {
    own: Introduction,
    tls: Tls,
    endpoint: quinn::Endpoint,
}

impl Side {
    fn new(node: &str, tls: Tls) -> Self {
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        Self {
            own: Introduction {
                node: node.parse().unwrap(),
                region: "eu".parse().unwrap(),
                boot_id: 7,
            },
            endpoint: quinn::Endpoint::server(tls.server.clone(), address).unwrap(),
            tls,
        }
    }

    /// As the registry has it, if it has it right.
    fn record(&self) -> NodeRecord {
        self.record_as(self.own.node.as_str(), self.tls.key)
    }

    fn record_as(&self, id: &str, key: [u8; 32]) -> NodeRecord {
        let address = self.endpoint.local_addr().unwrap().to_string();
        NodeRecord {
            id: id.parse().unwrap(),
            region: self.own.region.clone(),
            grpc_address: String::new(),
            boot_id: self.own.boot_id,
            weight: 1,
            pipe: Some(PipeAddress::new([address], key).unwrap()),
            state: NodeState::Serving,
        }
    }

    async fn hears(&self, registry: &[NodeRecord]) -> Result<Established, Failed> {
        let incoming = self.endpoint.accept().await.unwrap();
        let narrow = Narrow::default();
        accept(incoming, &self.tls, &self.own, &peers(registry), &narrow).await
    }
}

fn peers(registry: &[NodeRecord]) -> Peers {
    let (_, nodes) = watch::channel(Arc::new(Snapshot::new(registry.to_vec())));
    Peers::new(nodes)
}

/// One calls the other, and each says whom it has met.
async fn meet(
    caller: &Side,
    called: &Side,
    registry: &[NodeRecord],
) -> [Result<Established, Failed>; 2] {
    let known = peers(registry);
    let expected = &called.own.node;
    let narrow = Narrow::default();
    let dialled = dial(
        &caller.endpoint,
        &caller.tls,
        &caller.own,
        &known,
        &narrow,
        expected,
    );
    let (dialled, heard) = tokio::join!(dialled, called.hears(registry));
    assert!(dialled.as_ref().is_ok_and(|it| it.dialled) || dialled.is_err());
    [dialled, heard]
}

/// One does not admit the other, and both learn of it. Answers what the two have to say.
async fn refused(caller: &Side, called: &Side, registry: &[NodeRecord]) -> [String; 2] {
    let mut said = Vec::new();
    for met in meet(caller, called, registry).await {
        let failed = match met {
            Ok(met) => Failed::Connection(met.connection.closed().await),
            Err(failed) => failed,
        };
        assert_eq!(failed.refusal(), Refusal::NotAdmitted, "{failed:?}");
        said.push(Chain(&failed).to_string());
    }
    said.try_into().unwrap()
}

async fn admitted(caller: &Side, called: &Side, registry: &[NodeRecord]) {
    let [dialled, heard] = meet(caller, called, registry).await;
    assert_eq!(dialled.ok().unwrap().node, called.own.node);
    assert_eq!(heard.ok().unwrap().node, caller.own.node);
}

// Certificates.

struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        Self { folder, issuer }
    }

    /// What a node has that is to be called `node`, and whose certificate says `name`.
    fn signs(&self, node: &str, name: SanType, last_year: i32) -> Result<Tls, TlsError> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let write = |name: &str, text: String| {
            let path = self.folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = ControlTls {
            certificates: write("node.pem", certificate.pem()),
            key: write("node.key", key.serialize_pem()),
            client_authorities: FilePath::join(self.folder.path(), "ca.pem"),
        };
        Tls::named(&files, &node.parse().unwrap(), &"eu".parse().unwrap())
    }

    /// Signed for this node and used by it.
    fn side(&self, node: &str) -> Side {
        Side::new(node, self.signs(node, uri(node), 2100).unwrap())
    }
}

fn uri(node: &str) -> SanType {
    SanType::URI(format!("pipemesh://eu/{node}").try_into().unwrap())
}

fn dns(node: &str) -> SanType {
    SanType::DnsName(node.to_owned().try_into().unwrap())
}

#[tokio::test]
async fn certificates_of_one_authority_let_in_whom_they_name() {
    let authority = Authority::new();
    let (a, b) = (authority.side("node-a"), authority.side("node-b"));
    let registry = [a.record(), b.record()];
    admitted(&a, &b, &registry).await;
    admitted(&b, &a, &registry).await;
    // Whatever key the registry has of it: who can write there is not believed.
    let registry = [
        a.record_as("node-a", [1; 32]),
        b.record_as("node-b", [2; 32]),
    ];
    admitted(&a, &b, &registry).await;
    let c = Side::new(
        "node-c",
        authority.signs("node-c", dns("node-c"), 2100).unwrap(),
    );
    admitted(&a, &c, &[c.record()]).await;
}

#[tokio::test]
async fn a_certificate_of_another_node_is_refused_on_both_sides() {
    let authority = Authority::new();
    let a = authority.side("node-a");
    // It has a certificate of the cluster, and calls itself somebody else.
    let tls = authority.signs("node-x", uri("node-x"), 2100).unwrap();
    let impostor = Side::new("node-b", tls);
    let registry = [a.record(), impostor.record()];
    for said in [
        refused(&a, &impostor, &registry).await,
        refused(&impostor, &a, &registry).await,
    ] {
        for said in said {
            let why = "its certificate does not name node node-b";
            assert!(said.contains(why), "{said}");
        }
    }
}

#[tokio::test]
async fn certificates_of_others_and_old_ones_are_refused_on_both_sides() {
    let (authority, other) = (Authority::new(), Authority::new());
    let a = authority.side("node-a");
    let strangers = [
        other.side("node-b"),
        Side::new("node-b", Tls::pinned(None).unwrap()),
        Side::new(
            "node-b",
            authority.signs("node-b", uri("node-b"), 2021).unwrap(),
        ),
    ];
    for stranger in strangers {
        let registry = [a.record(), stranger.record()];
        refused(&a, &stranger, &registry).await;
        refused(&stranger, &a, &registry).await;
    }
}

#[test]
fn a_node_does_not_start_with_a_certificate_of_another() {
    let error = Authority::new().signs("node-a", uri("node-b"), 2100);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("pipemesh://eu/node-a"), "{error}");
}

// Keys that the registry knows, and the secret.

fn pinned(node: &str, secret: Option<&str>) -> Side {
    let secret = secret.map(|text| PipeKey::new(format!("{text:-<32}").as_bytes()).unwrap());
    Side::new(node, Tls::pinned(secret).unwrap())
}

#[tokio::test]
async fn keys_are_those_that_the_registry_knows() {
    let (a, b) = (pinned("node-a", None), pinned("node-b", None));
    admitted(&a, &b, &[a.record(), b.record()]).await;
    let cases = [
        (
            vec![a.record(), b.record_as("node-b", [1; 32])],
            "the registry has of node node-b",
        ),
        (
            vec![a.record_as("node-a", [1; 32]), b.record()],
            "the registry has of node node-a",
        ),
        (vec![b.record()], "the registry does not know node node-a"),
    ];
    for (registry, why) in cases {
        let said = refused(&a, &b, &registry).await;
        assert!(said.iter().all(|said| said.contains(why)), "{said:?}");
    }
    // Somebody else answers at the address.
    let c = pinned("node-c", None);
    let misled = [a.record(), b.record(), b.record_as("node-c", b.tls.key)];
    let known = peers(&misled);
    let narrow = Narrow::default();
    let dialled = dial(&a.endpoint, &a.tls, &a.own, &known, &narrow, &c.own.node);
    let (dialled, _) = tokio::join!(dialled, b.hears(&misled));
    assert!(matches!(dialled, Err(Failed::Another { .. })));
}

#[tokio::test]
async fn who_has_another_secret_or_none_is_refused_on_both_sides() {
    let a = pinned("node-a", Some("ours"));
    let b = pinned("node-b", Some("ours"));
    admitted(&a, &b, &[a.record(), b.record()]).await;
    for stranger in [pinned("node-b", Some("theirs")), pinned("node-b", None)] {
        let registry = [a.record(), stranger.record()];
        for said in [
            refused(&a, &stranger, &registry).await,
            refused(&stranger, &a, &registry).await,
        ] {
            let why = "does not prove to have the cluster's secret";
            assert!(said.iter().all(|said| said.contains(why)), "{said:?}");
        }
    }
}

/// Says this as if it were node-a and nothing else, and answers what node-b makes of it.
async fn b_hears(
    a: &Side,
    b: &Side,
    says: impl AsyncFnOnce(&quinn::Connection, &mut SendStream),
) -> Result<Established, Failed> {
    let registry = [a.record(), b.record()];
    let address = b.endpoint.local_addr().unwrap().to_string();
    let calling = async {
        let (connection, ..) = connect(&a.endpoint, &a.tls, &Narrow::default(), &address)
            .await
            .unwrap();
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        says(&connection, &mut send).await;
        // Until it is answered, or sent away.
        let _ = read(&mut receive).await;
        (connection, send)
    };
    let (heard, _kept) = tokio::join!(b.hears(&registry), calling);
    heard
}

fn hello(side: &Side, connection: &quinn::Connection) -> Hello {
    Hello {
        version_min: PIPE_VERSION_MIN,
        version_max: PIPE_VERSION,
        node_id: side.own.node.to_string(),
        region: side.own.region.to_string(),
        boot_id: side.own.boot_id,
        proof: side.tls.prove(connection, &side.own.node),
    }
}

fn message(word: Word) -> BytesMut {
    let mut bytes = BytesMut::new();
    write(word, &mut bytes);
    bytes
}

#[tokio::test]
async fn a_proof_that_was_overheard_is_worth_nothing() {
    let (a, b) = (
        pinned("node-a", Some("ours")),
        pinned("node-b", Some("ours")),
    );
    let mut overheard = Vec::new();
    let first = b_hears(&a, &b, async |connection, send| {
        let hello = hello(&a, connection);
        overheard.clone_from(&hello.proof);
        send.write_all(&message(Word::Hello(hello))).await.unwrap();
    });
    assert!(first.await.is_ok());
    let again = b_hears(&a, &b, async |connection, send| {
        let proof = overheard.clone();
        let hello = Hello {
            proof,
            ..hello(&a, connection)
        };
        send.write_all(&message(Word::Hello(hello))).await.unwrap();
    });
    let failed = again.await.err().unwrap();
    assert!(
        matches!(failed, Failed::NotAdmitted(NotAdmitted::Proof)),
        "{failed:?}"
    );
    // Nor can anything be said before the handshake is done.
    let address = b.endpoint.local_addr().unwrap();
    let mut config = a.tls.client.clone();
    config.transport_config(Arc::new(
        transport(super::super::transport::Path::default()).0,
    ));
    let connecting = a
        .endpoint
        .connect_with(config, address, SERVER_NAME)
        .unwrap();
    assert!(connecting.into_0rtt().is_err());
}

#[tokio::test]
async fn versions_that_overlap_talk_and_others_are_told() {
    let (a, b) = (pinned("node-a", None), pinned("node-b", None));
    let versions = |min, max| {
        let (a, b) = (&a, &b);
        b_hears(a, b, async move |connection, send| {
            let hello = Hello {
                version_min: min,
                version_max: max,
                ..hello(a, connection)
            };
            send.write_all(&message(Word::Hello(hello))).await.unwrap();
        })
    };
    // The one before and the one after this, while a mesh is upgraded.
    assert!(versions(PIPE_VERSION_MIN, PIPE_VERSION + 1).await.is_ok());
    assert!(
        versions(PIPE_VERSION_MIN - 1, PIPE_VERSION_MIN)
            .await
            .is_ok()
    );
    for (min, max) in [
        (PIPE_VERSION + 1, PIPE_VERSION + 2),
        (0, PIPE_VERSION_MIN - 1),
    ] {
        let failed = versions(min, max).await.err().unwrap();
        assert_eq!(failed.refusal(), Refusal::Version, "{failed:?}");
        let text = failed.to_string();
        assert!(text.contains(&format!("{min} to {max}")), "{text}");
    }
}

#[tokio::test]
async fn words_of_a_later_version_are_left_out() {
    let (a, b) = (pinned("node-a", None), pinned("node-b", None));
    let heard = b_hears(&a, &b, async |connection, send| {
        let mut bytes = message(Word::Hello(hello(&a, connection)));
        // Field 1000, of wire type 2 (Protocol Buffers encoding), with three bytes.
        let unknown = [0xc2, 0x3e, 3, 1, 2, 3];
        bytes.put_u32(unknown.len() as u32);
        bytes.put_slice(&unknown);
        let subscription = 5;
        write(
            Word::Ended(pipemesh_proto::pipe::Ended { subscription }),
            &mut bytes,
        );
        send.write_all(&bytes).await.unwrap();
    });
    let mut heard = heard.await.ok().unwrap();
    let word = heard.words_in.recv().await.unwrap();
    assert!(matches!(word, Word::Ended(ended) if ended.subscription == 5));
}

#[tokio::test]
async fn who_does_not_introduce_itself_is_sent_away() {
    let (a, b) = (pinned("node-a", None), pinned("node-b", None));
    let too_long = ((LONGEST + 1) as u32).to_be_bytes();
    let no_message = [0, 0, 0, 2, 0xff, 0xff];
    let nothing = [0, 0, 0, 0];
    let another = message(Word::Ended(pipemesh_proto::pipe::Ended::default()));
    let cases: [&[u8]; 4] = [&too_long, &no_message, &nothing, &another];
    for says in cases {
        let heard = b_hears(&a, &b, async |_, send| send.write_all(says).await.unwrap());
        let failed = heard.await.err().unwrap();
        assert_eq!(failed.refusal(), Refusal::Protocol, "{says:?}: {failed:?}");
    }
    let heard = b_hears(&a, &b, async |connection, send| {
        let node_id = "not a node's id/".to_owned();
        let hello = Hello {
            node_id,
            ..hello(&a, connection)
        };
        send.write_all(&message(Word::Hello(hello))).await.unwrap();
    });
    assert!(matches!(heard.await.err(), Some(Failed::BadName(_))));
    // And who says nothing is not waited for.
    let heard = b_hears(&a, &b, async |_, send| send.write_all(&[0]).await.unwrap());
    assert!(matches!(heard.await.err(), Some(Failed::Silent)));
}

/// No datagram of the one gets through, or of the other: it cannot be told which. Whoever is called is to begin
/// small, too, when the next call comes.
#[tokio::test(start_paused = true)]
async fn both_ends_doubt_the_path_before_the_next_call() {
    let way = Duration::from_millis(150);
    let pause = Duration::from_millis(50);
    let address = Ipv4Addr::new(10, 0, 0, 7).into();
    let handshake = std::future::pending::<Result<(), ConnectionError>>;
    let (caller, called) = (Narrow::default(), Narrow::default());
    let mtu = |narrow: &Narrow| {
        let now = tokio::time::Instant::now().into_std();
        narrow.path(address, now).mtu
    };
    let hears = async {
        tokio::time::sleep(way).await;
        in_doubt(handshake(), address, &called).await.unwrap_err();
        std::future::pending::<()>().await;
    };
    let calls = async {
        let began = tokio::time::Instant::now();
        in_doubt(handshake(), address, &caller).await.unwrap_err();
        assert!(
            began.elapsed() < MEETING_WITHIN,
            "there may be another address"
        );
        tokio::time::sleep(pause).await;
        assert_eq!(mtu(&caller), 1200);
        tokio::time::sleep(way).await;
    };
    tokio::select! {
        () = hears => {}
        () = calls => {}
    }
    assert_eq!(mtu(&called), 1200);
}
