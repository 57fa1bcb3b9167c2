//! Who may: users, passwords, certificates, and what is said when it is refused.

use std::path::Path;
use std::time::Duration;

use pipemesh_topology::ring::{Members, Record};
use pipemesh_topology::store::redis::{
    InvalidConfig, PutRing, RedisConfig, RedisRing, RedisStore, Stored,
};
use pipemesh_topology::store::{
    EndOutcome, Lease, PutOutcome, RemoveOutcome, RoomUpdate, Store, Unavailable, UpdateRoom,
    WhenEmpty,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::time::{Instant, sleep};

use crate::contract::{identity, name, new_room, put};
use crate::outages::chain;
use crate::server::{Server, is_up, store};
use crate::{PATIENCE, next};

/// Why the store has no connection, once it has tried.
async fn refusal(store: &RedisStore) -> String {
    let began = Instant::now();
    loop {
        let error = store.read_room(&name("room")).await;
        let error = chain(&error.expect_err("there is no connection"));
        if !error.contains("not there yet") {
            return error;
        }
        assert!(began.elapsed() < PATIENCE, "{error}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Everything a store does; what went wrong.
async fn everything(store: &RedisStore) -> Result<(), String> {
    let began = Instant::now();
    let room = name("room");
    // Not connected yet is no refusal.
    let mut watch = loop {
        match store.watch(&room).await {
            Ok(watch) => break watch,
            Err(error) if chain(&error).contains("not there yet") => {
                assert!(began.elapsed() < PATIENCE);
                sleep(Duration::from_millis(2)).await;
            }
            Err(error) => return Err(chain(&error)),
        }
    };
    let said = |error| chain(&error);
    let opened = store
        .open_room(&room, new_room("RM_1"))
        .await
        .map_err(said)?;
    let id = opened.room.id;
    let update = RoomUpdate::default();
    let updated = store.update_room(&room, &id, 1, update).await;
    assert!(matches!(updated.map_err(said)?, UpdateRoom::Done { .. }));
    let v = match store.put_member(&room, &id, put("a", None)).await {
        Ok(PutOutcome::Done { version, .. }) => version,
        Ok(other) => panic!("{other:?}"),
        Err(error) => return Err(said(error)),
    };
    let read = store.read_room(&room).await.map_err(said)?;
    assert_eq!(read.unwrap().members.len(), 1);
    let who = identity("a");
    let left = store.remove_member(&room, &id, &who, v, WhenEmpty::Keep);
    let RemoveOutcome::Done { sequence, .. } = left.await.map_err(said)? else {
        panic!("it was there")
    };
    let ended = store.end_room(&room, &id, sequence).await.map_err(said)?;
    assert_eq!(ended, EndOutcome::Done);
    for sequence in 1..=5 {
        assert_eq!(next(&mut watch).await.sequence, sequence);
    }
    let process = "process".parse().unwrap();
    store.renew_lease(&process, "1").await.map_err(said)?;
    let held = Lease::Held("1".to_owned());
    let forgotten = store.change_lease(&process, Some(&held), None).await;
    assert!(forgotten.map_err(said)?);
    store.list_rooms(None).await.map_err(said)?;
    the_ring(&store.ring()).await.map_err(said)
}

async fn the_ring(ring: &RedisRing) -> Result<(), Unavailable> {
    let term = ring.draw_term(0).await?;
    let record = Record::new(term, 1, Members::default()).unwrap();
    ring.restore(&record).await?;
    let put = ring.put(term, 1, &record.members, record.digest).await?;
    assert!(matches!(put, PutRing::Done { .. }), "{put:?}");
    let stored = ring.read(&record).await?;
    assert!(matches!(stored, Stored::Ring(_)), "{stored:?}");
    Ok(())
}

/// The command of the documentation that makes our user.
fn documented_user() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/redis.md");
    let text = std::fs::read_to_string(path).unwrap();
    let begin = text.find("ACL SETUSER").expect("it is documented");
    let command = text[begin..].split("```").next().unwrap();
    let words = command.split_whitespace().filter(|word| *word != "\\");
    words.map(str::to_owned).collect()
}

async fn make_user(server: &Server, command: &[String]) {
    let mut operator = server.operator().await;
    let command = &command[1..];
    let delete = redis::cmd("ACL").arg("DELUSER").arg("pipemesh").to_owned();
    delete.exec_async(&mut operator).await.unwrap();
    let make = redis::cmd("ACL").arg(command).to_owned();
    make.exec_async(&mut operator).await.unwrap();
}

/// Neither rooms nor scripts are left.
async fn forget(server: &Server) {
    let mut operator = server.operator().await;
    let mut commands = redis::pipe();
    commands.cmd("FLUSHALL").cmd("SCRIPT").arg("FLUSH");
    commands.exec_async(&mut operator).await.unwrap();
}

#[tokio::test]
async fn a_user_needs_the_documented_rights_and_no_others() {
    let server = Server::start().await;
    let command = documented_user();
    let password = command.iter().find_map(|word| word.strip_prefix('>'));
    let address = format!("127.0.0.1:{}", server.port);
    let url = format!("redis://pipemesh:{}@{address}/1", password.unwrap());
    make_user(&server, &command).await;
    everything(&store(&url, None)).await.unwrap();

    let rights: Vec<&String> = command
        .iter()
        .filter(|word| word.starts_with(['+', '~', '&']))
        .collect();
    assert!(rights.len() > 15, "{command:?}");
    for right in rights {
        let less: Vec<String> = command.iter().filter(|it| *it != right).cloned().collect();
        make_user(&server, &less).await;
        forget(&server).await;
        let error = everything(&store(&url, None)).await;
        let error = error.expect_err(right).to_lowercase();
        let expected: &[&str] = match right.as_str() {
            "+select" => &["database", "permission"],
            _ => &["permission", "the user executing the script"],
        };
        let denied = expected.iter().any(|part| error.contains(part));
        assert!(denied, "without {right}: {error}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_told() {
    let server = Server::start_with(&["--port {port} --requirepass s3cret"]).await;
    let address = format!("127.0.0.1:{}", server.port);
    let right = store(&format!("redis://:s3cret@{address}"), None);
    is_up(&right, true).await;
    everything(&right).await.unwrap();
    let check = async |credentials: &str, expected: &str| {
        let store = store(&format!("redis://{credentials}{address}"), None);
        let error = refusal(&store).await;
        assert!(error.contains(expected), "{credentials}: {error}");
        assert!(!error.contains("guess"), "{error}");
        assert!(!*store.up().borrow());
    };
    check(":guess@", "invalid username-password pair").await;
    check("somebody:guess@", "invalid username-password pair").await;
    check("", "NOAUTH").await;
}

#[tokio::test]
async fn a_database_that_is_not_there_is_refused() {
    let server = Server::start().await;
    let error = refusal(&store(&format!("{}/99", server.url()), None)).await;
    assert!(error.contains("out of range"), "{error}");
}

#[tokio::test]
async fn a_socket() {
    let server = Server::start_with(&["--port {port} --unixsocket {folder}/redis.sock"]).await;
    let path = server.folder.path().join("redis.sock");
    let store = store(&format!("unix://{}?db=2", path.display()), None);
    everything(&store).await.unwrap();
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// A certificate and its key.
    fn sign(&self, host: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

#[tokio::test]
async fn encrypted_and_only_with_whom_the_authority_signed() {
    let (ours, strange) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let (certificate, key) = ours.sign("127.0.0.1");
    let authority = file("ca.pem", &ours.pem);
    let strange = file("strange.pem", &strange.pem);
    file("redis.pem", &certificate);
    file("redis.key", &key);
    let server = Server::start_in(
        folder,
        &[
            "--port 0 --tls-port {port} --tls-auth-clients no",
            "--tls-cert-file {folder}/redis.pem --tls-key-file {folder}/redis.key",
            "--tls-ca-cert-file {folder}/ca.pem",
        ],
    )
    .await;
    let url = format!("rediss://127.0.0.1:{}", server.port);
    everything(&store(&url, Some(&authority))).await.unwrap();

    let error = refusal(&store(&url, Some(&strange))).await;
    assert!(error.contains("invalid peer certificate"), "{error}");
    let error = refusal(&store(&url, None)).await;
    assert!(error.contains("invalid peer certificate"), "{error}");
    let other_name = format!("rediss://localhost:{}", server.port);
    let error = refusal(&store(&other_name, Some(&authority))).await;
    assert!(error.contains("not valid for name"), "{error}");
    let plain = RedisConfig::new(&server.url(), Some(&authority), "pipemesh");
    assert!(matches!(plain, Err(InvalidConfig::AuthorityWithoutTls)));
}
