//! Ways to an agent: TLS with certificates on both sides, a socket of the file system, files that are bad.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pipemesh_topology::Registry;
use pipemesh_topology::registry::consul::{Client, Config, ConsulRegistry, Settings};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;

use crate::agent::Agent;
use crate::node::{Follower, record};
use crate::ports::free_ports;

fn config(variables: &[(&str, &str)]) -> Config {
    let variables: BTreeMap<String, String> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Config::from_variables(&variables).unwrap()
}

async fn works(config: &Config) -> bool {
    let client = Client::new(config).await.unwrap();
    let registry = Arc::new(ConsulRegistry::new(client, Settings::default()));
    let _follower = Follower::of(&registry);
    registry.register(record("a", "127.0.0.1:1")).await.is_ok()
}

/// An authority, and what it has signed for Consul and for us.
fn certificates(folder: &Path) {
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    std::fs::create_dir(folder.join("cas")).unwrap();
    write("ca.pem", authority.pem());
    write("cas/one.pem", authority.pem());
    let issuer = Issuer::new(params, authority_key);
    for (name, host) in [("server", "server.dc1.consul"), ("client", "pipemesh")] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        write(&format!("{name}.pem"), certificate.pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
}

#[tokio::test]
async fn tls_with_certificates_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let [https] = free_ports();
    let agent = Agent::start_with(
        json!({
            "ports": { "https": https },
            "ca_file": path("ca.pem"),
            "cert_file": path("server.pem"),
            "key_file": path("server.key"),
            "verify_incoming_https": true,
        }),
        None,
    )
    .await;
    let address = format!("127.0.0.1:{https}");
    let (ca, cas) = (path("ca.pem"), path("cas"));
    let (certificate, key) = (path("client.pem"), path("client.key"));
    let base = [
        ("CONSUL_HTTP_ADDR", address.as_str()),
        ("CONSUL_HTTP_SSL", "true"),
        ("CONSUL_CLIENT_CERT", &certificate),
        ("CONSUL_CLIENT_KEY", &key),
    ];
    let with = |more: &[(&str, &str)]| config(&[&base[..], more].concat());
    let name = ("CONSUL_TLS_SERVER_NAME", "server.dc1.consul");
    assert!(works(&with(&[("CONSUL_CACERT", &ca), name])).await);
    assert!(works(&with(&[("CONSUL_CAPATH", &cas), name])).await);
    assert!(works(&with(&[("CONSUL_HTTP_SSL_VERIFY", "false")])).await);
    assert!(
        !works(&with(&[("CONSUL_CACERT", &ca)])).await,
        "the name is not in the certificate"
    );
    assert!(!works(&with(&[name])).await, "nobody knows the authority");
    let other = ("CONSUL_TLS_SERVER_NAME", "server.dc2.consul");
    assert!(!works(&with(&[("CONSUL_CACERT", &ca), other])).await);
    let without_certificate = config(&[base[0], base[1], ("CONSUL_CACERT", &ca), name]);
    assert!(!works(&without_certificate).await, "the agent wants one");
    drop(agent);
}

#[tokio::test]
async fn a_socket_of_the_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("consul.sock");
    let socket = format!("unix://{}", socket.to_str().unwrap());
    let http = json!({ "addresses": { "http": format!("{socket} 127.0.0.1") } });
    let _agent = Agent::start_with(http, None).await;
    assert!(works(&config(&[("CONSUL_HTTP_ADDR", &socket)])).await);
    let nobody = config(&[("CONSUL_HTTP_ADDR", &format!("{socket}2"))]);
    assert!(!works(&nobody).await);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.pem"), "nothing").unwrap();
    let bad = folder.path().join("bad.pem").to_str().unwrap().to_owned();
    let missing = folder.path().join("none").to_str().unwrap().to_owned();
    let check = async |variables: &[(&str, &str)], part: &str| {
        let address = ("CONSUL_HTTP_ADDR", "https://consul:8501");
        let config = config(&[&[address], variables].concat());
        let error = Client::new(&config).await.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    check(&[("CONSUL_CACERT", &missing)], &missing).await;
    check(&[("CONSUL_CACERT", &bad)], &bad).await;
    check(&[("CONSUL_CAPATH", &missing)], &missing).await;
    check(&[("CONSUL_HTTP_TOKEN_FILE", &missing)], &missing).await;
    let pair = [
        ("CONSUL_CLIENT_CERT", bad.as_str()),
        ("CONSUL_CLIENT_KEY", &bad),
    ];
    check(&pair, &bad).await;
}
