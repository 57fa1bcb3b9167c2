//! Which pipes there are, which tracks are taken through which, and who is told of it. Pure: sessions ask,
//! links report, the registry changes, and what follows is to be done in the order in which it is answered.
//!
//! What a track's path is decides [`Relays`]; who takes tracks from here knows [`Audience`]; to whose rooms is
//! listened, [`Hearing`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use pipemesh_proto::ids::{NodeId, Region, RoomId, SessionId, TrackId};
use pipemesh_proto::pipe::Role;
use pipemesh_topology::Snapshot;
use pipemesh_topology::relay_path::{self, FanOut, SentOn, View};

use super::audience::Audience;
use super::exchange::News;
use super::hearing::{self, Hearing};
use super::link::Order;
use super::relays::{self, Elsewhere, Path, Relayed, Relays, Wanter};
use crate::shard::{Command, FIRST_PIPE, Landing, Origin};
use crate::tracks::{TrackEntry, Tracks};

/// What is to be done.
pub(super) enum Output {
    /// A pipe to this node is needed, under this number. All shards are to know it before what follows.
    Open(NodeId, u16),
    /// The pipe to this node is to end, if it has not, and the shards are to forget it.
    Part(NodeId, u16),
    /// Of a pipe.
    Link(NodeId, Order),
    /// Of a shard.
    Shard(u16, Command),
    /// A session asked for this track, published by that one: it can be had from now on …
    Known(SessionId, TrackId, SessionId),
    /// … or not any more.
    Gone(SessionId, TrackId, SessionId),
    /// A session asks for nothing any more.
    Forget(SessionId),
}

struct Link {
    number: u16,
    is_kept: bool,
    standing: Standing,
}

/// What the registry has said of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Nothing yet.
    Unlisted,
    Listed,
    /// It is no node any more …
    Left,
    /// … and the pipe to it is of no use.
    LetGo,
}

impl Standing {
    fn is_listed(self) -> bool {
        !matches!(self, Self::Left | Self::LetGo)
    }
}

/// Numbers of pipes that are not given again before so many others have been free for longer: shards may still
/// be about to read what came under them.
const RESTING: usize = 16;

/// See the module. After any call, drain [`Self::poll_output`].
pub(super) struct Decisions {
    own: NodeId,
    region: Region,
    shards: u16,
    tracks: Arc<Tracks>,
    nodes: Arc<Snapshot>,
    links: BTreeMap<NodeId, Link>,
    by_number: BTreeMap<u16, NodeId>,
    last_number: u16,
    /// Numbers of pipes that are no more, the oldest first.
    free: VecDeque<u16>,
    fan_out: FanOut,
    relays: Relays,
    audience: Audience,
    hearing: Hearing,
    /// Nodes that are silent, or cannot be reached.
    silent: BTreeSet<NodeId>,
    /// The tracks that each session wants.
    sessions: BTreeMap<SessionId, Vec<TrackId>>,
    outputs: VecDeque<Output>,
}

impl Decisions {
    pub(super) fn new(
        own: NodeId,
        region: Region,
        shards: u16,
        tracks: Arc<Tracks>,
        nodes: Arc<Snapshot>,
        fan_out: FanOut,
    ) -> Self {
        let mut decisions = Self {
            own,
            region,
            shards,
            tracks,
            nodes,
            links: BTreeMap::new(),
            by_number: BTreeMap::new(),
            last_number: FIRST_PIPE - 1,
            free: VecDeque::new(),
            fan_out,
            relays: Relays::default(),
            audience: Audience::default(),
            hearing: Hearing::default(),
            silent: BTreeSet::new(),
            sessions: BTreeMap::new(),
            outputs: VecDeque::new(),
        };
        decisions.meet_region();
        decisions
    }

