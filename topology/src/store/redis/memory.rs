//! Whether the server has forgotten everything, and what to hold back then.
//!
//! A memory has a name, given by who finds it without one. Another name than before: what was in it is
//! gone, and whoever is in rooms brings them back. Meanwhile nobody opens a room that this process does
//! not know: another process may have people in it, who would be sent into the new one. A process that
//! begins knows of no memory before, so nothing is held back in a mesh that begins.

use std::time::Duration;

use tokio::time::Instant;

/// Time for every process to reach the server again and bring its rooms back. Longer: newcomers to rooms
/// that are new wait longer, whenever the server has forgotten everything. Shorter: a room that a process
/// brings back late may be another one by then.
const HOLD: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
pub(super) struct Memory {
    name: Option<String>,
    held_until: Option<Instant>,
}

impl Memory {
    /// What the server says; whether it has forgotten what was there.
    pub(super) fn handle_name(&mut self, name: String, now: Instant) -> bool {
        let before = self.name.replace(name);
        let is_lost = before.is_some() && before != self.name;
        if is_lost {
            self.held_until = Some(now + HOLD);
        }
        is_lost
    }

    pub(super) fn holds_back(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_wait_once_what_was_there_is_gone() {
        let mut memory = Memory::default();
        let mut now = Instant::now();
        assert!(!memory.handle_name("a".to_owned(), now), "it begins");
        assert!(!memory.handle_name("a".to_owned(), now));
        assert!(!memory.holds_back(now));
        now += Duration::from_secs(3600);
        assert!(memory.handle_name("b".to_owned(), now));
        assert!(memory.holds_back(now));
        now += HOLD - Duration::from_millis(1);
        assert!(!memory.handle_name("b".to_owned(), now));
        assert!(memory.holds_back(now));
        now += Duration::from_millis(1);
        assert!(!memory.holds_back(now));
    }
}
