//! A join from top to bottom: place, claim, ask the node; on refusal the next one; roll back or hand
//! over to the session's task.

mod start;
mod takeover;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use livekit_protocol::ParticipantInfo;
use pipemesh_proto::ids::{NodeId, ParticipantId, Region, SessionId, TrackId};
use pipemesh_proto::node::session_event::Event;
use pipemesh_service::Chain;
use pipemesh_topology::Homes;
use pipemesh_topology::geo::{Clues, Names, NotAllowed, Route};
use pipemesh_topology::placement::{NoNode, Placement, Request};
use pipemesh_topology::store::Unavailable;

use crate::auth::{Grants, RESERVED_ATTRIBUTES};
use crate::context::Context;
use crate::livekit::join::Join;
use crate::nodes::{NodeStream, StreamError};
use crate::rooms::record::{Member, MemberRecord, Presence};
use crate::rooms::{Claim, ClaimError, OpenRoom, RoomState, RoomView};
use crate::session::client::{check_limits, merge_attributes};
use crate::session::{Output, Session, Spec};
use crate::sessions::Handle;
use start::Started;
pub(crate) use takeover::take_over;

/// Nodes tried for one join. A client waits five seconds for its answer.
const MAX_CANDIDATES: usize = 3;

/// Times a claim is tried while others claim the same identity.
const MAX_CLAIMS: usize = 5;

/// Time for the connections to nodes to be tried after a start.
const NODES_KNOWN: Duration = Duration::from_secs(2);

/// Time for a node that refuses to report that it drains, or to be noticed to be lost.
const NODE_GIVES_UP: Duration = Duration::from_secs(1);

/// Time for the former session of somebody who joins anew to end, so that its track ids are free.
const RETIRE_LIMIT: Duration = Duration::from_secs(1);

/// Where a participant is, and what led there: reserved attributes.
const REGION_ATTRIBUTE: &str = "pipemesh.region";
const NODE_ATTRIBUTE: &str = "pipemesh.node";
pub(crate) const PLACEMENT_ATTRIBUTE: &str = "pipemesh.placement";

#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    #[error("requested room does not exist")]
    NoRoom,
    #[error("permissions denied: the token does not grant canUpdateOwnMetadata")]
    MayNotUpdateMetadata,
    #[error("the participant {0}")]
    Limits(&'static str),
    #[error("room has exceeded its max participants")]
    RoomFull,
    #[error(transparent)]
    NoNode(NoNode),
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    #[error("no region that the token allows can take the participant: {0}")]
    NoAllowedNode(NoNode),
    /// Others are in it, whom it would have to leave.
    #[error(
        "no region that the token allows can take the participant: the room is in {home}, and the token \
         allows {}",
        Names(allowed)
    )]
    HomeNotAllowed {
        home: Region,
        allowed: BTreeSet<Region>,
    },
    /// The room's node does not let them in, and moving the room would move everybody in it.
    #[error("the room's node takes nobody")]
    HomeRefuses,
    #[error("no node could be reached")]
    Unreachable,
    #[error("the identity is claimed by others at the same time")]
    Contended,
    /// By a join of the same identity that claimed it later.
    #[error("the participant joined again at the same time")]
    Superseded,
    #[error("rooms cannot be read or written")]
    Store(#[from] Unavailable),
    #[error("this server stops")]
    Stopping,
}

/// Lets somebody in. Runs as a task of its own: a client that gives up must not leave half a join.
pub(crate) async fn join(
    context: Arc<Context>,
    grants: Grants,
    asked: Join,
    clues: Clues,
) -> Result<Handle, JoinError> {
    if context.stop.is_cancelled() {
        return Err(JoinError::Stopping);
    }
    let profile = Profile::new(&grants, &asked)?;
    context.nodes.known(NODES_KNOWN).await;
    let snapshot = Arc::clone(&context.nodes.mesh().snapshot);
    let route = context.geo.route(&clues, &snapshot, &context.region)?;
    context.metrics.route(route.by);
    let view = context.rooms.view(&grants.room);
    let candidate = Candidate {
        route,
        session: SessionId::random(),
        holding: new_holding(),
        context,
        grants,
        asked,
        profile,
        view,
    };
    let mut excluded = BTreeSet::new();
    for _ in 0..MAX_CANDIDATES {
        let (room, placement) = candidate.place(&excluded).await?;
        match candidate.enter(room, &placement).await? {
            Entered::In(handle) => return Ok(handle),
            Entered::Refused => {
                excluded.insert(placement.node);
            }
            Entered::TooLate => {}
        }
    }
    if excluded.is_empty() {
        Err(JoinError::Contended)
    } else {
        Err(JoinError::Unreachable)
    }
}

