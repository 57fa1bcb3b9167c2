//! What happened in a run, in words: all of it if it is asked for, and what went wrong in any case.

use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Story {
    is_told: bool,
    failure: Option<String>,
}

impl Story {
    pub(super) fn told() -> Self {
        Self {
            is_told: true,
            failure: None,
        }
    }

    pub(super) fn is_told(&self) -> bool {
        self.is_told
    }

    pub(super) fn add(&mut self, at: Duration, what: &str) {
        println!("{:>8.3}  {what}", at.as_secs_f64());
    }

    /// The first that goes wrong is what is told: the rest follows from it.
    pub(super) fn fail(&mut self, at: Duration, what: String) {
        if self.is_told {
            self.add(at, &format!("BROKEN: {what}"));
        }
        self.failure
            .get_or_insert(format!("at {:.3} s: {what}", at.as_secs_f64()));
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    pub(super) fn into_failure(self) -> Option<String> {
        self.failure
    }
}
