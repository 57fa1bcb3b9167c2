mod leases;
mod outages;
mod scene;
mod shared;

use livekit_protocol::ParticipantInfo;

use super::*;
use record::{Member, MemberRecord, Presence};
use shared::{Operation, SharedStore};

/// A process, and the room that it is about.
struct Fixture {
    rooms: Rooms,
    store: Arc<SharedStore>,
    timeouts: RoomTimeouts,
    name: RoomName,
    stop: CancellationToken,
}

impl Fixture {
    fn new(departure: Duration) -> Self {
        let store = Arc::<SharedStore>::default();
        let timeouts = RoomTimeouts {
            departure,
            empty: Duration::from_secs(300),
        };
        let stop = CancellationToken::new();
        Self {
            rooms: Rooms::new(store.clone(), timeouts, stop.clone()),
            stop,
            store,
            timeouts,
            name: "room".parse().unwrap(),
        }
    }

    async fn open(&self) -> OpenRoom {
        open(&self.rooms, &self.name).await.unwrap()
    }

    /// Alice comes, in place of nobody.
    async fn alice(&self, room: &mut OpenRoom, session: &str) -> Claim {
        let claim = self.claim(room, None, session).await;
        claim.unwrap()
    }

    async fn claim(
        &self,
        room: &mut OpenRoom,
        replaces: Option<&Member>,
        session: &str,
    ) -> Result<Claim, ClaimError> {
        let (alice, record) = ("alice".parse().unwrap(), record(&self.rooms, session));
        self.rooms.claim(room, &alice, replaces, &record).await
    }

    /// Waits until the room has ended.
    async fn ends(&self) {
        let ended = async {
            while self.exists().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(60), ended).await;
        assert!(ended.is_ok(), "the room stays");
    }

    async fn exists(&self) -> bool {
        self.store.read_room(&self.name).await.unwrap().is_some()
    }
}

/// Opens the room, at home on `node-a` if it is new.
async fn open(rooms: &Rooms, name: &RoomName) -> Result<OpenRoom, Unavailable> {
    let (home, config) = ("node-a".parse().unwrap(), RoomConfiguration::default());
    rooms.open(name, &home, &config, SystemTime::now()).await
}

