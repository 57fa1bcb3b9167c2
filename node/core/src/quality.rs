//! How good a participant's connection is, from what both directions report. A pure function of a few
//! seconds' figures; knows nothing of bandwidth wishes.

use std::time::Duration;

/// Five seconds of one participant's connection, both directions together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    /// Share of packets lost in the worse direction, 0 to 1.
    pub loss: f32,
    pub round_trip: Duration,
    /// Worst interarrival jitter.
    pub jitter: Duration,
}

/// In the order of goodness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quality {
    Lost,
    Poor,
    Good,
    Excellent,
}

/// A level is only left for a better one when the score passes its bound by this much, so that a
/// connection at a bound does not flicker.
const HYSTERESIS: f32 = 0.1;
const EXCELLENT: f32 = 4.1;
const GOOD: f32 = 3.5;

/// Estimated mean opinion score, 1 to 4.5: the E-model (ITU-T G.107) reduced to delay and loss, with
/// the loss robustness of Opus.
pub fn score(sample: Sample) -> f32 {
    // One way, milliseconds: half the round trip, a jitter buffer of twice the jitter, codec and
    // playout.
    let delay =
        sample.round_trip.as_secs_f32() * 500.0 + sample.jitter.as_secs_f32() * 2000.0 + 20.0;
    let delay_impairment = 0.024 * delay + 0.11 * (delay - 177.3).max(0.0);
    /// Packet loss robustness factor: concealment and retransmission.
    const ROBUSTNESS: f32 = 10.0;
    let loss = sample.loss.clamp(0.0, 1.0) * 100.0;
    let loss_impairment = 95.0 * loss / (loss + ROBUSTNESS);
    let rating = (93.2 - delay_impairment - loss_impairment).clamp(0.0, 100.0);
    (1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6).max(1.0)
}

/// The level for a score, given the level before.
pub fn level(score: f32, before: Quality) -> Quality {
    let reached = |bound: f32, quality: Quality| {
        score
            >= if before >= quality {
                bound
            } else {
                bound + HYSTERESIS
            }
    };
    if reached(EXCELLENT, Quality::Excellent) {
        Quality::Excellent
    } else if reached(GOOD, Quality::Good) {
        Quality::Good
    } else {
        Quality::Poor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_fall_with_loss_and_delay() {
        fn check(loss_percent: f32, round_trip: u64, jitter: u64, expected: Quality) {
            let sample = Sample {
                loss: loss_percent / 100.0,
                round_trip: Duration::from_millis(round_trip),
                jitter: Duration::from_millis(jitter),
            };
            let score = score(sample);
            assert!((1.0..=4.5).contains(&score), "{score}");
            assert_eq!(level(score, Quality::Good), expected, "{sample:?} {score}");
        }
        check(0.0, 20, 2, Quality::Excellent);
        check(0.0, 200, 10, Quality::Excellent);
        check(2.0, 60, 5, Quality::Good);
        check(0.0, 500, 20, Quality::Good);
        check(5.0, 60, 5, Quality::Poor);
        check(0.0, 1000, 50, Quality::Poor);
        check(100.0, 0, 0, Quality::Poor);
    }

    #[test]
    fn a_level_is_regained_only_with_a_margin() {
        assert_eq!(level(EXCELLENT, Quality::Excellent), Quality::Excellent);
        assert_eq!(level(EXCELLENT, Quality::Good), Quality::Good);
        assert_eq!(level(EXCELLENT + 0.11, Quality::Poor), Quality::Excellent);
        assert_eq!(level(GOOD - 0.01, Quality::Excellent), Quality::Poor);
        assert_eq!(level(GOOD, Quality::Lost), Quality::Poor);
    }
}
