//! A participant's place on its thread: its sockets, the bad network in front of them, and who
//! waits for it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use pipemesh_node_media::udp::Run;
use tokio::sync::mpsc;

use super::bank::{Banks, Slot};
use super::lines::Lines;
use super::{Newcomer, Said, SeatId, Watch};
use crate::impairment::{Impairment, Network};
use crate::stats::Stats;
use crate::user::{Message, Setup, User};

/// Conditions are looked at this often. More often costs snapshots, less often makes waiting coarse.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) struct Seat {
    pub(super) user: User,
    id: SeatId,
    pub(super) setup: Setup,
    pub(super) local: IpAddr,
    /// Its UDP sockets; none if it uses TCP.
    pub(super) slots: Vec<Slot>,
    runs: Vec<Run>,
    up: Impairment<(usize, SocketAddr, Vec<u8>)>,
    down: Impairment<(usize, Vec<u8>)>,
    said: mpsc::UnboundedSender<Said>,
    messages: mpsc::Sender<Message>,
    watches: Vec<Watch>,
    next_look: Instant,
    /// The timer that is set.
    pub(super) timer: Option<Instant>,
}

impl Seat {
    pub(super) fn new(id: SeatId, newcomer: Newcomer, slots: Vec<Slot>, now: Instant) -> Self {
        let Newcomer {
            setup,
            network,
            local,
            ..
        } = newcomer;
        Self {
            user: User::new(setup, &newcomer.identity, newcomer.began, now),
            id,
            setup,
            local,
            runs: slots.iter().map(|_| Run::default()).collect(),
            slots,
            // Two networks that lose the same packets would be one.
            up: Impairment::new(network.up, setup.seed.wrapping_mul(2)),
            down: Impairment::new(network.down, setup.seed.wrapping_mul(2).wrapping_add(1)),
            said: newcomer.said,
            messages: newcomer.messages,
            watches: Vec::new(),
            next_look: now,
            timer: None,
        }
    }

    pub(super) fn id(&self) -> SeatId {
        self.id
    }

    /// Begins anew with other sockets; answers those that it had.
    pub(super) fn rejoin(&mut self, slots: Vec<Slot>, now: Instant) -> Vec<Slot> {
        self.runs = slots.iter().map(|_| Run::default()).collect();
        // What is under way is for another connection.
        self.up.clear();
        self.down.clear();
        self.user.rejoin(now);
        std::mem::replace(&mut self.slots, slots)
    }

    pub(super) fn set_network(&mut self, network: Network) {
        self.up.set_profile(network.up);
        self.down.set_profile(network.down);
    }

    pub(super) fn cut(&mut self, until: Instant) {
        self.up.cut(until);
        self.down.cut(until);
    }

    pub(super) fn watch(&mut self, watch: Watch, now: Instant) {
        self.watches.push(watch);
        self.next_look = now;
    }

    /// A datagram from the kernel, in front of the bad network. Answers whether [`Self::settle`] is to
    /// follow, as it is not for most packets of media.
    pub(super) fn handle_datagram(
        &mut self,
        socket: usize,
        datagram: &mut [u8],
        now: Instant,
    ) -> bool {
        if self.down.is_transparent(now) {
            let is_more = self.user.handle_datagram(socket, datagram, now);
            let wakes = self.user.next_loss(socket);
            return is_more || wakes.is_some_and(|at| self.timer.is_none_or(|timer| at < timer));
        }
        self.down
            .push((socket, datagram.to_vec()), datagram.len(), now);
        true
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some((socket, mut datagram)) = self.down.pop(now) {
            self.user.handle_datagram(socket, &mut datagram, now);
        }
        if self.user.poll_timeout().is_some_and(|at| at <= now) {
            self.user.handle_timeout(now);
        }
        if !self.watches.is_empty() && self.next_look <= now {
            self.next_look = now + LOOK_EVERY;
            self.look();
        }
    }

    pub(super) fn stats(&mut self) -> Stats {
        Stats {
            up: self.up.counts(),
            down: self.down.counts(),
            ..self.user.stats()
        }
    }

    pub(super) fn observe(&mut self, now: Instant) -> Stats {
        Stats {
            up: self.up.counts(),
            down: self.down.counts(),
            ..self.user.observe(now)
        }
    }

    fn look(&mut self) {
        let stats = self.stats();
        for mut watch in std::mem::take(&mut self.watches) {
            if (watch.holds)(&stats) {
                // Nobody waits any more, or somebody is told.
                let _ = watch.reply.send(stats.clone());
            } else if !watch.reply.is_closed() {
                self.watches.push(watch);
            }
        }
    }

    /// Passes on what the participant has to send and to say.
    pub(super) fn settle(&mut self, banks: &mut Banks, lines: &mut Lines, now: Instant) {
        let Self {
            user,
            slots,
            runs,
            up,
            id,
            local,
            ..
        } = self;
        let mut send = |socket: usize, to: SocketAddr, datagram: &[u8]| match slots.get(socket) {
            Some(slot) => banks.send(*slot, &mut runs[socket], to, datagram),
            None => lines.send(*id, socket, *local, to, datagram, now),
        };
        let outbox = user.outbox();
        if !outbox.is_empty() {
            if up.is_transparent(now) {
                outbox.drain(&mut send);
            } else {
                outbox.drain(|socket, to, datagram| {
                    up.push((socket, to, datagram.to_vec()), datagram.len(), now);
                });
            }
        }
        while let Some((socket, to, datagram)) = up.pop(now) {
            send(socket, to, &datagram);
        }
        // Both end with the participant's handle, before the seat does.
        while let Some(request) = user.poll_signal() {
            let _ = self.said.send(Said::Request(Box::new(request)));
        }
        while let Some(notice) = user.poll_notice() {
            let _ = self.said.send(Said::Notice(notice));
        }
        while let Some(message) = user.poll_message() {
            let _ = self.messages.try_send(message);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let look = (!self.watches.is_empty()).then_some(self.next_look);
        let networks = [self.up.poll_timeout(), self.down.poll_timeout(), look];
        networks
            .into_iter()
            .flatten()
            .chain(self.user.poll_timeout())
            .min()
    }
}
