//! Which layers do without: whole layers are taken off the path before packets have to be dropped, and put
//! back once the path has shown that it carries them.
//!
//! Knows rates, not packets.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use crate::units::Bitrate;

/// Of what the path carries. Lower leaves it unused; higher leaves no room for key frames.
const BUDGET: f64 = 0.85;
/// How long more than the budget may be offered: key frames do so for a moment.
const OVER_FOR: Duration = Duration::from_millis(250);
/// What the queue needs to drain once less is sent.
const DRAINS_IN: Duration = Duration::from_millis(250);
/// What has to fit for a layer to be resumed, with it: it would be suspended again at once otherwise.
const HEADROOM: f64 = 1.25;
/// … for so long.
const FITS_FOR: Duration = Duration::from_secs(3);
/// How long the path is left alone after a suspension; doubled each time that a layer came back in vain, up
/// to …
const HOLD: Duration = Duration::from_secs(3);
const MAX_HOLD: Duration = Duration::from_secs(60);
/// … or, each time that the path was tried out in vain, up to this: nobody has noticed.
const MAX_PROBE_HOLD: Duration = Duration::from_secs(15);
/// … and after a layer was resumed, before the next is tried.
const SETTLE: Duration = Duration::from_secs(1);
/// From one layer that takes another's place to the next: a key frame each. Shorter follows every word that is
/// put in.
const EXCHANGE_AFTER: Duration = Duration::from_secs(2);
/// A layer that is suspended again within this time was resumed in vain.
const PROVEN: Duration = Duration::from_secs(10);
/// Padding at least, of what flows.
const PADDING: f64 = 0.25;
/// A queue on the path that says that it is full, whoever fills it.
const FULL: Duration = Duration::from_millis(15);
/// How long a path may take to let the padding through, …
const OPENS_IN: Duration = Duration::from_secs(1);
/// … and to carry what is needed.
const PATIENCE: Duration = Duration::from_secs(3);

/// How much a layer is missed: by the priority of its track, then the lower the more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(u8, Reverse<u8>);

impl Rank {
    pub(super) fn new(priority: u8, layer: u8) -> Self {
        Self(priority, Reverse(layer))
    }
}

/// What there is at a moment.
#[derive(Debug)]
pub(super) struct Measured {
    /// What the path carries. `None`: unknown.
    rate: Option<Bitrate>,
    /// On the path.
    queue: Duration,
    /// Video waits too long, or has been dropped for it.
    late: bool,
    flowing: Bitrate,
    /// The one that is missed least of those that flow.
    least: Option<(Rank, usize, Bitrate)>,
    /// The one that is missed most of those that do not.
    most: Option<(Rank, usize, Bitrate)>,
}

impl Measured {
    pub(super) fn new(rate: Option<Bitrate>, queue: Duration, late: bool) -> Self {
        Self {
            rate,
            queue,
            late,
            flowing: Bitrate::ZERO,
            least: None,
            most: None,
        }
    }

    pub(super) fn add_flowing(&mut self, slot: usize, rank: Option<Rank>, rate: Bitrate) {
        self.flowing += rate;
        if let Some(rank) = rank {
            let candidate = (rank, slot, rate);
            self.least = Some(self.least.map_or(candidate, |least| least.min(candidate)));
        }
    }

    pub(super) fn add_suspended(&mut self, slot: usize, rank: Option<Rank>, rate: Bitrate) {
        if let Some(rank) = rank {
            let candidate = (rank, slot, rate);
            self.most = Some(self.most.map_or(candidate, |most| most.max(candidate)));
        }
    }

    /// The least has been suspended, and another is the least.
    pub(super) fn suspend(&mut self, rate: Bitrate, next: Option<(Rank, usize, Bitrate)>) {
        if let Some((rank, slot, _)) = self.least.take() {
            self.add_suspended(slot, Some(rank), rate);
        }
        self.flowing = self.flowing.saturating_sub(rate);
        self.least = next;
        self.late = false;
    }

    fn budget(&self) -> Bitrate {
        self.rate.map_or(Bitrate::MAX, |rate| rate.scale(BUDGET))
    }
}

/// When layers are suspended and resumed.
#[derive(Debug)]
pub(super) struct Suspensions {
    over_since: Option<Instant>,
    /// Something is suspended.
    any: bool,
    /// When less began to be sent: what waits drains.
    eased_at: Option<Instant>,
    /// The last resumption that has not proven itself.
    resumed_at: Option<Instant>,
    hold: Duration,
    /// The path is left alone until then.
    quiet_until: Instant,
    /// No layer takes another's place before.
    exchange_at: Option<Instant>,
    probe: Option<Probe>,
}

