//! The test itself: set up, run, tear down; who stops it, and what is said meanwhile.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal as UnixSignal, SignalKind, signal};
use tokio::sync::mpsc;

use super::collector::Collector;
use super::engine::{Engine, Wish, prepared};
use super::health::{Process, Watch};
use super::terminal::Terminal;
use super::threads::Threads;
use super::{Failure, within};
use crate::executor::Requirements;
use crate::exit::Exit;
use crate::metrics::{Sample, TagSetId};
use crate::observe::millis;
use crate::options::{Plan, duration};
use crate::progress;
use crate::script::{Context, Iteration, Lines, Runtime, Severity, Shared, Signal, now_millis};

/// The engine looks up at least this often.
const LOOK_UP: Duration = Duration::from_millis(100);
const MEASURE_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Course<'a> {
    pub(super) shared: Arc<Shared>,
    pub(super) runtime: &'a Runtime,
    pub(super) plan: &'a Plan,
    pub(super) collector: &'a Collector,
    pub(super) terminal: &'a mut Terminal,
    pub(super) log: &'a mut Lines,
    pub(super) signals: mpsc::UnboundedReceiver<Signal>,
    pub(super) aborted: mpsc::UnboundedReceiver<Vec<String>>,
    pub(super) threads: Option<usize>,
}

/// How it ended.
#[derive(Default)]
pub(super) struct Ended {
    pub(super) exit: Exit,
    /// What `setup` answered.
    pub(super) data: Option<Arc<str>>,
    pub(super) warnings: Vec<String>,
    pub(super) is_saturated: bool,
    /// Somebody has asked for its end.
    is_stopping: bool,
}

struct Interruptions {
    interrupt: UnixSignal,
    terminate: UnixSignal,
}