/// Whether there are nodes where somebody may be.
pub(crate) fn is_open(context: &Context, clues: &Clues) -> Result<(), JoinError> {
    let mesh = context.nodes.mesh();
    context.geo.route(clues, &mesh.snapshot, &context.region)?;
    Ok(())
}

/// 0 is what a version says that knows of none.
fn new_holding() -> u64 {
    rand::random_range(1..=u64::MAX)
}

fn unix_ms(moment: SystemTime) -> i64 {
    let since_1970 = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(0)
}

/// What is said of a participant: the token, and what the client adds to it.
struct Profile {
    metadata: String,
    attributes: HashMap<String, String>,
}

impl Profile {
    fn new(grants: &Grants, asked: &Join) -> Result<Self, JoinError> {
        let adds = !asked.metadata.is_empty() || !asked.attributes.is_empty();
        if adds && !grants.rights.update_own_metadata {
            return Err(JoinError::MayNotUpdateMetadata);
        }
        let mut attributes: HashMap<String, String> =
            grants.attributes.clone().into_iter().collect();
        attributes.retain(|name, _| !name.starts_with(RESERVED_ATTRIBUTES));
        // What the token says cannot be taken away by the client.
        let additions = asked
            .attributes
            .iter()
            .filter(|(_, value)| !value.is_empty());
        let additions = additions.map(|(name, value)| (name.clone(), value.clone()));
        merge_attributes(&mut attributes, additions.collect());
        let metadata = match asked.metadata.as_str() {
            "" => grants.metadata.clone(),
            metadata => metadata.to_owned(),
        };
        check_limits(&grants.name, &metadata, &attributes).map_err(JoinError::Limits)?;
        Ok(Self {
            metadata,
            attributes,
        })
    }
}

/// Somebody who wants in.
struct Candidate {
    context: Arc<Context>,
    grants: Grants,
    asked: Join,
    profile: Profile,
    view: Arc<RoomView>,
    route: Route,
    session: SessionId,
    /// Of the session.
    holding: u64,
}

/// A claim of somebody who is not in yet, from before it is made: there may be no answer. Dropped, it is
/// undone: whatever ends a join leaves nobody behind.
struct Tentative {
    context: Arc<Context>,
    claim: Option<Claim>,
}

impl Tentative {
    fn new(context: &Arc<Context>, claim: Claim) -> Self {
        Self {
            context: Arc::clone(context),
            claim: Some(claim),
        }
    }

    /// It is made.
    fn made(&mut self, claim: Claim) {
        self.claim = Some(claim);
    }

    /// The store has said no.
    fn refused(mut self) {
        self.claim = None;
    }

    fn keep(mut self) -> Claim {
        self.claim.take().expect("only this and `undo` take it")
    }

    async fn undo(mut self, room: &OpenRoom) -> Result<(), Unavailable> {
        if let Some(claim) = self.claim.clone() {
            self.context.rooms.undo(room, claim).await?;
            self.claim = None;
        }
        Ok(())
    }
}

impl Drop for Tentative {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.take() {
            let context = Arc::clone(&self.context);
            let vacate = async move { context.rooms.vacate(claim).await };
            self.context.tasks.spawn(vacate);
        }
    }
}

/// Who somebody is in the room, and who they were.
struct Person {
    id: ParticipantId,
    record: MemberRecord,
    former_tracks: BTreeMap<String, TrackId>,
}

enum Entered {
    In(Handle),
    /// The node did not let them in; another one may.
    Refused,
    /// The room ended before they were in it; the next one of its name may take them.
    TooLate,
}