    /// Which tracks of a room are taken from elsewhere.
    pub(super) fn of_room(&self, room: &RoomId) -> Vec<Relayed> {
        self.relays.of_room(room)
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    // Links.

    /// The registry says something new.
    pub(super) fn handle_nodes(&mut self, nodes: Arc<Snapshot>) {
        self.nodes = nodes;
        self.meet_region();
        self.note_listed();
        self.follow();
    }

    /// What the registry says by now; what follows from its changes comes with [`Self::handle_nodes`].
    pub(super) fn see(&mut self, nodes: Arc<Snapshot>) {
        self.nodes = nodes;
    }

    /// Nodes of one's own region are called before they are of use.
    fn meet_region(&mut self) {
        let mut near = BTreeSet::new();
        for node in self.nodes.nodes() {
            if node.region == self.region && node.id != self.own && node.pipe.is_some() {
                near.insert(node.id.clone());
            }
        }
        for node in &near {
            self.open(node);
        }
        for (node, link) in &mut self.links {
            let is_near = near.contains(node);
            if std::mem::replace(&mut link.is_kept, is_near) != is_near {
                let order = Output::Link(node.clone(), Order::Keep(is_near));
                self.outputs.push_back(order);
            }
        }
    }

    fn note_listed(&mut self) {
        for (node, link) in &mut self.links {
            let is_listed = self.nodes.node(node).is_some();
            let standing = match (is_listed, link.standing) {
                (true, _) => Standing::Listed,
                (false, Standing::Listed) => Standing::Left,
                (false, standing) => standing,
            };
            let was = std::mem::replace(&mut link.standing, standing);
            if was.is_listed() != standing.is_listed() {
                let order = Order::List(is_listed);
                self.outputs.push_back(Output::Link(node.clone(), order));
            }
        }
    }

    /// Parts with nodes that are none any more, once nothing that is wanted here comes from there.
    fn part_with_left(&mut self) {
        let left = self.links.iter();
        let left = left.filter(|(node, link)| {
            link.standing == Standing::LetGo
                && !self.relays.is_taken_from(node)
                && self.hearing.rooms_of(node).is_empty()
        });
        let left: Vec<NodeId> = left.map(|(node, _)| node.clone()).collect();
        for node in left {
            self.part(&node);
            self.silent.remove(&node);
        }
    }

    /// Forgets a pipe; whether there was one.
    fn part(&mut self, node: &NodeId) -> bool {
        let Some(link) = self.links.remove(node) else {
            return false;
        };
        let number = link.number;
        self.by_number.remove(&number);
        self.outputs.push_back(Output::Part(node.clone(), number));
        self.relays.end_pipe(number);
        self.audience.end_pipe(number);
        true
    }

    /// A pipe that was parted with has come to its end.
    pub(super) fn handle_freed(&mut self, number: u16) {
        if !self.by_number.contains_key(&number) {
            self.free.push_back(number);
        }
    }

    /// A node called: it has a pipe from now on.
    pub(super) fn handle_call(&mut self, node: &NodeId) {
        self.open(node);
    }

    /// The number of the pipe to a node, which begins with the first call of this.
    fn open(&mut self, node: &NodeId) -> Option<u16> {
        if let Some(link) = self.links.get(node) {
            return Some(link.number);
        }
        let fresh = match self.free.len() > RESTING {
            true => None,
            false => self.last_number.checked_add(1),
        };
        let number = match fresh {
            Some(fresh) => fresh,
            None => self.free.pop_front()?,
        };
        self.last_number = self.last_number.max(number);
        let standing = match self.nodes.node(node) {
            Some(_) => Standing::Listed,
            None => Standing::Unlisted,
        };
        let link = Link {
            number,
            is_kept: false,
            standing,
        };
        self.links.insert(node.clone(), link);
        self.by_number.insert(number, node.clone());
        self.outputs.push_back(Output::Open(node.clone(), number));
        Some(number)
    }

    /// A pipe has met a bug, and is made anew when it is needed.
    pub(super) fn handle_end(&mut self, node: &NodeId) {
        if !self.part(node) {
            return;
        }
        self.relays.end_all_from(node);
        let rooms = self.hearing.rooms_of(node).into_iter();
        let follow = rooms.map(|room| hearing::Output::Follow(node.clone(), room));
        self.listen(follow.collect());
        self.carry_out();
    }

    // Tracks.

    /// A session of this node's shard wants a track.
    pub(super) fn want(
        &mut self,
        session: SessionId,
        shard: u8,
        track: TrackId,
        elsewhere: Elsewhere,
    ) {
        let wanted = self.sessions.entry(session.clone()).or_default();
        if !wanted.contains(&track) {
            wanted.push(track.clone());
        }
        let wanter = (Wanter::Session(session), relay_path::Role::Leaf);
        self.take(track, elsewhere, wanter, shard.into());
        self.carry_out();
    }

    /// … or does not any more.
    pub(super) fn unwant(&mut self, session: SessionId, track: &TrackId) {
        self.note_ended(&session, track);
        self.relays.unwant(track, &Wanter::Session(session));
        self.carry_out();
    }

    fn note_ended(&mut self, session: &SessionId, track: &TrackId) {
        if let Some(wanted) = self.sessions.get_mut(session) {
            wanted.retain(|other| other != track);
            if wanted.is_empty() {
                self.sessions.remove(session);
                self.outputs.push_back(Output::Forget(session.clone()));
            }
        }
    }

    /// On these nodes people of the session's room are.
    pub(super) fn hear(&mut self, session: SessionId, room: RoomId, nodes: BTreeSet<NodeId>) {
        let outputs = self.hearing.hear(session, room, nodes);
        self.listen(outputs);
        self.carry_out();
    }

    /// The session is over.
    pub(super) fn forget(&mut self, session: &SessionId) {
        let outputs = self.hearing.forget(session);
        self.listen(outputs);
        for track in self.sessions.remove(session).into_iter().flatten() {
            self.relays
                .unwant(&track, &Wanter::Session(session.clone()));
        }
        self.outputs.push_back(Output::Forget(session.clone()));
        self.carry_out();
    }

    fn listen(&mut self, outputs: Vec<hearing::Output>) {
        for output in outputs {
            let (node, order) = match output {
                hearing::Output::Follow(node, room) => (node, Order::Follow(room)),
                hearing::Output::Unfollow(node, room) => (node, Order::Unfollow(room)),
            };
            self.open(&node);
            self.outputs.push_back(Output::Link(node, order));
        }
    }

    /// Takes every track from where it is to be taken by now.
    fn follow(&mut self) {
        let view = view(
            &self.own,
            &self.region,
            &self.nodes,
            &self.silent,
            self.fan_out,
        );
        self.relays
            .follow(|track, origin, role, sent_on| path(&view, track, origin, role, sent_on));
        self.carry_out();
    }

    /// A pipe has something to report.
    pub(super) fn handle_news(&mut self, number: u16, news: News) {
        // What a pipe reports that was parted with meanwhile would be wanted for nobody, for ever.
        if !self.by_number.contains_key(&number) {
            return;
        }
        match news {
            News::Described {
                track,
                generation,
                format,
            } => {
                if let Some(described) = self.relays.described(&track, generation) {
                    let entry = TrackEntry {
                        room: described.publication.room.clone(),
                        session: described.publication.session.clone(),
                        format,
                        origin: Origin {
                            shard: described.shard,
                            generation,
                        },
                    };
                    self.tracks.insert(track, entry);
                }
            }
            News::Gone { track, generation } => {
                if let Some(from) = self.by_number.get(&number) {
                    self.relays.gone(&track, generation, from);
                }
            }
            News::Moved { track, generation } => {
                if let Some(from) = self.by_number.get(&number) {
                    self.relays.moved(&track, generation, from);
                }
            }
            News::SentOn { track, generation } => {
                if let Some(from) = self.by_number.get(&number) {
                    let view = view(
                        &self.own,
                        &self.region,
                        &self.nodes,
                        &self.silent,
                        self.fan_out,
                    );
                    self.relays.send_on(
                        &track,
                        generation,
                        from,
                        |track, origin, role, sent_on| path(&view, track, origin, role, sent_on),
                    );
                }
            }
            News::Given {
                subscription,
                track,
                role,
            } => {
                self.audience
                    .add(&track, (number, subscription), served(role));
                let origin = self.own.clone();
                self.relieve(&track, &origin);
            }
            News::Asked {
                subscription,
                track,
                publication,
            } => {
                let wanter = Wanter::Pipe(number, subscription);
                // Which of both is later, only signaling knows, and is about to say to one of the two. Nobody
                // who asks takes the place of what is wanted here. And a node that is not known may have
                // started a moment ago, or ended: the registry is about to say so to one of the two. What is
                // taken from it already goes on.
                let is_known = self.nodes.node(&publication.node).is_some()
                    || self.relays.role(&track).is_some();
                if !is_known || self.relays.takes_another(&track, &publication.session) {
                    return self.order(number, Order::Defer(subscription));
                }
                // On whichever shard: all of them serve other nodes equally well.
                let shard = subscription % u32::from(self.shards.max(1));
                let (origin, role) = (publication.node.clone(), served(publication.role));
                let elsewhere = Elsewhere {
                    node: publication.node,
                    session: publication.session,
                    room: publication.room,
                };
                let wanter = (wanter, role.server());
                self.take(track.clone(), elsewhere, wanter, shard as u16);
                self.audience.add(&track, (number, subscription), role);
                if self.relays.role(&track) == Some(relay_path::Role::Gateway) {
                    self.relieve(&track, &origin);
                }
            }
            News::LetGo => {
                let node = self.by_number.get(&number);
                let node = node.filter(|node| self.nodes.node(node).is_none());
                if let Some(link) = node.and_then(|node| self.links.get_mut(node))
                    && link.standing == Standing::Left
                {
                    link.standing = Standing::LetGo;
                }
            }
            News::Heard => {
                if let Some(node) = self.by_number.get(&number)
                    && self.silent.remove(node)
                {
                    self.follow();
                }
            }
            News::Silent => {
                if let Some(node) = self.by_number.get(&number)
                    && self.silent.insert(node.clone())
                {
                    self.follow();
                }
            }
            News::Released {
                subscription,
                track,
            } => {
                self.audience.remove(&track, (number, subscription));
                let wanter = Wanter::Pipe(number, subscription);
                self.relays.unwant(&track, &wanter);
                let view = view(
                    &self.own,
                    &self.region,
                    &self.nodes,
                    &self.silent,
                    self.fan_out,
                );
                self.relays
                    .follow_one(&track, |track, origin, role, sent_on| {
                        path(&view, track, origin, role, sent_on)
                    });
            }
        }
        self.carry_out();
    }

    fn take(
        &mut self,
        track: TrackId,
        elsewhere: Elsewhere,
        wanter: (Wanter, relay_path::Role),
        shard: u16,
    ) {
        let view = view(
            &self.own,
            &self.region,
            &self.nodes,
            &self.silent,
            self.fan_out,
        );
        let generation = self.tracks.next_generation();
        self.relays.want(
            track,
            elsewhere,
            wanter,
            shard,
            generation,
            |track, origin, role, sent_on| path(&view, track, origin, role, sent_on),
        );
    }

    /// Sends on whom there is no room for among those who take a track from here.
    fn relieve(&mut self, track: &TrackId, origin: &NodeId) {
        loop {
            let leaves = self.audience.leaves(track).into_iter();
            let leaves = leaves.filter_map(|taker| Some((taker, self.by_number.get(&taker.0)?)));
            let leaves: Vec<_> = leaves.collect();
            let nodes: Vec<&NodeId> = leaves.iter().map(|(_, node)| *node).collect();
            let view = view(
                &self.own,
                &self.region,
                &self.nodes,
                &self.silent,
                self.fan_out,
            );
            let last = view.send_on(track, origin, &nodes, self.audience.branches(track));
            let taker = leaves.iter().find(|(_, node)| Some(*node) == last);
            let Some(&(taker, _)) = taker else {
                return;
            };
            self.audience.send_on(track, taker);
            self.order(taker.0, Order::SendOn(taker.1));
        }
    }

    fn carry_out(&mut self) {
        self.part_with_left();
        while let Some(output) = self.relays.poll_output() {
            match output {
                relays::Output::Land {
                    track,
                    shard,
                    generation,
                    from,
                    publication,
                } => {
                    let Some(number) = self.open(&from) else {
                        self.relays.gone(&track, generation, &from);
                        continue;
                    };
                    let landing = Landing {
                        track,
                        origin: Origin {
                            shard: number,
                            generation,
                        },
                        publication,
                    };
                    let land = Output::Shard(shard, Command::Land(landing));
                    self.outputs.push_back(land);
                }
                relays::Output::Leave {
                    track,
                    shard,
                    generation,
                } => {
                    self.tracks.remove_generation(&track, generation);
                    let leave = Command::Leave { track, generation };
                    self.outputs.push_back(Output::Shard(shard, leave));
                }
                relays::Output::Known(track, of, wanter) => self.answer(track, of, wanter, true),
                relays::Output::Gone(track, of, wanter) => self.answer(track, of, wanter, false),
            }
        }
    }

    /// `of`: who publishes it.
    fn answer(&mut self, track: TrackId, of: SessionId, wanter: Wanter, is_known: bool) {
        match wanter {
            Wanter::Session(session) if is_known => {
                self.outputs.push_back(Output::Known(session, track, of));
            }
            Wanter::Session(session) => {
                let gone = Output::Gone(session.clone(), track.clone(), of);
                self.outputs.push_back(gone);
                self.note_ended(&session, &track);
            }
            Wanter::Pipe(number, subscription) => {
                let order = match is_known {
                    true => Order::Serve(subscription),
                    false => Order::Refuse(subscription),
                };
                self.order(number, order);
            }
        }
    }

    fn order(&mut self, number: u16, order: Order) {
        if let Some(node) = self.by_number.get(&number) {
            self.outputs.push_back(Output::Link(node.clone(), order));
        }
    }

    /// Whether nothing is wanted, taken or heard any more.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        let is_idle = self.relays.len() == 0 && self.audience.is_empty();
        is_idle && self.sessions.is_empty() && self.hearing.is_idle()
    }
}

