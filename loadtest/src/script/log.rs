//! Lines for the person who runs the test, on their way to who shows them.
//!
//! Scripts may say more than anybody can read: what comes while too much waits is left out, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::shared::{LogLine, Severity};

/// Lines that wait. More would be memory that grows with the test.
const LINES: usize = 10_000;
/// Of these, for what is not a script's: it is not left out because a script says much.
const OURS: usize = 1_000;
/// Longer lines are cut.
const LONGEST: usize = 64 << 10;

pub struct Log {
    lines: mpsc::Sender<LogLine>,
    left_out: Arc<AtomicU64>,
}

pub struct Lines {
    lines: mpsc::Receiver<LogLine>,
    left_out: Arc<AtomicU64>,
}

#[must_use]
pub fn log() -> (Log, Lines) {
    let (sender, receiver) = mpsc::channel(LINES);
    let left_out = Arc::new(AtomicU64::new(0));
    let log = Log {
        lines: sender,
        left_out: Arc::clone(&left_out),
    };
    let lines = Lines {
        lines: receiver,
        left_out,
    };
    (log, lines)
}

impl Log {
    pub(super) fn say(&self, mut line: LogLine) {
        let is_full = line.source.is_some() && self.lines.capacity() <= OURS;
        cut(&mut line.text);
        if is_full || self.lines.try_send(line).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Lines {
    pub(crate) async fn next(&mut self) -> Option<LogLine> {
        self.lines.recv().await
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The next that waits; how many were left out comes behind them.
    pub(crate) fn try_next(&mut self) -> Option<LogLine> {
        if let Ok(line) = self.lines.try_recv() {
            return Some(line);
        }
        let count = self.left_out.swap(0, Ordering::Relaxed);
        (count > 0).then(|| LogLine {
            severity: Severity::Warning,
            text: format!("{count} lines were left out: they came faster than they are shown"),
            source: None,
        })
    }
}

fn cut(text: &mut String) {
    if text.len() <= LONGEST {
        return;
    }
    let more = text.len() - LONGEST;
    let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
    text.push_str(&format!("… and {more} bytes more"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, source: Option<&'static str>) -> LogLine {
        LogLine {
            severity: Severity::Info,
            text: text.to_owned(),
            source,
        }
    }

    #[test]
    fn what_nobody_reads_is_counted_and_our_own_lines_come_through() {
        let (log, mut lines) = log();
        for _ in 0..LINES {
            log.say(line("script", Some("console")));
        }
        log.say(line("ours", None));
        assert_eq!(lines.len(), LINES - OURS + 1);
        let mut said = Vec::new();
        while let Some(line) = lines.try_next() {
            said.push(line.text);
        }
        let last = &said[said.len() - 2..];
        let expected = format!("{OURS} lines were left out: they came faster than they are shown");
        assert_eq!(last, ["ours".to_owned(), expected]);
        assert_eq!(lines.try_next(), None);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let (log, mut lines) = log();
        log.say(line(&"é".repeat(LONGEST), Some("console")));
        let text = lines.try_next().unwrap().text;
        assert!(text.len() < LONGEST + 40, "{}", text.len());
        assert!(
            text.ends_with(&format!("é… and {LONGEST} bytes more")),
            "{}",
            &text[LONGEST..]
        );
    }
}
