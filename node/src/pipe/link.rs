//! The task of one pipe: shards on the one side, a QUIC connection on the other, which comes and goes.
//!
//! What is taken and given is [`Exchange`]'s business. Connections come from the
//! [`director`](super::director), when the other node called, or from here: a link that is of use, or that
//! is to be ready before it is, calls until it is answered.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pipemesh_node_core::pipe::frame;
use pipemesh_node_core::pipe::prober::{Prober, Size};
use pipemesh_proto::ids::{NodeId, RoomId};
use pipemesh_proto::pipe::CloseCode;
use pipemesh_proto::pipe::pipe_message::Message as Word;
use rand::Rng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::alarm::Alarm;
use super::bell::Bell;
use super::caller::Caller;
use super::calls::{Calls, Ear, LET_GO_AFTER, Met};
use super::connection::{self, Established, Failed};
use super::exchange::{Exchange, News};
use super::sender::Sender;
use super::stats::{LinkStats, PipeStats, Unsent};
use super::traffic::{Bytes, Traffic};
use super::transport::media_size;

/// Datagrams that are read before what shards sent has its turn.
const DATAGRAMS_PER_TURN: usize = 512;
/// A shard that takes no messages at present is tried again this soon.
const POST_AGAIN: Duration = Duration::from_millis(1);
/// Messages that wait for the other node. One that takes none for so long is cut off, and asked anew.
const MOST_WORDS: usize = 65_536;

/// What the latency of the way from there is the mean of: so many looks.
const LATENCY_LOOKS: u32 = 16;

/// How often it is told what the pipe has done; that takes locks, and packets come more often.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);

/// What the director tells a link.
pub(super) enum Order {
    /// The other node called.
    Established(Box<Established>),
    /// A track that the other node has asked for is here …
    Serve(u32),
    /// … or cannot be had, …
    Refuse(u32),
    /// … or not yet: it is to ask again.
    Defer(u32),
    /// It is to take a track that it has from here from elsewhere.
    SendOn(u32),
    /// It is to be connected, used or not.
    Keep(bool),
    /// It is among the nodes, or not any more.
    List(bool),
    /// People here are to hear what is said in a room there …
    Follow(RoomId),
    /// … or not any more.
    Unfollow(RoomId),
}

/// See the module.
pub(super) struct Link {
    node: NodeId,
    number: u16,
    caller: Caller,
    exchange: Exchange,
    bell: Bell,
    alarm: Alarm,
    orders: mpsc::Receiver<Order>,
    news: mpsc::Sender<(u16, News)>,
    established: Option<Established>,
    calling: JoinSet<Result<Established, Failed>>,
    calls: Calls,
    /// Of the present connection.
    sender: Option<Sender>,
    prober: Option<Prober>,
    /// What packets take from there.
    latency: Option<Duration>,
    ear: Ear,
    /// News that the director has no room for.
    untold: Option<News>,
    stats: PipeStats,
    publish_at: Instant,
    /// Nothing has happened since.
    is_published: bool,
    connections: u64,
    /// Packets that connections before this one lost.
    lost: u64,
    /// Packets for which there was no connection.
    unsent: u64,
    /// What senders before this one dropped.
    dropped: Unsent,
    traffic: Traffic,
}

impl Link {
    pub(super) fn new(
        node: NodeId,
        number: u16,
        caller: Caller,
        exchange: Exchange,
        bell: Bell,
        orders: mpsc::Receiver<Order>,
        news: mpsc::Sender<(u16, News)>,
        stats: PipeStats,
    ) -> Self {
        let now = Instant::now();
        Self {
            calls: Calls::new(caller.is_first(&node), LET_GO_AFTER, now),
            node,
            number,
            caller,
            exchange,
            bell,
            alarm: Alarm::new(),
            orders,
            news,
            established: None,
            calling: JoinSet::new(),
            sender: None,
            prober: None,
            latency: None,
            ear: Ear::new(now),
            untold: None,
            stats,
            publish_at: now,
            is_published: false,
            connections: 0,
            lost: 0,
            unsent: 0,
            dropped: Unsent::default(),
            traffic: Traffic::default(),
        }
    }

