//! Runs a scenario on a virtual clock: iterations last as long as the test says.

use std::collections::BTreeMap;

use super::*;
use crate::options::duration;

pub(super) struct Sim {
    pub(super) runner: Runner,
    pub(super) now: Duration,
    /// How long iterations last, by slot and number; none is forever.
    pub(super) length: Box<dyn FnMut(Slot, u64) -> Option<Duration>>,
    /// How late timeouts are handled.
    pub(super) late: Box<dyn FnMut() -> Duration>,
    /// What is said about each level.
    pub(super) verdict: fn(u64) -> bool,
    pub(super) outputs: Vec<(Duration, Output)>,
    /// When the iteration of each slot ends.
    running: BTreeMap<Slot, Option<Duration>>,
    interrupted: Vec<Slot>,
}

impl Sim {
    pub(super) fn new(
        scenario: &Scenario,
        share: &Share,
        length: impl FnMut(Slot, u64) -> Option<Duration> + 'static,
    ) -> Self {
        Self {
            runner: Runner::new(scenario, share),
            now: Duration::ZERO,
            length: Box::new(length),
            late: Box::new(|| Duration::ZERO),
            verdict: |_| true,
            outputs: Vec::new(),
            running: BTreeMap::new(),
            interrupted: Vec::new(),
        }
    }

    pub(super) fn of(executor: Executor, length: Duration) -> Self {
        let scenario = Scenario::new("test", executor);
        Self::new(&scenario, &Share::whole(), move |_, _| Some(length))
    }

    pub(super) fn run(&mut self) -> &mut Self {
        self.run_until(Duration::MAX)
    }

    /// Does everything that happens until then.
    pub(super) fn run_until(&mut self, until: Duration) -> &mut Self {
        loop {
            self.drain();
            if let Some(slot) = self.interrupted.pop() {
                self.runner.handle_iteration_end(slot, true, self.now);
                continue;
            }
            let first = self
                .running
                .iter()
                .filter_map(|(slot, end)| end.map(|end| (end, *slot)))
                .min();
            let timeout = self.runner.poll_timeout();
            match (first, timeout) {
                (Some((end, slot)), timeout) if timeout.is_none_or(|timeout| end <= timeout) => {
                    if end > until {
                        break;
                    }
                    self.now = self.now.max(end);
                    self.running.remove(&slot);
                    self.runner.handle_iteration_end(slot, false, self.now);
                }
                (_, Some(timeout)) => {
                    if timeout > until {
                        break;
                    }
                    self.now = self.now.max(timeout) + (self.late)();
                    self.runner.handle_timeout(self.now);
                    let again = self.runner.poll_timeout();
                    assert!(
                        again.is_none_or(|again| again > self.now),
                        "a timeout was handled and is still due"
                    );
                }
                _ => break,
            }
        }
        if until < Duration::MAX {
            self.now = self.now.max(until);
        }
        self
    }

    fn drain(&mut self) {
        while let Some(output) = self.runner.poll_output() {
            match &output {
                Output::Start {
                    slot, iteration, ..
                } => {
                    let end = (self.length)(*slot, *iteration);
                    let end = end.map(|length| self.now + length);
                    let before = self.running.insert(*slot, end);
                    assert_eq!(before, None, "{slot:?} runs two iterations");
                }
                Output::Interrupt(slot) => {
                    self.running.remove(slot).expect("it runs an iteration");
                    self.interrupted.push(*slot);
                }
                Output::Judge { level, .. } => {
                    let passed = (self.verdict)(*level);
                    self.runner.handle_verdict(passed, self.now);
                }
                _ => {}
            }
            self.outputs.push((self.now, output));
        }
    }

    /// What came out, a line for each moment.
    pub(super) fn log(&self) -> Vec<String> {
        let mut lines: Vec<(Duration, String)> = Vec::new();
        for (at, output) in &self.outputs {
            let text = match output {
                Output::Activate(slot) => format!("+{}", slot.0),
                Output::Start {
                    slot, iteration, ..
                } => format!("{}#{iteration}", slot.0),
                Output::Interrupt(slot) => format!("!{}", slot.0),
                Output::Release(slot) => format!("-{}", slot.0),
                Output::Dropped { count } => format!("dropped {count}"),
                Output::Insufficient { max_vus } => format!("insufficient {max_vus}"),
                Output::Judge { level, .. } => format!("judge {level}"),
                Output::Capacity { level: Some(level) } => format!("capacity {level}"),
                Output::Capacity { level: None } => "no capacity".to_owned(),
                Output::Done => "done".to_owned(),
            };
            match lines.last_mut() {
                Some((moment, line)) if moment == at => *line += &format!(" {text}"),
                _ => lines.push((*at, text)),
            }
        }
        let line = |(at, line)| format!("{}: {line}", duration::format(at));
        lines.into_iter().map(line).collect()
    }
}

pub(super) fn check(sim: &mut Sim, expected: &[&str]) {
    assert_eq!(sim.run().log(), expected);
}
