//! Whether a queue builds on the way, from how much later than the others packets arrive.
//!
//! The trend of the delay over the last groups of packets against a threshold that adapts, as in
//! draft-ietf-rmcat-gcc-02 sections 5.1 to 5.4 and its later form with a fitted line. Two things differ:
//!
//! - A group is as late as its least late packet. That is the queue which the group found; the group's own
//!   length, reordered packets and most jitter do not show in it. An SFU's groups are frames of several
//!   senders, so their lengths vary more than those of one encoder.
//! - The queue is measured, too, against the lowest delay of the last seconds: what is sent is often far
//!   below what fits, and then noise is all that a trend shows.
//!
//! All times are in microseconds, those of sending since the owner's origin, those of arrival by the
//! receiver's clock.

/// Packets sent within this belong together.
const GROUP: i64 = 10_000;
/// Groups that the line is fitted to: at least 200 ms.
const WINDOW: usize = 20;
/// So many of them are added up side by side.
const LANES: usize = 4;
/// Of the delay before, in the smoothed one.
const SMOOTHING: f64 = 0.85;
/// The trend is judged as if the queue had grown like that for this many groups at most.
const MAX_GROUPS: u32 = 60;
const GAIN: f64 = 4.0;
const THRESHOLD_START: f64 = 12.5;
const THRESHOLD_RANGE: (f64, f64) = (6.0, 600.0);
/// Per millisecond: towards a larger deviation, and back.
const THRESHOLD_UP: f64 = 0.0087;
const THRESHOLD_DOWN: f64 = 0.039;
/// A deviation this much above the threshold is an event, not noise to adapt to.
const THRESHOLD_OUTLIER: f64 = 15.0;
/// A trend has to hold for this long.
const PERSISTENCE: i64 = 10_000;
/// The queue is the least that any of the last groups found: so many, but none older than this.
const FLOOR_GROUPS: usize = 4;
const FLOOR_AGE: f64 = 100_000.0;
/// The lowest delay is that of the last one to two of these. Longer mistakes a longer way, as after a
/// change of networks, for a queue; shorter takes a standing queue for the way itself.
const BASE_PERIOD: i64 = 10_000_000;
/// Clocks or paths changed so much that all begins anew.
const JUMP: i64 = 10_000_000;
/// A line is not fitted over a pause like this.
const PAUSE: f64 = 2_000_000.0;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Usage {
    #[default]
    Normal,
    Over,
    /// A queue drains.
    Under,
}

#[derive(Debug, Clone, Copy)]
struct Group {
    first_sent: i64,
    /// Of the least late packet.
    arrival: i64,
    delay: i64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    /// When it arrived, from when the first group of the line did: a whole number, as the line needs it.
    time: f64,
    /// Milliseconds above the first group's delay.
    smoothed: f64,
    delay: i64,
}

#[derive(Debug, Default)]
pub(super) struct DelayTrend {
    group: Option<Group>,
    samples: Vec<Sample>,
    /// Position of the oldest, once there are [`WINDOW`].
    oldest: usize,
    groups: u32,
    /// Arrival and delay of the first group, which those of the samples are counted from.
    first: i64,
    zero: i64,
    smoothed: f64,
    detector: Detector,
    base: Base,
}

impl DelayTrend {
    #[cfg(test)]
    pub(super) const RESTING_SIZE: usize = WINDOW * size_of::<Sample>();

    /// A packet that arrived. In the order of sending, but for feedback that was reordered.
    pub(super) fn receive(&mut self, sent: i64, arrival: i64) {
        let delay = arrival - sent;
        let Some(group) = &mut self.group else {
            self.group = Some(Group {
                first_sent: sent,
                arrival,
                delay,
            });
            return;
        };
        if (delay - group.delay).abs() > JUMP {
            *self = Self::default();
            return;
        }
        if sent < group.first_sent {
            return;
        }
        if sent - group.first_sent < GROUP {
            if delay < group.delay {
                (group.arrival, group.delay) = (arrival, delay);
            }
            return;
        }
        let full = std::mem::replace(
            group,
            Group {
                first_sent: sent,
                arrival,
                delay,
            },
        );
        self.finish(full);
    }

    fn finish(&mut self, group: Group) {
        let time = (group.arrival - self.first) as f64;
        if self.last().is_some_and(|last| time - last.time > PAUSE) {
            self.samples.clear();
            self.oldest = 0;
            self.groups = 0;
            self.detector.pause();
        }
        if self.groups == 0 {
            (self.first, self.zero, self.smoothed) = (group.arrival, group.delay, 0.0);
        }
        self.base.add(group.delay, group.first_sent);
        self.groups = self.groups.saturating_add(1).min(MAX_GROUPS);
        let delay = (group.delay - self.zero) as f64 / 1000.0;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * delay;
        let sample = Sample {
            time: (group.arrival - self.first) as f64,
            smoothed: self.smoothed,
            delay: group.delay,
        };
        if self.samples.len() < WINDOW {
            self.samples.reserve_exact(WINDOW - self.samples.len());
            self.samples.push(sample);
        } else if let Some(oldest) = self.samples.get_mut(self.oldest) {
            *oldest = sample;
            self.oldest = (self.oldest + 1) % WINDOW;
        }
        if let Some(slope) = self.slope() {
            let trend = slope * f64::from(self.groups) * GAIN;
            self.detector.update(trend, group.arrival);
        }
    }

    /// What a group is compared with: to be fetched before it is needed.
    #[inline]
    pub(super) fn places(&self) -> &[impl Sized + use<>] {
        &self.samples
    }

