//! A queue that neither grows nor drains: whether it stands long enough to count, and whether it is ours.
//!
//! Sending less drains a queue of our own, by an amount that can be told beforehand. What does not drain is
//! a longer way, as after a change of networks, or a queue that others keep full.
//!
//! Times are in microseconds, all of sending.

/// From here on a queue counts.
const LEAST: i64 = 80_000;
/// … after this long.
const PATIENCE: i64 = 200_000;
/// A verdict needs as much time, and as much of a drain to look for.
const WATCHED_FOR: i64 = 400_000;
const VISIBLE: f64 = 40_000.0;
/// Less of it than this share has not happened.
const DRAINED: f64 = 0.25;
/// A queue that has grown by this is watched anew.
const GROWN: i64 = 30_000;

#[derive(Debug, Default)]
pub(super) struct StandingQueue {
    watch: Option<Watch>,
}

#[derive(Debug)]
struct Watch {
    since: i64,
    /// When congestion was first seen here.
    began: i64,
    queue: i64,
    /// What had been delivered in all.
    delivered: u64,
    /// What the path carried, in bytes for each microsecond.
    rate: f64,
    /// In bits per second, before anything followed from the queue.
    estimate: u64,
}

/// The path as the newest packet that arrived found it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    pub(super) sent: i64,
    pub(super) queue: i64,
    /// Bytes in all, bits per second at present.
    pub(super) delivered: u64,
    pub(super) rate: u64,
    pub(super) estimate: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    No,
    Queue,
    /// Not a queue of ours; the estimate of before it was seen.
    Elsewhere(u64),
}

impl StandingQueue {
    pub(super) fn look(&mut self, sight: Sight) -> Standing {
        if sight.queue < LEAST {
            self.watch = None;
            return Standing::No;
        }
        let Some(watch) = &self.watch else {
            self.watch = Some(Watch::new(sight, sight.sent, sight.estimate));
            return Standing::No;
        };
        if sight.queue > watch.queue + GROWN {
            self.watch = Some(Watch::new(sight, watch.began, watch.estimate));
            return Standing::No;
        }
        let elapsed = sight.sent - watch.since;
        if elapsed >= WATCHED_FOR {
            let delivered = sight.delivered - watch.delivered;
            let busy = delivered as f64 / watch.rate.max(f64::MIN_POSITIVE);
            let expected = elapsed as f64 - busy;
            let drained = (watch.queue - sight.queue) as f64;
            let estimate = watch.estimate;
            if expected >= VISIBLE && drained < expected * DRAINED {
                self.watch = None;
                return Standing::Elsewhere(estimate);
            }
            if elapsed >= 2 * WATCHED_FOR {
                self.watch = Some(Watch::new(sight, watch.began, estimate));
                return Standing::Queue;
            }
        }
        if sight.sent - watch.began >= PATIENCE {
            Standing::Queue
        } else {
            Standing::No
        }
    }

    pub(super) fn forget(&mut self) {
        self.watch = None;
    }
}

impl Watch {
    fn new(sight: Sight, began: i64, estimate: u64) -> Self {
        Self {
            since: sight.sent,
            began,
            queue: sight.queue,
            delivered: sight.delivered,
            rate: sight.rate as f64 / 8e6,
            estimate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is seen of a queue that begins at 200 ms and changes by `drain` in each of so many tenths of a
    /// second, while `sent` of what is delivered at first goes on being sent.
    fn look(drain: i64, sent: f64, tenths: i64) -> Vec<Standing> {
        let mut standing = StandingQueue::default();
        (0..tenths)
            .map(|tenth| {
                standing.look(Sight {
                    sent: tenth * 100_000,
                    queue: (200_000 - tenth * drain).max(0),
                    delivered: (tenth as f64 * sent * 12_500.0) as u64,
                    rate: 1_000_000,
                    estimate: 1_000_000 - 1_000 * tenth as u64,
                })
            })
            .collect()
    }

    #[test]
    fn what_drains_as_it_should_is_ours() {
        // 60 % of the rate: 40 ms in each tenth of a second.
        let seen = look(40_000, 0.6, 8);
        assert_eq!(seen[..3], [Standing::No, Standing::No, Standing::Queue]);
        assert!(seen[4..].iter().all(|standing| *standing == Standing::No));
    }

    #[test]
    fn what_does_not_drain_is_not_ours() {
        let seen = look(0, 0.6, 6);
        assert_eq!(seen[2..4], [Standing::Queue; 2]);
        assert_eq!(
            seen[4],
            Standing::Elsewhere(1_000_000),
            "as it was at first"
        );
    }

    #[test]
    fn as_long_as_as_much_is_sent_nothing_can_be_told() {
        let seen = look(0, 1.0, 40);
        assert!(
            seen[2..]
                .iter()
                .all(|s| *s != Standing::Elsewhere(1_000_000))
        );
        assert_eq!(seen.last(), Some(&Standing::Queue));
    }

    #[test]
    fn a_short_queue_is_none() {
        let mut standing = StandingQueue::default();
        for tenth in 0..20 {
            let sight = Sight {
                sent: tenth * 100_000,
                queue: LEAST - 1,
                delivered: 0,
                rate: 1,
                estimate: 1,
            };
            assert_eq!(standing.look(sight), Standing::No);
        }
    }
}
