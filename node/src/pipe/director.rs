//! The task that decides over pipes: which there are, and which tracks are taken through which.
//!
//! Sessions ask here for tracks of other nodes, links report what the other end asks for. What follows is
//! decided by [`Relays`] and carried out here: shards are told what to take, links whom to serve.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use pipemesh_proto::ids::{NodeId, Region, RoomId, SessionId, TrackId};
use pipemesh_proto::pipe::Role;
use pipemesh_topology::relay_path::{self, View};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::bell::Bell;
use super::caller::Caller;
use super::connection::Established;
use super::exchange::{Exchange, News};
use super::hearing::{self, Hearing};
use super::link::{Link, Order};
use super::peers::Peers;
use super::relays::{Elsewhere, Output, Path, Relayed, Relays, Wanter};
use super::stats::PipeStats;
use crate::mailbox;
use crate::session::driver::Input;
use crate::shard::{Command, Doors, FIRST_PIPE, Landing, Origin, Publication, ShardHandle};
use crate::tracks::{TrackEntry, Tracks};

/// What waits for a link; then the director waits.
const ORDERS: usize = 256;
/// What links report; then they tell it later.
const NEWS: usize = 4096;

/// What sessions ask for.
pub(crate) enum Ask {
    Want {
        session: SessionId,
        shard: u8,
        track: TrackId,
        elsewhere: Elsewhere,
        inbox: mailbox::Sender<Input>,
    },
    Unwant {
        session: SessionId,
        track: TrackId,
    },
    /// On these nodes people of the session's room are.
    Hear {
        session: SessionId,
        room: RoomId,
        nodes: BTreeSet<NodeId>,
    },
    /// The session is over.
    Forget(SessionId),
    /// Somebody looks which tracks of a room are taken from elsewhere.
    Inspect(RoomId, oneshot::Sender<Vec<Relayed>>),
}

struct Known {
    number: u16,
    orders: mpsc::Sender<Order>,
    is_kept: bool,
}

/// See the module.
pub(super) struct Director {
    own: NodeId,
    region: Region,
    shards: Vec<ShardHandle>,
    doors: Doors,
    tracks: Arc<Tracks>,
    caller: Caller,
    peers: Peers,
    asks: mpsc::Receiver<Ask>,
    called: mpsc::Receiver<Established>,
    news: mpsc::Receiver<(u16, News)>,
    told: mpsc::Sender<(u16, News)>,
    links: BTreeMap<NodeId, Known>,
    by_number: HashMap<u16, NodeId>,
    tasks: JoinSet<u16>,
    last_number: u16,
    relays: Relays,
    hearing: Hearing,
    /// Nodes that are silent, or cannot be reached.
    silent: BTreeSet<NodeId>,
    sessions: HashMap<SessionId, Asker>,
    stats: PipeStats,
    origin: Instant,
    closing: CancellationToken,
}

/// A session, and how many tracks it wants.
struct Asker {
    inbox: mailbox::Sender<Input>,
    tracks: Vec<TrackId>,
}

/// What the director is made of.
pub(super) struct Parts {
    pub(super) own: NodeId,
    pub(super) region: Region,
    pub(super) shards: Vec<ShardHandle>,
    pub(super) doors: Doors,
    pub(super) tracks: Arc<Tracks>,
    pub(super) caller: Caller,
    pub(super) peers: Peers,
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) called: mpsc::Receiver<Established>,
    pub(super) stats: PipeStats,
    pub(super) origin: Instant,
    pub(super) closing: CancellationToken,
}

impl Director {
    pub(super) fn new(parts: Parts) -> Self {
        let (told, news) = mpsc::channel(NEWS);
        Self {
            own: parts.own,
            region: parts.region,
            shards: parts.shards,
            doors: parts.doors,
            tracks: parts.tracks,
            caller: parts.caller,
            peers: parts.peers,
            asks: parts.asks,
            called: parts.called,
            news,
            told,
            links: BTreeMap::new(),
            by_number: HashMap::new(),
            tasks: JoinSet::new(),
            last_number: FIRST_PIPE - 1,
            relays: Relays::default(),
            hearing: Hearing::default(),
            silent: BTreeSet::new(),
            sessions: HashMap::new(),
            stats: parts.stats,
            origin: parts.origin,
            closing: parts.closing,
        }
    }

    pub(super) async fn run(mut self) {
        self.meet_region().await;
        let closing = self.closing.clone();
        loop {
            tokio::select! {
                () = closing.cancelled() => break,
                Some(ask) = self.asks.recv() => self.handle_ask(ask).await,
                Some((number, news)) = self.news.recv() => self.handle_news(number, news).await,
                Some(established) = self.called.recv() => self.introduce(established).await,
                () = self.peers.changed() => {
                    self.meet_region().await;
                    self.follow().await;
                }
                Some(ended) = self.tasks.join_next() => self.handle_end(ended).await,
            }
        }
        // Links end when nobody tells them anything any more, and say so to the other nodes.
        self.links.clear();
        while self.tasks.join_next().await.is_some() {}
    }

