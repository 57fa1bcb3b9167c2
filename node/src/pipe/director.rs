//! The task that carries out what is decided over pipes: sessions ask here for tracks of other nodes, links
//! report what the other end asks for, the registry changes. What follows is [`Decisions`]' business; shards
//! are told what to take, links whom to serve.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use pipemesh_proto::ids::{NodeId, Region, RoomId, SessionId, TrackId};
use pipemesh_topology::relay_path::FanOut;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::bell::Bell;
use super::caller::Caller;
use super::connection::Established;
use super::decisions::{Decisions, Output};
use super::exchange::{Exchange, News};
use super::link::{Link, Order};
use super::peers::Peers;
use super::relays::{Elsewhere, Relayed};
use super::stats::PipeStats;
use crate::mailbox;
use crate::session::driver::Input;
use crate::shard::{Command, Doors, ShardHandle};
use crate::tracks::Tracks;

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

/// See the module.
pub(super) struct Director {
    own: NodeId,
    shards: Vec<ShardHandle>,
    doors: Doors,
    tracks: Arc<Tracks>,
    caller: Caller,
    peers: Peers,
    asks: mpsc::Receiver<Ask>,
    called: mpsc::Receiver<Established>,
    news: mpsc::Receiver<(u16, News)>,
    told: mpsc::Sender<(u16, News)>,
    decisions: Decisions,
    links: BTreeMap<NodeId, mpsc::Sender<Order>>,
    /// Links, which answer their numbers.
    tasks: JoinSet<u16>,
    /// Of sessions that want something.
    inboxes: HashMap<SessionId, mailbox::Sender<Input>>,
    stats: PipeStats,
    origin: Instant,
    closing: CancellationToken,
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
        let decisions = Decisions::new(
            parts.own.clone(),
            parts.region,
            parts.shards.len() as u16,
            Arc::clone(&parts.tracks),
            parts.peers.snapshot(),
            FanOut::default(),
        );
        Self {
            own: parts.own,
            shards: parts.shards,
            doors: parts.doors,
            tracks: parts.tracks,
            caller: parts.caller,
            peers: parts.peers,
            asks: parts.asks,
            called: parts.called,
            news,
            told,
            decisions,
            links: BTreeMap::new(),
            tasks: JoinSet::new(),
            inboxes: HashMap::new(),
            stats: parts.stats,
            origin: parts.origin,
            closing: parts.closing,
        }
    }

    pub(super) async fn run(mut self) {
        self.carry_out().await;
        let closing = self.closing.clone();
        loop {
            tokio::select! {
                () = closing.cancelled() => break,
                Some(ask) = self.asks.recv() => self.handle_ask(ask),
                Some((number, news)) = self.news.recv() => {
                    self.decisions.see(self.peers.snapshot());
                    self.decisions.handle_news(number, news);
                }
                Some(established) = self.called.recv() => self.introduce(established).await,
                () = self.peers.changed() => self.decisions.handle_nodes(self.peers.snapshot()),
                Some(ended) = self.tasks.join_next() => self.handle_end(ended),
            }
            self.carry_out().await;
        }
        // Links end when nobody tells them anything any more, and say so to the other nodes.
        self.links.clear();
        while self.tasks.join_next().await.is_some() {}
    }

    /// A node called.
    async fn introduce(&mut self, established: Established) {
        let node = established.node.clone();
        self.decisions.handle_call(&node);
        self.carry_out().await;
        self.order(&node, Order::Established(Box::new(established)))
            .await;
    }

    fn handle_end(&mut self, ended: Result<u16, tokio::task::JoinError>) {
        match ended {
            Ok(number) => self.decisions.handle_freed(number),
            Err(error) => tracing::error!(%error, "a pipe's task ended"),
        }
        let gone = self.links.iter().filter(|(_, orders)| orders.is_closed());
        for node in gone.map(|(node, _)| node.clone()).collect::<Vec<_>>() {
            self.links.remove(&node);
            self.stats.forget(&node);
            self.decisions.handle_end(&node);
        }
    }

    fn handle_ask(&mut self, ask: Ask) {
        self.decisions.see(self.peers.snapshot());
        match ask {
            Ask::Want {
                session,
                shard,
                track,
                elsewhere,
                inbox,
            } => {
                self.inboxes.entry(session.clone()).or_insert(inbox);
                self.decisions.want(session, shard, track, elsewhere);
            }
            Ask::Unwant { session, track } => self.decisions.unwant(session, &track),
            Ask::Hear {
                session,
                room,
                nodes,
            } => self.decisions.hear(session, room, nodes),
            Ask::Forget(session) => self.decisions.forget(&session),
            // The asker may have gone.
            Ask::Inspect(room, reply) => drop(reply.send(self.decisions.of_room(&room))),
        }
    }

    /// Does what was decided.
    async fn carry_out(&mut self) {
        while let Some(output) = self.decisions.poll_output() {
            match output {
                Output::Open(node, number) => self.open(node, number).await,
                Output::Part(node, number) => {
                    // The link ends when nobody tells it anything any more.
                    self.links.remove(&node);
                    for shard in &self.shards {
                        shard.send(Command::Part(number)).await;
                    }
                }
                Output::Link(node, order) => self.order(&node, order).await,
                Output::Shard(shard, command) => {
                    if let Some(shard) = self.shards.get(usize::from(shard)) {
                        shard.send(command).await;
                    }
                }
                Output::Known(session, track, of) => {
                    self.tell(&session, Input::TrackKnown(track, of));
                }
                Output::Gone(session, track, of) => {
                    self.tell(&session, Input::TrackGone(track, of));
                }
                Output::Forget(session) => drop(self.inboxes.remove(&session)),
            }
        }
    }

    async fn open(&mut self, node: NodeId, number: u16) {
        let bell = Bell::new();
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
        self.links.insert(node, orders);
    }

    async fn order(&self, node: &NodeId, order: Order) {
        if let Some(orders) = self.links.get(node) {
            // One that has ended is made anew when it is needed.
            let _ = orders.send(order).await;
        }
    }

    fn tell(&self, session: &SessionId, input: Input) {
        if let Some(inbox) = self.inboxes.get(session) {
            // A session that is over needs no telling.
            let _ = inbox.send_anyway(input);
        }
    }
}