/// The path is being tried out.
#[derive(Debug, Clone, Copy)]
struct Probe {
    began: Instant,
    /// There has been room for the layer since then.
    fits_since: Option<Instant>,
    padding: Bitrate,
}

impl Suspensions {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            over_since: None,
            any: false,
            eased_at: None,
            resumed_at: None,
            hold: HOLD,
            quiet_until: now,
            exchange_at: None,
            probe: None,
        }
    }

    pub(super) fn any(&self) -> bool {
        self.any
    }

    /// What is to be sent beside media.
    pub(super) fn padding(&self) -> Bitrate {
        self.probe.map_or(Bitrate::ZERO, |probe| probe.padding)
    }

    /// The layer that has to go. Ask again until there is none.
    pub(super) fn poll_suspension(&mut self, measured: &Measured, now: Instant) -> Option<usize> {
        if measured.flowing <= measured.budget() {
            self.over_since = None;
        } else {
            self.over_since.get_or_insert(now);
        }
        let passed = |since: Option<Instant>, time: Duration| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= time)
        };
        let over = passed(self.over_since, OVER_FOR);
        let draining = self.eased_at.is_some() && !passed(self.eased_at, DRAINS_IN);
        let late = measured.late && !draining;
        if !over && !late {
            return None;
        }
        if self.probe.is_some() {
            // It is the padding that is too much.
            self.tried_in_vain(now);
            return None;
        }
        let (_, slot, _) = measured.least?;
        if self.resumed_at.take().is_some() {
            self.hold = (self.hold * 2).min(MAX_HOLD);
        }
        self.any = true;
        self.eased_at = Some(now);
        self.quiet_until = now + self.hold;
        Some(slot)
    }

    /// A layer that is missed more than one that flows, and can have its place: which goes, and which comes. Who
    /// speaks has changed since the path became too narrow.
    pub(super) fn poll_exchange(
        &mut self,
        measured: &Measured,
        now: Instant,
    ) -> Option<(usize, usize)> {
        let (least, goes, leaves) = measured.least?;
        let (most, comes, needs) = measured.most?;
        let is_due = least < most && self.exchange_at.is_none_or(|at| at <= now);
        let flowing = measured.flowing.saturating_sub(leaves) + needs;
        if !is_due || flowing > measured.budget().max(measured.flowing) {
            return None;
        }
        self.exchange_at = Some(now + EXCHANGE_AFTER);
        self.probe = None;
        self.eased_at = Some(now);
        self.quiet_until = self.quiet_until.max(now + self.hold);
        Some((goes, comes))
    }

    /// The layer that may come back.
    pub(super) fn poll_resumption(&mut self, measured: &Measured, now: Instant) -> Option<usize> {
        if let Some(resumed) = self.resumed_at
            && now.saturating_duration_since(resumed) >= PROVEN
        {
            self.resumed_at = None;
            self.hold = HOLD;
        }
        self.any = measured.most.is_some();
        let Some((_, slot, rate)) = measured.most else {
            self.probe = None;
            return None;
        };
        if now < self.quiet_until {
            return None;
        }
        if measured.queue > FULL {
            if self.probe.is_some() {
                self.tried_in_vain(now);
            }
            return None;
        }
        let mut probe = self.probe.unwrap_or(Probe {
            began: now,
            fits_since: None,
            padding: Bitrate::ZERO,
        });
        // So little beside it may not tell whether a large layer fits.
        probe.padding = measured.flowing.scale(PADDING).max(rate);
        let needed = (measured.flowing + rate).scale(HEADROOM);
        probe.fits_since = (measured.budget() >= needed).then(|| probe.fits_since.unwrap_or(now));
        self.probe = Some(probe);
        let passed = |since: Instant| now.saturating_duration_since(since);
        if probe
            .fits_since
            .is_some_and(|since| passed(since) >= FITS_FOR)
        {
            self.probe = None;
            self.resumed_at = Some(now);
            self.quiet_until = now + SETTLE;
            return Some(slot);
        }
        let sent = measured.flowing + probe.padding;
        let full = measured.rate.is_some_and(|carried| carried < sent);
        let in_vain = passed(probe.began) >= OPENS_IN && full;
        if in_vain || probe.fits_since.is_none() && passed(probe.began) >= PATIENCE {
            self.tried_in_vain(now);
        }
        None
    }

    fn tried_in_vain(&mut self, now: Instant) {
        self.probe = None;
        self.over_since = None;
        self.eased_at = Some(now);
        self.hold = self.hold.max((self.hold * 2).min(MAX_PROBE_HOLD));
        self.quiet_until = now + self.hold;
    }
}
