//! Which pipes there are, which tracks are taken through which, and who is told of it. Pure: sessions ask,
//! links report, the registry changes, and what follows is to be done in the order in which it is answered.
//!
//! What a track's path is decides [`Relays`]; to whose rooms is listened, [`Hearing`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use pipemesh_proto::ids::{NodeId, Region, RoomId, SessionId, TrackId};
use pipemesh_proto::pipe::Role;
use pipemesh_topology::Snapshot;
use pipemesh_topology::relay_path::{self, View};

use super::exchange::News;
use super::hearing::{self, Hearing};
use super::link::Order;
use super::relays::{self, Elsewhere, Path, Relayed, Relays, Wanter};
use crate::shard::{Command, FIRST_PIPE, Landing, Origin, Publication};
use crate::tracks::{TrackEntry, Tracks};

/// What is to be done.
pub(super) enum Output {
    /// A pipe to this node is needed, under this number. All shards are to know it before what follows.
    Open(NodeId, u16),
    /// The shards are to forget a pipe.
    Part(u16),
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
}

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
    relays: Relays,
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
            relays: Relays::default(),
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

    /// A node called: it has a pipe from now on.
    pub(super) fn handle_call(&mut self, node: &NodeId) {
        self.open(node);
    }

    /// The number of the pipe to a node, which begins with the first call of this.
    fn open(&mut self, node: &NodeId) -> Option<u16> {
        if let Some(link) = self.links.get(node) {
            return Some(link.number);
        }
        let number = self.last_number.checked_add(1)?;
        self.last_number = number;
        let link = Link {
            number,
            is_kept: false,
        };
        self.links.insert(node.clone(), link);
        self.by_number.insert(number, node.clone());
        self.outputs.push_back(Output::Open(node.clone(), number));
        Some(number)
    }

    /// A pipe has met a bug, and is made anew when it is needed.
    pub(super) fn handle_end(&mut self, node: &NodeId) {
        let Some(link) = self.links.remove(node) else {
            return;
        };
        self.by_number.remove(&link.number);
        self.outputs.push_back(Output::Part(link.number));
        self.relays.end_pipe(link.number);
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
        self.take(track, elsewhere, Wanter::Session(session), shard.into());
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
        let view = View {
            node: &self.own,
            region: &self.region,
            mesh: &self.nodes,
            excluded: &self.silent,
        };
        self.relays
            .follow(|track, publication, role| path(&view, track, publication, role));
        self.carry_out();
    }

    /// A pipe has something to report.
    pub(super) fn handle_news(&mut self, number: u16, news: News) {
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
            News::Asked {
                subscription,
                track,
                publication,
            } => {
                let wanter = Wanter::Pipe(number, subscription);
                // Which of both is later, only signaling knows, and is about to say to one of the two. Nobody
                // who asks takes the place of what is wanted here. And a node that is not known may have
                // started a moment ago, or ended: the registry is about to say so to one of the two.
                if self.nodes.node(&publication.node).is_none()
                    || self.relays.takes_another(&track, &publication.session)
                {
                    return self.order(number, Order::Defer(subscription));
                }
                // On whichever shard: all of them serve other nodes equally well.
                let shard = subscription % u32::from(self.shards.max(1));
                let elsewhere = Elsewhere {
                    node: publication.node,
                    session: publication.session,
                    room: publication.room,
                };
                self.take(track, elsewhere, wanter, shard as u16);
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
                let wanter = Wanter::Pipe(number, subscription);
                self.relays.unwant(&track, &wanter);
                let view = View {
                    node: &self.own,
                    region: &self.region,
                    mesh: &self.nodes,
                    excluded: &self.silent,
                };
                self.relays.follow_one(&track, |track, publication, role| {
                    path(&view, track, publication, role)
                });
            }
        }
        self.carry_out();
    }

    fn take(&mut self, track: TrackId, elsewhere: Elsewhere, wanter: Wanter, shard: u16) {
        let role = match wanter {
            Wanter::Session(_) => Role::Leaf,
            Wanter::Pipe(..) => Role::Gateway,
        };
        let publication = Publication {
            node: elsewhere.node.clone(),
            session: elsewhere.session.clone(),
            room: elsewhere.room.clone(),
            role,
        };
        let view = View {
            node: &self.own,
            region: &self.region,
            mesh: &self.nodes,
            excluded: &self.silent,
        };
        let path = path(&view, &track, &publication, role);
        let generation = self.tracks.next_generation();
        self.relays
            .want(track, elsewhere, wanter, path, shard, generation);
    }

    fn carry_out(&mut self) {
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
        self.relays.len() == 0 && self.sessions.is_empty() && self.hearing.is_idle()
    }
}

/// Where a track is taken from. An origin of which nothing is known is asked itself: it may be about to come.
fn path(view: &View<'_>, track: &TrackId, publication: &Publication, role: Role) -> Path {
    let role = match role {
        Role::Gateway => relay_path::Role::Gateway,
        Role::Leaf | Role::Unspecified => relay_path::Role::Leaf,
    };
    match view.source(role, track, &publication.node) {
        Some(source) => Path {
            from: source.node,
            role: match source.role {
                relay_path::Role::Gateway => Role::Gateway,
                relay_path::Role::Leaf => Role::Leaf,
            },
        },
        None => Path {
            from: publication.node.clone(),
            role: Role::Gateway,
        },
    }
}

#[cfg(test)]
mod tests;
