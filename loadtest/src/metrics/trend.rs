//! A distribution of values: exact while they are few, a histogram of fixed precision from then on.
//!
//! Count, sum, minimum and maximum stay exact however many values there are. Values may be negative
//! and of any size.

mod histogram;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use histogram::Histogram;

/// So many values are kept as they are. More: percentiles of longer runs are exact, at 8 bytes each
/// and a sort every time a threshold is looked at. Fewer: those of short runs are not.
const EXACT: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Trend {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    #[serde(flatten)]
    values: Values,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Values {
    Exact(Vec<f64>),
    Histogram(Histogram),
}

impl Default for Values {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl Trend {
    /// Adds a finite value.
    pub fn add(&mut self, value: f64) {
        self.note(1, value, value, value);
        match &mut self.values {
            Values::Exact(values) if values.len() + 1 < EXACT => values.push(value),
            Values::Exact(_) => {
                self.coarsen();
                self.add_to_histogram(value);
            }
            Values::Histogram(histogram) => histogram.add(value, 1),
        }
    }

    /// Goes over to the histogram: for who keeps many trends and needs none of them exact.
    pub fn coarsen(&mut self) {
        if let Values::Exact(values) = &self.values {
            let mut histogram = Histogram::default();
            for value in values {
                histogram.add(*value, 1);
            }
            self.values = Values::Histogram(histogram);
        }
    }

    /// Sorts what came in since, so that the quantiles asked for next need no copy.
    pub fn settle(&mut self) {
        if let Values::Exact(values) = &mut self.values
            && !values.is_sorted()
        {
            values.sort_unstable_by(f64::total_cmp);
        }
    }

    /// Adds all values of another one: the result is that of one trend that got them all.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        self.note(other.count, other.sum, other.min, other.max);
        if let (Values::Exact(values), Values::Exact(others)) = (&mut self.values, &other.values)
            && values.len() + others.len() < EXACT
        {
            values.extend(others);
            return;
        }
        self.coarsen();
        match &other.values {
            Values::Exact(others) => {
                for value in others {
                    self.add_to_histogram(*value);
                }
            }
            Values::Histogram(others) => {
                if let Values::Histogram(histogram) = &mut self.values {
                    histogram.merge(others);
                }
            }
        }
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum
    }

    #[must_use]
    pub fn min(&self) -> f64 {
        self.min
    }

    #[must_use]
    pub fn max(&self) -> f64 {
        self.max
    }

    #[must_use]
    pub fn avg(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.sum / self.count as f64
        }
    }

    /// The value below which the part `quantile` (0 to 1) of all values lies, interpolated linearly
    /// between the two nearest ones; 0 without values.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        let place = quantile.clamp(0.0, 1.0) * (self.count - 1) as f64;
        let (below, part) = (place.floor(), place.fract());
        let below = below as u64;
        let above = (below + 1).min(self.count - 1);
        let (low, high) = match &self.values {
            Values::Exact(values) if values.is_sorted() => {
                (values[below as usize], values[above as usize])
            }
            Values::Exact(values) => {
                let mut sorted = values.clone();
                sorted.sort_unstable_by(f64::total_cmp);
                (sorted[below as usize], sorted[above as usize])
            }
            Values::Histogram(histogram) => {
                // The ends are known exactly, and no bucket reaches beyond them.
                let value = |rank: u64| match rank {
                    0 => self.min,
                    last if last == self.count - 1 => self.max,
                    rank => histogram.nth(rank).clamp(self.min, self.max),
                };
                (value(below), value(above))
            }
        };
        low + (high - low) * part
    }

    #[must_use]
    pub fn statistic(&self, statistic: Statistic) -> f64 {
        match statistic {
            Statistic::Avg => self.avg(),
            Statistic::Min => self.min,
            Statistic::Med => self.quantile(0.5),
            Statistic::Max => self.max,
            Statistic::Count => self.count as f64,
            Statistic::Percentile(percent) => self.quantile(percent / 100.0),
        }
    }

    /// Whether this can be what it says: files come from elsewhere.
    pub(crate) fn is_sound(&self) -> bool {
        let counted = match &self.values {
            Values::Exact(values) => values.len() as u64,
            Values::Histogram(histogram) => histogram.count(),
        };
        counted == self.count && self.min <= self.max
    }

    fn note(&mut self, count: u64, sum: f64, min: f64, max: f64) {
        self.min = if self.count == 0 {
            min
        } else {
            self.min.min(min)
        };
        self.max = if self.count == 0 {
            max
        } else {
            self.max.max(max)
        };
        self.count += count;
        self.sum += sum;
    }

    fn add_to_histogram(&mut self, value: f64) {
        if let Values::Histogram(histogram) = &mut self.values {
            histogram.add(value, 1);
        }
    }
}

/// What the summary says about a trend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Statistic {
    Avg,
    Min,
    Med,
    Max,
    Count,
    /// 0 to 100.
    Percentile(f64),
}

impl Statistic {
    /// What is shown when nobody says what to show.
    pub const USUAL: [Self; 6] = [
        Self::Avg,
        Self::Min,
        Self::Med,
        Self::Max,
        Self::Percentile(90.0),
        Self::Percentile(95.0),
    ];

    /// # Errors
    /// All that are none.
    pub fn parse_all(texts: &[String]) -> Result<Vec<Self>, Vec<String>> {
        let (mut statistics, mut problems) = (Vec::new(), Vec::new());
        for text in texts {
            match text.parse() {
                Ok(statistic) => statistics.push(statistic),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            Ok(statistics)
        } else {
            Err(problems)
        }
    }
}

impl FromStr for Statistic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "avg" => Ok(Self::Avg),
            "min" => Ok(Self::Min),
            "med" => Ok(Self::Med),
            "max" => Ok(Self::Max),
            "count" => Ok(Self::Count),
            text => percent(text).map(Self::Percentile).ok_or_else(|| {
                format!("summary statistic '{text}' does not exist: expected avg, min, med, max, count or p(0..100)")
            }),
        }
    }
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Avg => f.write_str("avg"),
            Self::Min => f.write_str("min"),
            Self::Med => f.write_str("med"),
            Self::Max => f.write_str("max"),
            Self::Count => f.write_str("count"),
            Self::Percentile(percent) => write!(f, "p({percent})"),
        }
    }
}

/// The number in `p(95)`, if it is one of 0 to 100.
pub(super) fn percent(text: &str) -> Option<f64> {
    let number = text.strip_prefix("p(")?.strip_suffix(')')?;
    number
        .trim()
        .parse()
        .ok()
        .filter(|percent| (0.0..=100.0).contains(percent))
}
