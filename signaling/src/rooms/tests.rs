mod outages;
mod shared;

use livekit_protocol::ParticipantInfo;
use pipemesh_topology::store::memory::MemoryStore;

use super::*;
use record::{Member, MemberRecord, Presence};

struct Fixture {
    rooms: Rooms,
    store: Arc<MemoryStore>,
    name: RoomName,
    stop: CancellationToken,
}

impl Fixture {
    fn new(departure: Duration) -> Self {
        let store = Arc::new(MemoryStore::new());
        let timeouts = RoomTimeouts {
            departure,
            empty: Duration::from_secs(300),
        };
        let stop = CancellationToken::new();
        Self {
            rooms: Rooms::new(store.clone(), timeouts, stop.clone()),
            stop,
            store,
            name: "room".parse().unwrap(),
        }
    }

    async fn open(&self) -> OpenRoom {
        let (home, config) = ("node-a".parse().unwrap(), RoomConfiguration::default());
        self.rooms
            .open(&self.name, &home, &config, SystemTime::now())
            .await
            .unwrap()
    }

    async fn exists(&self) -> bool {
        self.store.read_room(&self.name).await.unwrap().is_some()
    }
}

fn record(session: &str) -> MemberRecord {
    MemberRecord {
        info: Some(ParticipantInfo {
            sid: "PA_1".to_owned(),
            ..Default::default()
        }),
        session: session.to_owned(),
        node: "node-a".to_owned(),
        presence: Presence::Here.into(),
        permission: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_ends_some_time_after_the_last_one_left() {
    let fixture = Fixture::new(Duration::from_secs(20));
    let mut room = fixture.open().await;
    let alice = "alice".parse().unwrap();
    let claim = fixture
        .rooms
        .claim(&mut room, &alice, None, &record("s1"))
        .await
        .unwrap();
    fixture.rooms.leave(claim).await.unwrap();
    tokio::time::advance(Duration::from_secs(19)).await;
    // Somebody comes back, and the room that was about to end stays.
    let claim = fixture
        .rooms
        .claim(&mut room, &alice, None, &record("s2"))
        .await
        .unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(fixture.exists().await);
    fixture.rooms.leave(claim).await.unwrap();
    fixture.rooms.stopped().await;
    assert!(!fixture.exists().await);
}

#[tokio::test]
async fn only_the_holder_of_a_claim_writes() {
    let fixture = Fixture::new(Duration::ZERO);
    let mut room = fixture.open().await;
    let alice = "alice".parse().unwrap();
    let mut first = fixture
        .rooms
        .claim(&mut room, &alice, None, &record("s1"))
        .await
        .unwrap();
    let conflict = fixture
        .rooms
        .claim(&mut room, &alice, None, &record("s2"))
        .await;
    let Err(ClaimError::Conflict(Some(holder))) = conflict else {
        panic!("{conflict:?}");
    };
    assert_eq!(holder.session.as_str(), "s1");
    let second = fixture
        .rooms
        .claim(&mut room, &alice, Some(&holder), &record("s2"))
        .await;
    let mut second = second.unwrap();
    let lost = fixture.rooms.write(&mut first, &record("s1")).await;
    assert!(matches!(lost, Err(WriteError::Lost)));
    fixture.rooms.leave(first).await.unwrap();
    fixture
        .rooms
        .write(&mut second, &record("s2"))
        .await
        .unwrap();
    assert!(fixture.exists().await);
}

#[tokio::test]
async fn a_room_that_nobody_got_into_ends() {
    let fixture = Fixture::new(Duration::ZERO);
    let room = fixture.open().await;
    let second = fixture.open().await;
    fixture.rooms.abandon(&second).await.unwrap();
    assert!(fixture.exists().await, "it was there before");
    fixture.rooms.abandon(&room).await.unwrap();
    assert!(!fixture.exists().await);
}

#[tokio::test]
async fn a_room_opened_in_vain_ends_with_its_claim() {
    let fixture = Fixture::new(Duration::from_secs(20));
    let mut room = fixture.open().await;
    let alice = "alice".parse().unwrap();
    let claim = fixture
        .rooms
        .claim(&mut room, &alice, None, &record("s1"))
        .await
        .unwrap();
    fixture.rooms.undo(&room, claim).await.unwrap();
    assert!(!fixture.exists().await);
}

/// A store that is unsure whether it did what it was asked is asked again; what it did counts.
#[tokio::test]
async fn a_write_that_was_done_unheard_is_not_somebody_elses() {
    let fixture = Fixture::new(Duration::ZERO);
    let mut room = fixture.open().await;
    let alice = "alice".parse().unwrap();
    let claim = fixture
        .rooms
        .claim(&mut room, &alice, None, &record("s1"))
        .await
        .unwrap();
    let mut heard = claim.clone();
    fixture
        .rooms
        .write(&mut heard, &record("s1"))
        .await
        .unwrap();
    let mut unheard = claim.clone();
    fixture
        .rooms
        .write(&mut unheard, &record("s1"))
        .await
        .unwrap();
    fixture.rooms.leave(claim).await.unwrap();
    let room = fixture.store.read_room(&fixture.name).await.unwrap();
    assert!(room.is_none_or(|room| room.members.is_empty()));
}

#[tokio::test]
async fn a_view_shows_what_was_written() {
    let fixture = Fixture::new(Duration::ZERO);
    let view = fixture.rooms.view(&fixture.name);
    let mut room = fixture.open().await;
    let alice = "alice".parse().unwrap();
    let claim = fixture
        .rooms
        .claim(&mut room, &alice, None, &record("s1"))
        .await
        .unwrap();
    let state = view.shows(&room.id, claim.sequence).await.unwrap();
    assert_eq!(state.members.len(), 1);
    let same = fixture.rooms.view(&fixture.name);
    assert!(Arc::ptr_eq(&view, &same), "one follower for all");
    assert!(
        fixture
            .rooms
            .move_home(&mut room, &"node-b".parse().unwrap())
            .await
            .unwrap()
    );
    let mut states = view.state();
    let moved =
        states.wait_for(|state| state.as_ref().is_some_and(|s| s.home.as_str() == "node-b"));
    moved.await.unwrap();
    fixture.rooms.leave(claim).await.unwrap();
    let gone = states.wait_for(Option::is_none);
    tokio::time::timeout(Duration::from_secs(5), gone)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_process_that_stops_leaves_no_empty_room() {
    let fixture = Fixture::new(Duration::from_secs(3600));
    let mut room = fixture.open().await;
    let alice = "alice".parse().unwrap();
    let claim = fixture
        .rooms
        .claim(&mut room, &alice, None, &record("s1"))
        .await
        .unwrap();
    fixture.rooms.leave(claim).await.unwrap();
    assert!(fixture.exists().await);
    fixture.stop.cancel();
    fixture.rooms.stopped().await;
    assert!(!fixture.exists().await);
}
