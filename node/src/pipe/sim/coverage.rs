//! What runs have covered, so that many that pass show more than that nothing happened.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// Counts of one run, or of all.
#[derive(Debug, Clone, Default)]
pub(super) struct Coverage {
    pub(super) runs: u64,
    pub(super) nodes: u64,
    pub(super) time: Duration,
    pub(super) events: u64,
    pub(super) packets: u64,
    pub(super) deliveries: u64,
    pub(super) sessions: u64,
    pub(super) connections: u64,
    pub(super) losses: u64,
    pub(super) rests: u64,
    pub(super) suspicions: u64,
    pub(super) landings: u64,
    pub(super) versions: u64,
    pub(super) key_frames: u64,
    /// Moments at which everything was looked at.
    pub(super) checks: u64,
    pub(super) suspended: u64,
    pub(super) pieces: u64,
    pub(super) lost: u64,
    pub(super) overflowed: u64,
    pub(super) too_long: u64,
    pub(super) cut_off: u64,
    /// By what was done.
    pub(super) faults: BTreeMap<&'static str, u64>,
}

impl AddAssign<Self> for Coverage {
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.nodes += other.nodes;
        self.time += other.time;
        for (name, count) in &other.faults {
            *self.faults.entry(name).or_default() += count;
        }
        let counts = self.counts_mut().into_iter().zip(other.counts());
        for ((_, _, count), (_, _, more)) in counts {
            *count += more;
        }
    }
}

/// With what each run has at least, on average.
macro_rules! counts {
    ($($field:ident $floor:literal $name:literal,)*) => {
        impl Coverage {
            fn counts(&self) -> Vec<(&'static str, f64, u64)> {
                vec![$(($name, $floor, self.$field)),*]
            }

            fn counts_mut(&mut self) -> Vec<(&'static str, f64, &mut u64)> {
                vec![$(($name, $floor, &mut self.$field)),*]
            }
        }
    };
}

counts! {
    events 10_000.0 "events",
    packets 8_000.0 "packets between nodes",
    deliveries 3_000.0 "packets to subscribers",
    sessions 4.0 "sessions",
    connections 8.0 "pipes connected",
    losses 0.5 "pipes lost",
    rests 0.5 "pipes let go of",
    suspicions 0.5 "nodes fallen silent",
    landings 8.0 "tracks taken",
    key_frames 5.0 "key frames asked for",
    checks 10.0 "checks of everything",
    versions 0.05 "refused for their version",
    suspended 0.05 "suspensions",
    pieces 0.5 "packets in pieces",
    lost 20.0 "packets lost",
    overflowed 1.0 "packets beyond a queue",
    too_long 0.05 "packets too long for the path",
    cut_off 10.0 "packets cut off",
}

/// Times that each fault is met at least, in so many runs.
const FAULT_FLOOR: f64 = 0.03;
/// Fewer runs say nothing about averages.
const JUDGED_FROM: u64 = 200;
const NODES_FLOOR: f64 = 3.0;
const TIME_FLOOR: Duration = Duration::from_secs(60);

impl Coverage {
    pub(super) fn fault(&mut self, name: &'static str) {
        *self.faults.entry(name).or_default() += 1;
    }

    /// What was covered too little.
    pub(super) fn gaps(&self, faults: &[&'static str]) -> Vec<String> {
        if self.runs < JUDGED_FROM {
            return Vec::new();
        }
        let runs = self.runs as f64;
        let mut gaps = Vec::new();
        let mut check = |name: &str, floor: f64, count: u64| {
            let floor = (floor * runs).ceil() as u64;
            if count < floor {
                gaps.push(format!("{name}: {count} of at least {floor}"));
            }
        };
        check("nodes", NODES_FLOOR, self.nodes);
        check(
            "virtual seconds",
            TIME_FLOOR.as_secs_f64(),
            self.time.as_secs(),
        );
        for (name, floor, count) in self.counts() {
            check(name, floor, count);
        }
        for name in faults {
            let count = self.faults.get(name).copied().unwrap_or_default();
            check(name, FAULT_FLOOR, count);
        }
        gaps
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>12}  runs", self.runs)?;
        writeln!(f, "{:>12}  nodes", self.nodes)?;
        writeln!(f, "{:>12}  virtual seconds", self.time.as_secs())?;
        for (name, _, count) in self.counts() {
            writeln!(f, "{count:>12}  {name}")?;
        }
        for (name, count) in &self.faults {
            writeln!(f, "{count:>12}  × {name}")?;
        }
        Ok(())
    }
}
