//! Who may call: a cluster secret, mutual TLS, and what anybody may ask.

use std::net::SocketAddr;
use std::path::Path;

use pipemesh_node::config::ControlTls;
use pipemesh_proto::auth::ClusterKey;
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{ConnectionLayout, ListRoomsRequest};
use pipemesh_service::Secret;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tonic::Code;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::control::{self, Signaling, participant};
use crate::support::node::TestNode;

const SECRET: &str = "5c1de0b4a7f93826e1c05b7d94f2a3688";
const OTHER: &str = "91d7e3a05b6c48f2a0e4d1b8c7f593a62";

fn secret() -> Option<Secret> {
    Some(Secret::new(SECRET, 16).unwrap())
}

#[tokio::test]
async fn a_cluster_secret_keeps_strangers_out() {
    let node = TestNode::with(|config| config.control.secret = secret()).await;
    let key = |secret: &str| ClusterKey::new(secret.as_bytes()).unwrap();
    for stranger in [None, Some(key(OTHER))] {
        let endpoint = control::endpoint(node.control_address());
        let mut signaling = Signaling::with(endpoint, stranger).await;
        let open = participant("ann", "room", ConnectionLayout::Single);
        let refused = signaling.begin(Request::Open(open)).await.err();
        let code = refused.map(|status| status.code());
        assert_eq!(code, Some(Code::Unauthenticated));
        let rooms = signaling.client.list_rooms(ListRoomsRequest {}).await;
        assert_eq!(rooms.unwrap_err().code(), Code::Unauthenticated);
    }
    let endpoint = control::endpoint(node.control_address());
    let mut signaling = Signaling::with(endpoint, Some(key(SECRET))).await;
    let rooms = signaling.client.list_rooms(ListRoomsRequest {}).await;
    assert_eq!(rooms.unwrap().into_inner().rooms, [], "nobody got in");
    node.stop().await;
}

#[tokio::test]
async fn mutual_tls_hears_its_own_authority_alone() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let files = ours.files(folder.path());
    let node = TestNode::with(|config| config.control.tls = Some(files)).await;
    let address = node.control_address();
    assert!(rooms(ours.endpoint(address, Some(&ours))).await);
    assert!(!rooms(ours.endpoint(address, Some(&theirs))).await);
    assert!(!rooms(ours.endpoint(address, None)).await);
    // It is not somebody else's node, either.
    assert!(!rooms(theirs.endpoint(address, Some(&ours))).await);
    assert!(!rooms(control::endpoint(address)).await);
    node.stop().await;
}

/// Whether the node answers a question.
async fn rooms(endpoint: Endpoint) -> bool {
    let Ok(channel) = endpoint.connect().await else {
        return false;
    };
    let mut client = pipemesh_proto::node::node_client::NodeClient::new(channel);
    client.list_rooms(ListRoomsRequest {}).await.is_ok()
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(parameters, key),
        }
    }

    /// A certificate with its key, in PEM.
    fn identity(&self, name: &str) -> (String, String) {
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// What a node is configured with.
    fn files(&self, folder: &Path) -> ControlTls {
        let write = |name: &str, content: &str| {
            let path = folder.join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let (certificate, key) = self.identity("node-a");
        ControlTls {
            certificates: write("node.pem", &certificate),
            key: write("node.key", &key),
            client_authorities: write("authority.pem", &self.pem),
        }
    }

    /// A caller that expects this authority behind the node, and shows a certificate of `own`.
    fn endpoint(&self, address: SocketAddr, own: Option<&Self>) -> Endpoint {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.pem))
            .domain_name("node-a");
        if let Some(own) = own {
            let (certificate, key) = own.identity("signaling");
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
        endpoint.tls_config(tls).unwrap()
    }
}

#[tokio::test]
async fn anybody_may_ask_for_its_health() {
    let node = TestNode::with(|config| config.control.secret = secret()).await;
    let channel = control::endpoint(node.control_address()).connect().await;
    let mut health = HealthClient::new(channel.unwrap());
    for service in ["", "pipemesh.node.v1.Node"] {
        let service = service.to_owned();
        let status = health.check(HealthCheckRequest { service }).await.unwrap();
        assert_eq!(status.into_inner().status(), ServingStatus::Serving);
    }
    let service = "pipemesh.node.v2.Node".to_owned();
    let unknown = health.check(HealthCheckRequest { service }).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
    node.stop().await;
}
