//! Webhooks of a mesh: each event once, whoever of two processes made it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use livekit_protocol::WebhookEvent;
use livekit_token::TokenVerifier;
use pipemesh_loadtest_client::Generator;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::mesh::{Mesh, until};
use crate::people::*;
use crate::server_api::call;

/// What was said to it, and whether it took it.
#[derive(Debug, Clone)]
struct Heard {
    event: WebhookEvent,
    taken: bool,
}

/// A service that webhooks tell what happens.
struct Service {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Service {
    /// One that fails at first, so many times.
    async fn start(failures: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let hears = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                take(stream, &hears, failures).await;
            }
        });
        Self { address, heard }
    }

    fn taken(&self) -> Vec<WebhookEvent> {
        let heard = self.heard.lock().unwrap();
        let taken = heard.iter().filter(|heard| heard.taken);
        taken.map(|heard| heard.event.clone()).collect()
    }

    /// Waits until it has taken so many of a kind.
    async fn takes(&self, kind: &str, count: usize) {
        until(&format!("{count} {kind}"), async || {
            let taken = self.taken();
            let of_kind = taken.iter().filter(|event| event.event == kind);
            (of_kind.count() == count).then_some(())
        })
        .await;
    }
}

/// One request on one connection.
async fn take(mut stream: TcpStream, heard: &Mutex<Vec<Heard>>, failures: usize) {
    let mut request = Vec::new();
    let (head, body) = loop {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).await.unwrap();
        assert_ne!(count, 0, "the request is whole");
        request.extend_from_slice(&some[..count]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length: usize = header(head, "content-length").parse().unwrap();
        if body.len() == length {
            break (head.to_owned(), body.to_owned());
        }
    };
    assert!(head.starts_with("POST /hook?key=7 "), "{head}");
    assert_eq!(header(&head, "content-type"), "application/webhook+json");
    let token = header(&head, "authorization");
    let claims = TokenVerifier::with_api_key(KEY, SECRET)
        .verify(token)
        .unwrap();
    assert_eq!(
        claims.sha256,
        STANDARD.encode(digest(&SHA256, body.as_bytes()))
    );
    let taken = heard.lock().unwrap().len() >= failures;
    let event = serde_json::from_str(&body).unwrap();
    heard.lock().unwrap().push(Heard { event, taken });
    let status = if taken {
        "200 OK"
    } else {
        "500 Internal Server Error"
    };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.unwrap();
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let found = lines.find(|(it, _)| it.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value).unwrap_or_default()
}

/// What happened to whom.
fn told(event: &WebhookEvent) -> String {
    let participant = event.participant.as_ref();
    let who = participant.map_or("", |participant| &participant.identity);
    format!("{} {who}", event.event).trim().to_owned()
}

#[tokio::test]
async fn each_event_is_told_once_and_again_until_it_is_taken() {
    let service = Service::start(2).await;
    let url = format!("http://{}/hook?key=7", service.address);
    let mesh = Mesh::start_with(&[("PIPEMESH_SIGNALING_WEBHOOK_URLS", url)]).await;
    let [one, two] = &mesh.signaling[..] else {
        panic!("there are two")
    };
    let generator = Generator::start(1).unwrap();
    let _ann = speak(&generator, one, "standup", "ann").await;
    service.takes("track_published", 1).await;
    // His media never connects.
    let (mut ben, joined) = join(two, "standup", "ben").await;
    let cleo = speak(&generator, two, "standup", "cleo").await;
    service.takes("track_published", 2).await;
    ben.leave().await.unwrap();
    cleo.leave().await.unwrap();
    service.takes("participant_left", 1).await;
    let remove = json!({ "room": "standup", "identity": "ann" });
    call(two, "RemoveParticipant", remove).await;
    service.takes("room_finished", 1).await;
    sleep(Duration::from_secs(1)).await;

    let taken = service.taken();
    let mut all: Vec<String> = taken.iter().map(told).collect();
    all.sort();
    let expected = [
        "participant_connection_aborted ben",
        "participant_joined ann",
        "participant_joined cleo",
        "participant_left ann",
        "participant_left cleo",
        "room_finished",
        "room_started",
        "track_published ann",
        "track_published cleo",
        "track_unpublished ann",
        "track_unpublished cleo",
    ];
    assert_eq!(all, expected);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_secs()).unwrap();
    for event in &taken {
        let room = event.room.as_ref().unwrap();
        assert_eq!(
            (room.name.as_str(), room.sid.as_str()),
            ("standup", room_of(&joined))
        );
        assert!(event.id.starts_with("EV_"), "{event:?}");
        assert!((now - 60..=now).contains(&event.created_at), "{event:?}");
        assert_eq!(event.track.is_some(), event.event.starts_with("track_"));
    }
    let heard = service.heard.lock().unwrap().clone();
    let failed: Vec<&Heard> = heard.iter().filter(|heard| !heard.taken).collect();
    assert_eq!(failed.len(), 2);
    for failed in failed {
        let again = taken.iter().filter(|event| event.id == failed.event.id);
        assert_eq!(again.count(), 1, "it is the same event");
    }
    let ids: std::collections::BTreeSet<&str> = taken.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids.len(), taken.len());
}

#[tokio::test]
async fn whoever_was_served_by_a_killed_process_is_told_of_once() {
    let service = Service::start(0).await;
    let url = format!("http://{}/hook?key=7", service.address);
    let mut mesh = Mesh::start_with(&[("PIPEMESH_SIGNALING_WEBHOOK_URLS", url)]).await;
    let generator = Generator::start(1).unwrap();
    let _ben = speak(&generator, &mesh.signaling[1], "standup", "ben").await;
    service.takes("track_published", 1).await;
    let (mut ann, _) = join(&mesh.signaling[0], "standup", "ann").await;
    mesh.signaling[1].process.kill();
    sees(&mut ann, "ben gone", |info| {
        info.identity == "ben" && is_gone(info)
    })
    .await;
    service.takes("participant_left", 1).await;
    let all: Vec<String> = service.taken().iter().map(told).collect();
    let expected = [
        "room_started",
        "participant_joined ben",
        "track_published ben",
        "track_unpublished ben",
        "participant_left ben",
    ];
    assert_eq!(all, expected);
}