    /// Of the smoothed delay over the time of arrival. `None`: the window is not full.
    fn slope(&self) -> Option<f64> {
        if self.samples.len() < WINDOW / 2 {
            return None;
        }
        let start = self.last()?.time;
        // In one pass, and in sums that do not wait for each other: it is done for every group of every
        // receiver.
        let terms = |sample: &Sample| {
            let (x, y) = (sample.time - start, sample.smoothed);
            [x, y, x * x, x * y]
        };
        let mut lanes = [[0.0; 4]; LANES];
        let (rows, rest) = self.samples.as_chunks::<LANES>();
        for row in rows {
            for (lane, sample) in lanes.iter_mut().zip(row) {
                add(lane, terms(sample));
            }
        }
        let mut sums = [0.0; 4];
        lanes.into_iter().for_each(|lane| add(&mut sums, lane));
        rest.iter().for_each(|sample| add(&mut sums, terms(sample)));
        let [sum_x, sum_y, sum_xx, sum_xy] = sums;
        let count = self.samples.len() as f64;
        let run = sum_xx - sum_x * sum_x / count;
        let rise = sum_xy - sum_x * sum_y / count;
        // Milliseconds over microseconds.
        (run > 0.0).then(|| 1_000.0 * rise / run)
    }

    fn last(&self) -> Option<&Sample> {
        self.recent().next()
    }

    /// From the newest to the oldest.
    fn recent(&self) -> impl Iterator<Item = &Sample> {
        let (newer, older) = self.samples.split_at(self.oldest.min(self.samples.len()));
        newer.iter().rev().chain(older.iter().rev())
    }

    /// How long packets wait on the way: the least that any of the last groups found.
    pub(super) fn queue(&self) -> i64 {
        let Some(newest) = self.last().map(|sample| sample.time) else {
            return 0;
        };
        let least = self
            .recent()
            .take(FLOOR_GROUPS)
            .take_while(|sample| newest - sample.time < FLOOR_AGE)
            .map(|sample| sample.delay)
            .min();
        match (least, self.base.lowest()) {
            (Some(least), Some(base)) => (least - base).max(0),
            _ => 0,
        }
    }

    /// How long a packet has waited that has not arrived while others did.
    pub(super) fn queue_of(&self, sent: i64, arrival: i64) -> i64 {
        let base = self.base.lowest();
        base.map_or(0, |base| (arrival - sent - base).max(0))
    }

    /// What was sent no later should have come by then, were there no queue.
    pub(super) fn due_by(&self, arrival: i64) -> Option<i64> {
        self.base.lowest().map(|base| arrival - base)
    }

    pub(super) fn usage(&self) -> Usage {
        self.detector.usage
    }

    /// The way is as long as it looks at present.
    pub(super) fn rebase(&mut self) {
        self.base = Base::default();
        if let Some(delay) = self.recent().take(FLOOR_GROUPS).map(|s| s.delay).min() {
            let at = self.group.map_or(0, |group| group.first_sent);
            self.base.add(delay, at);
        }
    }

    /// Feedback was absent for long: what comes next is not compared with what was before.
    pub(super) fn pause(&mut self) {
        self.group = None;
        self.samples.clear();
        self.oldest = 0;
        self.groups = 0;
        self.detector.pause();
    }
}

#[inline]
fn add(sums: &mut [f64; 4], terms: [f64; 4]) {
    for (sum, term) in sums.iter_mut().zip(terms) {
        *sum += term;
    }
}

#[derive(Debug)]
struct Detector {
    threshold: f64,
    updated: Option<i64>,
    /// Since when the trend is above the threshold.
    over_since: Option<i64>,
    trend: f64,
    usage: Usage,
}

impl Default for Detector {
    fn default() -> Self {
        Self {
            threshold: THRESHOLD_START,
            updated: None,
            over_since: None,
            trend: 0.0,
            usage: Usage::Normal,
        }
    }
}

impl Detector {
    fn update(&mut self, trend: f64, at: i64) {
        if trend > self.threshold {
            let since = *self.over_since.get_or_insert(at);
            if at - since >= PERSISTENCE && trend >= self.trend {
                self.usage = Usage::Over;
            }
        } else {
            self.over_since = None;
            self.usage = if trend < -self.threshold {
                Usage::Under
            } else {
                Usage::Normal
            };
        }
        self.trend = trend;
        self.adapt(trend.abs(), at);
    }

    fn adapt(&mut self, deviation: f64, at: i64) {
        let elapsed = at - self.updated.replace(at).unwrap_or(at);
        if deviation > self.threshold + THRESHOLD_OUTLIER {
            return;
        }
        let speed = if deviation < self.threshold {
            THRESHOLD_DOWN
        } else {
            THRESHOLD_UP
        };
        let millis = (elapsed.clamp(0, 100_000) as f64) / 1000.0;
        let (low, high) = THRESHOLD_RANGE;
        self.threshold =
            (self.threshold + speed * (deviation - self.threshold) * millis).clamp(low, high);
    }

    fn pause(&mut self) {
        self.over_since = None;
        self.updated = None;
        self.usage = Usage::Normal;
        self.trend = 0.0;
    }
}

/// The lowest delay of the last moments: that of the way without its queues.
#[derive(Debug, Default)]
struct Base {
    current: Option<i64>,
    before: Option<i64>,
    /// When the current period began.
    since: i64,
    /// Of both periods.
    lowest: Option<i64>,
}

impl Base {
    fn add(&mut self, delay: i64, at: i64) {
        if self.current.is_none() || at - self.since >= BASE_PERIOD {
            self.before = self.current;
            self.current = Some(delay);
            self.since = at;
        }
        self.current = self.current.map(|lowest| lowest.min(delay));
        self.lowest = [self.current, self.before].into_iter().flatten().min();
    }

    fn lowest(&self) -> Option<i64> {
        self.lowest
    }
}
