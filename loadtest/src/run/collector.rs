//! Where all samples come together: kept for the summary, judged by thresholds, passed to outputs.
//!
//! A thread of its own, which only adds: whoever measures never waits for a disk or a network.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tokio::sync::{mpsc, oneshot};

use super::outputs::Outputs;
use crate::metrics::{Evaluation, Finding, Registry, Sample, Snapshot, Store, WatchId};
use crate::options::{Executor, Scenario, Threshold};
use crate::script::now_millis;
use crate::summary::timeline::{Moment, Timeline};

/// Samples that wait to be added. Whoever measures waits when there are more, which keeps memory
/// bounded; a second of a thousand participants fits.
pub(super) const SAMPLES: usize = 65_536;

/// Thresholds are looked at this often.
const EVALUATE_EVERY: Duration = Duration::from_secs(2);
/// Outputs get what came since.
const FLUSH_EVERY: Duration = Duration::from_millis(200);

/// What the collector is asked.
enum Order {
    /// The test began.
    Begin(Instant),
    Judge {
        scenario: usize,
        reply: oneshot::Sender<Vec<Finding>>,
    },
    /// Somebody wants to see what there is so far.
    Look(oneshot::Sender<Snapshot>),
    /// It ended then.
    Finish {
        at: Instant,
        is_cut_short: bool,
        reply: oneshot::Sender<Finished>,
    },
}

/// All that was found.
pub(super) struct Finished {
    pub(super) snapshot: Snapshot,
    pub(super) evaluation: Evaluation,
    pub(super) moments: Vec<Moment>,
    /// Outputs that did not take everything.
    pub(super) problems: Vec<String>,
}

/// The way to it.
pub(super) struct Collector {
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// Sees what there is so far, as long as the test goes on.
#[derive(Clone)]
pub(crate) struct Sight(Sender<Order>);

/// What to judge, and how.
pub(super) struct Rules<'a> {
    pub(super) thresholds: &'a BTreeMap<String, Vec<Threshold>>,
    pub(super) scenarios: &'a [Scenario],
    pub(super) fail_on_empty: bool,
    /// The full summary, with groups and scenarios apart.
    pub(super) detailed: bool,
}

struct Worker {
    samples: Receiver<Sample>,
    orders: Receiver<Order>,
    store: Store,
    timeline: Timeline,
    outputs: Outputs,
    watches: BTreeMap<usize, WatchId>,
    began: Option<Instant>,
    /// Told when a threshold wants the test to end.
    aborts: mpsc::UnboundedSender<Vec<String>>,
    aborted: bool,
    next_evaluation: Instant,
    next_flush: Instant,
}

