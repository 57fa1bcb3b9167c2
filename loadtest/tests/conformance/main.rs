//! Scripts run through the program as people run it: what it says, what it writes, how it ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod bench;
mod execution;
mod exits;
mod http;
mod media;
mod outputs;
mod robustness;
mod script;
mod server;
mod summary;
