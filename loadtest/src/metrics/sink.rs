//! What is kept of the values of one metric: a sum, a last value, a share or a distribution.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Kind;
use super::threshold::Aggregation;
use super::trend::Trend;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Sink {
    Counter {
        sum: f64,
        samples: u64,
    },
    Gauge {
        value: f64,
        min: f64,
        max: f64,
        samples: u64,
    },
    Rate {
        trues: f64,
        total: f64,
    },
    Trend(Trend),
}

impl Sink {
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter {
                sum: 0.0,
                samples: 0,
            },
            Kind::Gauge => Self::Gauge {
                value: 0.0,
                min: 0.0,
                max: 0.0,
                samples: 0,
            },
            Kind::Rate => Self::Rate {
                trues: 0.0,
                total: 0.0,
            },
            Kind::Trend => Self::Trend(Trend::default()),
        }
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Counter { .. } => Kind::Counter,
            Self::Gauge { .. } => Kind::Gauge,
            Self::Rate { .. } => Kind::Rate,
            Self::Trend(_) => Kind::Trend,
        }
    }

    /// Adds a finite value. Only a rate looks at the weight; no part of it is more than the whole.
    pub fn add(&mut self, added: f64, weight: f64) {
        match self {
            Self::Counter { sum, samples } => {
                *sum += added;
                *samples += 1;
            }
            Self::Gauge {
                value,
                min,
                max,
                samples,
            } => {
                *value = added;
                *min = if *samples == 0 { added } else { min.min(added) };
                *max = if *samples == 0 { added } else { max.max(added) };
                *samples += 1;
            }
            Self::Rate { trues, total } => {
                let weight = weight.max(0.0);
                *trues += added.clamp(0.0, weight);
                *total += weight;
            }
            Self::Trend(trend) => trend.add(added),
        }
    }

    /// Nothing came in. A rate of nothing out of nothing says nothing either.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Counter { samples, .. } | Self::Gauge { samples, .. } => *samples == 0,
            Self::Rate { total, .. } => *total == 0.0,
            Self::Trend(trend) => trend.count() == 0,
        }
    }

    /// What a threshold asks for; `None` before the first value, and if this kind has no such thing.
    #[must_use]
    pub fn aggregate(&self, aggregation: Aggregation, elapsed: Duration) -> Option<f64> {
        if self.is_empty() {
            return None;
        }
        match (self, aggregation) {
            (Self::Counter { sum, .. }, Aggregation::Count) => Some(*sum),
            (Self::Counter { sum, .. }, Aggregation::Rate) => Some(per_second(*sum, elapsed)),
            (Self::Gauge { value, .. }, Aggregation::Value) => Some(*value),
            (Self::Rate { trues, total }, Aggregation::Rate) => Some(trues / total),
            (Self::Trend(trend), Aggregation::Avg) => Some(trend.avg()),
            (Self::Trend(trend), Aggregation::Min) => Some(trend.min()),
            (Self::Trend(trend), Aggregation::Max) => Some(trend.max()),
            (Self::Trend(trend), Aggregation::Med) => Some(trend.quantile(0.5)),
            (Self::Trend(trend), Aggregation::Percentile(percent)) => {
                Some(trend.quantile(percent / 100.0))
            }
            _ => None,
        }
    }

    /// Puts what another generator measured to this. Sums, shares and distributions are added.
    /// Of gauges the greater value stays, unless `additive` says that generators share the quantity,
    /// as they share the VUs.
    ///
    /// Returns `false` and changes nothing when the kinds differ.
    #[must_use]
    pub fn merge(&mut self, other: &Self, additive: bool) -> bool {
        match (self, other) {
            (
                Self::Counter { sum, samples },
                Self::Counter {
                    sum: other_sum,
                    samples: other_samples,
                },
            ) => {
                *sum += other_sum;
                *samples += other_samples;
            }
            (Self::Gauge { .. }, Self::Gauge { samples: 0, .. }) => {}
            (gauge @ Self::Gauge { samples: 0, .. }, Self::Gauge { .. }) => *gauge = other.clone(),
            (
                Self::Gauge {
                    value,
                    min,
                    max,
                    samples,
                },
                Self::Gauge {
                    value: other_value,
                    min: other_min,
                    max: other_max,
                    samples: other_samples,
                },
            ) => {
                if additive {
                    (*value, *min, *max) =
                        (*value + other_value, *min + other_min, *max + other_max);
                } else {
                    (*value, *min, *max) = (
                        value.max(*other_value),
                        min.min(*other_min),
                        max.max(*other_max),
                    );
                }
                *samples += other_samples;
            }
            (
                Self::Rate { trues, total },
                Self::Rate {
                    trues: other_trues,
                    total: other_total,
                },
            ) => {
                *trues += other_trues;
                *total += other_total;
            }
            (Self::Trend(trend), Self::Trend(other)) => trend.merge(other),
            _ => return false,
        }
        true
    }
}

