//! A store that does what it is asked, and whose answer is lost.

#[path = "../../src/rooms/tests/shared.rs"]
mod shared;

use std::sync::Arc;
use std::time::Duration;

use livekit_protocol::JoinRequest;
use pipemesh_topology::Registry;
use pipemesh_topology::registry::memory::MemoryRegistry;

use crate::fake_node::{FakeNode, PATIENCE};
use crate::fixture::*;
use shared::{Operation, SharedStore};

async fn leaves_nothing_behind(unheard: Operation) {
    let node = FakeNode::start("node-a", "eu", 1);
    let registry = Arc::new(MemoryRegistry::new());
    registry.register(node.record.clone()).await.unwrap();
    let store = Arc::<SharedStore>::default();
    let mut config = config();
    config.rooms.departure = Duration::ZERO;
    let fixture = Fixture::sharing(config, registry, store.clone()).await;
    fixture
        .until_metric("pipemesh_signal_nodes_up", &[], |up| up == 1.0)
        .await;

    store.lose_answer(unheard);
    let connect = fixture.connect(&token("standup", "alice"), single(JoinRequest::default()));
    let (status, body) = fixture.refusal(&connect).await;
    assert_eq!(status, 503, "{body}");
    let room = "standup".parse().unwrap();
    let ends = async {
        while fixture.store.read_room(&room).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let ended = tokio::time::timeout(PATIENCE, ends).await;
    let left = fixture.store.read_room(&room).await.unwrap();
    assert!(ended.is_ok(), "{unheard:?}: {left:?}");
    let (_alice, joined) = fixture.join("standup", "alice").await;
    assert!(joined.other_participants.is_empty());
}

#[tokio::test]
async fn a_room_that_was_opened_unheard_ends() {
    leaves_nothing_behind(Operation::Open).await;
}

#[tokio::test]
async fn a_participant_who_was_written_unheard_is_removed() {
    leaves_nothing_behind(Operation::Put).await;
}