/// As this process writes it.
fn record(rooms: &Rooms, session: &str) -> MemberRecord {
    MemberRecord {
        info: Some(ParticipantInfo {
            sid: "PA_1".to_owned(),
            ..Default::default()
        }),
        session: session.to_owned(),
        node: "node-a".to_owned(),
        presence: Presence::Here.into(),
        permission: None,
        process: rooms.process().to_string(),
        joined: false,
        holding: 1,
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_ends_some_time_after_the_last_one_left() {
    let fixture = Fixture::new(Duration::from_secs(20));
    let mut room = fixture.open().await;
    let claim = fixture.alice(&mut room, "s1").await;
    fixture.rooms.leave(claim).await.unwrap();
    tokio::time::advance(Duration::from_secs(19)).await;
    // Somebody comes back, and the room that was about to end stays.
    let claim = fixture.alice(&mut room, "s2").await;
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
    let mut first = fixture.alice(&mut room, "s1").await;
    let conflict = fixture.claim(&mut room, None, "s2").await;
    let Err(ClaimError::Conflict(Some(holder))) = conflict else {
        panic!("{conflict:?}");
    };
    assert_eq!(holder.session.as_str(), "s1");
    let second = fixture.claim(&mut room, Some(&holder), "s2").await;
    let mut second = second.unwrap();
    let lost = fixture
        .rooms
        .write(&mut first, &record(&fixture.rooms, "s1"))
        .await;
    assert!(matches!(lost, Err(WriteError::Lost)));
    fixture.rooms.leave(first).await.unwrap();
    fixture
        .rooms
        .write(&mut second, &record(&fixture.rooms, "s2"))
        .await
        .unwrap();
    assert!(fixture.exists().await);
}

/// The session is the same, and the process is not.
#[tokio::test]
async fn who_takes_a_session_over_keeps_it() {
    let before = Fixture::new(Duration::from_secs(20));
    let after = Rooms::new(before.store.clone(), before.timeouts, before.stop.clone());
    let mut room = before.open().await;
    let mut claim = before.alice(&mut room, "s1").await;
    let alice = "alice".parse().unwrap();
    let (mut room, member) = after.find(&before.name, &alice).await.unwrap().unwrap();
    let taken = member.held_by(after.process().as_str(), 2);
    let taken = after.claim(&mut room, &alice, Some(&member), &taken).await;
    let mut taken = taken.unwrap();
    assert!(taken.number() > claim.number());

    let record = record(&before.rooms, "s1");
    let written = before.rooms.write(&mut claim, &record).await;
    assert!(matches!(written, Err(WriteError::TakenOver)), "{written:?}");
    before.rooms.leave(claim).await.unwrap();
    let (_, there) = after.find(&before.name, &alice).await.unwrap().unwrap();
    assert!(there.is_served_by(after.process().as_str()));
    let record = there.held_by(after.process().as_str(), 2);
    after.write(&mut taken, &record).await.unwrap();
    after.leave(taken).await.unwrap();
    assert!(after.find(&before.name, &alice).await.unwrap().is_none());
}

#[tokio::test]
async fn a_room_that_nobody_got_into_ends() {
    let fixture = Fixture::new(Duration::ZERO);
    let room = fixture.open().await;
    let second = fixture.open().await;
    fixture.rooms.abandon(&second).await;
    assert!(fixture.exists().await, "it was there before");
    fixture.rooms.abandon(&room).await;
    assert!(!fixture.exists().await);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_nobody_got_into_ends_however_long_it_takes() {
    let fixture = Fixture::new(Duration::ZERO);
    let room = fixture.open().await;
    fixture.store.set_away(true);
    fixture.rooms.abandon(&room).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    fixture.store.set_away(false);
    fixture.ends().await;

    // Somebody moved it meanwhile, and did not come in either.
    let room = fixture.open().await;
    let mut moved = fixture.open().await;
    let home = "node-b".parse().unwrap();
    assert!(fixture.rooms.settle(&mut moved, home).await.unwrap());
    fixture.rooms.abandon(&room).await;
    fixture.ends().await;

    // Or came in, and stays.
    let mut room = fixture.open().await;
    let abandoned = room.clone();
    fixture.alice(&mut room, "s1").await;
    fixture.rooms.abandon(&abandoned).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(fixture.exists().await);
}

/// Nobody hears that it was done.
#[tokio::test(start_paused = true)]
async fn a_room_that_was_opened_unheard_ends() {
    let fixture = Fixture::new(Duration::ZERO);
    fixture.store.lose_answer(Operation::Open);
    let opened = open(&fixture.rooms, &fixture.name).await;
    assert!(opened.is_err(), "{opened:?}");
    fixture.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_was_made_unheard_is_left() {
    let fixture = Fixture::new(Duration::from_secs(20));
    let mut room = fixture.open().await;
    let (alice, session) = ("alice".parse().unwrap(), "s1".parse().unwrap());
    let prospect = fixture.rooms.prospect(&room, &alice, &session, 1);
    fixture.store.lose_answer(Operation::Put);
    let claimed = fixture.claim(&mut room, None, "s1").await;
    assert!(
        matches!(claimed, Err(ClaimError::Unavailable(_))),
        "{claimed:?}"
    );
    let there = fixture.store.read_room(&fixture.name).await.unwrap();
    assert_eq!(there.unwrap().members.len(), 1);
    fixture.rooms.vacate(prospect).await;
    let there = fixture.store.read_room(&fixture.name).await.unwrap();
    assert!(there.unwrap().members.is_empty());
    fixture.ends().await;
}

/// A claim that was written again unheard is undone all the same.
#[tokio::test(start_paused = true)]
async fn what_is_undone_may_have_been_written_unheard() {
    let fixture = Fixture::new(Duration::from_secs(20));
    let mut room = fixture.open().await;
    let claim = fixture.alice(&mut room, "s1").await;
    let mut unheard = claim.clone();
    let rooms = &fixture.rooms;
    rooms
        .write(&mut unheard, &record(rooms, "s1"))
        .await
        .unwrap();
    rooms.undo(&room, claim).await.unwrap();
    fixture.ends().await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_room_that_was_changed_ends_later() {
    let fixture = Fixture::new(Duration::from_secs(20));
    let mut room = fixture.open().await;
    let claim = fixture.alice(&mut room, "s1").await;
    fixture.rooms.leave(claim).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    // By a process that is killed at once.
    let mut other = fixture.open().await;
    let home = "node-b".parse().unwrap();
    assert!(fixture.rooms.settle(&mut other, home).await.unwrap());
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert!(fixture.exists().await);
    fixture.ends().await;
}

#[tokio::test]
async fn a_room_opened_in_vain_ends_with_its_claim() {
    let fixture = Fixture::new(Duration::from_secs(20));
    let mut room = fixture.open().await;
    let claim = fixture.alice(&mut room, "s1").await;
    fixture.rooms.undo(&room, claim).await.unwrap();
    assert!(!fixture.exists().await);
}

/// A store that is unsure whether it did what it was asked is asked again; what it did counts.
#[tokio::test]
async fn a_write_that_was_done_unheard_is_not_somebody_elses() {
    let fixture = Fixture::new(Duration::ZERO);
    let mut room = fixture.open().await;
    let claim = fixture.alice(&mut room, "s1").await;
    let mut heard = claim.clone();
    fixture
        .rooms
        .write(&mut heard, &record(&fixture.rooms, "s1"))
        .await
        .unwrap();
    let mut unheard = claim.clone();
    fixture
        .rooms
        .write(&mut unheard, &record(&fixture.rooms, "s1"))
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
    let claim = fixture.alice(&mut room, "s1").await;
    let state = view.shows(&room.id, claim.sequence).await.unwrap();
    assert_eq!(state.members.len(), 1);
    let same = fixture.rooms.view(&fixture.name);
    assert!(Arc::ptr_eq(&view, &same), "one follower for all");
    assert!(
        fixture
            .rooms
            .settle(&mut room, "node-b".parse().unwrap())
            .await
            .unwrap()
    );
    let mut states = view.state();
    let moved = states.wait_for(|state| {
        state
            .as_ref()
            .is_some_and(|s| s.homes.to_string() == "node-b")
    });
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
    let claim = fixture.alice(&mut room, "s1").await;
    fixture.rooms.leave(claim).await.unwrap();
    assert!(fixture.exists().await);
    fixture.stop.cancel();
    fixture.rooms.stopped().await;
    assert!(!fixture.exists().await);
}