impl Candidate {
    /// The room, opened if need be, and the node for it.
    async fn place(&self, excluded: &BTreeSet<NodeId>) -> Result<(OpenRoom, Placement), JoinError> {
        let context = &self.context;
        if !context.auto_create && !context.rooms.exists(&self.grants.room).await? {
            return Err(JoinError::NoRoom);
        }
        let known = self.view.state().borrow().clone();
        let mut homes = known.map(|room| room.homes.clone());
        for _ in 0..MAX_CLAIMS {
            let placement = self.choose(homes.as_ref(), excluded)?;
            let config = &self.grants.room_config;
            let now = SystemTime::now();
            let mut room = context
                .rooms
                .open(&self.grants.room, &placement.node, config, now)
                .await?;
            if room.homes.contains(&placement.node) {
                return Ok((room, placement));
            }
            // It is at home elsewhere. Is that where this one can go, too?
            let placement = self.choose(Some(&room.homes), excluded)?;
            if room.homes.contains(&placement.node)
                || self.settle(&mut room, &placement.node).await?
            {
                return Ok((room, placement));
            }
            // Somebody else moved it at the same time.
            homes = None;
        }
        Err(JoinError::Contended)
    }

    /// Makes a node one of the room's homes: one more, or in the place of the one that it has, where nobody
    /// else is or stays. `false`: somebody else was faster.
    async fn settle(&self, room: &mut OpenRoom, node: &NodeId) -> Result<bool, JoinError> {
        let context = &self.context;
        if context.rooms_span() {
            let mesh = context.nodes.mesh();
            let lives = |home: &NodeId| mesh.snapshot.node(home).is_some();
            let homes = room.homes.joined_by(node, lives);
            return Ok(context.rooms.settle(room, homes).await?);
        }
        let home = room.homes.first();
        let identity = &self.grants.identity;
        if context.rooms.has_others(room, identity).await? {
            self.may_be_in(home)?;
            if !context.nodes.gives_up(home, NODE_GIVES_UP).await {
                return Err(JoinError::HomeRefuses);
            }
        }
        Ok(context.rooms.settle(room, node.clone().into()).await?)
    }

    fn choose(
        &self,
        homes: Option<&Homes>,
        excluded: &BTreeSet<NodeId>,
    ) -> Result<Placement, JoinError> {
        let request = Request {
            room: &self.grants.room,
            region: &self.route.region,
            others: &self.route.others,
            allowed: self.grants.regions_allowed.as_ref(),
            homes,
            spans: self.context.rooms_span(),
            excluded,
        };
        let placement = self.context.nodes.place(&request);
        let reason = placement.as_ref().ok().map(|placement| placement.reason);
        self.context.metrics.placement(reason);
        placement.map_err(|none| {
            if none.is_for_want_of_permission() {
                JoinError::NoAllowedNode(none)
            } else {
                JoinError::NoNode(none)
            }
        })
    }

