//! Configuration: one table of settings per binary, four layers, every problem at once.
//!
//! Flags win over the environment, the environment over the file, the file over the default.
//! Nothing here binds a port or opens a connection, so `check-config` is safe anywhere.
//! What a value means is the binary's business: it turns [`Values`] into its own `Config` type.

mod command_line;
pub mod consul;
mod file;
pub mod parse;
mod problems;
mod reference;
mod setting;
#[cfg(test)]
mod tests;
mod values;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

pub use problems::{Problem, Problems};
pub use reference::markdown;
pub use setting::{Need, Program, Setting};
pub use values::{Origin, Values};

use crate::{descriptors, log};
use command_line::Action;

/// `EX_CONFIG` of sysexits.h: something was found in an unconfigured or misconfigured state.
pub const EXIT_CONFIG: u8 = 78;

/// A process that may run.
#[derive(Debug)]
pub struct Started<C> {
    pub config: C,
    pub log: log::Handle,
}

/// Does what the command line asks for, up to the point where the process would run.
///
/// `read` turns the values into the binary's own type. It must ask for every setting before its
/// first `?`, so that all problems are found in one run; what it answers when it added a problem
/// does not matter.
///
/// # Errors
/// The exit code to end with: the configuration is wrong, or the command line asked for something
/// other than running.
pub fn start<C>(
    program: &Program,
    read: impl FnOnce(&mut Values<'_>) -> Option<C>,
) -> Result<Started<C>, ExitCode> {
    let outcome = run(program, std::env::args_os(), std::env::vars_os(), read);
    match outcome {
        Outcome::Run { config, log, notes } => {
            let log = log::init(log);
            notes.log(program);
            descriptors::raise_limit();
            Ok(Started { config, log })
        }
        Outcome::Exit { out, err, code } => {
            // A closed pipe (`| head`) is the reader's choice, not our failure.
            let _ = std::io::stdout().write_all(out.as_bytes());
            let _ = std::io::stderr().write_all(err.as_bytes());
            Err(ExitCode::from(code))
        }
    }
}

/// What a command line leads to, before anything has been printed.
#[derive(Debug)]
enum Outcome<C> {
    Run {
        config: C,
        log: log::Options,
        notes: Notes,
    },
    Exit {
        out: String,
        err: String,
        code: u8,
    },
}

impl<C> Outcome<C> {
    fn done(out: String) -> Self {
        Self::Exit {
            out,
            err: String::new(),
            code: 0,
        }
    }
}

/// What is worth saying once the log exists.
#[derive(Debug)]
struct Notes {
    changed: String,
    all: String,
    warnings: Vec<String>,
}

impl Notes {
    fn log(&self, program: &Program) {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(
            version = program.version,
            changed = self.changed,
            "{} starts",
            program.name
        );
        tracing::debug!(all = self.all, "effective configuration");
    }
}

fn run<C>(
    program: &Program,
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    read: impl FnOnce(&mut Values<'_>) -> Option<C>,
) -> Outcome<C> {
    let command_line = match command_line::parse(program, arguments) {
        Ok(command_line) => command_line,
        Err(error) if error.use_stderr() => {
            let code = u8::try_from(error.exit_code()).unwrap_or(1);
            return Outcome::Exit {
                out: String::new(),
                err: error.to_string(),
                code,
            };
        }
        Err(help) => return Outcome::done(help.to_string()),
    };
    let mut values = Values::load(program, command_line.flags, command_line.file, environment);

    if command_line.action == Action::PrintConfig {
        let out = values.to_toml();
        return match values.into_problems() {
            None => Outcome::done(out),
            Some(problems) => Outcome::Exit {
                out,
                err: problems.to_string(),
                code: EXIT_CONFIG,
            },
        };
    }

    let log = log::Options::read(&mut values);
    let config = read(&mut values);
    let notes = Notes {
        changed: values.summary(false),
        all: values.summary(true),
        warnings: values.warnings().to_vec(),
    };
    let mut log_fields = values.take_log_fields();
    let unread = values.unread();
    if let Some(problems) = values.into_problems() {
        return Outcome::Exit {
            out: String::new(),
            err: problems.to_string(),
            code: EXIT_CONFIG,
        };
    }
    let (Some(config), Some(mut log)) = (config, log) else {
        unreachable!("{}: a value was refused without a problem", program.name)
    };
    debug_assert_eq!(unread, [""; 0], "knobs without effect");
    log.fields.append(&mut log_fields);
    match command_line.action {
        Action::Run => Outcome::Run { config, log, notes },
        Action::CheckConfig | Action::PrintConfig => {
            let warnings: String = notes
                .warnings
                .iter()
                .map(|warning| format!("warning: {warning}\n"))
                .collect();
            Outcome::Exit {
                out: "the configuration is valid\n".to_owned(),
                err: warnings,
                code: 0,
            }
        }
    }
}
