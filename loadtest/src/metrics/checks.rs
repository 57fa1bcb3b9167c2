//! Checks: how often each held, in the order in which they were first executed.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    /// Where it stands, as `::a::b`; empty outside of groups.
    pub group: String,
    pub passes: u64,
    pub fails: u64,
}

impl Check {
    #[must_use]
    pub fn new(group: &str, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            group: group.to_owned(),
            passes: 0,
            fails: 0,
        }
    }

    pub(super) fn count(&mut self, passed: bool) {
        if passed {
            self.passes += 1;
        } else {
            self.fails += 1;
        }
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.passes + self.fails
    }
}

/// Where the check of this name stands, which is at the end if it is new.
pub(crate) fn position(checks: &mut Vec<Check>, group: &str, name: &str) -> usize {
    let known = checks
        .iter()
        .position(|check| check.group == group && check.name == name);
    known.unwrap_or_else(|| {
        checks.push(Check::new(group, name));
        checks.len() - 1
    })
}
