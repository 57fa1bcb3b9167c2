//! How many bytes may be on their way to another node.
//!
//! The window follows the rate at which bytes arrive there and the time they take, not single losses: a
//! long path loses a packet in a thousand by itself, and a window that halved for each would carry a few
//! Mbit/s. It gives way to a queue that stands on the path, to loss beyond what paths do by themselves,
//! and grows only while it is used. Knows neither packets nor what they carry.

use std::time::{Duration, Instant};

use crate::units::{Bitrate, DataSize};

mod base;

#[cfg(test)]
mod tests;

use base::Base;

/// Acknowledgements are sent after so many packets, or so much time. Fewer would blur the times of the round
/// trips, more cost as much as receiving.
pub const ACK_PACKETS: u32 = 16;
pub const ACK_DELAY: Duration = Duration::from_millis(5);

/// The queue on the path that is given way to. Lower yields to jitter; higher delays audio.
const QUEUE: Duration = Duration::from_millis(25);
/// The queue that ends the fast growth at the start.
const QUEUE_AT_START: Duration = Duration::from_millis(10);
/// Loss that is not given way to. Lower yields to what long paths lose by themselves; higher is unfair to
/// whatever shares the path.
const TOLERATED_LOSS: f64 = 0.03;
/// Loss that says the path has broken down …
const HEAVY_LOSS: f64 = 0.10;
/// … when it lasts for so many measurements.
const HEAVY_FOR: u8 = 3;
/// Loss that is not tolerated, and not heavy, counts when so many measurements in a row find it: one may by
/// chance. Lower yields to nothing every minute or so on paths that lose 1 %.
const BEYOND_FOR: u8 = 2;
/// What loss is measured over, in packets that have arrived or are lost. Of a hundred with a loss of 1 %, there
/// are times when more than the tolerated are lost: once a second at 50 Mbit/s.
const LOSS_PACKETS: u64 = 300;
/// … or in packets that are lost: then it is heavy, and known sooner.
const LOST_PACKETS: u64 = 30;
/// … within so much time. What was lost in an outage says nothing of the path any more when the little that is
/// sent has added up to a measurement.
const LOSS_TIME: Duration = Duration::from_secs(5);
/// Of the rate that arrives, what is sent while a queue drains …
const DRAIN: f64 = 0.95;
/// … and what may be where the window held nothing back: others may have made the queue, and who sends less
/// than there is room for does not have to send less still.
const ROOM: f64 = 1.1;
/// … unless there was a queue so short a time ago: somebody keeps the path full, and who never gave way would
/// leave them only what it does not want itself.
const AGAIN: Duration = Duration::from_secs(2);
/// Added where nothing but loss is given way to, in packets: without a queue there is nothing to drain, and
/// by steps in proportion a window would fall for ever.
const SPARE_PACKETS: u64 = 4;
/// Growth per round trip until the path has been filled, of the window. Its effect is seen a round trip late:
/// by then it has grown by as much again.
const FAST: f64 = 0.5;
/// … and from then on, …
const STEADY: f64 = 1.0 / 32.0;
/// … with so many packets beside it, the same for all who share a path: in proportion alone, who has little
/// would keep little.
const STEADY_PACKETS: f64 = 2.0;
/// So many round trips without a queue, and growth is fast again: the path has become wider.
const WIDER_TRIPS: u32 = 10;
/// A window grows only while so much of it is used; so it stands at most at the inverse.
const USED: f64 = 0.6;
/// A window of which so much is used is what fills the path, or one that holds everything back.
const FULL: f64 = 0.75;
/// It holds everything back if so much of what arrives does while there is more to send.
const HELD_BACK: f64 = 0.9;
/// Least window, in packets.
const MIN_PACKETS: u64 = 4;
/// The window after everything sent for several round trips was lost.
const AFTER_OUTAGE: u64 = 64 << 10;
/// The path is looked at as often as this in a round trip, …
const BEATS: usize = 4;
/// … but no more often than acknowledgements come in.
const MIN_BEAT: Duration = Duration::from_millis(20);
/// Acknowledgements in a beat that its shortest time is believed of.
const SAMPLES: u32 = 8;
/// A queue beyond the bound that neither grows nor comes from us: for so many round trips, and so long, then
/// the path has become longer.
const STANDING_TRIPS: u32 = 3;
const STANDING: Duration = Duration::from_millis(300);
/// … and what counts as growing.
const STANDING_JITTER: Duration = Duration::from_millis(5);
/// A queue of ours within the bound is let drain as often: the time of the path without it would be
/// forgotten otherwise, and the bound move up.
const DRAIN_EVERY: Duration = Duration::from_secs(4);
/// A longer queue is given way to whoever made it.
const LONGEST_STANDING: Duration = Duration::from_millis(100);
/// Nothing was sent for so long, or two round trips: what is sent then begins anew.
const PAUSE: Duration = Duration::from_millis(100);
/// A beat ends at last, however little was sent.
const LONGEST_BEAT: Duration = Duration::from_secs(1);
/// So many times the window has given way, and the queue is still there: the path has become longer.
const PATIENCE: u8 = 4;
/// How long the rate at which the path was full is all there is.
const LIMIT_KNOWN: Duration = Duration::from_secs(2);