    /// Whether somebody may be where a room is at home, as long as that lives.
    fn may_be_in(&self, home: &NodeId) -> Result<(), JoinError> {
        let mesh = self.context.nodes.mesh();
        match (&self.grants.regions_allowed, mesh.snapshot.node(home)) {
            (Some(allowed), Some(node))
                if !allowed.contains(&node.region) && self.context.nodes.is_up(home) =>
            {
                Err(JoinError::HomeNotAllowed {
                    home: node.region.clone(),
                    allowed: allowed.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Claims the identity and asks the node.
    async fn enter(&self, mut room: OpenRoom, placement: &Placement) -> Result<Entered, JoinError> {
        let node = &placement.node;
        let rooms = &self.context.rooms;
        let prospect = rooms.prospect(&room, &self.grants.identity, &self.session, self.holding);
        let mut tentative = Tentative::new(&self.context, prospect);
        let (claim, person) = match self.claim(&mut room, placement).await {
            Ok(Some(claimed)) => claimed,
            Ok(None) => {
                tentative.refused();
                return Ok(Entered::TooLate);
            }
            // Nobody knows: it is left like one that was made, and so is the room.
            Err(error @ JoinError::Store(_)) => return Err(error),
            Err(error) => {
                tentative.refused();
                rooms.abandon(&room).await;
                return Err(error);
            }
        };
        tentative.made(claim.clone());
        let Some(state) = self.view.shows(&claim.room_id, claim.sequence).await else {
            tentative.undo(&room).await?;
            return Err(JoinError::Contended);
        };
        let deserted = self.deserted_home(&state);
        let (mut session, first) = self.session(person, &state, node, &claim);
        if session.has_ended() {
            tentative.undo(&room).await?;
            return Err(JoinError::Superseded);
        }
        self.context.nodes.assign(node);
        let outcome = match self.context.nodes.open(node, first).await {
            Ok((stream, event)) => match &event.event {
                Some(Event::Refused(refused)) => Err(StreamError::Refused {
                    code: refused.code(),
                    message: refused.message.clone(),
                }),
                _ => {
                    session.handle_node(event, Instant::now());
                    if session.is_open() {
                        Ok(stream)
                    } else {
                        Err(StreamError::Ended)
                    }
                }
            },
            Err(error) => Err(error),
        };
        match outcome {
            Ok(stream) => {
                let claim = tentative.keep();
                if let Some(node) = deserted {
                    self.leave_home(node);
                }
                Ok(Entered::In(self.start(session, stream, claim, placement)))
            }
            Err(error) => {
                let error = Chain(&error).to_string();
                tracing::warn!(room = %room.name, %node, error, "a node let nobody in");
                tentative.undo(&room).await?;
                Ok(Entered::Refused)
            }
        }
    }

    /// `None`: the room has ended.
    async fn claim(
        &self,
        room: &mut OpenRoom,
        placement: &Placement,
    ) -> Result<Option<(Claim, Person)>, JoinError> {
        let identity = &self.grants.identity;
        let state = self.view.state().borrow().clone();
        let known = state.filter(|state| state.id == room.id);
        let known = known.and_then(|state| state.members.get(identity).cloned());
        let mut before: Option<Member> = known.map(|member| Member::clone(&member));
        for _ in 0..MAX_CLAIMS {
            let person = self.person(placement, before.as_ref()).await;
            let rooms = &self.context.rooms;
            match rooms
                .claim(room, identity, before.as_ref(), &person.record)
                .await
            {
                Ok(claim) => return Ok(Some((claim, person))),
                Err(ClaimError::Conflict(member)) => before = member.map(|member| *member),
                Err(ClaimError::Full) => return Err(JoinError::RoomFull),
                Err(ClaimError::Gone) => return Ok(None),
                Err(ClaimError::Unavailable(error)) => return Err(error.into()),
            }
        }
        Err(JoinError::Contended)
    }

    /// Somebody who was told to join anew, or whose socket is lost, comes back as who they were:
    /// others see them stay. Anybody else under the same identity takes its place.
    async fn person(&self, placement: &Placement, before: Option<&Member>) -> Person {
        let node = &placement.node;
        let comes_back = before.filter(|member| match member.presence {
            Presence::Away | Presence::Rejoining => true,
            // They tried it before.
            Presence::Joining => member.joined,
            Presence::Here => false,
        });
        let former_tracks = match comes_back {
            Some(member) => {
                self.retire(member, node).await;
                member.tracks_by_client_id()
            }
            None => BTreeMap::new(),
        };
        let id = comes_back.map_or_else(ParticipantId::random, |member| member.id.clone());
        let now = unix_ms(SystemTime::now());
        let joined_ms = comes_back.map_or(now, |member| member.info.joined_at_ms);
        let mut attributes = self.profile.attributes.clone();
        attributes.insert(NODE_ATTRIBUTE.to_owned(), node.to_string());
        attributes.insert(REGION_ATTRIBUTE.to_owned(), self.region_of(node));
        attributes.insert(PLACEMENT_ATTRIBUTE.to_owned(), self.why(placement));
        let client = self.asked.client.info();
        let info = ParticipantInfo {
            sid: id.to_string(),
            identity: self.grants.identity.to_string(),
            name: self.grants.name.clone(),
            metadata: self.profile.metadata.clone(),
            attributes,
            permission: Some(self.grants.rights.to_permission()),
            region: self.region_of(node),
            joined_at: joined_ms / 1000,
            joined_at_ms: joined_ms,
            kind: self.grants.kind.into(),
            kind_details: self.grants.kind_details.clone(),
            client_protocol: client.client_protocol,
            capabilities: client.capabilities.clone(),
            version: comes_back.map_or(0, |member| member.info.version + 1),
            ..Default::default()
        };
        let record = MemberRecord {
            info: Some(info),
            session: self.session.to_string(),
            node: node.to_string(),
            presence: Presence::Joining.into(),
            permission: None,
            process: self.context.rooms.process().to_string(),
            joined: comes_back.is_some_and(|member| member.joined),
            holding: self.holding,
        };
        Person {
            id,
            record,
            former_tracks,
        }
    }

    /// A node that is lost, where the room is at home and the last of its people has left.
    fn deserted_home(&self, room: &RoomState) -> Option<NodeId> {
        let mut lost = room
            .homes
            .iter()
            .filter(|home| !self.context.nodes.is_up(home));
        let is_deserted = |home: &NodeId| room.members.values().all(|member| member.node != *home);
        lost.find(|home| is_deserted(home)).cloned()
    }

    /// Else who comes next would be alone there when it starts again.
    fn leave_home(&self, node: NodeId) {
        let context = Arc::clone(&self.context);
        let room = self.grants.room.clone();
        self.context.tasks.spawn(async move {
            if let Err(error) = context.rooms.leave_home(&room, &node).await {
                let error = Chain(&error).to_string();
                tracing::warn!(%room, %node, error, "the room stays at home on a node that is lost");
            }
        });
    }

    /// Ends the former session of somebody who comes to `node`. Elsewhere it is in nobody's way, and where it is
    /// may be silent.
    async fn retire(&self, former: &Member, node: &NodeId) {
        if !self.context.nodes.is_up(&former.node) {
            return;
        }
        let (nodes, from) = (Arc::clone(&self.context.nodes), former.node.clone());
        // Not if it was taken over after what is known here.
        let (session, claim) = (former.session.clone(), former.version);
        let retired = async move { nodes.retire(&from, &session, claim, RETIRE_LIMIT).await };
        if former.node == *node {
            retired.await;
        } else {
            self.context.tasks.spawn(retired);
        }
    }

    /// What told the region, and how the node was chosen.
    fn why(&self, placement: &Placement) -> String {
        format!("{}/{}", self.route.by.name(), placement.reason.name())
    }

    fn region_of(&self, node: &NodeId) -> String {
        let mesh = self.context.nodes.mesh();
        mesh.snapshot
            .node(node)
            .map(|node| node.region.to_string())
            .unwrap_or_default()
    }

    /// The session, and what it asks of the node without waiting for an answer.
    fn session(
        &self,
        person: Person,
        state: &Arc<RoomState>,
        node: &NodeId,
        claim: &Claim,
    ) -> (Session, Vec<pipemesh_proto::node::SessionRequest>) {
        let now = Instant::now();
        let spec = Spec {
            room_id: claim.room_id.clone(),
            identity: self.grants.identity.clone(),
            id: person.id,
            session: self.session.clone(),
            node: node.clone(),
            region: self
                .region_of(node)
                .parse()
                .unwrap_or_else(|_| self.route.region.clone()),
            layout: self.asked.layout,
            client: self.asked.client.clone(),
            rights: self.grants.rights.clone(),
            auto_subscribe: self.asked.auto_subscribe,
            adaptive_stream: self.asked.adaptive_stream,
            never_pause: self.asked.never_pause,
            loudest_microphones: state.loudest_microphones(),
            record: person.record,
            claimed_at: claim.sequence,
            claim: claim.number(),
            former_tracks: person.former_tracks,
            add_tracks: self.asked.add_tracks.clone(),
            offer: self.asked.offer.clone(),
            resume_grace: self.context.resume_grace,
            move_interval: self.context.move_interval(),
            track_ids: Box::new(TrackId::random),
            unix_ms: unix_ms(SystemTime::now()),
        };
        let mut session = Session::new(spec, now);
        session.handle_room(Some(state), now);
        let first = std::iter::from_fn(|| match session.poll_output() {
            Some(Output::Node(request)) => Some(*request),
            // Before the node has answered a session says nothing else.
            _ => None,
        });
        let first = first.collect();
        (session, first)
    }

    fn start(
        &self,
        session: Session,
        node: NodeStream,
        claim: Claim,
        placement: &Placement,
    ) -> Handle {
        let started = Started {
            session,
            session_id: self.session.clone(),
            node_id: placement.node.clone(),
            node: Some(node),
            grants: self.grants.clone(),
            view: Arc::clone(&self.view),
            claim,
        };
        let (handle, span) = started.run(&self.context);
        let (wanted, why) = (&self.route.region, self.why(placement));
        let region = self.region_of(&placement.node);
        tracing::info!(parent: &span, sid = %handle.id, %wanted, region, why, "joined");
        handle
    }
}
