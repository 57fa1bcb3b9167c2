//! Data messages reach everybody, or those they are meant for.

use pipemesh_loadtest_client::{DataMessage, Layout, Reliability};

use crate::mesh::{Mesh, PATIENCE, assert_sound};

fn message(reliability: Reliability, payload: &str, to: &[&str]) -> DataMessage {
    DataMessage {
        reliability,
        topic: "chat".to_owned(),
        payload: payload.as_bytes().to_vec(),
        to: to.iter().map(ToString::to_string).collect(),
    }
}

#[tokio::test]
async fn messages_reach_those_they_are_meant_for() {
    let mesh = Mesh::start();
    let ann = mesh.enter(mesh.join("room", "ann", Layout::Single)).await;
    let mut ben = mesh.enter(mesh.join("room", "ben", Layout::Dual)).await;
    let mut cleo = mesh.enter(mesh.join("room", "cleo", Layout::Single)).await;
    ann.send(message(Reliability::Reliable, "for ben", &["ben"]));
    ann.send(message(Reliability::Reliable, "for all", &[]));
    ben.send(message(Reliability::Lossy, "quick", &["cleo"]));
    for expected in ["for ben", "for all"] {
        let came = ben.next_message(PATIENCE).await.unwrap();
        assert_eq!((came.from.as_str(), came.topic.as_str()), ("ann", "chat"));
        assert_eq!(came.payload, expected.as_bytes());
        assert!(came.latency.unwrap() < PATIENCE);
    }
    let mut came = Vec::new();
    for _ in 0..2 {
        came.push(cleo.next_message(PATIENCE).await.unwrap());
    }
    came.sort_by(|a, b| a.from.cmp(&b.from));
    assert_eq!(
        (came[0].from.as_str(), &came[0].payload[..]),
        ("ann", &b"for all"[..])
    );
    assert_eq!(
        (came[1].from.as_str(), &came[1].payload[..]),
        ("ben", &b"quick"[..])
    );
    assert_eq!(came[1].reliability, Reliability::Lossy);
    for (participant, received) in [(ann, 0), (ben, 2), (cleo, 2)] {
        let stats = participant.leave().await.unwrap();
        assert_eq!(stats.data.received, received, "{stats:#?}");
        assert_sound(&stats);
    }
}