/// What the window may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// At the start. Lower delays what is sent first on a long path by several round trips.
    pub initial: u64,
    /// At any time: without one, a burst after hours of ease would be lost as a whole.
    pub cap: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            initial: 512 << 10,
            cap: 16 << 20,
        }
    }
}

/// How fast the window grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    /// The path has not been filled yet.
    Fast,
    Steady,
}

/// The window of one path.
///
/// Tell it what was sent, acknowledged and lost; after each batch of acknowledgements,
/// [`Self::on_acks_end`].
#[derive(Debug, Clone)]
pub struct Congestion {
    limits: Limits,
    mtu: u64,
    window: u64,
    growth: Growth,
    base: Base,
    beat: Beat,
    /// What arrived in the last beats, and in what time.
    arrived: [(u64, Duration); BEATS],
    losses: Losses,
    /// What was sent before says nothing about the window as it is: it gave way then.
    gave_way: Option<Instant>,
    standing: Option<Standing>,
    /// When there was hardly a queue.
    empty_at: Instant,
    /// The rate at which the path was full, of late.
    limit: Option<(Bitrate, Instant)>,
    last_sent: Option<Instant>,
    /// Nothing has arrived since a pause: rates begin with what arrives first.
    paused: bool,
    queue: Duration,
    rate: Option<Bitrate>,
}

/// What was learnt since the path was last looked at.
#[derive(Debug, Clone, Copy)]
struct Beat {
    start: Instant,
    acked: u64,
    samples: u32,
    fastest: Duration,
    /// … while more was held back by the window or its pace.
    held_back: u64,
    /// A router said that it is congested.
    marked: bool,
}

impl Beat {
    fn new(start: Instant) -> Self {
        Self {
            start,
            acked: 0,
            samples: 0,
            fastest: Duration::MAX,
            held_back: 0,
            marked: false,
        }
    }
}

/// A queue that was there when the path was last looked at.
#[derive(Debug, Clone, Copy)]
struct Standing {
    since: Instant,
    /// At first.
    queue: Duration,
    /// Before it gave way.
    window: u64,
    /// How many times the window has given way to it.
    gave_way: u8,
}

#[derive(Debug, Clone, Copy, Default)]
struct Losses {
    acked: u64,
    lost: u64,
    /// When the present measurement was first looked at.
    since: Option<Instant>,
    /// Of the last measurement.
    fraction: f64,
    /// Measurements of loss that is not tolerated, without another between: one alone may be chance. …
    beyond: u8,
    /// … and of heavy loss.
    heavy: u8,
}

