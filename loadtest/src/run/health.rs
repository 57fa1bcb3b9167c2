//! How the generator itself does: if it is late or has no CPU left, a test measures this machine.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A generator that takes longer to wake up than this is late.
const LATE: Duration = Duration::from_millis(20);
/// Share of the machine's CPU that leaves nothing to be on time with.
const BUSY: f64 = 0.85;
/// For so long, before it is said.
const LASTS: Duration = Duration::from_secs(5);

/// Looks for saturation. Pure: loads and times in, a verdict out.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Each second's: when, how late, how busy.
    seconds: VecDeque<(Duration, Duration, f64)>,
    saturated_since: Option<Duration>,
}

impl Watch {
    /// One second's worst lateness and share of CPU. Answers when the generator was first saturated, once.
    pub(super) fn handle(&mut self, at: Duration, lag: Duration, cpu: f64) -> Option<Duration> {
        self.seconds.push_back((at, lag, cpu));
        while self
            .seconds
            .front()
            .is_some_and(|(then, ..)| at.saturating_sub(*then) > LASTS)
        {
            self.seconds.pop_front();
        }
        let (first, ..) = *self.seconds.front()?;
        let is_long = at.saturating_sub(first) >= LASTS.mul_f64(0.8);
        let count = self.seconds.len();
        let late = self
            .seconds
            .iter()
            .filter(|(_, lag, _)| *lag > LATE)
            .count();
        let busy = self
            .seconds
            .iter()
            .filter(|(_, _, cpu)| *cpu > BUSY)
            .count();
        if self.saturated_since.is_none() && is_long && (late == count || busy == count) {
            self.saturated_since = Some(first);
            return Some(first);
        }
        None
    }
}

/// This process, as the kernel accounts for it.
pub(super) struct Process {
    cpu: Duration,
    at: Instant,
    cores: f64,
}

impl Process {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
        Self {
            cpu: cpu_time().unwrap_or_default(),
            at: Instant::now(),
            cores,
        }
    }

    /// Share of the machine's CPU since the last call, 0 to 1.
    pub(super) fn cpu(&mut self) -> f64 {
        let (cpu, now) = (cpu_time().unwrap_or(self.cpu), Instant::now());
        let used = cpu.saturating_sub(self.cpu).as_secs_f64();
        let passed = (now - self.at).as_secs_f64().max(0.001);
        (self.cpu, self.at) = (cpu, now);
        (used / passed / self.cores).min(1.0)
    }

    /// Resident, in bytes.
    pub(super) fn memory() -> Option<u64> {
        /// Of the platforms we run on.
        const PAGE: u64 = 4_096;
        let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
        let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
        Some(pages * PAGE)
    }
}

fn cpu_time() -> Option<Duration> {
    /// Ticks of `/proc` in a second; Linux has no other.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, which may hold anything, ends with the last bracket.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(Duration::from_secs_f64((user + system) / TICKS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: &[(u64, f64)], expected: Option<u64>) {
        let mut watch = Watch::default();
        for (second, (lag, cpu)) in seconds.iter().enumerate() {
            watch.handle(
                Duration::from_secs(second as u64),
                Duration::from_millis(*lag),
                *cpu,
            );
        }
        let since = watch.saturated_since.map(|since| since.as_secs());
        assert_eq!(since, expected, "{seconds:?}");
    }

    #[test]
    fn saturation_is_what_lasts() {
        check(&[(1, 0.3); 20], None);
        check(&[(30, 0.3); 20], Some(0));
        check(&[(1, 0.9); 20], Some(0));
        check(&[(1, 0.9); 4], None);
        // Just below the limits for longer than it takes, and just above one of them.
        check(&[(20, 0.85); 20], None);
        check(&[(21, 0.85); 20], Some(0));
        check(&[(20, 0.851); 20], Some(0));
        let mut late = vec![(1, 0.3); 10];
        late.extend([(40, 0.5); 6]);
        check(&late, Some(10));
        let mut spikes = vec![(1, 0.3); 10];
        (0..10)
            .step_by(3)
            .for_each(|second| spikes[second] = (200, 0.95));
        check(&spikes, None);
    }

    #[test]
    fn a_process_that_works_uses_cpu() {
        let mut process = Process::new();
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(300) {
            std::hint::black_box(began.elapsed());
        }
        assert!(process.cpu() > 0.0);
        assert!(Process::memory().unwrap() > 1 << 20);
    }
}
