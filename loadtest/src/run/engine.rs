//! Drives the scenarios: gives iterations to virtual users when their executors say so.
//!
//! Decides nothing itself: when what starts is `executor`'s, what becomes of an iteration is `user`'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use super::threads::Threads;
use super::user::{Begin, Event, Handle, User};
use crate::executor::{Output, Runner, Slot, Status};
use crate::options::{Executor, Scenario};
use crate::script::{Context, Severity, Shared};
use crate::segment::Share;

/// Virtual users, those of scenarios and those that wait for one.
pub(super) struct Engine {
    shared: Arc<Shared>,
    threads: Arc<Threads>,
    scenarios: Vec<Running>,
    idle: Vec<Handle>,
    /// By scenario and slot.
    seated: BTreeMap<(usize, Slot), Handle>,
    last_id: u64,
    min_iteration: Duration,
    to_us: mpsc::UnboundedSender<Event>,
    events: mpsc::UnboundedReceiver<Event>,
    data: Option<Arc<str>>,
}

struct Running {
    name: String,
    runner: Runner,
    context: Arc<Context>,
    is_done: bool,
}

/// What the engine wants somebody else to know.
pub(super) enum Wish {
    /// A level of `ramping-until` is over: how was it?
    Judge {
        scenario: usize,
        level: u64,
    },
    Dropped {
        scenario: usize,
        count: u64,
    },
    Capacity {
        scenario: String,
        level: Option<u64>,
    },
}

impl Engine {
    pub(super) fn new(
        shared: &Arc<Shared>,
        threads: &Arc<Threads>,
        scenarios: &[Scenario],
        share: &Share,
        min_iteration: Duration,
    ) -> Self {
        // As many events as iterations that end: control, and the loop that reads them does nothing else.
        let (to_us, events) = mpsc::unbounded_channel();
        let scenarios = scenarios.iter().map(|scenario| Running {
            name: scenario.name.clone(),
            runner: Runner::new(scenario, share),
            context: Arc::new(context(scenario)),
            is_done: false,
        });
        Self {
            shared: Arc::clone(shared),
            threads: Arc::clone(threads),
            scenarios: scenarios.collect(),
            idle: Vec::new(),
            seated: BTreeMap::new(),
            last_id: 0,
            min_iteration,
            to_us,
            events,
            data: None,
        }
    }

    pub(super) fn set_data(&mut self, data: Option<Arc<str>>) {
        self.data = data;
    }

    /// Makes virtual users before the test begins, and waits until their scripts are loaded.
    pub(super) async fn prepare(&mut self, count: u64) -> Result<(), String> {
        for _ in 0..count {
            let made = self.make();
            self.idle.push(made);
        }
        // Whoever is taken first has the lowest number.
        self.idle.reverse();
        for _ in 0..count {
            if let Some(Event::Broken(text)) = self.events.recv().await {
                return Err(text);
            }
        }
        Ok(())
    }

    fn make(&mut self) -> Handle {
        self.last_id += 1;
        let (handle, user) = User::new(
            &self.shared,
            self.last_id,
            self.to_us.clone(),
            self.min_iteration,
        );
        self.threads.spawn(self.last_id, move || user.live());
        self.shared
            .instance
            .initialized
            .fetch_add(1, Ordering::Relaxed);
        handle
    }

    /// Does what is due; answers what others have to know. Done when all scenarios are.
    pub(super) fn step(&mut self) -> Vec<Wish> {
        let now = self.shared.elapsed();
        let mut wishes = Vec::new();
        for scenario in 0..self.scenarios.len() {
            self.scenarios[scenario].runner.handle_timeout(now);
            while let Some(output) = self.scenarios[scenario].runner.poll_output() {
                wishes.extend(self.perform(scenario, output));
            }
        }
        wishes
    }

    pub(super) fn is_done(&self) -> bool {
        self.scenarios.iter().all(|it| it.is_done)
    }