impl Collector {
    /// # Errors
    /// Everything that is wrong with thresholds and conditions; if nothing is, with outputs.
    pub(super) fn start(
        registry: &Arc<Registry>,
        rules: &Rules<'_>,
        samples: Receiver<Sample>,
        outputs: impl FnOnce() -> Result<Outputs, Vec<String>>,
        aborts: mpsc::UnboundedSender<Vec<String>>,
    ) -> Result<Self, Vec<String>> {
        let mut store = Store::new(Arc::clone(registry), rules.thresholds)?;
        store.fail_on_empty = rules.fail_on_empty;
        store.detailed = rules.detailed;
        let (mut watches, mut problems) = (BTreeMap::new(), Vec::new());
        for (place, scenario) in rules.scenarios.iter().enumerate() {
            let Executor::RampingUntil { until, .. } = &scenario.executor else {
                continue;
            };
            match store.watch(until, Duration::ZERO) {
                Ok(watch) => drop(watches.insert(place, watch)),
                Err(wrong) => {
                    let named = |text| format!("scenarios.{}.until: {text}", scenario.name);
                    problems.extend(wrong.into_iter().map(named));
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let (sender, orders) = bounded(16);
        let now = Instant::now();
        let worker = Worker {
            samples,
            orders,
            store,
            timeline: Timeline::new(registry, now_millis()),
            outputs: outputs()?,
            watches,
            began: None,
            aborts,
            aborted: false,
            next_evaluation: now,
            next_flush: now + FLUSH_EVERY,
        };
        let builder = std::thread::Builder::new().name("collector".to_owned());
        let thread = builder
            .spawn(move || worker.run())
            .map_err(|error: io::Error| vec![error.to_string()])?;
        Ok(Self {
            orders: sender,
            thread: Some(thread),
        })
    }

    pub(super) fn begin(&self) {
        let _ = self.orders.send(Order::Begin(Instant::now()));
    }

    pub(super) async fn judge(&self, scenario: usize) -> Vec<Finding> {
        let (reply, answer) = oneshot::channel();
        let _ = self.orders.send(Order::Judge { scenario, reply });
        answer.await.unwrap_or_default()
    }

    pub(super) fn sight(&self) -> Sight {
        Sight(self.orders.clone())
    }

    /// Ends it, with everything that was sent before. `is_cut_short`: somebody waits for the end.
    pub(super) async fn finish(mut self, is_cut_short: bool) -> Option<Finished> {
        let (reply, answer) = oneshot::channel();
        let order = Order::Finish {
            at: Instant::now(),
            is_cut_short,
            reply,
        };
        let _ = self.orders.send(order);
        let finished = answer.await.ok();
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
        finished
    }
}

impl Sight {
    /// None once the test is over, or while too many ask.
    pub(crate) async fn snapshot(&self) -> Option<Snapshot> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(Order::Look(reply)).ok()?;
        answer.await.ok()
    }
}

impl Worker {
    fn run(mut self) {
        loop {
            let now = Instant::now();
            match self
                .samples
                .recv_timeout(self.next_flush.saturating_duration_since(now))
            {
                Ok(sample) => {
                    self.add(sample);
                    let waiting: Vec<Sample> = self.samples.try_iter().take(SAMPLES).collect();
                    waiting.into_iter().for_each(|sample| self.add(sample));
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Nobody measures any more; orders may still come.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(FLUSH_EVERY / 20),
            }
            let now = Instant::now();
            if self.next_flush <= now {
                self.next_flush = now + FLUSH_EVERY;
                self.outputs.flush(now_millis());
            }
            if self.began.is_some() && self.next_evaluation <= now {
                self.next_evaluation = now + EVALUATE_EVERY;
                self.evaluate();
            }
            while let Ok(order) = self.orders.try_recv() {
                if let Order::Finish {
                    at,
                    is_cut_short,
                    reply,
                } = order
                {
                    return self.finish(at, is_cut_short, reply);
                }
                self.obey(order);
            }
        }
    }

    fn add(&mut self, sample: Sample) {
        self.store.add(&sample);
        self.timeline.add(&sample);
        self.outputs.add(sample);
    }

    fn elapsed(&self) -> Duration {
        self.began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    fn evaluate(&mut self) {
        let evaluation = self.store.evaluate(self.elapsed());
        if evaluation.abort && !self.aborted {
            self.aborted = true;
            let _ = self.aborts.send(evaluation.crossed);
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Begin(at) => {
                self.began = Some(at);
                self.next_evaluation = at + EVALUATE_EVERY;
            }
            Order::Judge { scenario, reply } => {
                let elapsed = self.elapsed();
                let watch = self.watches.get(&scenario).copied();
                let findings = watch.map(|watch| self.store.judge(watch, elapsed));
                let _ = reply.send(findings.unwrap_or_default());
            }
            Order::Look(reply) => {
                let _ = reply.send(self.store.snapshot(self.elapsed()));
            }
            // It ends the loop, which looks for it first.
            Order::Finish { .. } => {}
        }
    }

    fn finish(mut self, at: Instant, is_cut_short: bool, reply: oneshot::Sender<Finished>) {
        let rest: Vec<Sample> = self.samples.try_iter().collect();
        rest.into_iter().for_each(|sample| self.add(sample));
        let elapsed = self.began.map_or(Duration::ZERO, |began| at - began);
        let evaluation = self.store.finish(elapsed);
        let problems = self.outputs.finish(now_millis(), is_cut_short);
        let _ = reply.send(Finished {
            snapshot: self.store.snapshot(elapsed),
            evaluation,
            moments: self.timeline.moments(),
            problems,
        });
    }
}
