//! `process_*` metrics, read from `/proc` at each scrape.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};
use rustix::process::{Resource, getrlimit};

/// The usual names, so that common dashboards work.
pub(super) struct Process {
    cpu: Counter,
    resident: Gauge,
    start: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
}

impl Process {
    pub(super) fn new() -> prometheus::Result<Self> {
        let process = Self {
            cpu: Counter::new("process_cpu_seconds_total", "CPU time spent.")?,
            resident: Gauge::new("process_resident_memory_bytes", "Resident memory.")?,
            start: Gauge::new(
                "process_start_time_seconds",
                "Start, in seconds since 1970.",
            )?,
            open_fds: Gauge::new("process_open_fds", "Open file descriptors.")?,
            max_fds: Gauge::new("process_max_fds", "File descriptors this process may open.")?,
        };
        process.start.set(start_time().unwrap_or_default());
        Ok(process)
    }

    fn metrics(&self) -> [&dyn Collector; 5] {
        [
            &self.cpu,
            &self.resident,
            &self.start,
            &self.open_fds,
            &self.max_fds,
        ]
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.metrics()
            .into_iter()
            .flat_map(Collector::desc)
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if let Some(stat) = Stat::read() {
            self.cpu.inc_by((stat.cpu - self.cpu.get()).max(0.0));
            self.resident.set(stat.resident);
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            self.open_fds.set(open.count() as f64);
        }
        if let Some(max) = getrlimit(Resource::Nofile).current {
            self.max_fds.set(max as f64);
        }
        self.metrics()
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
}

/// Of `/proc/self/stat`, see proc(5).
struct Stat {
    cpu: f64,
    resident: f64,
    /// Seconds after boot.
    start: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is the program's name and may contain anything.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // Counted from 1 in the manual, where the first of `fields` is the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        Some(Self {
            cpu: (field(14)? + field(15)?) / ticks,
            start: field(22)? / ticks,
            resident: field(24)? * rustix::param::page_size() as f64,
        })
    }
}

fn start_time() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let boot = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.parse::<f64>().ok()? + Stat::read()?.start)
}