    /// Waits for an iteration to end or for the next thing that is due, no longer than `at_most`.
    pub(super) async fn wait(&mut self, at_most: Duration) {
        let due = self
            .scenarios
            .iter()
            .filter_map(|it| it.runner.poll_timeout())
            .min();
        let left = due.map_or(at_most, |due| {
            due.saturating_sub(self.shared.elapsed()).min(at_most)
        });
        // Cancelled or not, no event is lost.
        let Ok(event) = tokio::time::timeout(left, self.events.recv()).await else {
            return;
        };
        if let Some(event) = event {
            self.handle(event);
        }
        while let Ok(event) = self.events.try_recv() {
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.shared.elapsed();
        match event {
            Event::Ready => {}
            Event::Broken(text) => self.shared.say(Severity::Error, text, None),
            Event::Ended {
                scenario,
                slot,
                interrupted,
            } => {
                let instance = &self.shared.instance;
                let counter = if interrupted {
                    &instance.interrupted
                } else {
                    &instance.completed
                };
                counter.fetch_add(1, Ordering::Relaxed);
                self.scenarios[scenario]
                    .runner
                    .handle_iteration_end(slot, interrupted, now);
            }
        }
    }

    fn perform(&mut self, scenario: usize, output: Output) -> Option<Wish> {
        match output {
            Output::Activate(slot) => {
                let handle = self.idle.pop().unwrap_or_else(|| self.make());
                self.seated.insert((scenario, slot), handle);
                self.shared.instance.active.fetch_add(1, Ordering::Relaxed);
            }
            Output::Start {
                slot,
                iteration,
                intended,
            } => {
                let running = &self.scenarios[scenario];
                let begin = Begin {
                    scenario,
                    slot,
                    context: Arc::clone(&running.context),
                    number: running.runner.iteration_in_test(iteration),
                    number_here: iteration,
                    intended,
                    data: self.data.clone(),
                };
                self.seat(scenario, slot).begin(begin);
            }
            Output::Interrupt(slot) => self.seat(scenario, slot).interrupt(),
            Output::Release(slot) => {
                let handle = self.seated.remove(&(scenario, slot));
                self.idle.extend(handle);
                self.shared.instance.active.fetch_sub(1, Ordering::Relaxed);
            }
            Output::Dropped { count } => return Some(Wish::Dropped { scenario, count }),
            Output::Insufficient { max_vus } => {
                let name = &self.scenarios[scenario].name;
                let text = format!(
                    "Insufficient VUs, reached {max_vus} active VUs and cannot initialize more (scenario {name})"
                );
                self.shared.say(Severity::Warning, text, None);
            }
            Output::Judge { level, .. } => return Some(Wish::Judge { scenario, level }),
            Output::Capacity { level } => {
                let scenario = self.scenarios[scenario].name.clone();
                return Some(Wish::Capacity { scenario, level });
            }
            Output::Done => self.scenarios[scenario].is_done = true,
        }
        None
    }

    fn seat(&self, scenario: usize, slot: Slot) -> &Handle {
        let handle = self.seated.get(&(scenario, slot));
        handle.expect("executors give iterations to slots that they have activated")
    }

    pub(super) fn judge(&mut self, scenario: usize, passed: bool) {
        let now = self.shared.elapsed();
        self.scenarios[scenario].runner.handle_verdict(passed, now);
    }

    /// No more iterations; those that run have their graceful period.
    pub(super) fn stop(&mut self) {
        let now = self.shared.elapsed();
        self.scenarios.iter_mut().for_each(|it| it.runner.stop(now));
    }

    /// All iterations end at once.
    pub(super) fn interrupt(&mut self) {
        let now = self.shared.elapsed();
        self.scenarios
            .iter_mut()
            .for_each(|it| it.runner.interrupt(now));
    }

    /// Of the threads that scripts run on.
    pub(super) fn overdue(&self) -> Duration {
        self.threads.overdue()
    }

    pub(super) fn context(&self, scenario: usize) -> &Context {
        &self.scenarios[scenario].context
    }

    /// For the progress bars.
    pub(super) fn statuses(&self) -> Vec<Status> {
        let now = self.shared.elapsed();
        self.scenarios
            .iter()
            .map(|it| it.runner.status(now))
            .collect()
    }
}

fn context(scenario: &Scenario) -> Context {
    let mut tags = scenario.tags.clone();
    tags.insert("scenario".to_owned(), scenario.name.clone());
    Context {
        name: scenario.name.clone(),
        executor: scenario.executor.name(),
        exec: scenario.exec.clone(),
        environment: scenario.env.clone(),
        tags,
        starts: scenario.start_time,
        length: scenario.executor.duration(),
    }
}

/// How many virtual users to make before a test: as many as may be needed at once, but of those that
/// an arrival rate may need on top of what it was given, none.
pub(super) fn prepared(scenarios: &[Scenario], most: u64, share: &Share) -> u64 {
    let on_top = scenarios.iter().map(|scenario| match scenario.executor {
        Executor::ConstantArrivalRate {
            pre_allocated_vus,
            max_vus,
            ..
        }
        | Executor::RampingArrivalRate {
            pre_allocated_vus,
            max_vus,
            ..
        } => share.count(max_vus) - share.count(pre_allocated_vus),
        Executor::SharedIterations { .. }
        | Executor::PerVuIterations { .. }
        | Executor::ConstantVus { .. }
        | Executor::RampingVus { .. }
        | Executor::RampingUntil { .. } => 0,
    });
    most.saturating_sub(on_top.sum())
}
