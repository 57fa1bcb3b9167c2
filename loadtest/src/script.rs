//! Scripts: the modules they import, and the virtual users that run them.
//!
//! Each virtual user has a JavaScript runtime of its own, so that none sees, stops or fills up another.
//! Scripts say what they want and are told what became of it; no packet ever passes through here.

mod busy;
mod files;
mod host;
mod loader;
mod log;
mod recordings;
mod runtime;
mod shared;
mod tags;
mod timers;
mod vu;

pub use files::{FileError, Files};
pub use log::{Lines, Log, log};
pub use runtime::{CallError, LoadError, Runtime};
pub(crate) use shared::now_millis;
pub use shared::{
    Context, Instance, LogLine, MEMORY_LIMIT, Parts, Settings, Severity, Shared, Signal,
};
pub use vu::Iteration;
pub(crate) use vu::Vu;

/// An error with everything that led to it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text.push_str(": ");
        text.push_str(&deeper.to_string());
        cause = deeper.source();
    }
    text
}
