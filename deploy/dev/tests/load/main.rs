//! The whole mesh as its users see it: simulated participants with real ICE, DTLS and SRTP against
//! the program that people start.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on ends, and what it measured is read by people"
)]

mod changes;
mod data;
mod dynacast;
mod handshakes;
mod impaired;
mod mesh;
mod modes;
mod narrow;
mod pausing;
mod recordings;
mod resume;
mod room;
mod scalable;
mod switching;
mod tcp;
mod tls;