impl Congestion {
    pub fn new(limits: Limits, mtu: u16, now: Instant) -> Self {
        Self {
            limits,
            mtu: mtu.into(),
            window: limits.initial.min(limits.cap),
            growth: Growth::Fast,
            base: Base::default(),
            beat: Beat::new(now),
            arrived: [(0, Duration::ZERO); BEATS],
            losses: Losses::default(),
            gave_way: None,
            standing: None,
            empty_at: now,
            limit: None,
            last_sent: None,
            paused: true,
            queue: Duration::ZERO,
            rate: None,
        }
    }

    /// Bytes that may be on their way.
    pub fn window(&self) -> u64 {
        self.window
    }

    /// What the path carries as far as is known: the rate at which it was full, or what the window lets
    /// through. `None`: nothing is known of the path.
    pub fn rate(&self) -> Option<Bitrate> {
        self.rate
    }

    /// The part that was lost, when it was last measured.
    pub fn loss(&self) -> f64 {
        self.losses.fraction
    }

    /// The queue on the path, when it was last looked at.
    pub fn queue(&self) -> Duration {
        self.queue
    }

    pub fn set_mtu(&mut self, mtu: u16) {
        self.mtu = mtu.into();
    }

    pub fn on_sent(&mut self, now: Instant) {
        let pause = (self.base.get().unwrap_or_default() * 2).max(PAUSE);
        if let Some(last) = self.last_sent
            && now.saturating_duration_since(last) > pause
        {
            // A rate over a time in which nothing came would say nothing about the path.
            self.paused = true;
        }
        self.last_sent = Some(now);
    }

    /// `app_limited`: there was nothing more to send when these acknowledgements came.
    pub fn on_ack(&mut self, sent_at: Instant, bytes: u64, app_limited: bool, now: Instant) {
        let time = now.saturating_duration_since(sent_at);
        self.base.add(time, now);
        self.beat.acked += bytes;
        if !app_limited {
            self.beat.held_back += bytes;
        }
        if self.of_this_window(sent_at) {
            self.beat.samples += 1;
            self.beat.fastest = self.beat.fastest.min(time);
            self.losses.acked += bytes;
        }
    }

    /// The last of a batch of acknowledgements has been told.
    pub fn on_acks_end(&mut self, now: Instant) {
        let Some(base) = self.base.get() else {
            return;
        };
        if std::mem::take(&mut self.paused) {
            self.beat = Beat::new(now);
            self.arrived = [(0, Duration::ZERO); BEATS];
            // Who pauses again and again never looks.
            if self.forget_limit(now) {
                self.publish();
            }
        }
        let elapsed = now.saturating_duration_since(self.beat.start);
        let enough = self.beat.samples >= SAMPLES || elapsed >= LONGEST_BEAT;
        if enough && elapsed >= (base / BEATS as u32).max(MIN_BEAT) {
            self.look(base, elapsed, now);
        } else if self.rate.is_none() {
            self.publish();
        }
    }

    /// `persistent`: everything sent over several round trips is lost. No bytes: a router marked what it
    /// would have dropped.
    pub fn on_loss(&mut self, sent_at: Instant, bytes: u64, persistent: bool, now: Instant) {
        if persistent {
            self.window = self.window.min(AFTER_OUTAGE);
            self.growth = Growth::Fast;
            self.standing = None;
            self.limit = None;
            self.give_way(now);
            self.publish();
        } else if self.of_this_window(sent_at) {
            self.losses.lost += bytes;
            self.beat.marked |= bytes == 0;
        }
    }

    fn least(&self) -> u64 {
        MIN_PACKETS * self.mtu
    }

    fn of_this_window(&self, sent_at: Instant) -> bool {
        self.gave_way.is_none_or(|then| sent_at >= then)
    }

