//! The estimate itself: down at once to what is delivered, up slowly and only as far as what is sent
//! proves (draft-ietf-rmcat-gcc-02 section 5.5).

use crate::units::Bitrate;

/// What remains of the delivered rate after congestion. The draft has 0.85, which has to drain the queue as
/// well; here the target does that for as long as there is one.
const DECREASE: f64 = 0.9;
/// Growth in a second, far from any known limit.
const INCREASE: f64 = 1.08;
/// How far the estimate may lie above what is delivered by growing alone. Beyond, probes have to show
/// that it fits: an SFU's next step is a whole layer, and to find out by sending it is to show a frozen
/// picture. Lower needs more probes; higher invites congestion.
const PROVEN: f64 = 1.1;
/// How much of what arrives without a queue is sure to fit: bursts are measured a little too large.
const MEASURED: f64 = 0.95;
/// Near the limit: one packet more for every time it takes to see its effect.
const PACKET_BITS: f64 = 9_600.0;
/// From cause to feedback beyond the round trip, in seconds.
const REACTION: f64 = 0.1;
/// What was true before a longer silence need not be true after it. In microseconds.
const FORGIVEN_SILENCE: i64 = 2_000_000;
/// Time between two decreases for the effect to show, in microseconds.
const PATIENCE: (i64, i64) = (100_000, 250_000);

#[derive(Debug)]
pub(super) struct RateControl {
    /// Bits per second.
    estimate: f64,
    low: f64,
    high: f64,
    /// See [`PROVEN`].
    headroom: f64,
    limit: KnownLimit,
    decreased: Option<i64>,
    updated: Option<i64>,
    /// The estimate before nothing was heard, and since when that is.
    before_silence: Option<(f64, i64)>,
}

impl RateControl {
    pub(super) fn new(start: Bitrate, low: Bitrate, high: Bitrate) -> Self {
        Self {
            estimate: start.as_bps() as f64,
            low: low.as_bps() as f64,
            high: high.as_bps() as f64,
            headroom: PROVEN,
            limit: KnownLimit::default(),
            decreased: None,
            updated: None,
            before_silence: None,
        }
    }

    /// For a sender that can send a little more and see what happens: the estimate may grow by itself so
    /// far above what is delivered.
    pub(super) fn with_headroom(self, headroom: f64) -> Self {
        Self { headroom, ..self }
    }

    pub(super) fn estimate(&self) -> Bitrate {
        Bitrate::from_bps(self.estimate as u64)
    }

    /// When it went down last, in microseconds.
    pub(super) fn decreased(&self) -> Option<i64> {
        self.decreased
    }

    fn set(&mut self, estimate: f64) {
        self.estimate = estimate.clamp(self.low, self.high);
    }

    /// A queue builds while `delivered` arrives. `true`: the estimate went down.
    pub(super) fn congested(&mut self, delivered: Bitrate, now: i64, round_trip: i64) -> bool {
        let delivered = delivered.as_bps() as f64;
        self.updated = Some(now);
        self.before_silence = None;
        let patience = round_trip.clamp(PATIENCE.0, PATIENCE.1);
        let waits = self.decreased.is_some_and(|at| now - at < patience);
        if waits && delivered >= self.estimate / 2.0 {
            return false;
        }
        let base = if delivered > 0.0 {
            delivered
        } else {
            self.estimate
        };
        self.limit.reached(delivered);
        let before = self.estimate;
        self.set(before.min(base * DECREASE));
        self.decreased = Some(now);
        self.estimate < before
    }

    /// More is lost than the path loses anyway.
    pub(super) fn lossy(&mut self, share: f64, delivered: Bitrate, now: i64) {
        let delivered = delivered.as_bps() as f64;
        let to = (self.estimate * (1.0 - share / 2.0)).max(delivered * 0.95);
        self.set(self.estimate.min(to));
        self.decreased = Some(now);
        self.updated = Some(now);
    }

    /// Nothing is heard of what is sent.
    pub(super) fn silent(&mut self, now: i64) {
        let (_, since) = *self.before_silence.get_or_insert((self.estimate, now));
        if now - since > FORGIVEN_SILENCE {
            self.before_silence = Some((0.0, since));
        }
        self.set(self.estimate / 2.0);
        self.decreased = Some(now);
        self.updated = Some(now);
    }

    /// Something is heard again, and all is well.
    pub(super) fn heard(&mut self, now: i64) {
        if let Some((estimate, _)) = self.before_silence.take() {
            self.restore(estimate, now);
        }
    }

    /// It was lowered by mistake.
    pub(super) fn restore(&mut self, estimate: f64, now: i64) {
        if estimate > self.estimate {
            self.set(estimate);
            self.decreased = None;
            self.updated = Some(now);
        }
    }

    /// All is well while `delivered` arrives.
    pub(super) fn grow(&mut self, delivered: Bitrate, now: i64, round_trip: i64) {
        let elapsed = now - self.updated.replace(now).unwrap_or(now);
        let elapsed = elapsed.clamp(0, 1_000_000) as f64 / 1e6;
        let delivered = delivered.as_bps() as f64;
        self.limit.exceeded_by(delivered);
        let is_near = self.limit.is_near(self.estimate);
        if delivered * MEASURED > self.estimate && !is_near {
            // It came without a queue, so it fits: what cannot be reduced is sent above the estimate.
            return self.set(delivered * MEASURED);
        }
        let ceiling = delivered * self.headroom;
        if self.estimate >= ceiling {
            return;
        }
        let grown = if is_near {
            self.estimate + PACKET_BITS / (round_trip as f64 / 1e6 + REACTION) * elapsed
        } else {
            self.estimate * INCREASE.powf(elapsed)
        };
        self.set(grown.min(ceiling));
    }

