use livekit_protocol::ParticipantInfo;
use prost::Message;

use super::*;
use crate::rooms::record::{MemberRecord, Presence};

pub(crate) fn stored(identity: &str, version: u64, presence: Presence) -> store::Member {
    stored_by(&format!("s-{identity}"), identity, version, presence)
}

/// As a session has written it.
pub(crate) fn stored_by(
    session: &str,
    identity: &str,
    version: u64,
    presence: Presence,
) -> store::Member {
    let record = MemberRecord {
        info: Some(ParticipantInfo {
            sid: format!("PA_{identity}"),
            identity: identity.to_owned(),
            is_publisher: identity == "alice",
            ..Default::default()
        }),
        session: session.to_owned(),
        node: "node-a".to_owned(),
        presence: presence.into(),
        permission: None,
        process: String::new(),
        joined: false,
        holding: 1,
    };
    store::Member {
        identity: identity.parse().unwrap(),
        version,
        body: record.encode_to_vec().into(),
    }
}

pub(crate) fn snapshot(sequence: u64) -> RoomSnapshot {
    RoomSnapshot {
        room: Room {
            id: "RM_1".parse().unwrap(),
            homes: "node-a".parse().unwrap(),
            version: 1,
            body: RoomInfo::default().encode_to_vec().into(),
        },
        sequence,
        members: vec![stored("alice", 1, Presence::Here)],
    }
}

fn room(sequence: u64) -> RoomState {
    RoomState::new(&"room".parse().unwrap(), snapshot(sequence))
}

pub(crate) fn put(sequence: u64, identity: &str, presence: Presence) -> RoomEvent {
    RoomEvent {
        room: "RM_1".parse().unwrap(),
        sequence,
        change: Change::MemberPut(stored(identity, sequence, presence)),
    }
}

fn of(identities: &[&str]) -> Changes {
    Changes::Of(
        identities
            .iter()
            .map(|identity| identity.parse().unwrap())
            .collect(),
    )
}

#[test]
fn changes_are_told_as_far_back_as_they_are_known() {
    let before = room(5);
    let mut room = room(5);
    room.succeed(&before, |_| false);
    let read = room.revision;
    assert_eq!(room.changes_since(read), of(&[]));
    let any = room.changes_since(before.revision);
    assert_eq!(any, Changes::Any, "it was read, not heard");
    for (sequence, who) in [(6, "bob"), (7, "carol"), (8, "bob")] {
        assert!(room.apply(&put(sequence, who, Presence::Here), |_| false));
    }
    assert_eq!(room.changes_since(read + 2), of(&["bob"]));
    assert_eq!(room.changes_since(read), of(&["bob", "carol"]));
    for sequence in 9..9 + RECENT as u64 {
        assert!(room.apply(&put(sequence, "dave", Presence::Here), |_| false));
    }
    assert_eq!(room.changes_since(read + 3), of(&["dave"]));
    assert_eq!(room.changes_since(read + 2), Changes::Any);
}

#[test]
fn counts_are_of_those_who_are_seen() {
    let mut room = room(5);
    assert!(room.apply(&put(6, "bob", Presence::Joining), |_| false));
    assert!(room.apply(&put(7, "carol", Presence::Away), |_| false));
    let info = room.info();
    assert_eq!((info.num_participants, info.num_publishers), (2, 1));
    assert!(!info.active_recording);
}
