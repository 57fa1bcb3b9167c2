//! What a connection towards a subscriber can take: an estimate from what its client reports, probes that
//! look for more when more is wanted, and a budget that keeps bursts within it.
//!
//! One object per connection. It numbers what is sent and hears what arrived; it knows neither tracks nor
//! layers nor who gets the bits (that is [`crate::allocate`]), and holds no packets.
//!
//! The way of feedback: [`feedback`] reads it, [`history`] knows the packets it speaks of, [`delay`],
//! [`standing`] and [`loss`] judge the path, [`acknowledged`] measures what gets through, [`verdict`] says
//! what follows, [`aimd`] moves the estimate, [`probe`] raises it. [`reports`] is for clients that give no
//! such feedback, [`incoming`] for those that are given none. The algorithm is Google congestion control as
//! published (draft-ietf-rmcat-gcc-02 and what libwebrtc made of it), changed where a forwarder differs from an
//! encoder:
//!
//! - It cannot send a little more to see what happens: the next step is a layer of another 300 kbit/s or
//!   more. So the estimate grows only as far as what is delivered proves, and padding proves the rest.
//! - It sends far less than fits most of the time. A trend in the delay then counts only with a queue
//!   behind it, measured against the lowest delay, and the estimate is held.
//! - A queue that stands is drained: the target lies below the estimate while there is one.
//!
//! `rtc-interceptor` has the published algorithm too. It takes a `Vec` of packet reports, keeps a queue of
//! them for its rate, and has neither probes nor any notion of sending less than fits; with it a
//! subscriber that was limited once would never be sent more again. It stays unused.

mod acknowledged;
mod aimd;
mod clock;
mod delay;
pub mod feedback;
mod history;
pub mod incoming;
mod loss;
mod pacer;
mod probe;
mod reports;
mod sent;
mod standing;
mod verdict;

use std::time::{Duration, Instant};

use crate::units::{Bitrate, DataSize};
use acknowledged::AcknowledgedRate;
use aimd::RateControl;
use clock::Clock;
use delay::{DelayTrend, Usage};
use feedback::{Feedback, Status};
use history::History;
use loss::LossTrend;
use pacer::{Pacer, Room};
use probe::{Path, ProbeControl};
use sent::SentRate;
use standing::StandingQueue;

/// Browsers send feedback every 50 to 250 ms. Shorter takes a few lost messages for the end of the path;
/// longer sends more into a path that has ended.
const FEEDBACK_ABSENT: Duration = Duration::from_millis(500);
/// Reports come every second or so, those of audio alone every five.
const REPORTS_ABSENT: Duration = Duration::from_millis(5_000);
/// Before anything is known of the round trip.
const ROUND_TRIP: Duration = Duration::from_millis(100);
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(2);
/// A queue that counts as congestion although little is sent.
const CLEAR_QUEUE: i64 = 30_000;
/// So long a queue is congestion whatever the trend says, which sees a path that has become much narrower
/// only when the first packets are through. What a probe may do to the delay is less.
const LONG_QUEUE: i64 = 120_000;
/// A packet has not arrived yet if so many before it are the last that have: fewer may all be lost.
const OUTSTANDING: u64 = 3;
/// The target is lowered in proportion to the queue, from the one to at most the share at the other.
const DRAIN_FROM: i64 = 40_000;
const DRAIN_FULL: i64 = 400_000;
const MOST_DRAINED: f64 = 0.5;
/// So soon after a decrease nothing is probed, in microseconds.
const CALM_AFTER: i64 = 600_000;
/// For so long after a decrease the limit is taken to be what it was, in microseconds.
const LIMIT_FRESH: i64 = 2_000_000;
/// Packets that arrived for each that did not.
const NEARLY_ALL: u32 = 10;
/// Below this share of the highest it was, an estimate is more than a first guess.
const FALLEN: f64 = 0.9;
/// One packet of padding.
const SMALLEST: DataSize = DataSize::from_bytes(1);
/// Audio of a large room between two packets of video. More was sent while no video was, long before.
const MOST_UNNUMBERED: u16 = 3_000;

