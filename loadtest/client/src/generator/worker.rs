//! The loop of one generator thread.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use pipemesh_node_media::poll::{Poller, Ready, Token};
use pipemesh_node_media::tcp::FrameBatch;
use pipemesh_node_media::thread::cpu_time;
use pipemesh_node_media::udp::ReceiveBatch;

use super::bank::{Banks, Slot};
use super::lines::Lines;
use super::seat::Seat;
use super::{Command, Load, Newcomer, SeatId};
use crate::user::{Protocol, Setup, User};

/// Sockets of a participant, at most; part of its token.
const SOCKETS: u32 = 2;

/// Batches read from one socket in a row.
const BATCHES: usize = 4;

/// Between two looks of a thread that polls. Longer adds latency, shorter leaves less time for others.
const POLL_EVERY: Duration = Duration::from_micros(150);

/// Looks in a row while something comes.
const LOOKS: usize = 64;

/// When the kernel's buffers are full, until the next attempt.
const BLOCKED_PAUSE: Duration = Duration::from_millis(1);

pub(super) struct Worker {
    poller: Poller,
    commands: Receiver<Command>,
    seats: BTreeMap<SeatId, Box<Seat>>,
    desk: Desk,
    batch: ReceiveBatch,
    /// Sockets that were not read to their end: nobody tells of them again.
    unread: Vec<Token>,
    frames: FrameBatch,
    polls: bool,
    lag: Duration,
}

/// What participants leave to their thread: what they send, and when they want to be called.
#[derive(Default)]
struct Desk {
    banks: Banks,
    lines: Lines,
    timers: BTreeSet<(Instant, SeatId)>,
}

impl Worker {
    pub(super) fn new(poller: Poller, commands: Receiver<Command>) -> Self {
        Self {
            poller,
            commands,
            seats: BTreeMap::new(),
            desk: Desk::default(),
            batch: ReceiveBatch::new(),
            unread: Vec::new(),
            frames: FrameBatch::new(),
            polls: false,
            lag: Duration::ZERO,
        }
    }

    pub(super) fn run(mut self) {
        let mut ready: Vec<Ready> = Vec::new();
        loop {
            // 1. What is asked of us.
            while let Ok(command) = self.commands.try_recv() {
                if matches!(command, Command::Stop) {
                    return;
                }
                self.handle_command(command, Instant::now());
            }
            // 2. What is due.
            self.serve_timers(Instant::now());
            // 3. Out with all of it, before waiting.
            self.flush_lines(Instant::now());
            let blocked = self.desk.banks.flush().then_some(BLOCKED_PAUSE);
            let due = self.desk.timers.first().map(|(at, _)| *at);
            let due = due.map(|at| at.saturating_duration_since(Instant::now()));
            // 4. Wait. A poller that fails has nothing left to wait for.
            let timeout = match self.polls {
                _ if !self.unread.is_empty() => Some(Duration::ZERO),
                true => {
                    std::thread::sleep(POLL_EVERY);
                    Some(Duration::ZERO)
                }
                false => due.into_iter().chain(blocked).min(),
            };
            ready.clear();
            match self.poller.wait(timeout) {
                Ok(events) => ready.extend_from_slice(events),
                Err(_) => return,
            }
            // 5. What came, and what is left of what came before.
            for token in std::mem::take(&mut self.unread) {
                self.receive(token);
            }
            for _ in 0..LOOKS {
                for event in &ready {
                    match Lines::stream_of(event.token) {
                        Some(stream) => self.serve_stream(stream, *event),
                        None => self.receive(event.token),
                    }
                }
                // A look shows only some of many sockets.
                if !self.polls || ready.is_empty() {
                    break;
                }
                ready.clear();
                if let Ok(more) = self.poller.wait(Some(Duration::ZERO)) {
                    ready.extend_from_slice(more);
                }
            }
        }
    }

    fn serve_timers(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.desk.timers.first() {
            if at > now {
                return;
            }
            self.lag = self.lag.max(now - at);
            self.desk.timers.pop_first();
            if let Some(seat) = self.seats.get_mut(&id) {
                seat.timer = None;
                seat.handle_timeout(now);
                self.desk.settle(seat, now);
            }
        }
    }

    fn receive(&mut self, token: Token) {
        let (id, socket) = (SeatId(token.0 / SOCKETS), (token.0 % SOCKETS) as usize);
        let Some(seat) = self.seats.get_mut(&id) else {
            return;
        };
        for _ in 0..BATCHES {
            let received = self
                .desk
                .banks
                .socket(seat.slots[socket])
                .receive(&mut self.batch);
            let now = Instant::now();
            let mut is_more = false;
            for (_, datagram) in self.batch.datagrams() {
                is_more |= seat.handle_datagram(socket, datagram, now);
            }
            if is_more {
                self.desk.settle(seat, now);
            }
            // Of a closed port at the other end the kernel tells here; it means nothing, and more may wait.
            if received.is_ok_and(|messages| messages < ReceiveBatch::CAPACITY) {
                return;
            }
        }
        self.unread.push(token);
    }

    fn serve_stream(&mut self, stream: u32, event: Ready) {
        if event.writable {
            self.desk.lines.writable(stream);
        }
        if !event.readable {
            return;
        }
        let Some((id, socket)) = self.desk.lines.receive(stream, &mut self.frames) else {
            return;
        };
        let Some(seat) = self.seats.get_mut(&id) else {
            return;
        };
        let now = Instant::now();
        for datagram in self.frames.datagrams() {
            seat.handle_datagram(socket, datagram, now);
        }
        self.desk.settle(seat, now);
    }

