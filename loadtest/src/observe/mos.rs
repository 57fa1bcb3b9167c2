//! What people would think of how speech sounds, from 1 to 4.5: an estimate after the E-model (ITU-T
//! G.107), for a codec without faults of its own.

use std::time::Duration;

/// Without delay and loss.
const BEST: f64 = 93.2;
/// For each percent of packets that are missing.
const LOSS_COSTS: f64 = 2.5;
/// Of the codec, beside what a jitter buffer takes.
const CODEC_MILLIS: f64 = 10.0;
/// A conversation does not suffer from less.
const NOTICED_MILLIS: f64 = 160.0;

/// `loss`: a share from 0 to 1.
pub(super) fn mos(one_way: Duration, jitter: Duration, loss: f64) -> f64 {
    let millis = |it: Duration| it.as_secs_f64() * 1_000.0;
    let delay = millis(one_way) + 2.0 * millis(jitter) + CODEC_MILLIS;
    let delay_costs = if delay < NOTICED_MILLIS {
        delay / 40.0
    } else {
        (delay - 120.0) / 10.0
    };
    let rating = (BEST - delay_costs - LOSS_COSTS * loss * 100.0).clamp(0.0, 100.0);
    // G.107 annex B.
    let mos = 1.0 + 0.035 * rating + 7e-6 * rating * (rating - 60.0) * (100.0 - rating);
    mos.clamp(1.0, 4.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_and_loss_make_it_worse() {
        let ms = Duration::from_millis;
        for (one_way, jitter, loss, expected) in [
            (0, 0, 0.0, 4.40),
            (150, 0, 0.0, 4.33),
            (20, 5, 0.01, 4.34),
            (40, 10, 0.05, 3.97),
            (400, 20, 0.0, 3.13),
            (40, 0, 0.5, 1.0),
        ] {
            let found = mos(ms(one_way), ms(jitter), loss);
            let is_near = (found - expected).abs() < 0.06;
            assert!(is_near, "{one_way} ms, {jitter} ms, {loss}: {found}");
        }
        let (good, worse) = (mos(ms(100), ms(0), 0.0), mos(ms(200), ms(0), 0.0));
        assert!(worse < good, "{worse} {good}");
    }
}
