//! The ring in Redis, kept by one of several processes as a real Consul says.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "../consul/agent.rs"]
#[allow(dead_code, reason = "other tests need the rest")]
mod agent;
mod fence;
mod keepers;
mod losses;
#[path = "../consul/node.rs"]
#[allow(dead_code, reason = "other tests need the rest")]
mod node;
#[path = "../common/ports.rs"]
mod ports;
mod process;
#[path = "../store/server.rs"]
#[allow(dead_code, reason = "other tests need the rest")]
mod server;

use std::time::Duration;

/// For every single wait. The longest is for the lock of a process that was killed: twice the 10 s of
/// its session, and one more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
