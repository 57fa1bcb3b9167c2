//! The task of one pipe: shards on the one side, a QUIC connection on the other, which comes and goes.
//!
//! What is taken and given is [`Exchange`]'s business. Connections come from the
//! [`director`](super::director), when the other node called, or from here: a link that is of use, or that
//! is to be ready before it is, calls until it is answered.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pipemesh_node_core::pipe::frame::{self, Stream};
use pipemesh_node_core::pipe::prober::{Prober, Size};
use pipemesh_node_core::pipe::schedule::Event;
use pipemesh_proto::ids::{NodeId, RoomId};
use pipemesh_proto::pipe::CloseCode;
use pipemesh_proto::pipe::pipe_message::Message as Word;
use rand::Rng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::alarm::Alarm;
use super::bell::Bell;
use super::caller::Caller;
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
/// Between two calls of a node that does not answer, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Whom the other node is to call is given this long to do so.
const PATIENCE: Duration = Duration::from_millis(500);
/// Messages that wait for the other node. One that takes none for so long is cut off, and asked anew.
const MOST_WORDS: usize = 65_536;

/// How often it is looked whether the other node still says anything, if only that it lives.
const LISTEN_EVERY: Duration = Duration::from_millis(250);
/// A node that says nothing for so long is taken for dead by those who can get their tracks elsewhere. QUIC
/// gives it up later. Shorter: a machine that is busy for a moment has its tracks taken from it.
const SUSPECT_AFTER: Duration = Duration::from_secs(1);

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
    /// … or cannot be had.
    Refuse(u32),
    /// It is to be connected, used or not.
    Keep(bool),
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
    calls: JoinSet<Result<Established, Failed>>,
    is_kept: bool,
    call_at: Instant,
    pause: Duration,
    /// Of the present connection.
    sender: Option<Sender>,
    prober: Option<Prober>,
    /// What packets take from there.
    latency: Option<Duration>,
    /// Datagrams that have come on this connection, and when the last one did, as far as it was looked.
    heard: (u64, Instant),
    listen_at: Instant,
    /// What the director was last told.
    is_heard: Option<bool>,
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
        Self {
            node,
            number,
            caller,
            exchange,
            bell,
            alarm: Alarm::new(),
            orders,
            news,
            established: None,
            calls: JoinSet::new(),
            is_kept: false,
            call_at: Instant::now(),
            pause: FIRST_PAUSE,
            sender: None,
            prober: None,
            latency: None,
            heard: (0, Instant::now()),
            listen_at: Instant::now(),
            is_heard: None,
            untold: None,
            stats,
            publish_at: Instant::now(),
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
    }

    /// Waits for something to come and handles it; `false`: nothing is to come any more.
    async fn wait(&mut self) -> bool {
        let more = self.exchange.has_arrivals();
        let call_at = self.is_calling_due().then_some(self.call_at);
        let post_at = self
            .exchange
            .is_waiting()
            .then(|| Instant::now() + POST_AGAIN);
        let listen_at = self.established.is_some().then_some(self.listen_at);
        let sender = self.sender.as_ref();
        let send_at = sender.and_then(|sender| sender.poll_timeout(Instant::now()));
        let publish_at = (!self.is_published).then_some(self.publish_at);
        let probe_at = self.prober.as_ref().map(Prober::poll_timeout);
        let at = [call_at, post_at, listen_at, send_at, publish_at, probe_at];
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
            Some(called) = self.calls.join_next() => match called {
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
        let Some(established) = &self.established else {
            return;
        };
        if now < self.listen_at {
            return;
        }
        self.listen_at = now + LISTEN_EVERY;
        let datagrams = established.connection.stats().udp_rx.datagrams;
        if datagrams != self.heard.0 {
            self.heard = (datagrams, now);
        }
        self.is_heard_now(now - self.heard.1 < SUSPECT_AFTER);
    }

    /// Tells the director, if it is news.
    fn is_heard_now(&mut self, is_heard: bool) {
        if self.is_heard.replace(is_heard) != Some(is_heard) {
            self.exchange.report(match is_heard {
                true => News::Heard,
                false => News::Silent,
            });
        }
    }

    fn handle_order(&mut self, order: Order) {
        match order {
            Order::Established(established) => self.establish(*established),
            Order::Serve(subscription) => self.exchange.serve(subscription),
            Order::Refuse(subscription) => self.exchange.refuse(subscription),
            Order::Keep(kept) => self.is_kept = kept,
            Order::Follow(room) => self.exchange.follow(room),
            Order::Unfollow(room) => self.exchange.unfollow(&room),
        }
    }

    // Connections.

    fn is_calling_due(&self) -> bool {
        let is_wanted = self.is_kept || self.exchange.is_used();
        is_wanted && self.established.is_none() && self.calls.is_empty()
    }

    fn call_if_due(&mut self) {
        if !self.is_calling_due() || Instant::now() < self.call_at {
            return;
        }
        let (caller, node) = (self.caller.clone(), self.node.clone());
        self.calls.spawn(async move { caller.call(&node).await });
    }

    fn note_failure(&mut self, failed: &Failed) {
        self.stats.count(failed.refusal());
        if self.established.is_none() {
            self.is_heard_now(false);
        }
        let pause = self.pause.mul_f64(rand::rng().random_range(0.5..1.0));
        self.call_at = Instant::now() + pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        let error = failed as &dyn std::error::Error;
        tracing::warn!(node = %self.node, error, ?pause, "a node cannot be called; trying again");
    }

    /// Two connections may meet when both sides call: the one that the smaller id began stays. Of two that
    /// the same side began the later one does: the earlier is dead to who began it.
    fn establish(&mut self, established: Established) {
        let is_preferred = established.dialled == self.caller.is_first(&self.node);
        if let Some(known) = &self.established {
            let is_same_side = known.dialled == established.dialled;
            let is_alive = known.connection.close_reason().is_none();
            if is_alive && !is_same_side && !is_preferred && known.boot_id == established.boot_id {
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
        self.pause = FIRST_PAUSE;
        self.connections += 1;
        self.forget_connection();
        let now = Instant::now();
        self.sender = Some(Sender::new(Arc::clone(&established.published), now));
        self.prober = Some(Prober::new(self.exchange.clock(), now));
        self.established = Some(established);
        self.heard = (0, now);
        self.listen_at = now + LISTEN_EVERY;
        self.exchange.connected();
        self.is_heard_now(true);
    }

    fn lose(&mut self, error: &quinn::ConnectionError) {
        let error = error as &dyn std::error::Error;
        tracing::warn!(node = %self.node, error, "a pipe is lost");
        self.forget_connection();
        self.exchange.disconnected();
        self.is_heard_now(false);
        // Whose turn it is to call does so at once.
        let patience = match self.caller.is_first(&self.node) {
            true => Duration::ZERO,
            false => PATIENCE,
        };
        self.call_at = Instant::now() + patience;
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
            return exchange.receive(now, |_, _, _| *unsent += 1);
        };
        while let Some(subscription) = exchange.poll_closed() {
            sender.close(subscription);
        }
        let connection = &established.connection;
        let longest = connection.max_datagram_size().unwrap_or(0);
        exchange.receive(now, |kind, head, packet| {
            sender.push(kind, head, packet, longest, now);
        });
        while let Some(datagram) = exchange.poll_datagram() {
            sender.push_control(datagram, now);
        }
        sender.flush(connection, now);
        while let Some(event) = sender.poll_event() {
            match event {
                Event::Suspended(alias) => exchange.suspend(Stream::of(alias), true),
                Event::Resumed(alias) => exchange.suspend(Stream::of(alias), false),
                Event::KeyFrameNeeded(alias) => exchange.want_key_frame(Stream::of(alias)),
            }
        }
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
            is_heard: connection.is_some() && self.is_heard == Some(true),
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