impl Course<'_> {
    pub(super) async fn run(mut self) -> Result<Ended, Failure> {
        let unavailable =
            |error: std::io::Error| Failure::new(Exit::InvalidConfig, error.to_string());
        let mut interruptions = Interruptions {
            interrupt: signal(SignalKind::interrupt()).map_err(unavailable)?,
            terminate: signal(SignalKind::terminate()).map_err(unavailable)?,
        };
        let mut ended = Ended::default();
        ended.data = self.set_up(&mut interruptions, &mut ended).await?;
        let worst = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&self.shared);
        let noted = Arc::clone(&worst);
        let late = move |lag: Duration| {
            let micros = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
            noted.fetch_max(micros, Ordering::Relaxed);
            shared.measure(Sample::new(
                shared.meters.gen_loop_lag,
                TagSetId::EMPTY,
                now_millis(),
                millis(lag),
            ));
        };
        let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
        let threads = Threads::start(self.threads.unwrap_or(cores), late).map_err(unavailable)?;
        let (threads, plan) = (Arc::new(threads), self.plan);
        let mut engine = Engine::new(
            &self.shared,
            &threads,
            &plan.scenarios,
            &plan.share,
            plan.min_iteration_duration,
        );
        engine.set_data(ended.data.clone());
        let requirements = Requirements::of(&plan.scenarios, &plan.share);
        let count = prepared(&plan.scenarios, requirements.max_vus, &plan.share);
        {
            // What many say while they are loaded is told meanwhile.
            let mut preparing = pin!(engine.prepare(count));
            loop {
                tokio::select! {
                    biased;
                    Some(line) = self.log.next() => self.terminal.log(&line),
                    prepared = &mut preparing => {
                        prepared.map_err(|text| Failure::new(Exit::ScriptException, text))?;
                        break;
                    }
                }
            }
        }
        if self.shared.began.set(Instant::now()).is_err() {
            unreachable!("a test begins once");
        }
        self.collector.begin();
        let longest = requirements.total_duration;
        self.drive(&mut engine, &mut interruptions, longest, &worst, &mut ended)
            .await;
        let lines = self.bars(&engine, longest);
        self.terminal.last_progress(&lines);
        self.tear_down(&mut interruptions, &mut ended).await;
        self.tell();
        Ok(ended)
    }

    async fn set_up(
        &mut self,
        interruptions: &mut Interruptions,
        ended: &mut Ended,
    ) -> Result<Option<Arc<str>>, Failure> {
        if self.plan.no_setup || !self.runtime.has("setup").await {
            return Ok(None);
        }
        self.enter("setup");
        let call = self.runtime.call("setup", None);
        let call = within(self.plan.setup_timeout, Exit::SetupTimeout, "setup()", call);
        let data = self.accompany("setup()", call, interruptions, ended).await;
        self.runtime.vu().leave_rooms().await;
        self.tell();
        Ok(data?.map(Arc::from))
    }

    /// What was found before is worth telling even if this fails.
    async fn tear_down(&mut self, interruptions: &mut Interruptions, ended: &mut Ended) {
        if self.plan.no_teardown || !self.runtime.has("teardown").await {
            return;
        }
        self.enter("teardown");
        let data = ended.data.clone();
        let call = self.runtime.call("teardown", data.as_deref());
        let call = within(
            self.plan.teardown_timeout,
            Exit::TeardownTimeout,
            "teardown()",
            call,
        );
        let done = self
            .accompany("teardown()", call, interruptions, ended)
            .await;
        self.runtime.vu().leave_rooms().await;
        if let Err(Failure { exit, text }) = done {
            if matches!(ended.exit, Exit::Fine | Exit::Failed) {
                ended.exit = exit;
            }
            self.shared.say(Severity::Error, text, None);
        }
    }

    /// While the script sets up or tears down, its lines are told and its wishes heard, and it can be
    /// interrupted.
    async fn accompany<T>(
        &mut self,
        what: &str,
        call: impl Future<Output = Result<T, Failure>>,
        interruptions: &mut Interruptions,
        ended: &mut Ended,
    ) -> Result<T, Failure> {
        let mut call = pin!(call);
        loop {
            tokio::select! {
                biased;
                Some(signal) = self.signals.recv() => self.heed_alone(what, signal, ended)?,
                () = interruptions.next() => {
                    return Err(Failure::new(Exit::Interrupted, format!("stopped in {what}")));
                }
                Some(line) = self.log.next() => self.terminal.log(&line),
                outcome = &mut call => {
                    // It may have wished for something just before it ended.
                    while let Ok(signal) = self.signals.try_recv() {
                        self.heed_alone(what, signal, ended)?;
                    }
                    return outcome;
                }
            }
        }
    }

    /// What is wished while no scenario runs.
    fn heed_alone(&self, what: &str, signal: Signal, ended: &mut Ended) -> Result<(), Failure> {
        match signal {
            Signal::Abort(why) => {
                let text = format!("test aborted{}", because(&why));
                Err(Failure::new(Exit::Aborted, text))
            }
            Signal::Stop => Err(Failure::new(Exit::Stopped, format!("stopped in {what}"))),
            Signal::Fail(why) => {
                self.mark_failed(&why, ended);
                Ok(())
            }
        }
    }

    fn mark_failed(&self, why: &str, ended: &mut Ended) {
        if ended.exit == Exit::Fine {
            ended.exit = Exit::Failed;
        }
        let text = format!("test marked as failed{}", because(why));
        self.shared.say(Severity::Error, text, None);
    }

    /// What a script wishes of the test while scenarios run.
    fn heed(&self, signal: Signal, engine: &mut Engine, ended: &mut Ended) {
        match signal {
            Signal::Abort(why) => {
                // Others wished the same at the same time.
                if ended.exit != Exit::Aborted {
                    let text = format!("test aborted{}", because(&why));
                    self.shared.say(Severity::Error, text, None);
                }
                ended.exit = Exit::Aborted;
                engine.interrupt();
            }
            Signal::Fail(why) => self.mark_failed(&why, ended),
            Signal::Stop => self.stop(engine, ended, Exit::Stopped, "stopping, as asked over HTTP"),
        }
    }

    /// What is measured in there belongs to a group of that name, as in k6.
    fn enter(&self, name: &str) {
        let context = Context {
            name: String::new(),
            executor: "",
            exec: name.to_owned(),
            environment: Default::default(),
            tags: [("group".to_owned(), format!("::{name}"))].into(),
            starts: Duration::ZERO,
            length: Duration::ZERO,
        };
        let vu = self.runtime.vu();
        vu.resume();
        vu.begin(&Arc::new(context), Iteration::default());
        vu.enter_group(name);
    }

    async fn drive(
        &mut self,
        engine: &mut Engine,
        interruptions: &mut Interruptions,
        longest: Duration,
        worst: &AtomicU64,
        ended: &mut Ended,
    ) {
        let (mut watch, mut process) = (Watch::default(), Process::new());
        let (mut next_measure, mut next_bars) = (Instant::now() + MEASURE_EVERY, Instant::now());
        loop {
            for wish in engine.step() {
                self.grant(engine, wish, ended).await;
            }
            if engine.is_done() {
                break;
            }
            tokio::select! {
                () = engine.wait(LOOK_UP) => {}
                Some(signal) = self.signals.recv() => self.heed(signal, engine, ended),
                crossed = self.aborted.recv() => if let Some(crossed) = crossed {
                    ended.exit = Exit::ThresholdsCrossed;
                    let text = format!("thresholds on metrics '{}' were crossed; at least one has abortOnFail enabled, stopping the test", crossed.join(", "));
                    self.shared.say(Severity::Error, text, None);
                    engine.interrupt();
                },
                () = interruptions.next() => self.stop(engine, ended, Exit::Interrupted, "stopping"),
            }
            let now = Instant::now();
            if next_measure <= now {
                next_measure += MEASURE_EVERY;
                let overdue = engine.overdue();
                let since = self.measure(&mut watch, &mut process, worst, overdue).await;
                if let Some(since) = since {
                    let since = duration::format(Duration::from_secs(since.as_secs()));
                    let text =
                        format!("generator saturated, results after {since} measure this machine");
                    self.shared.say(Severity::Warning, text.clone(), None);
                    ended.warnings.push(text);
                    ended.is_saturated = true;
                }
            }
            self.tell();
            if next_bars <= now {
                next_bars = now + LOOK_UP;
                let lines = self.bars(engine, longest);
                self.terminal.progress(&lines);
            }
        }
        // Of iterations that have ended meanwhile.
        while let Ok(signal) = self.signals.try_recv() {
            self.heed(signal, engine, ended);
        }
        let overdue = engine.overdue();
        self.measure(&mut watch, &mut process, worst, overdue).await;
    }

    /// Gently the first time.
    fn stop(&self, engine: &mut Engine, ended: &mut Ended, exit: Exit, why: &str) {
        if ended.exit == Exit::Fine {
            ended.exit = exit;
        }
        if std::mem::replace(&mut ended.is_stopping, true) {
            return engine.interrupt();
        }
        let text = format!(
            "{why}; iterations that run have their graceful period, and once more ends them at once"
        );
        self.shared.say(Severity::Warning, text, None);
        engine.stop();
    }

    async fn grant(&mut self, engine: &mut Engine, wish: Wish, ended: &mut Ended) {
        let shared = &self.shared;
        match wish {
            Wish::Dropped { scenario, count } => {
                let tags = shared.registry.tag_set(&engine.context(scenario).tags);
                let metric = shared.meters.dropped_iterations;
                shared.measure(Sample::new(metric, tags, now_millis(), count as f64));
            }
            Wish::Judge { scenario, level } => {
                let findings = self.collector.judge(scenario).await;
                // The conditions say when to stop.
                let met: Vec<String> = findings
                    .iter()
                    .filter(|it| it.holds)
                    .map(|it| {
                        let actual = it
                            .actual
                            .map_or("no samples".to_owned(), |actual| format!("{actual:.4}"));
                        format!("{} ({actual})", it.condition)
                    })
                    .collect();
                let text = match met.as_slice() {
                    [] => format!("{level} VUs: fine"),
                    met => format!("{level} VUs: {}", met.join(", ")),
                };
                shared.say(Severity::Info, text, None);
                engine.judge(scenario, met.is_empty());
            }
            Wish::Capacity { scenario, level } => {
                let text = match level {
                    Some(level) => format!("scenario {scenario}: capacity {level} VUs"),
                    None => format!("scenario {scenario}: the first level did not pass"),
                };
                shared.say(Severity::Info, text.clone(), None);
                ended.warnings.push(text);
            }
        }
    }

    /// A second of the generator's own; answers when it was first saturated, once.
    async fn measure(
        &mut self,
        watch: &mut Watch,
        process: &mut Process,
        worst: &AtomicU64,
        overdue: Duration,
    ) -> Option<Duration> {
        let (shared, at) = (&self.shared, now_millis());
        let meters = &shared.meters;
        let add = |metric, value| shared.measure(Sample::new(metric, TagSetId::EMPTY, at, value));
        let (active, initialized) = (&shared.instance.active, &shared.instance.initialized);
        let (active, initialized) = (
            active.load(Ordering::Relaxed),
            initialized.load(Ordering::Relaxed),
        );
        add(meters.vus, active as f64);
        add(meters.vus_max, initialized as f64);
        let load = shared.generator.load().await;
        let cpu = process.cpu();
        add(meters.gen_cpu, cpu * 100.0);
        add(meters.gen_loop_lag, millis(load.lag));
        let told = &self.shared.socket_drops;
        let told = told.swap(load.socket_drops, Ordering::Relaxed);
        let drops = load.socket_drops.saturating_sub(told);
        add(meters.gen_socket_drops, drops as f64);
        if let Some(memory) = Process::memory().filter(|_| initialized > 0) {
            add(meters.gen_memory_per_vu, memory as f64 / initialized as f64);
        }
        let woke = Duration::from_micros(worst.swap(0, Ordering::Relaxed));
        let lag = woke.max(load.lag).max(overdue);
        watch.handle(shared.elapsed(), lag, cpu)
    }

    /// Lines that wait now: whoever says more meanwhile does not keep us from the rest.
    fn tell(&mut self) {
        // One more, for how many were left out.
        for _ in 0..=self.log.len() {
            if let Some(line) = self.log.try_next() {
                self.terminal.log(&line);
            }
        }
    }

    fn bars(&self, engine: &Engine, longest: Duration) -> String {
        let names = self.plan.scenarios.iter().map(|it| it.name.as_str());
        let scenarios: Vec<_> = names.zip(engine.statuses()).collect();
        let initialized = self.shared.instance.initialized.load(Ordering::Relaxed);
        progress::lines(self.shared.elapsed(), longest, initialized, &scenarios)
    }
}

impl Interruptions {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn because(why: &str) -> String {
    if why.is_empty() {
        String::new()
    } else {
        format!(": {why}")
    }
}
