//! Several processes with people in one room, and the store that they share.

use super::*;
use crate::metrics::Metrics;

/// Time for people to go on with another process when theirs is gone.
pub(super) const GRACE: Duration = Duration::from_secs(15);

/// One of the processes, in the room.
pub(super) struct Process {
    pub(super) rooms: Arc<Rooms>,
    pub(super) view: Arc<RoomView>,
    /// What keeps its lease; `None`: nobody looks at leases.
    lease: Option<AbortOnDropHandle<()>>,
}

pub(super) struct Scene {
    pub(super) store: Arc<SharedStore>,
    pub(super) name: RoomName,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self {
            store: Arc::default(),
            name: "room".parse().unwrap(),
        }
    }

    pub(super) fn process(&self) -> Process {
        let timeouts = RoomTimeouts {
            departure: Duration::from_secs(20),
            empty: Duration::from_secs(300),
        };
        let store = Arc::clone(&self.store);
        let rooms = Arc::new(Rooms::new(store, timeouts, CancellationToken::new()));
        Process {
            view: rooms.view(&self.name),
            rooms,
            lease: None,
        }
    }

    /// One that keeps a lease, and looks at those of others.
    pub(super) fn living(&self) -> Process {
        let mut process = self.process();
        process.goes_on();
        process
    }

    /// Who is in the room, says the store.
    pub(super) async fn stored(&self) -> Vec<String> {
        let room = self.store.read_room(&self.name).await.unwrap();
        let members = room.into_iter().flat_map(|room| room.members);
        members.map(|member| member.identity.to_string()).collect()
    }
}

impl Process {
    pub(super) async fn open(&self, name: &RoomName) -> Result<OpenRoom, Unavailable> {
        open(&self.rooms, name).await
    }

    /// Comes in, in place of nobody, and is seen.
    pub(super) async fn enter(&self, scene: &Scene, who: &str) -> Claim {
        let mut room = self.open(&scene.name).await.unwrap();
        let claim = self.claim(&mut room, who, None).await.unwrap();
        let shows = self.view.shows(&claim.room_id, claim.sequence).await;
        assert!(shows.unwrap().members.contains_key(&claim.identity));
        claim
    }

    pub(super) async fn claim(
        &self,
        room: &mut OpenRoom,
        who: &str,
        replaces: Option<&Member>,
    ) -> Result<Claim, ClaimError> {
        let (identity, record) = (who.parse().unwrap(), self.record(who));
        self.rooms.claim(room, &identity, replaces, &record).await
    }

    /// The room, and somebody in it.
    pub(super) async fn find(&self, scene: &Scene, who: &str) -> (OpenRoom, Member) {
        let found = self.rooms.find(&scene.name, &who.parse().unwrap()).await;
        found.unwrap().expect("they are there")
    }

    pub(super) async fn write(&self, claim: &mut Claim) -> Result<(), WriteError> {
        let record = self.record(claim.identity.as_str());
        self.rooms.write(claim, &record).await
    }

    pub(super) fn record(&self, who: &str) -> MemberRecord {
        record(&self.rooms, &format!("s-{who}"))
    }

    /// Keeps its lease, or does so again.
    pub(super) fn goes_on(&mut self) {
        let rooms = Arc::clone(&self.rooms);
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let keep = async move { rooms.keep_lease(GRACE, &metrics).await };
        self.lease = Some(AbortOnDropHandle::new(tokio::spawn(keep)));
    }

    /// Is cut off from what others know of it, and is itself as before.
    pub(super) fn falls_silent(&mut self) {
        self.lease = None;
    }

    /// Waits until these are seen.
    pub(super) async fn sees(&self, expected: &[&str]) {
        let mut state = self.view.state();
        let seen = state.wait_for(|state| {
            let members = state.iter().flat_map(|state| state.members.keys());
            members.map(Identity::as_str).eq(expected.iter().copied())
        });
        let seen = tokio::time::timeout(Duration::from_secs(60), seen).await;
        assert!(
            seen.is_ok(),
            "{expected:?}: {:?}",
            self.view.state().borrow()
        );
    }
}