    /// Bytes that have arrived and are not acknowledged yet: on a short path more than are on their way.
    fn unacknowledged(&self, arriving: Bitrate) -> u64 {
        let packets = u64::from(ACK_PACKETS) * self.mtu;
        arriving.during(ACK_DELAY).as_bytes().min(packets)
    }

    /// Decides on the window, and begins the next beat.
    fn look(&mut self, base: Duration, elapsed: Duration, now: Instant) {
        let beat = std::mem::replace(&mut self.beat, Beat::new(now));
        self.arrived.rotate_right(1);
        self.arrived[0] = (beat.acked, elapsed);
        let arriving = self.arriving();
        if let Some((limit, _)) = &mut self.limit {
            // It has carried more since.
            *limit = arriving.max(*limit);
        }
        let loss = self.losses.measure(self.mtu, now);
        if self.losses.heavy >= HEAVY_FOR {
            self.losses.heavy = 0;
            self.window = (self.window / 2).max(self.least());
        }
        let underway = arriving.during(base).as_bytes() + self.unacknowledged(arriving);
        let used = underway as f64 / self.window as f64;
        let held_back = beat.held_back as f64 >= HELD_BACK * beat.acked as f64;
        let full = held_back || used >= FULL;
        let beyond = self.losses.beyond;
        let lossy = loss.is_some_and(|loss| loss > HEAVY_LOSS || beyond >= BEYOND_FOR);
        let lossy = lossy || beat.marked;
        let timed = beat.samples >= SAMPLES;
        if timed {
            self.queue = beat.fastest.saturating_sub(base);
            if self.queue <= STANDING_JITTER || !held_back {
                self.empty_at = now;
            }
        }
        let stale = now.saturating_duration_since(self.empty_at) >= DRAIN_EVERY;
        if timed && (self.queue_is_ours(base, full, now) || stale) {
            if held_back {
                self.limit = Some((arriving, now));
            }
            let again =
                (self.gave_way).is_some_and(|then| now.saturating_duration_since(then) < AGAIN);
            self.drain(arriving, 0, base, held_back || again, now);
        } else if lossy {
            self.limit = Some((arriving, now));
            self.drain(arriving, SPARE_PACKETS * self.mtu, base, true, now);
        } else if timed && used >= USED && self.standing.is_none() {
            self.grow(base, elapsed, now);
        }
        self.forget_limit(now);
        self.publish();
    }

    /// Answers whether there was one, too long ago.
    fn forget_limit(&mut self, now: Instant) -> bool {
        let is_old =
            |(_, at): &mut (Bitrate, Instant)| now.saturating_duration_since(*at) > LIMIT_KNOWN;
        self.limit.take_if(is_old).is_some()
    }

    /// Whether there is a queue to give way to. One that is there whatever we do is the path: then that is
    /// what its time is from now on.
    fn queue_is_ours(&mut self, base: Duration, full: bool, now: Instant) -> bool {
        let queue = self.queue;
        if queue <= QUEUE {
            self.standing = None;
            return false;
        }
        let window = self.window;
        let standing = self.standing.get_or_insert(Standing {
            since: now,
            queue,
            window,
            gave_way: 0,
        });
        let waited = now.saturating_duration_since(standing.since);
        let grows = queue > standing.queue + STANDING_JITTER;
        let longer = if standing.gave_way >= PATIENCE {
            queue >= standing.queue / 4 * 3
        } else if full || grows || queue > LONGEST_STANDING {
            false
        } else if waited < (base * STANDING_TRIPS).max(STANDING) {
            return false;
        } else {
            standing.gave_way == 0
        };
        if !longer {
            standing.gave_way = standing.gave_way.saturating_add(1);
            return true;
        }
        if standing.gave_way > 0 {
            // In vain: the window is what it was, for the longer path.
            let scale = (base + queue).as_secs_f64() / base.as_secs_f64().max(1e-6);
            let window = (standing.window as f64 * scale) as u64;
            self.window = window.min(self.limits.cap).max(self.window);
        }
        self.base.reset(base + queue, now);
        self.limit = None;
        self.standing = None;
        self.queue = Duration::ZERO;
        false
    }

