//! The signaling connection over TLS, media as ever.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use pipemesh_loadtest_client::signal::ConnectError;
use pipemesh_loadtest_client::{Generator, Join, JoinError, Layout, Protocol};
use pipemesh_node::{Config as NodeConfig, Node};
use pipemesh_service::tls::{Files, Tls};
use pipemesh_signaling::{Config, Signaling};
use pipemesh_topology::Registry;
use pipemesh_topology::registry::memory::MemoryRegistry;
use pipemesh_topology::store::memory::MemoryStore;

use crate::mesh::{self, PATIENCE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_servers_that_are_trusted_are_joined() {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let files = Files {
        certificates: file("tls.crt", key.cert.pem()),
        key: file("tls.key", key.signing_key.serialize_pem()),
        client_authorities: None,
    };
    let metrics = prometheus::Registry::new();
    let registry: Arc<dyn Registry> = Arc::new(MemoryRegistry::new());
    let config = NodeConfig::loopback("node-a".parse().unwrap(), "eu".parse().unwrap());
    let node = Node::start(config, Arc::clone(&registry), &metrics)
        .await
        .unwrap();
    let listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    let mut config = Config::demo("eu".parse().unwrap(), listen);
    config.tls = Some(Tls::load(files, &["http/1.1"], SystemTime::now()).unwrap());
    let store = Arc::new(MemoryStore::new());
    let signaling = Signaling::start(config, registry, store, &metrics)
        .await
        .unwrap();
    let port = signaling.addresses()[0].port();
    let generator = Generator::start(1).unwrap();

    let roots = vec![key.cert.der().clone()];
    // What a firewall lets through that knows the web only: TLS and TCP.
    let through_a_firewall = |scheme: &str, host: &str| Join {
        roots: roots.clone(),
        protocol: Protocol::Tcp,
        ..mesh::join(
            &format!("{scheme}://{host}:{port}"),
            "room",
            scheme,
            Layout::Single,
        )
    };
    for scheme in ["wss", "https"] {
        let join = through_a_firewall(scheme, "localhost");
        let participant = generator.join(join).await.unwrap();
        participant.connected(PATIENCE).await.unwrap();
        mesh::assert_sound(&participant.leave().await.unwrap());
    }

    // Nobody's certificate but that one, and under no other name.
    let strange = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let suspicious = Join {
        roots: vec![strange.cert.der().clone()],
        ..through_a_firewall("wss", "localhost")
    };
    let trusting = Join {
        trusts_anybody: true,
        ..through_a_firewall("wss", "127.0.0.1")
    };
    let participant = generator.join(trusting).await.unwrap();
    participant.connected(PATIENCE).await.unwrap();
    mesh::assert_sound(&participant.leave().await.unwrap());
    let misnamed = through_a_firewall("wss", "127.0.0.1");
    let plain = through_a_firewall("ws", "localhost");
    for join in [suspicious, misnamed, plain] {
        let refused = generator.join(join).await.err().expect("it is let in");
        assert!(
            matches!(
                refused,
                JoinError::Connect(ConnectError::Io(_) | ConnectError::Handshake(_))
            ),
            "{refused:?}"
        );
    }
    drop(generator);
    signaling.stop().await;
    node.stop().await;
}