fn view<'a>(
    node: &'a NodeId,
    region: &'a Region,
    mesh: &'a Snapshot,
    excluded: &'a BTreeSet<NodeId>,
    fan_out: FanOut,
) -> View<'a> {
    View {
        node,
        region,
        mesh,
        excluded,
        fan_out,
    }
}

/// As what another node takes a track.
fn served(role: Role) -> relay_path::Role {
    match role {
        Role::Twig => relay_path::Role::Twig,
        Role::Leaf | Role::Unspecified => relay_path::Role::Leaf,
        Role::Branch => relay_path::Role::Branch,
        Role::Gateway => relay_path::Role::Gateway,
    }
}

/// Where a track is taken from. An origin of which nothing is known is asked itself: it may be about to come.
fn path(
    view: &View<'_>,
    track: &TrackId,
    origin: &NodeId,
    role: relay_path::Role,
    sent_on: SentOn,
) -> Path {
    match view.source(role, sent_on, track, origin) {
        Some(source) => Path {
            from: source.node,
            role: match source.role {
                relay_path::Role::Twig => Role::Twig,
                relay_path::Role::Leaf => Role::Leaf,
                relay_path::Role::Branch => Role::Branch,
                relay_path::Role::Gateway => Role::Gateway,
            },
        },
        None => Path {
            from: origin.clone(),
            role: Role::Gateway,
        },
    }
}

#[cfg(test)]
mod tests;