    /// Sends less than what arrives until the queue is gone; or hardly more, if the window `held` nothing back.
    fn drain(&mut self, arriving: Bitrate, spare: u64, base: Duration, held: bool, now: Instant) {
        let carried = if held {
            arriving.scale(DRAIN).during(base)
        } else {
            arriving.scale(ROOM).during(base + self.queue)
        };
        let carried = carried.as_bytes() + self.unacknowledged(arriving) + spare;
        self.window = carried.min(self.window).max(self.least());
        // What a window that held nothing back gives way to says nothing of how wide the path is.
        self.growth = if held { Growth::Steady } else { Growth::Fast };
        self.give_way(now);
    }

    fn give_way(&mut self, now: Instant) {
        self.gave_way = Some(now);
        self.empty_at = now;
        self.losses.begin();
        self.beat = Beat::new(now);
    }

    fn grow(&mut self, base: Duration, elapsed: Duration, now: Instant) {
        let wider = base.max(MIN_BEAT) * WIDER_TRIPS;
        if self.queue > QUEUE_AT_START {
            self.growth = Growth::Steady;
        } else if self.queue <= STANDING_JITTER
            && (self.gave_way).is_none_or(|then| now.saturating_duration_since(then) >= wider)
        {
            self.growth = Growth::Fast;
        }
        let window = self.window as f64;
        let growth = match self.growth {
            Growth::Fast => FAST * window,
            Growth::Steady => STEADY * window + STEADY_PACKETS * self.mtu as f64,
        };
        let trips = (elapsed.as_secs_f64() / base.as_secs_f64().max(1e-6)).min(1.0);
        let grown = (window + growth * trips) as u64;
        self.window = grown.min(self.limits.cap).max(self.window);
    }

    /// The rate over the last beats.
    fn arriving(&self) -> Bitrate {
        let (bytes, time) = self
            .arrived
            .iter()
            .fold((0, Duration::ZERO), |(bytes, time), (arrived, elapsed)| {
                (bytes + arrived, time + *elapsed)
            });
        DataSize::from_bytes(bytes).over(time).unwrap_or_default()
    }

    fn publish(&mut self) {
        let Some(base) = self.base.get() else {
            return;
        };
        // What the window lets through, were it not for what waits to be acknowledged.
        let slow = DataSize::from_bytes(self.window).over(base + ACK_DELAY);
        let open = slow.map(|slow| {
            let waiting = self.unacknowledged(slow);
            let fast = DataSize::from_bytes(self.window.saturating_sub(waiting));
            fast.over(base.max(Duration::from_millis(1)))
                .map_or(slow, |fast| fast.max(slow))
        });
        let limit = self.limit.map(|(limit, _)| limit);
        self.rate = open.map(|open| limit.map_or(open, |limit| limit.min(open)));
    }
}

impl Losses {
    /// The part lost since the last measurement, once enough was sent.
    fn measure(&mut self, mtu: u64, now: Instant) -> Option<f64> {
        let sent = self.acked + self.lost;
        if sent < LOSS_PACKETS * mtu && self.lost < LOST_PACKETS * mtu {
            let since = *self.since.get_or_insert(now);
            if now.saturating_duration_since(since) >= LOSS_TIME {
                *self = Self::default();
            }
            return None;
        }
        self.fraction = self.lost as f64 / sent as f64;
        let count = |known: u8, bound: f64| match self.fraction > bound {
            true => known.saturating_add(1),
            false => 0,
        };
        self.beyond = count(self.beyond, TOLERATED_LOSS);
        self.heavy = count(self.heavy, HEAVY_LOSS);
        self.begin();
        Some(self.fraction)
    }

    fn begin(&mut self) {
        self.acked = 0;
        self.lost = 0;
        self.since = None;
    }
}
