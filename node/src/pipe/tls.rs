//! Who is at the other end of a pipe: both sides show a certificate, over TLS 1.3.
//!
//! Either the certificates are signed by the cluster's authorities and name the node (a URI
//! `pipemesh://<region>/<node>`, or the node's id as a DNS name); or each node makes its own at every start,
//! and its key has to be the one that the registry has of it. In the second case nodes also prove to have
//! the cluster's secret, if there is one: who can write into the registry is not a node for that. Without
//! either, pipes are on the loopback interface only, like the control channel.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use pipemesh_proto::auth::PipeKey;
use pipemesh_proto::ids::{NodeId, Region};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use webpki::EndEntityCert;

use crate::config::ControlTls;

/// Names the protocol in the handshake (RFC 7301).
const PROTOCOL: &[u8] = b"pipemesh-pipe/1";
/// Certificates are not checked against it: nodes are not found by name.
pub(super) const SERVER_NAME: &str = "pipemesh";
/// What TLS exports the proof of the secret from (RFC 8446 section 7.5).
const EXPORTER: &[u8] = b"EXPORTER-pipemesh-pipe";

/// SHA-256 of a public key's SubjectPublicKeyInfo.
pub(crate) type KeyHash = [u8; 32];

/// Why pipes cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot make a certificate for pipes")]
    Generate(#[source] rcgen::Error),
    #[error("cannot read {path}")]
    Read {
        path: String,
        source: rustls::pki_types::pem::Error,
    },
    #[error("the certificates of pipes cannot be used")]
    Certificates(#[source] Error),
    #[error("the authorities of pipes cannot be used")]
    Authorities(#[source] rustls::server::VerifierBuilderError),
    #[error(
        "the node's own certificate does not name it: neither {expected} nor a DNS name {node}"
    )]
    Name { expected: String, node: NodeId },
    #[error("TLS has no cipher suite that QUIC begins with")]
    Suite(#[source] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// Why a node is not spoken to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAdmitted {
    #[error("it shows no certificate that can be read")]
    Certificate,
    #[error("its certificate does not name node {0}")]
    Name(NodeId),
    #[error("the registry does not know node {0}, or knows no key of it")]
    Unregistered(NodeId),
    #[error("its key is not the one that the registry has of node {0}")]
    Key(NodeId),
    #[error("it does not prove to have the cluster's secret")]
    Proof,
}

/// How this node shows who it is, and finds out who others are.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(super) client: quinn::ClientConfig,
    pub(super) server: quinn::ServerConfig,
    /// For the registry.
    pub(crate) key: KeyHash,
    names: bool,
    secret: Option<PipeKey>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// With a key of its own, new at every start.
    pub(crate) fn pinned(secret: Option<PipeKey>) -> Result<Self, TlsError> {
        let key = rcgen::KeyPair::generate().map_err(TlsError::Generate)?;
        let params =
            rcgen::CertificateParams::new([SERVER_NAME.to_owned()]).map_err(TlsError::Generate)?;
        let certificate = params.self_signed(&key).map_err(TlsError::Generate)?;
        let chain = vec![certificate.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|_| TlsError::Certificates(Error::General("no key".to_owned())))?;
        let check = Arc::new(Check {
            authorities: None,
            clients: None,
            algorithms: provider().signature_verification_algorithms,
        });
        Self::new(chain, key, check, secret)
    }

    /// With the certificates of the control channel.
    pub(crate) fn named(
        files: &ControlTls,
        node: &NodeId,
        region: &Region,
    ) -> Result<Self, TlsError> {
        let unreadable = |path: &std::path::Path| {
            let path = path.display().to_string();
            move |source| TlsError::Read { path, source }
        };
        let read = |path: &std::path::Path| {
            CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(unreadable(path))
        };
        let chain = read(&files.certificates)?;
        let key =
            PrivateKeyDer::from_pem_file(&files.key).map_err(unreadable(files.key.as_path()))?;
        let mut authorities = RootCertStore::empty();
        for authority in read(&files.client_authorities)? {
            authorities.add(authority).map_err(TlsError::Certificates)?;
        }
        let own = chain.first().and_then(|own| names(own, node));
        if own != Some(true) {
            return Err(TlsError::Name {
                expected: format!("pipemesh://{region}/{node}"),
                node: node.clone(),
            });
        }
        let authorities = Arc::new(authorities);
        let clients = WebPkiClientVerifier::builder_with_provider(
            Arc::clone(&authorities),
            Arc::new(provider()),
        );
        let check = Arc::new(Check {
            authorities: Some(authorities),
            clients: Some(clients.build().map_err(TlsError::Authorities)?),
            algorithms: provider().signature_verification_algorithms,
        });
        Self::new(chain, key, check, None).map(|tls| Self { names: true, ..tls })
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        check: Arc<Check>,
        secret: Option<PipeKey>,
    ) -> Result<Self, TlsError> {
        let own = chain.first().and_then(key_hash);
        let own = own.ok_or(TlsError::Certificates(Error::NoCertificatesPresented))?;
        let provider = Arc::new(provider());
        let versions = &[&rustls::version::TLS13];
        let mut client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(TlsError::Certificates)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&check) as Arc<dyn ServerCertVerifier>)
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(TlsError::Certificates)?;
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        // What is sent before the handshake is done could be played again.
        client.enable_early_data = false;
        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(TlsError::Certificates)?
            .with_client_cert_verifier(check)
            .with_single_cert(chain, key)
            .map_err(TlsError::Certificates)?;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        let client = QuicClientConfig::try_from(client).map_err(TlsError::Suite)?;
        let server = QuicServerConfig::try_from(server).map_err(TlsError::Suite)?;
        Ok(Self {
            client: quinn::ClientConfig::new(Arc::new(client)),
            server: quinn::ServerConfig::with_crypto(Arc::new(server)),
            key: own,
            names: false,
            secret,
        })
    }

    /// What this node says in its Hello on a connection.
    pub(super) fn prove(&self, connection: &quinn::Connection, own: &NodeId) -> Vec<u8> {
        let exported = exported(connection, own);
        match (&self.secret, exported) {
            (Some(secret), Some(exported)) => secret.prove(&exported),
            _ => Vec::new(),
        }
    }

    /// Whether who calls itself `node` is that one. `registered` is the key that the registry has of it.
    pub(super) fn admit(
        &self,
        connection: &quinn::Connection,
        node: &NodeId,
        registered: Option<KeyHash>,
        proof: &[u8],
    ) -> Result<(), NotAdmitted> {
        let shown = connection.peer_identity();
        let shown = shown.and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
        let shown = shown.and_then(|shown| shown.into_iter().next());
        let shown = shown.ok_or(NotAdmitted::Certificate)?;
        if self.names {
            return match names(&shown, node) {
                Some(true) => Ok(()),
                Some(false) => Err(NotAdmitted::Name(node.clone())),
                None => Err(NotAdmitted::Certificate),
            };
        }
        let key = key_hash(&shown).ok_or(NotAdmitted::Certificate)?;
        let registered = registered.ok_or_else(|| NotAdmitted::Unregistered(node.clone()))?;
        if key != registered {
            return Err(NotAdmitted::Key(node.clone()));
        }
        let Some(secret) = &self.secret else {
            return Ok(());
        };
        let exported = exported(connection, node).ok_or(NotAdmitted::Proof)?;
        let is_proved = secret.verify(&exported, proof);
        is_proved.then_some(()).ok_or(NotAdmitted::Proof)
    }
}