pub(crate) fn per_second(sum: f64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 { sum / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    //! Each kind, and what does not fit.

    use super::*;

    fn filled(kind: Kind, values: &[(f64, f64)]) -> Sink {
        let mut sink = Sink::new(kind);
        for (value, weight) in values {
            sink.add(*value, *weight);
        }
        sink
    }

    #[test]
    fn aggregates() {
        let ten = Duration::from_secs(10);
        let counter = filled(Kind::Counter, &[(3.0, 1.0), (2.0, 1.0)]);
        assert_eq!(counter.aggregate(Aggregation::Count, ten), Some(5.0));
        assert_eq!(counter.aggregate(Aggregation::Rate, ten), Some(0.5));
        assert_eq!(
            counter.aggregate(Aggregation::Rate, Duration::ZERO),
            Some(0.0)
        );
        assert_eq!(counter.aggregate(Aggregation::Avg, ten), None);
        let gauge = filled(Kind::Gauge, &[(3.0, 1.0), (-2.0, 1.0), (1.0, 1.0)]);
        assert_eq!(
            gauge,
            Sink::Gauge {
                value: 1.0,
                min: -2.0,
                max: 3.0,
                samples: 3
            }
        );
        let rate = filled(Kind::Rate, &[(1.0, 1.0), (0.0, 1.0), (20.0, 98.0)]);
        assert_eq!(rate.aggregate(Aggregation::Rate, ten), Some(0.21));
        let trend = filled(Kind::Trend, &[(10.0, 1.0), (20.0, 1.0)]);
        assert_eq!(trend.aggregate(Aggregation::Med, ten), Some(15.0));
        assert_eq!(
            trend.aggregate(Aggregation::Percentile(100.0), ten),
            Some(20.0)
        );
    }

    #[test]
    fn nothing_is_no_sample() {
        for kind in [Kind::Counter, Kind::Gauge, Kind::Rate, Kind::Trend] {
            assert!(Sink::new(kind).is_empty());
        }
        assert!(filled(Kind::Rate, &[(0.0, 0.0)]).is_empty());
        assert!(!filled(Kind::Counter, &[(0.0, 1.0)]).is_empty());
    }

    #[test]
    fn a_part_is_no_more_than_the_whole() {
        assert_eq!(
            filled(Kind::Rate, &[(5.0, 1.0), (-1.0, 1.0)]),
            Sink::Rate {
                trues: 1.0,
                total: 2.0
            }
        );
    }

    #[test]
    fn gauges_merge_by_what_they_are() {
        let (a, b) = (
            filled(Kind::Gauge, &[(3.0, 1.0)]),
            filled(Kind::Gauge, &[(5.0, 1.0), (4.0, 1.0)]),
        );
        let (mut shared, mut worst) = (a.clone(), a.clone());
        assert!(shared.merge(&b, true) && worst.merge(&b, false));
        assert_eq!(
            shared,
            Sink::Gauge {
                value: 7.0,
                min: 7.0,
                max: 8.0,
                samples: 3
            }
        );
        assert_eq!(
            worst,
            Sink::Gauge {
                value: 4.0,
                min: 3.0,
                max: 5.0,
                samples: 3
            }
        );
        let mut empty = Sink::new(Kind::Gauge);
        assert!(empty.merge(&a, false));
        assert_eq!(empty, a);
        assert!(!empty.merge(&Sink::new(Kind::Rate), false));
    }
}