    /// Runs until the director lets go of it.
    pub(super) async fn run(mut self) {
        loop {
            // 1. What shards have to say, and the packets they send.
            self.bell.awake();
            let now = Instant::now();
            self.exchange.handle_messages(now);
            self.calls.note_use(self.exchange.is_used(), now);
            self.let_go_if_due(now);
            if self.calls.poll_gone(self.established.is_some()) {
                self.exchange.report(News::LetGo);
            }
            self.probe(now);
            self.send_packets(now);
            // 2. What follows from it, and from what came last.
            self.send_words();
            self.exchange.flush();
            self.tell_news();
            self.publish(now);
            // 3. Wait; whatever comes is handled before the next turn.
            if !self.wait().await {
                break;
            }
        }
        if let Some(established) = self.established.take() {
            let code = CloseCode::Stopping;
            connection::close(
                &established.connection,
                code,
                "the node stops, or is forgotten",
            );
        }
        self.exchange.disconnected();
        self.stats.forget(&self.node);
    }

    /// Waits for something to come and handles it; `false`: nothing is to come any more.
    async fn wait(&mut self) -> bool {
        let more = self.exchange.has_arrivals();
        let call_at = self.call_at();
        let let_go_at = self.let_go_at();
        let post_at = self
            .exchange
            .is_waiting()
            .then(|| Instant::now() + POST_AGAIN);
        let listen_at = self.established.is_some().then(|| self.ear.poll_timeout());
        let sender = self.sender.as_ref();
        let send_at = sender.and_then(|sender| sender.poll_timeout(Instant::now()));
        let publish_at = (!self.is_published).then_some(self.publish_at);
        let probe_at = self.prober.as_ref().map(Prober::poll_timeout);
        let at = [
            call_at, let_go_at, post_at, listen_at, send_at, publish_at, probe_at,
        ];
        let at = at.into_iter().flatten().min();
        let is_talkative = self.exchange.words() > 0;
        let is_congested = self.exchange.is_congested();
        let (connection, words_in, words_out) = match &mut self.established {
            Some(it) => (
                Some(&it.connection),
                Some(&mut it.words_in),
                Some(&it.words_out),
            ),
            None => (None, None, None),
        };
        let datagram = async {
            match connection {
                Some(connection) => connection.read_datagram().await,
                None => std::future::pending().await,
            }
        };
        let word = async {
            match words_in.filter(|_| !is_congested) {
                Some(words) => words.recv().await,
                None => std::future::pending().await,
            }
        };
        let room = async {
            match words_out.filter(|_| is_talkative) {
                Some(words) => drop(words.reserve().await),
                None => std::future::pending().await,
            }
        };
        let untold = self.untold.is_some();
        let news = async {
            match untold {
                true => drop(self.news.reserve().await),
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            order = self.orders.recv() => match order {
                Some(order) => self.handle_order(order),
                None => return false,
            },
            () = self.bell.rung() => {}
            () = std::future::ready(()), if more => {}
            datagram = datagram => match datagram {
                Ok(datagram) => self.handle_datagrams(&datagram),
                Err(error) => self.lose(&error),
            },
            word = word => match word {
                Some(word) => self.handle_word(word),
                None => self.lose_stream(),
            },
            () = room => {}
            () = news => {}
            Some(called) = self.calling.join_next() => match called {
                Ok(Ok(established)) => self.establish(established),
                Ok(Err(failed)) => self.note_failure(&failed),
                Err(_) => {}
            },
            () = self.alarm.rung_by(at) => {
                self.call_if_due();
                self.listen(Instant::now());
            }
        }
        true
    }

    /// Looks whether the other node has said anything of late.
    fn listen(&mut self, now: Instant) {
        if let Some(established) = &self.established {
            let datagrams = established.connection.stats().udp_rx.datagrams;
            let news = self.ear.handle_timeout(datagrams, now);
            self.report(news);
            if let Some(is_doubted) = self.ear.poll_doubt() {
                self.exchange.doubt(is_doubted);
            }
            if self.ear.is_lost(now) {
                self.give_up();
            }
        }
    }

    fn give_up(&mut self) {
        if let Some(established) = &self.established {
            let connection = established.connection.clone();
            connection::close(&connection, CloseCode::Silent, "nothing was heard");
            let error = connection.close_reason();
            self.lose(&error.unwrap_or(quinn::ConnectionError::TimedOut));
        }
    }

    fn report(&mut self, news: Option<News>) {
        if let Some(news) = news {
            self.exchange.report(news);
        }
    }

    fn handle_order(&mut self, order: Order) {
        match order {
            Order::Established(established) => self.establish(*established),
            Order::Serve(subscription) => self.exchange.serve(subscription),
            Order::Refuse(subscription) => self.exchange.refuse(subscription),
            Order::Defer(subscription) => self.exchange.defer(subscription),
            Order::SendOn(subscription) => self.exchange.send_on(subscription),
            Order::Keep(is_kept) => self.calls.keep(is_kept),
            Order::List(is_listed) => self.calls.list(is_listed, Instant::now()),
            Order::Follow(room) => self.exchange.follow(room),
            Order::Unfollow(room) => self.exchange.unfollow(&room),
        }
    }

    // Connections.

    /// When the other node is to be called.
    fn call_at(&self) -> Option<Instant> {
        let is_away = self.established.is_none() && self.calling.is_empty();
        let at = self.calls.poll_timeout();
        at.filter(|_| is_away)
    }

    fn call_if_due(&mut self) {
        if self.call_at().is_none_or(|at| Instant::now() < at) {
            return;
        }
        let (caller, node) = (self.caller.clone(), self.node.clone());
        self.calling.spawn(async move { caller.call(&node).await });
    }

    fn let_go_at(&self) -> Option<Instant> {
        let established = self.established.as_ref()?;
        let is_bettered = || self.caller.is_bettered(established);
        self.calls.let_go_at(established.dialled, is_bettered)
    }

    fn let_go_if_due(&mut self, now: Instant) {
        if self.let_go_at().is_none_or(|at| now < at) {
            return;
        }
        let Some(connection) = self.established.as_ref().map(|it| it.connection.clone()) else {
            return;
        };
        connection::close(&connection, CloseCode::Unused, "nobody needs it");
        tracing::info!(node = %self.node, "a pipe that nobody needs is let go of");
        self.rest(now);
    }

    /// There is no connection until somebody needs one.
    fn rest(&mut self, now: Instant) {
        self.forget_connection();
        self.exchange.disconnected();
        self.ear.handle_rest();
        self.calls.handle_rest(now);
    }

    fn note_failure(&mut self, failed: &Failed) {
        self.stats.count(failed.refusal());
        if self.established.is_none() {
            let news = self.ear.handle_silence();
            self.report(news);
        }
        let share = rand::rng().random_range(0.5..1.0);
        let pause = self.calls.handle_failure(share, Instant::now());
        let error = failed as &dyn std::error::Error;
        tracing::warn!(node = %self.node, error, ?pause, "a node cannot be called; trying again");
    }

    fn establish(&mut self, established: Established) {
        if let Some(known) = &self.established {
            let met = |it: &Established| Met {
                dialled: it.dialled,
                boot_id: it.boot_id,
            };
            let is_alive = known.connection.close_reason().is_none();
            if is_alive && self.calls.stays(met(known), met(&established)) {
                let code = CloseCode::Duplicate;
                connection::close(&established.connection, code, "another connection is there");
                return;
            }
            let code = CloseCode::Duplicate;
            connection::close(&known.connection, code, "another connection took its place");
            self.exchange.disconnected();
        }
        tracing::info!(
            node = %self.node,
            address = %established.connection.remote_address(),
            called = established.dialled,
            "a pipe is connected"
        );
        let now = Instant::now();
        self.calls.handle_meeting(now);
        self.connections += 1;
        self.forget_connection();
        self.sender = Some(Sender::new(Arc::clone(&established.published), now));
        self.prober = Some(Prober::new(self.exchange.clock(), now));
        self.established = Some(established);
        self.exchange.connected();
        let news = self.ear.handle_meeting(now);
        self.report(news);
    }

    fn lose(&mut self, error: &quinn::ConnectionError) {
        if let quinn::ConnectionError::ApplicationClosed(closed) = error
            && closed.error_code == (CloseCode::Unused as u32).into()
        {
            tracing::info!(node = %self.node, "a pipe that nobody needs was let go of");
            return self.rest(Instant::now());
        }
        let error = error as &dyn std::error::Error;
        tracing::warn!(node = %self.node, error, "a pipe is lost");
        self.forget_connection();
        self.exchange.disconnected();
        let news = self.ear.handle_silence();
        self.report(news);
        self.calls.handle_loss(Instant::now());
    }

    fn forget_connection(&mut self) {
        self.prober = None;
        self.latency = None;
        if let Some(established) = self.established.take() {
            self.lost += established.connection.stats().path.lost_packets;
        }
        if let Some(sender) = self.sender.take() {
            self.dropped.add(&sender);
        }
    }

    fn lose_stream(&mut self) {
        let Some(established) = &self.established else {
            return;
        };
        let connection = established.connection.clone();
        connection::close(&connection, CloseCode::Protocol, "the control stream ended");
        let error = connection.close_reason();
        self.lose(&error.unwrap_or(quinn::ConnectionError::LocallyClosed));
    }

    // What goes out.

    fn send_words(&mut self) {
        let Some(established) = &self.established else {
            return;
        };
        if established.words_out.is_closed() {
            return self.lose_stream();
        }
        while self.exchange.words() > 0
            && let Ok(permit) = established.words_out.try_reserve()
            && let Some(word) = self.exchange.poll_word()
        {
            permit.send(word);
        }
        if self.exchange.words() > MOST_WORDS {
            let code = CloseCode::Protocol;
            connection::close(&established.connection, code, "it takes no messages");
        }
    }

    fn send_packets(&mut self, now: Instant) {
        let Self {
            exchange,
            established,
            sender,
            unsent,
            ..
        } = self;
        let (Some(established), Some(sender)) = (established, sender) else {
            return exchange.receive(now, |_, _, _, _| *unsent += 1);
        };
        sender.carry(exchange, &mut established.connection, now);
    }

    /// Says what the way is like, as far as it is known here, and draws the consequences.
    fn probe(&mut self, now: Instant) {
        let (Some(established), Some(prober), Some(sender)) =
            (&self.established, &mut self.prober, &mut self.sender)
        else {
            return;
        };
        let connection = &established.connection;
        if let Some((probe, size)) = prober.poll(now) {
            let len = match size {
                Size::Small => 0,
                Size::Full => media_size(connection.max_datagram_size().unwrap_or(0)),
            };
            // The first goes out before QUIC has tried what gets through.
            if size == Size::Full && probe.sequence > 0 {
                self.caller.learn_mtu(connection);
            }
            let mut datagram = Vec::new();
            frame::write_probe(&probe, len, &mut datagram);
            sender.push_control(datagram, now);
        }
        // On one that began small, QUIC finds out by itself what gets through.
        if prober.is_narrow() && self.caller.note_narrow(connection) {
            tracing::warn!(
                node = %self.node,
                address = %connection.remote_address(),
                "full datagrams get lost on the way to a node, small ones do not; calling it again with smaller ones"
            );
            let code = CloseCode::Unspecified;
            connection::close(connection, code, "full datagrams get lost on the way");
        }
    }

    // What comes in.

    fn handle_word(&mut self, word: Word) {
        let established = self.established.as_ref();
        let delay = established.map_or(Duration::ZERO, |it| it.connection.rtt() / 2);
        self.exchange.handle_word(word, delay, Instant::now());
        if let Some(is_doubted) = self.exchange.take_doubt() {
            let news = self.ear.handle_doubt(is_doubted);
            self.report(news);
        }
    }

    /// One datagram, and what has come with it.
    fn handle_datagrams(&mut self, first: &[u8]) {
        let now = Instant::now();
        let Self {
            exchange,
            prober,
            established,
            ..
        } = self;
        let mut handle = |datagram: &[u8]| {
            let probe = exchange.handle_datagram(datagram);
            if let (Some(probe), Some(prober)) = (probe, prober.as_mut()) {
                prober.handle(&probe, now);
            }
        };
        handle(first);
        if let Some(established) = established {
            read_more(&established.connection, handle);
        }
        // One of a batch stands for all.
        let sent = self.exchange.take_last_sent();
        let prober = self.prober.as_ref();
        if let Some(latency) = sent.and_then(|sent| prober?.latency(sent, now)) {
            let mean = self.latency.unwrap_or(latency);
            self.latency = Some((mean * (LATENCY_LOOKS - 1) + latency) / LATENCY_LOOKS);
        }
    }

    fn tell_news(&mut self) {
        while let Some(news) = self.untold.take().or_else(|| self.exchange.poll_news()) {
            let told = self.news.try_send((self.number, news));
            if let Err(mpsc::error::TrySendError::Full((_, news))) = told {
                self.untold = Some(news);
                return;
            }
        }
    }

    fn publish(&mut self, now: Instant) {
        self.is_published = now >= self.publish_at;
        if !self.is_published {
            return;
        }
        self.publish_at = now + PUBLISH_EVERY;
        // One that is not there, and is not to be, is not spoken of.
        let is_away = self.established.is_none() && self.calling.is_empty();
        if is_away && self.calls.poll_timeout().is_none() {
            return self.stats.forget(&self.node);
        }
        let connection = self.established.as_ref().map(|it| &it.connection);
        let counted = connection.map(quinn::Connection::stats);
        let path = counted.map(|counted| counted.path);
        let bytes = counted.map(|counted| Bytes {
            sent: counted.udp_tx.bytes,
            received: counted.udp_rx.bytes,
        });
        let published = self.established.as_ref().map(|it| &it.published);
        let (taken, given) = self.exchange.counts();
        let stats = LinkStats {
            is_connected: connection.is_some(),
            is_heard: connection.is_some() && self.ear.is_heard(),
            rates: self.traffic.count(bytes, now),
            connections: self.connections,
            round_trip: path.map_or(Duration::ZERO, |path| path.rtt),
            latency: self.latency.filter(|_| connection.is_some()),
            window: published.map_or(0, |found| found.window()),
            loss: published.map_or(0.0, |found| found.loss()),
            lost: self.lost + path.map_or(0, |path| path.lost_packets),
            taken,
            given,
            unsent: {
                let mut unsent = self.dropped;
                if let Some(sender) = &self.sender {
                    unsent.add(sender);
                }
                unsent.unconnected += self.unsent;
                unsent
            },
            exchanged: self.exchange.stats,
        };
        self.stats.set(&self.node, stats);
    }
}

/// Reads what has come so far: whoever waits for the next one is woken for it.
fn read_more(connection: &quinn::Connection, mut handle: impl FnMut(&[u8])) {
    let mut next = pin!(connection.read_datagram());
    let mut look = Context::from_waker(Waker::noop());
    for _ in 1..DATAGRAMS_PER_TURN {
        // An error comes again when it is waited for.
        let Poll::Ready(Ok(datagram)) = next.as_mut().poll(&mut look) else {
            return;
        };
        handle(&datagram);
    }
}
