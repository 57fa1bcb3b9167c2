//! What a person sees while a test runs: lines of the log, and progress bars below them.
//!
//! Owns the terminal; everybody else sends lines.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::output::timestamp;
use crate::script::{LogLine, Severity};

/// Where there are no bars to redraw, the state is said this often.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// How lines of the log look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
    Raw,
}

pub(super) struct Terminal {
    is_terminal: bool,
    quiet: bool,
    colour: bool,
    verbose: bool,
    format: LogFormat,
    began: Instant,
    /// Lines of bars that stand there now.
    drawn: usize,
    said: Option<Instant>,
}

impl Terminal {
    pub(super) fn new(quiet: bool, no_colour: bool, verbose: bool, format: LogFormat) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        Self {
            is_terminal,
            quiet,
            colour: is_terminal && !no_colour,
            verbose,
            format,
            began: Instant::now(),
            drawn: 0,
            said: None,
        }
    }

    pub(super) fn has_colour(&self) -> bool {
        self.colour
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// The program's own text; nothing of it if it is to be quiet.
    pub(super) fn header(&mut self, text: &str) {
        if !self.quiet {
            self.write(text);
        }
    }

    /// What was asked for, quiet or not.
    pub(super) fn result(&mut self, text: &str) {
        self.wipe();
        self.write(text);
    }

    /// The same, beside the results.
    pub(super) fn error(&mut self, text: &str) {
        self.wipe();
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    pub(super) fn log(&mut self, line: &LogLine) {
        if line.severity == Severity::Debug && !self.verbose {
            return;
        }
        self.wipe();
        let text = self.shown(line);
        let mut errors = std::io::stderr().lock();
        // Whoever closed it does not want to read.
        let _ = writeln!(errors, "{text}");
    }

    fn shown(&self, line: &LogLine) -> String {
        let LogLine {
            severity,
            text,
            source,
        } = line;
        let (name, short, colour) = match severity {
            Severity::Debug => ("debug", "DEBU", 37),
            Severity::Info => ("info", "INFO", 36),
            Severity::Warning => ("warning", "WARN", 33),
            Severity::Error => ("error", "ERRO", 31),
        };
        match self.format {
            LogFormat::Raw => text.clone(),
            LogFormat::Json => {
                let mut object = json!({ "time": now(), "level": name, "msg": text });
                if let Some(source) = source {
                    object["source"] = json!(source);
                }
                object.to_string()
            }
            LogFormat::Text if std::io::stderr().is_terminal() => {
                let seconds = self.began.elapsed().as_secs();
                let source = source.map_or(String::new(), |source| format!("  source={source}"));
                match self.colour {
                    true => format!("\x1b[{colour}m{short}\x1b[0m[{seconds:04}] {text}{source}"),
                    false => format!("{short}[{seconds:04}] {text}{source}"),
                }
            }
            LogFormat::Text => {
                let source = source.map_or(String::new(), |source| format!(" source={source}"));
                format!("time={:?} level={name} msg={text:?}{source}", now())
            }
        }
    }

    /// The bars as they are now: drawn over the old ones, or one line of them now and then.
    pub(super) fn progress(&mut self, lines: &str) {
        if self.quiet {
            return;
        }
        if self.is_terminal {
            self.wipe();
            self.write(lines);
            self.drawn = lines.lines().count();
            return;
        }
        if self.said.is_some_and(|said| said.elapsed() < SAY_EVERY) {
            return;
        }
        self.said = Some(Instant::now());
        let first = lines.lines().next().unwrap_or_default();
        self.write(&format!("{first}\n"));
    }

    /// The bars as they stay.
    pub(super) fn last_progress(&mut self, lines: &str) {
        if self.quiet {
            return;
        }
        self.wipe();
        self.write(&format!("\n{lines}"));
        self.drawn = 0;
    }

    fn wipe(&mut self) {
        if self.drawn > 0 {
            // Up to the first of them, and everything below is cleared.
            let up = format!("\x1b[{}A\x1b[J", self.drawn);
            self.write(&up);
            self.drawn = 0;
        }
    }

    fn write(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }
}

fn now() -> String {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    timestamp::rfc3339(since.as_secs_f64() * 1_000.0)
}