    // Links.

    /// Nodes of one's own region are called before they are of use.
    async fn meet_region(&mut self) {
        let snapshot = self.peers.snapshot();
        let mut near = Vec::new();
        for node in snapshot.nodes() {
            if node.region == self.region && node.id != self.own && node.pipe.is_some() {
                near.push(node.id.clone());
            }
        }
        for node in &near {
            self.link(node).await;
        }
        for (node, known) in &mut self.links {
            let is_near = near.contains(node);
            if std::mem::replace(&mut known.is_kept, is_near) != is_near {
                // One that has ended is met again when it is needed.
                let _ = known.orders.send(Order::Keep(is_near)).await;
            }
        }
    }

    /// A node called.
    async fn introduce(&mut self, established: Established) {
        let node = established.node.clone();
        self.link(&node).await;
        if let Some(known) = self.links.get(&node) {
            let order = Order::Established(Box::new(established));
            let _ = known.orders.send(order).await;
        }
    }

    /// The number of the link to a node, which begins with the first call of this.
    async fn link(&mut self, node: &NodeId) -> Option<u16> {
        if let Some(known) = self.links.get(node) {
            return Some(known.number);
        }
        let bell = Bell::new();
        self.last_number = self.last_number.checked_add(1)?;
        let number = self.last_number;
        let (neighbours, door) = self.doors.pipe(number, bell.waker());
        for shard in &self.shards {
            let (met, answer) = oneshot::channel();
            shard.send(Command::Meet(number, door.clone(), met)).await;
            // A shard that is gone takes the node with it.
            let _ = answer.await;
        }
        let exchange = Exchange::new(
            self.own.clone(),
            neighbours,
            Arc::clone(&self.tracks),
            self.origin,
        );
        let (orders, ordered) = mpsc::channel(ORDERS);
        let link = Link::new(
            node.clone(),
            number,
            self.caller.clone(),
            exchange,
            bell,
            ordered,
            self.told.clone(),
            self.stats.clone(),
        );
        self.tasks.spawn(async move {
            link.run().await;
            number
        });
        let known = Known {
            number,
            orders,
            is_kept: false,
        };
        self.links.insert(node.clone(), known);
        self.by_number.insert(number, node.clone());
        Some(number)
    }

    /// A link has met a bug, and is made anew when it is needed.
    async fn handle_end(&mut self, ended: Result<u16, tokio::task::JoinError>) {
        if let Err(error) = ended {
            tracing::error!(%error, "a pipe's task ended");
        }
        let gone = self.links.iter().filter(|(_, it)| it.orders.is_closed());
        let gone: Vec<(NodeId, u16)> = gone.map(|(node, it)| (node.clone(), it.number)).collect();
        for (node, number) in gone {
            self.links.remove(&node);
            self.by_number.remove(&number);
            self.stats.forget(&node);
            for shard in &self.shards {
                shard.send(Command::Part(number)).await;
            }
            self.relays.end_pipe(number);
            self.relays.end_all_from(&node);
            let rooms = self.hearing.rooms_of(&node).into_iter();
            let follow = rooms.map(|room| hearing::Output::Follow(node.clone(), room));
            self.listen(follow.collect()).await;
        }
        self.carry_out().await;
    }

    // Tracks.

    async fn handle_ask(&mut self, ask: Ask) {
        match ask {
            Ask::Want {
                session,
                shard,
                track,
                elsewhere,
                inbox,
            } => {
                let asker = self.sessions.entry(session.clone()).or_insert(Asker {
                    inbox,
                    tracks: Vec::new(),
                });
                if !asker.tracks.contains(&track) {
                    asker.tracks.push(track.clone());
                }
                let wanter = Wanter::Session(session);
                self.want(track, elsewhere, wanter, shard.into());
            }
            Ask::Unwant { session, track } => {
                if let Some(asker) = self.sessions.get_mut(&session) {
                    asker.tracks.retain(|other| *other != track);
                    if asker.tracks.is_empty() {
                        self.sessions.remove(&session);
                    }
                }
                self.relays.unwant(&track, &Wanter::Session(session));
            }
            Ask::Hear {
                session,
                room,
                nodes,
            } => {
                let outputs = self.hearing.hear(session, room, nodes);
                self.listen(outputs).await;
            }
            // The asker may have gone.
            Ask::Inspect(room, reply) => drop(reply.send(self.relays.of_room(&room))),
            Ask::Forget(session) => {
                let outputs = self.hearing.forget(&session);
                self.listen(outputs).await;
                let asker = self.sessions.remove(&session);
                for track in asker.into_iter().flat_map(|asker| asker.tracks) {
                    self.relays
                        .unwant(&track, &Wanter::Session(session.clone()));
                }
            }
        }
        self.carry_out().await;
    }