    /// Sends over TCP, and tells participants whose connections are over.
    fn flush_lines(&mut self, now: Instant) {
        for (id, socket) in self.desk.lines.flush(&self.poller, now) {
            self.with(id, now, |seat| seat.user.handle_way_lost(socket, now));
        }
    }

    fn handle_command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Add(id, newcomer) => self.add(id, *newcomer, now),
            Command::Signal(id, message) => {
                self.with(id, now, |seat| seat.user.handle_signal(*message, now));
            }
            Command::SignalLost(id, why) => {
                self.with(id, now, |seat| seat.user.handle_signal_lost(why));
            }
            Command::Wish(id, wish) => {
                self.with(id, now, |seat| seat.user.handle_wish(*wish, now));
            }
            Command::Rejoin(id, reply) => {
                let _ = reply.send(self.rejoin(id, now));
            }
            Command::Network(id, network) => self.with(id, now, |seat| seat.set_network(network)),
            Command::Cut(id, pause) => self.with(id, now, |seat| seat.cut(now + pause)),
            Command::Watch(id, watch) => self.with(id, now, |seat| seat.watch(watch, now)),
            // Whoever asked may have gone.
            Command::Observe(id, reply) => self.with(id, now, |seat| {
                let _ = reply.send(seat.observe(now));
            }),
            Command::Remove(id, reply) => {
                let Some(mut seat) = self.seats.remove(&id) else {
                    return;
                };
                let stats = seat.stats();
                // What was said last goes out before its socket does.
                self.desk.banks.flush();
                self.flush_lines(now);
                self.desk.lines.remove(id);
                self.desk.timers.retain(|(_, other)| *other != id);
                self.close(seat.slots);
                if let Some(reply) = reply {
                    let _ = reply.send(stats);
                }
            }
            Command::Load(reply) => {
                let load = Load {
                    participants: self.seats.len(),
                    cpu: cpu_time(),
                    lag: std::mem::take(&mut self.lag),
                    socket_drops: self.desk.banks.socket_drops(),
                    send_drops: self.desk.banks.send_drops() + self.desk.lines.drops(),
                };
                let _ = reply.send(load);
            }
            Command::Poll => self.polls = true,
            Command::Stop => {}
        }
    }

    fn add(&mut self, id: SeatId, mut newcomer: Newcomer, now: Instant) {
        let (admitted, _) = tokio::sync::oneshot::channel();
        let admitted = std::mem::replace(&mut newcomer.admitted, admitted);
        let opened = self.open(id, newcomer.setup, newcomer.local);
        let told = opened.map(|slots| {
            let seat = Seat::new(id, newcomer, slots, now);
            self.seats.insert(id, Box::new(seat));
        });
        let _ = admitted.send(told);
    }

    /// The server may still know the sockets that there were: it tells connections apart by address.
    fn rejoin(&mut self, id: SeatId, now: Instant) -> io::Result<()> {
        let seat = self.seats.get(&id).ok_or(io::ErrorKind::NotConnected)?;
        let slots = self.open(id, seat.setup, seat.local)?;
        self.with(id, now, |seat| seat.user.close(now));
        self.desk.banks.flush();
        self.flush_lines(now);
        self.desk.lines.remove(id);
        let mut former = Vec::new();
        self.with(id, now, |seat| former = seat.rejoin(slots, now));
        self.close(former);
        Ok(())
    }

    fn close(&mut self, slots: Vec<Slot>) {
        for slot in slots {
            let _ = self.poller.deregister(self.desk.banks.socket(slot));
            self.desk.banks.close(slot);
        }
    }

    fn open(&mut self, id: SeatId, setup: Setup, local: IpAddr) -> io::Result<Vec<Slot>> {
        let mut slots = Vec::new();
        if setup.protocol == Protocol::Tcp {
            return Ok(slots);
        }
        for socket in 0..User::sockets(setup.layout) {
            let token = Token(id.0 * SOCKETS + socket as u32);
            if let Err(error) = self.open_one(local, token, &mut slots) {
                self.close(slots);
                return Err(error);
            }
        }
        Ok(slots)
    }

    /// Whoever asked has the slot to close, also if nobody can be told of what comes there.
    fn open_one(&mut self, local: IpAddr, token: Token, slots: &mut Vec<Slot>) -> io::Result<()> {
        let slot = self.desk.banks.open(local)?;
        slots.push(slot);
        self.poller
            .register_edge(self.desk.banks.socket(slot), token)
    }

    fn with(&mut self, id: SeatId, now: Instant, work: impl FnOnce(&mut Seat)) {
        if let Some(seat) = self.seats.get_mut(&id) {
            work(seat);
            self.desk.settle(seat, now);
        }
    }
}

impl Desk {
    /// Passes on what a participant has to send, and sets its timer.
    fn settle(&mut self, seat: &mut Seat, now: Instant) {
        seat.settle(&mut self.banks, &mut self.lines, now);
        let next = seat.poll_timeout();
        if next != seat.timer {
            if let Some(former) = std::mem::replace(&mut seat.timer, next) {
                self.timers.remove(&(former, seat.id()));
            }
            self.timers.extend(next.map(|at| (at, seat.id())));
        }
    }
}
