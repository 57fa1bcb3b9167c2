//! Load tests in the manner of k6, with real WebRTC participants.
//!
//! A script says how many users do what; each of them is a participant of a LiveKit-compatible server,
//! made by `pipemesh-loadtest-client`. What decides is pure and in virtual time: `executor` (who starts
//! when), `metrics` (what values are worth), `summary` (what is said of them). `run` is the shell around
//! it, `script` is where JavaScript is.

#![forbid(unsafe_code)]

pub mod cli;
pub mod executor;
pub mod exit;
pub mod http;
pub mod metrics;
pub mod observe;
pub mod options;
pub mod output;
pub mod progress;
pub mod run;
pub mod script;
pub mod segment;
mod status;
pub mod summary;