    /// Time passes in which nothing is learned.
    pub(super) fn hold(&mut self, now: i64) {
        self.updated = Some(now);
    }

    /// A probe has shown what fits.
    pub(super) fn proven(&mut self, rate: Bitrate, now: i64) {
        self.limit.proven(rate.as_bps() as f64);
        self.set(rate.as_bps() as f64);
        self.updated = Some(now);
    }
}

/// Around which rate congestion was met before.
#[derive(Debug, Default)]
struct KnownLimit {
    /// Kilobits per second; zero for unknown.
    mean: f64,
    /// Of the normalised square of the difference.
    deviation: f64,
}

impl KnownLimit {
    const LEARNING: f64 = 0.05;
    const LEARNING_FROM_PROBE: f64 = 0.5;

    fn learn(&mut self, rate: f64, speed: f64) {
        let sample = rate / 1000.0;
        if self.mean == 0.0 {
            (self.mean, self.deviation) = (sample, 0.4);
            return;
        }
        self.mean += speed * (sample - self.mean);
        let error = self.mean - sample;
        let normalised = error * error / self.mean.max(1.0);
        self.deviation += speed * (normalised - self.deviation);
        self.deviation = self.deviation.clamp(0.4, 2.5);
    }

    fn spread(&self) -> f64 {
        3.0 * (self.deviation * self.mean).sqrt()
    }

    fn reached(&mut self, delivered: f64) {
        // Congestion this far below says that the path has become another.
        if self.mean > 0.0 && delivered / 1000.0 < self.mean - self.spread() {
            self.mean = 0.0;
        }
        if delivered > 0.0 {
            self.learn(delivered, Self::LEARNING);
        }
    }

    fn exceeded_by(&mut self, delivered: f64) {
        if self.mean > 0.0 && delivered / 1000.0 > self.mean + self.spread() {
            self.mean = 0.0;
        }
    }

    fn proven(&mut self, rate: f64) {
        self.exceeded_by(rate);
        if self.mean > 0.0 {
            self.learn(rate, Self::LEARNING_FROM_PROBE);
        }
    }

    fn is_near(&self, estimate: f64) -> bool {
        self.mean > 0.0 && (estimate / 1000.0 - self.mean).abs() <= self.spread()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: i64 = 50_000;

    fn control(kbps: u64) -> RateControl {
        RateControl::new(
            Bitrate::from_kbps(kbps),
            Bitrate::from_kbps(50),
            Bitrate::from_kbps(5_000),
        )
    }

    #[test]
    fn congestion_leads_below_what_is_delivered() {
        let mut control = control(3000);
        assert!(control.congested(Bitrate::from_kbps(1000), 0, ROUND_TRIP));
        assert_eq!(control.estimate(), Bitrate::from_kbps(900));
        // The effect is waited for, unless it is plain that it is not enough.
        assert!(!control.congested(Bitrate::from_kbps(950), 50_000, ROUND_TRIP));
        assert!(control.congested(Bitrate::from_kbps(400), 60_000, ROUND_TRIP));
        assert_eq!(control.estimate(), Bitrate::from_kbps(360));
        // Never up.
        assert!(!control.congested(Bitrate::from_kbps(2000), 900_000, ROUND_TRIP));
        assert_eq!(control.estimate(), Bitrate::from_kbps(360));
    }

    #[test]
    fn growth_ends_where_proof_ends() {
        let mut control = control(1000);
        for step in 0..1000 {
            control.grow(Bitrate::from_kbps(1500), step * 100_000, ROUND_TRIP);
        }
        assert_eq!(control.estimate(), Bitrate::from_kbps(1650));
        for step in 1000..2000 {
            control.grow(Bitrate::from_kbps(100), step * 100_000, ROUND_TRIP);
        }
        assert_eq!(control.estimate(), Bitrate::from_kbps(1650));
    }

    #[test]
    fn what_arrives_fits() {
        let mut control = control(1000);
        control.grow(Bitrate::from_kbps(2500), 0, ROUND_TRIP);
        assert_eq!(control.estimate(), Bitrate::from_kbps(2375));
        control.grow(Bitrate::from_kbps(900), 0, ROUND_TRIP);
        assert_eq!(control.estimate(), Bitrate::from_kbps(2375));
    }

    #[test]
    fn growth_is_slow_near_a_known_limit_only() {
        let mut control = control(1000);
        control.congested(Bitrate::from_kbps(1000), 0, ROUND_TRIP);
        let grown = |control: &mut RateControl, from: i64| {
            let before = control.estimate();
            for step in 1..=10 {
                control.grow(Bitrate::from_kbps(2_000), from + step * 100_000, ROUND_TRIP);
            }
            control.estimate().saturating_sub(before).as_bps()
        };
        control.grow(Bitrate::from_kbps(940), 0, ROUND_TRIP);
        control.proven(Bitrate::from_kbps(960), 0);
        let near = {
            let before = control.estimate();
            for step in 1..=10 {
                control.grow(Bitrate::from_kbps(990), step * 100_000, ROUND_TRIP);
            }
            control.estimate().saturating_sub(before).as_bps()
        };
        assert!((55_000..70_000).contains(&near), "{near}");
        let far = grown(&mut control, 2_000_000);
        assert!(far > 80_000, "{far}");
    }
}