    async fn listen(&mut self, outputs: Vec<hearing::Output>) {
        for output in outputs {
            let (node, order) = match output {
                hearing::Output::Follow(node, room) => (node, Order::Follow(room)),
                hearing::Output::Unfollow(node, room) => (node, Order::Unfollow(room)),
            };
            self.link(&node).await;
            if let Some(known) = self.links.get(&node) {
                // One that has ended is made anew, and follows then.
                let _ = known.orders.send(order).await;
            }
        }
    }

    /// Takes every track from where it is to be taken by now.
    async fn follow(&mut self) {
        let snapshot = self.peers.snapshot();
        let view = View {
            node: &self.own,
            region: &self.region,
            mesh: &snapshot,
            excluded: &self.silent,
        };
        self.relays
            .follow(|track, publication, role| path(&view, track, publication, role));
        self.carry_out().await;
    }

    async fn handle_news(&mut self, number: u16, news: News) {
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
            News::Asked {
                subscription,
                track,
                publication,
            } => {
                if self.peers.snapshot().node(&publication.node).is_none() {
                    let wanter = Wanter::Pipe(number, subscription);
                    return self.answer(track, publication.session, wanter, false).await;
                }
                // On whichever shard: all of them serve other nodes equally well.
                let shard = subscription as usize % self.shards.len().max(1);
                let elsewhere = Elsewhere {
                    node: publication.node,
                    session: publication.session,
                    room: publication.room,
                };
                let wanter = Wanter::Pipe(number, subscription);
                self.want(track, elsewhere, wanter, shard as u16);
            }
            News::Heard => {
                if let Some(node) = self.by_number.get(&number)
                    && self.silent.remove(node)
                {
                    self.follow().await;
                }
            }
            News::Silent => {
                if let Some(node) = self.by_number.get(&number)
                    && self.silent.insert(node.clone())
                {
                    self.follow().await;
                }
            }
            News::Released {
                subscription,
                track,
            } => {
                let wanter = Wanter::Pipe(number, subscription);
                self.relays.unwant(&track, &wanter);
            }
        }
        self.carry_out().await;
    }

    fn want(&mut self, track: TrackId, elsewhere: Elsewhere, wanter: Wanter, shard: u16) {
        let role = match wanter {
            Wanter::Session(_) => Role::Leaf,
            Wanter::Pipe(..) => Role::Gateway,
        };
        let snapshot = self.peers.snapshot();
        let publication = Publication {
            node: elsewhere.node.clone(),
            session: elsewhere.session.clone(),
            room: elsewhere.room.clone(),
            role,
        };
        let view = View {
            node: &self.own,
            region: &self.region,
            mesh: &snapshot,
            excluded: &self.silent,
        };
        let path = path(&view, &track, &publication, role);
        let generation = self.tracks.next_generation();
        self.relays
            .want(track, elsewhere, wanter, path, shard, generation);
    }

    /// Does what was decided.
    async fn carry_out(&mut self) {
        while let Some(output) = self.relays.poll_output() {
            match output {
                Output::Land {
                    track,
                    shard,
                    generation,
                    from,
                    publication,
                } => {
                    let Some(number) = self.link(&from).await else {
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
                    self.tell_shard(shard, Command::Land(landing)).await;
                }
                Output::Leave {
                    track,
                    shard,
                    generation,
                } => {
                    self.tracks.remove_generation(&track, generation);
                    let leave = Command::Leave { track, generation };
                    self.tell_shard(shard, leave).await;
                }
                Output::Known(track, of, wanter) => self.answer(track, of, wanter, true).await,
                Output::Gone(track, of, wanter) => self.answer(track, of, wanter, false).await,
            }
        }
    }

    async fn tell_shard(&self, shard: u16, command: Command) {
        if let Some(shard) = self.shards.get(usize::from(shard)) {
            shard.send(command).await;
        }
    }

    /// `of`: who publishes it.
    async fn answer(&mut self, track: TrackId, of: SessionId, wanter: Wanter, is_known: bool) {
        match wanter {
            Wanter::Session(session) => {
                let Some(asker) = self.sessions.get_mut(&session) else {
                    return;
                };
                let input = match is_known {
                    true => Input::TrackKnown(track, of),
                    false => {
                        asker.tracks.retain(|other| *other != track);
                        Input::TrackGone(track, of)
                    }
                };
                // A session that is over needs no telling.
                let _ = asker.inbox.send_anyway(input);
                if asker.tracks.is_empty() {
                    self.sessions.remove(&session);
                }
            }
            Wanter::Pipe(number, subscription) => {
                let node = self.by_number.get(&number);
                let Some(known) = node.and_then(|node| self.links.get(node)) else {
                    return;
                };
                let order = match is_known {
                    true => Order::Serve(subscription),
                    false => Order::Refuse(subscription),
                };
                let _ = known.orders.send(order).await;
            }
        }
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
