//! People whose network lets nothing but TCP through, among others.

use std::time::Duration;

use pipemesh_loadtest_client::stats::Stats;
use pipemesh_loadtest_client::{
    DataMessage, Join, Layout, Participant, Protocol, Reliability, Video,
};

use crate::mesh::{Mesh, PATIENCE, assert_sound, show};

fn over_tcp(join: Join) -> Join {
    Join {
        protocol: Protocol::Tcp,
        ..join
    }
}

/// `count` tracks of each kind, a second's worth more than `before`.
async fn receives(participant: &Participant, count: usize, before: u64) -> Stats {
    let all = move |stats: &Stats| {
        let tracks = stats.tracks.iter();
        let (video, audio): (Vec<_>, Vec<_>) = tracks.partition(|it| it.is_video);
        let seen = |it: &&&_| -> bool {
            let track: &pipemesh_loadtest_client::stats::Track = it;
            track.frames.decoded > before + 30
        };
        let video = video.iter().filter(seen).count();
        let audio = audio.iter().filter(|it| it.packets > before + 50).count();
        (video, audio) == (count, count)
    };
    participant
        .until("all is received", PATIENCE, all)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_room_of_both_sees_and_hears_each_other() {
    let mesh = Mesh::start();
    let people = [
        ("ann", Layout::Single, Protocol::Tcp),
        ("ben", Layout::Dual, Protocol::Tcp),
        ("cleo", Layout::Single, Protocol::Udp),
    ];
    let mut participants = Vec::new();
    for (identity, layout, protocol) in people {
        let join = Join {
            protocol,
            ..mesh.join("room", identity, layout)
        };
        let participant = mesh.enter(join).await;
        show(&participant, Video::simulcast()).await;
        participants.push(participant);
    }
    for participant in &participants {
        receives(participant, 2, 0).await;
    }
    for how in [Reliability::Reliable, Reliability::Lossy] {
        for sender in 0..participants.len() {
            participants[sender].send(DataMessage {
                reliability: how,
                topic: "chat".to_owned(),
                payload: vec![7; 500],
                to: Vec::new(),
            });
            for (place, receiver) in participants.iter_mut().enumerate() {
                if place != sender {
                    let message = receiver.next_message(PATIENCE).await;
                    assert!(message.is_some(), "{how:?} from {sender} to {place}");
                }
            }
        }
    }
    for participant in participants {
        let stats = participant.leave().await.unwrap();
        assert_eq!(stats.failures, 0, "{stats:#?}");
        assert_sound(&stats);
    }
}

#[tokio::test]
async fn without_tcp_on_the_node_nobody_gets_in_over_it() {
    let mesh = Mesh::with(&["--media-tcp-port", "off"]);
    let join = over_tcp(mesh.join("room", "ann", Layout::Single));
    let ann = mesh.generator.join(join).await.unwrap();
    assert!(ann.connected(Duration::from_secs(2)).await.is_err());
    let ben = mesh.enter(mesh.join("room", "ben", Layout::Single)).await;
    drop((ann, ben));
}

#[tokio::test]
async fn a_restart_of_ice_goes_over_the_same_connection() {
    let mesh = Mesh::start();
    let ann = mesh
        .enter(over_tcp(mesh.join("room", "ann", Layout::Dual)))
        .await;
    let ben = mesh.enter(mesh.join("room", "ben", Layout::Single)).await;
    show(&ben, Video::simulcast()).await;
    show(&ann, Video::simulcast()).await;
    receives(&ann, 1, 0).await;
    let connects = ann.stats().await.unwrap().connects;
    ann.reconnect().await.unwrap();
    let restarted = move |stats: &Stats| stats.connects > connects;
    let stats = ann
        .until("ICE has restarted", PATIENCE, restarted)
        .await
        .unwrap();
    let seen = stats.tracks.iter().map(|it| it.frames.decoded).max();
    receives(&ann, 1, seen.unwrap()).await;
    receives(&ben, 1, 0).await;
    for participant in [ann, ben] {
        assert_sound(&participant.leave().await.unwrap());
    }
}
