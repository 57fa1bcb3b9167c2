//! What all virtual users of a run share, whichever thread they are on.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Sender;
use pipemesh_loadtest_client::{Generator, ReceiveMode};
use tokio::sync::mpsc;

use super::files::Files;
use super::log::Log;
use super::recordings::Recordings;
use crate::http::Http;
use crate::metrics::{Registry, Sample};
use crate::observe::{Doings, Meters, Outages};
use crate::segment::Share;

/// How much each virtual user's script may hold.
pub const MEMORY_LIMIT: usize = 16 << 20;

/// A line for the person who runs the test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    pub severity: Severity,
    pub text: String,
    /// `console`, if a script said it.
    pub source: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Debug,
    Info,
    Warning,
    Error,
}

/// What a script wants of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Ends it, with the reason.
    Abort(String),
    /// It has failed, and goes on.
    Fail(String),
    /// Asked over HTTP: no more iterations; asked again, those that run end at once.
    Stop,
}

/// Counts of this process, over all scenarios.
#[derive(Debug, Default)]
pub struct Instance {
    pub completed: AtomicU64,
    pub interrupted: AtomicU64,
    pub active: AtomicU64,
    pub initialized: AtomicU64,
}

/// A scenario as iterations of it see it.
#[derive(Debug)]
pub struct Context {
    pub name: String,
    pub executor: &'static str,
    pub exec: String,
    pub environment: BTreeMap<String, String>,
    /// Of everything that is measured in it, `scenario` included.
    pub tags: BTreeMap<String, String>,
    /// When it began, since the test did.
    pub starts: Duration,
    /// Its regular length; infinite ones do not exist.
    pub length: Duration,
}

pub struct Shared {
    pub registry: Arc<Registry>,
    pub files: Arc<Files>,
    pub environment: BTreeMap<String, String>,
    pub generator: Generator,
    /// How participants receive, unless their script says; see [`Self::receive`].
    receive: ReceiveMode,
    /// Nobody said how they are to: it depends on how many they are.
    pub chooses_receive: bool,
    /// One packet in so many; 0 for all.
    sampled: AtomicU32,
    pub meters: Meters,
    pub samples: Sender<Sample>,
    pub log: Log,
    pub signals: mpsc::UnboundedSender<Signal>,
    pub instance: Instance,
    /// Of the generator, that were told.
    pub socket_drops: AtomicU64,
    /// What the script's options say; none while they are read.
    pub settings: OnceLock<Settings>,
    pub began: OnceLock<Instant>,
    /// Of what is drawn by lot.
    pub seed: u64,
    /// By name; each element is JSON.
    arrays: Mutex<Arrays>,
    outages: Mutex<Outages>,
    /// Locked for a look.
    doings: Mutex<Doings>,
    pub(super) recordings: Recordings,
}

#[derive(Default)]
struct Arrays {
    by_name: HashMap<String, usize>,
    all: Vec<Arc<[String]>>,
}

/// All that [`Shared::new`] cannot make up itself.
pub struct Parts {
    pub registry: Arc<Registry>,
    pub files: Arc<Files>,
    pub environment: BTreeMap<String, String>,
    pub generator: Generator,
    pub receive: ReceiveMode,
    pub samples: Sender<Sample>,
    pub log: Log,
    pub signals: mpsc::UnboundedSender<Signal>,
    pub seed: u64,
}

/// What is known once the script's options are.
pub struct Settings {
    /// As scripts read them: JSON.
    pub options: String,
    /// Of every sample.
    pub tags: BTreeMap<String, String>,
    /// Where participants send from, in turn; wherever the system likes if none are given.
    pub local_ips: Vec<IpAddr>,
    /// Which part of the test is ours.
    pub share: Share,
    pub http: Http,
    /// Whatever certificate a server has.
    pub trusts_anybody: bool,
    /// A request that gets no answer throws.
    pub throws: bool,
    /// Whether scripts may start programs.
    pub allow_exec: bool,
}

impl Shared {
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let meters = Meters::of(&parts.registry);
        Self {
            registry: parts.registry,
            files: parts.files,
            environment: parts.environment,
            generator: parts.generator,
            receive: parts.receive,
            chooses_receive: false,
            sampled: AtomicU32::new(0),
            socket_drops: AtomicU64::new(0),
            meters,
            samples: parts.samples,
            log: parts.log,
            signals: parts.signals,
            instance: Instance::default(),
            settings: OnceLock::new(),
            began: OnceLock::new(),
            seed: parts.seed,
            arrays: Mutex::default(),
            outages: Mutex::default(),
            doings: Mutex::default(),
            recordings: Recordings::default(),
        }
    }

    /// From now on participants open one packet in so many.
    pub fn sample_received(&self, one_in: u32) {
        self.sampled.store(one_in, Ordering::Relaxed);
    }

    pub fn receive(&self) -> ReceiveMode {
        match self.sampled.load(Ordering::Relaxed) {
            0 => self.receive,
            one_in => ReceiveMode::Sampled(one_in),
        }
    }

    /// Since the test began; zero before.
    pub fn elapsed(&self) -> Duration {
        self.began.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// The collector empties its queue faster than anybody fills it; if it is behind, measuring waits.
    pub fn measure(&self, sample: Sample) {
        // It is gone when the run is over: what is measured then belongs to nobody.
        let _ = self.samples.send(sample);
    }

    pub fn say(&self, severity: Severity, text: impl Into<String>, source: Option<&'static str>) {
        let text = text.into();
        self.log.say(LogLine {
            severity,
            text,
            source,
        });
    }

    pub(super) fn array(&self, name: &str) -> Option<usize> {
        self.arrays().by_name.get(name).copied()
    }

    /// The first that is made of a name stays.
    pub(super) fn keep_array(&self, name: &str, elements: Vec<String>) -> usize {
        let mut arrays = self.arrays();
        if let Some(known) = arrays.by_name.get(name) {
            return *known;
        }
        arrays.all.push(elements.into());
        let id = arrays.all.len() - 1;
        arrays.by_name.insert(name.to_owned(), id);
        id
    }

    pub(super) fn elements(&self, id: usize) -> Option<Arc<[String]>> {
        self.arrays().all.get(id).cloned()
    }

    /// Held for as long as it takes to look something up.
    pub(crate) fn doings(&self) -> std::sync::MutexGuard<'_, Doings> {
        self.doings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn outages(&self) -> std::sync::MutexGuard<'_, Outages> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrays(&self) -> std::sync::MutexGuard<'_, Arrays> {
        // A lookup or an insertion: short, and mostly while scripts are loaded.
        self.arrays.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Instance {
    pub(super) fn count(counter: &AtomicU64) -> f64 {
        counter.load(Ordering::Relaxed) as f64
    }
}

/// As samples bear it.
pub(crate) fn now_millis() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64() * 1_000.0
}