/// What a packet is to the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketKind {
    /// Never waits.
    Audio,
    Video,
    /// Sent again: waits less than video that is new, which is of no use without it.
    Repair,
    /// As asked for by [`Bandwidth::poll_probe`]; never waits.
    Padding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub start: Bitrate,
    pub min: Bitrate,
    pub max: Bitrate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Lower delays the first good picture by a probe or two; higher congests thin links for a
            // moment at every join.
            start: Bitrate::from_kbps(1_000),
            min: Bitrate::from_kbps(50),
            max: Bitrate::from_kbps(50_000),
        }
    }
}

/// The feedback cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed transport-wide feedback")]
pub struct MalformedFeedback;

/// Packets that were sent at once, as those of a frame are, and arrived at once.
#[derive(Debug, Clone, Copy, Default)]
struct Together {
    sent: i64,
    arrival: i64,
    packets: u32,
    bytes: u64,
}

/// The newest packet that a message says has arrived.
#[derive(Debug, Clone, Copy)]
struct Arrived {
    number: u64,
    sent: i64,
    arrival: i64,
}

/// See the module.
///
/// [`Self::admits`] and [`Self::packet_sent`] are on the way of packets: no allocation, no loop. After
/// any other call look at [`Self::target`], drain [`Self::poll_probe`], and call [`Self::handle_timeout`]
/// no later than [`Self::poll_timeout`].
#[derive(Debug)]
#[repr(C)]
pub struct Bandwidth {
    // What each packet touches, in neighbouring cache lines.
    clock: Clock,
    history: History,
    pacer: Pacer,
    /// The probe that is being sent, 0 for none.
    probe_id: u8,
    sent_bytes: u64,
    /// Bytes without numbers since the last packet that had one: they take the path along with the next.
    unnumbered: u16,
    /// Send time of the first packet since the last feedback, in microseconds.
    unanswered: Option<u64>,
    /// Nothing was heard of what was sent. The next packet leaves whatever the budget says: audio may take
    /// all of that, and what has no number is not spoken of.
    is_asking: bool,

    // What feedback touches.
    /// Feedback has spoken of single packets.
    detailed: bool,
    reference: Option<i64>,
    delay: DelayTrend,
    loss: LossTrend,
    acknowledged: AcknowledgedRate,
    control: RateControl,
    probe: ProbeControl,
    sent_rate: SentRate,
    round_trip: Option<Duration>,
    shortest_round_trip: Option<Duration>,
    /// Send time of the newest packet that arrived.
    newest: i64,
    /// How long packets wait on the way, in microseconds.
    queue: i64,
    /// … and will, as far as what is on the way can be told to be stuck.
    backlog: Duration,
    /// Since when a queue is seen to grow.
    growing_since: Option<i64>,
    standing: StandingQueue,
    /// The receiver's own estimate.
    remote: Option<Bitrate>,
    limits: Limits,
    target: Bitrate,
    /// The highest estimate so far.
    highest: Bitrate,
    /// Nothing has shown a limit yet.
    is_guess: bool,
}