fn exported(connection: &quinn::Connection, prover: &NodeId) -> Option<[u8; 32]> {
    let mut exported = [0; 32];
    let context = prover.as_str().as_bytes();
    connection
        .export_keying_material(&mut exported, EXPORTER, context)
        .ok()?;
    Some(exported)
}

fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

fn key_hash(certificate: &CertificateDer<'_>) -> Option<KeyHash> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let key = certificate.subject_public_key_info();
    digest(&SHA256, &key).as_ref().try_into().ok()
}

/// Whether a certificate is a node's; `None`: it cannot be read.
fn names(certificate: &CertificateDer<'_>, node: &NodeId) -> Option<bool> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let is_it = |uri: &str| {
        let path = uri.strip_prefix("pipemesh://");
        let named = path.and_then(|path| path.split_once('/'));
        named.is_some_and(|(_region, named)| named == node.as_str())
    };
    let named = certificate.valid_uri_names().any(is_it)
        || (certificate.valid_dns_names()).any(|name| name == node.as_str());
    Some(named)
}

/// Checks that the other side has the key of what it shows, and who signed it. Whose it is is checked once
/// it has said who it is.
#[derive(Debug)]
struct Check {
    /// `None`: it is signed by itself.
    authorities: Option<Arc<RootCertStore>>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Check {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        if let Some(authorities) = &self.authorities {
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                authorities,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Check {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match &self.clients {
            Some(clients) => clients.verify_client_cert(certificate, intermediates, now),
            None => {
                ParsedCertificate::try_from(certificate)?;
                Ok(ClientCertVerified::assertion())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