impl Bandwidth {
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self::begin(limits, History::new(), now)
    }

    /// What is sent takes another path from now on, of which nothing is known. What the former one did, and
    /// lost while the change went unseen, says nothing of it.
    pub fn path_changed(&mut self, now: Instant) {
        *self = Self {
            // The receiver's clock and the numbers go on.
            reference: self.reference,
            ..Self::begin(self.limits, self.history.continued(), now)
        };
    }

    fn begin(limits: Limits, history: History, now: Instant) -> Self {
        Self {
            clock: Clock::new(now),
            history,
            pacer: Pacer::new(limits.start),
            probe_id: 0,
            sent_bytes: 0,
            unnumbered: 0,
            unanswered: None,
            is_asking: false,
            detailed: false,
            reference: None,
            delay: DelayTrend::default(),
            loss: LossTrend::default(),
            acknowledged: AcknowledgedRate::new(),
            control: RateControl::new(limits.start, limits.min, limits.max),
            probe: ProbeControl::new(),
            sent_rate: SentRate::default(),
            round_trip: None,
            shortest_round_trip: None,
            newest: 0,
            queue: 0,
            backlog: Duration::ZERO,
            growing_since: None,
            standing: StandingQueue::default(),
            remote: None,
            limits,
            target: limits.start,
            highest: limits.start,
            is_guess: true,
        }
    }

    // Packets.

    /// Whether a packet may leave now. If not, ask again in a few milliseconds.
    #[inline]
    pub fn admits(&mut self, kind: PacketKind, now: Instant) -> bool {
        self.pacer.balance > 0 || self.admits_late(kind, now)
    }

    fn admits_late(&mut self, kind: PacketKind, now: Instant) -> bool {
        match kind {
            PacketKind::Audio | PacketKind::Padding => true,
            PacketKind::Video | PacketKind::Repair => {
                let now = self.clock.micros(now);
                self.pacer.refill(now);
                self.is_asking || self.pacer.balance > self.floor(kind)
            }
        }
    }

    fn floor(&self, kind: PacketKind) -> i64 {
        match kind {
            PacketKind::Repair => -self.pacer.burst(),
            PacketKind::Audio | PacketKind::Video | PacketKind::Padding => 0,
        }
    }

    /// A packet leaves that carries a transport-wide number, which is the answer: one count for all that a
    /// connection sends, in the order of sending. `size` is that of the datagram.
    #[inline(always)]
    pub fn packet_sent(&mut self, size: u16, kind: PacketKind, now: Instant) -> u16 {
        self.spend(size, kind);
        let now = self.clock.micros(now);
        if self.probe_id != 0 {
            self.probe.packet_sent(self.history.next(), size);
        }
        if self.unanswered.is_none() {
            self.unanswered = Some(now);
            self.is_asking = false;
        }
        let size = size.saturating_add(std::mem::take(&mut self.unnumbered));
        self.history.send(now, size, self.probe_id)
    }

    /// A packet is sent again as it was, under the `number` it had if it had one. When it arrives says how
    /// long it took to be asked for, and nothing of the path.
    pub fn packet_repeated(&mut self, number: Option<u16>, size: u16, kind: PacketKind) {
        self.unnumbered_sent(size, kind);
        if let Some(number) = number {
            self.history.repeat(number);
        }
    }

    /// The number that the next packet gets.
    #[inline]
    pub fn next_number(&self) -> u16 {
        self.history.next() as u16
    }

    /// Where the next packets will be noted, or the first of them: to be fetched before it is needed.
    #[inline]
    pub fn next_places(&self, packets: usize) -> &[impl Sized + use<>] {
        self.history.next_places(packets)
    }

    /// What feedback will be about, or the first part of it, and what that is compared with: to be fetched
    /// before it is read.
    #[inline]
    pub fn reported_places(&self) -> (&[impl Sized + use<>], &[impl Sized + use<>]) {
        (self.history.awaited_places(), self.delay.places())
    }

    /// A packet leaves that carries none: the client has not negotiated it, for this media or at all.
    #[inline]
    pub fn unnumbered_sent(&mut self, size: u16, kind: PacketKind) {
        self.spend(size, kind);
        self.unnumbered = (self.unnumbered.saturating_add(size)).min(MOST_UNNUMBERED);
        if self.probe_id != 0 {
            self.probe.unnumbered_sent(size);
        }
    }

    #[inline]
    fn spend(&mut self, size: u16, kind: PacketKind) {
        // Padding is measured out by its probe, and takes nothing from media.
        if kind != PacketKind::Padding {
            self.pacer.balance -= i64::from(size);
        }
        self.sent_bytes += u64::from(size);
    }

    // What the client says.

    /// Transport-wide feedback: everything behind the two SSRCs.
    pub fn handle_feedback(
        &mut self,
        content: &[u8],
        now: Instant,
    ) -> Result<(), MalformedFeedback> {
        let feedback = Feedback::parse(content).ok_or(MalformedFeedback)?;
        let reference = feedback.reference_time(self.reference);
        let now = self.clock.micros(now);
        let mut newest: Option<Arrived> = None;
        let (mut received, mut missing) = (0u32, 0u32);
        let mut together = Together::default();
        for status in feedback.statuses() {
            match status {
                Status::Missing { first, count } => {
                    missing += u32::from(count);
                    self.history.miss(first, count);
                }
                Status::Received { sequence, arrival } => {
                    let arrival = reference.saturating_add(arrival);
                    let Some(packet) = self.history.receive(sequence, now) else {
                        continue;
                    };
                    received += 1;
                    if (packet.sent, arrival) != (together.sent, together.arrival) {
                        self.note_arrival(together);
                        together = Together {
                            sent: packet.sent,
                            arrival,
                            ..Together::default()
                        };
                    }
                    together.packets += 1;
                    together.bytes += u64::from(packet.size);
                    if packet.probe != 0 {
                        self.probe.receive(packet, arrival);
                    }
                    if newest.is_none_or(|newest| newest.number < packet.number) {
                        newest = Some(Arrived {
                            number: packet.number,
                            sent: packet.sent,
                            arrival,
                        });
                    }
                }
            }
        }
        self.note_arrival(together);
        self.reference = Some(reference);
        // What speaks of nothing we sent, or only of what was known, tells nothing.
        if let Some(Arrived {
            number,
            sent,
            arrival,
        }) = newest
        {
            self.detailed = true;
            self.remote = None;
            self.newest = self.newest.max(sent);
            let round_trip = Duration::from_micros((now as i64 - sent).max(0) as u64);
            self.learn_round_trip(round_trip);
            (self.unanswered, self.is_asking) = (None, false);
            // What was sent behind the newest arrival waits at least since then.
            let outstanding = self.history.sent(number + OUTSTANDING, now);
            let waited = outstanding.map_or(0, |sent| self.delay.queue_of(sent, arrival));
            let due = self.delay.due_by(arrival);
            let stuck = due.map_or(0, |due| self.history.unknown(number + 1, due, now));
            self.backlog = DataSize::from_bytes(stuck).at(self.acknowledged.full_rate());
            // If all that it speaks of arrived, and at once, only feedback was lost.
            if received > missing * NEARLY_ALL && self.delay.queue().max(waited) < CLEAR_QUEUE {
                self.control.heard(now as i64);
            }
            self.judge(number + 1, waited, now);
        }
        self.history.make_room();
        Ok(())
    }

    fn note_arrival(&mut self, together: Together) {
        let Together {
            sent,
            arrival,
            packets,
            bytes,
        } = together;
        if packets > 0 {
            let waited = self.delay.queue_of(sent, arrival);
            self.acknowledged.receive(arrival, packets, bytes, waited);
            self.delay.receive(sent, arrival);
        }
    }

    fn learn_round_trip(&mut self, sample: Duration) {
        let sample = sample.min(LONGEST_ROUND_TRIP);
        self.round_trip = Some(match self.round_trip {
            None => sample,
            Some(smoothed) => (smoothed * 7 + sample) / 8,
        });
    }

    fn round_trip(&self) -> Duration {
        self.round_trip.unwrap_or(ROUND_TRIP)
    }

    // What others want to know.

    /// What may be sent, all in all: less than [`Self::estimate`] while a queue has to drain.
    pub fn target(&self) -> Bitrate {
        self.target
    }

    /// What the path can carry.
    pub fn estimate(&self) -> Bitrate {
        let own = self.control.estimate();
        let estimate = self.remote.map_or(own, |remote| own.min(remote));
        estimate.max(self.limits.min)
    }

    /// Nothing has shown a limit yet: there may be as much as anybody wants.
    pub fn is_guess(&self) -> bool {
        self.is_guess
    }

    /// Feedback comes and has shown neither a limit nor a queue so far.
    pub fn is_clear(&self) -> bool {
        let is_full = self.queue >= CLEAR_QUEUE || self.delay.usage() == Usage::Over;
        self.detailed && self.is_guess && !is_full
    }

    /// What would be of use: the rate at which the next layer would be sent, and that of all layers
    /// wanted. Zero, or no more than the target, if nobody wants more; then nothing is probed.
    pub fn set_wish(&mut self, next: Bitrate, wanted: Bitrate) {
        let max = self.limits.max;
        self.probe.set_wish(next.min(max), wanted.min(max));
    }

    // Time.

    pub fn poll_timeout(&self) -> Option<Instant> {
        let silence = self.silent_at();
        let probe = self
            .probe
            .deadline(self.control.estimate())
            .filter(|_| self.has_feedback());
        [silence, probe]
            .into_iter()
            .flatten()
            .min()
            .map(|at| self.clock.instant(at))
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.micros(now);
        if self.silent_at().is_some_and(|at| now >= at) {
            self.control.silent(now as i64);
            self.stop_probing(now);
            self.delay.pause();
            self.standing.forget();
            self.queue = 0;
            // Counted anew, for half as much again, from the next packet on.
            self.unanswered = None;
            self.is_asking = true;
            self.update_target(now);
        }
        if self.has_feedback() {
            let path = Path {
                estimate: self.control.estimate(),
                calm: self.is_calm(now),
                detailed: self.detailed,
                patience: self.patience().as_micros() as u64,
            };
            let probe_id = self.probe.advance(path, now);
            if probe_id != 0 && self.probe_id == 0 {
                // What left before it is no part of it.
                self.unnumbered = 0;
            }
            self.probe_id = probe_id;
        }
    }

    /// Padding to send now, as probing needs it.
    pub fn poll_probe(&mut self, now: Instant) -> Option<DataSize> {
        if self.is_asking {
            return Some(SMALLEST);
        }
        if self.probe_id == 0 {
            return None;
        }
        let now = self.clock.micros(now);
        self.probe.padding(now)
    }

    fn has_feedback(&self) -> bool {
        self.round_trip.is_some() || self.remote.is_some()
    }

    /// When transport-wide feedback should have spoken of what was sent. Of a client that only reports
    /// otherwise none is awaited.
    fn silent_at(&self) -> Option<u64> {
        if !self.detailed && self.has_feedback() {
            return None;
        }
        let longest = FEEDBACK_ABSENT + self.round_trip();
        Some(self.unanswered? + longest.as_micros() as u64)
    }

    /// How long to wait for what answers a probe.
    fn patience(&self) -> Duration {
        let interval = if self.detailed {
            FEEDBACK_ABSENT
        } else {
            REPORTS_ABSENT
        };
        interval + self.round_trip()
    }

    fn is_calm(&self, now: u64) -> bool {
        let recent = self
            .control
            .decreased()
            .is_some_and(|at| now as i64 - at < CALM_AFTER);
        !recent && self.delay.usage() != Usage::Over && self.queue < CLEAR_QUEUE
    }

    fn update_target(&mut self, now: u64) {
        let queue = if self.probe.disturbs(self.newest) && self.queue < LONG_QUEUE {
            0
        } else {
            self.queue
        };
        let estimate = self.estimate();
        self.highest = self.highest.max(estimate);
        self.is_guess &= estimate >= self.highest.scale(FALLEN);
        self.target = estimate.scale(while_draining(queue)).max(self.limits.min);
        let decreased = self.control.decreased();
        let room = match decreased.map(|at| now as i64 - at) {
            _ if queue >= DRAIN_FROM => Room::Queue,
            Some(..LIMIT_FRESH) => Room::Known,
            None | Some(_) => Room::Free,
        };
        self.pacer.set_estimate(self.target, room);
    }
}

/// The share of an estimate that leaves room for a queue to drain.
fn while_draining(queue: i64) -> f64 {
    let excess = (queue - DRAIN_FROM) as f64 / (DRAIN_FULL - DRAIN_FROM) as f64;
    1.0 - excess.clamp(0.0, 1.0) * MOST_DRAINED
}

#[cfg(test)]
mod tests;
