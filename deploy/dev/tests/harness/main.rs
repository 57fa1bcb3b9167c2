//! The load-test harness against the mesh, as people run both: the two programs, and between them
//! somebody who spoils what passes in a way that is known.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on ends, and what it measured is read by people"
)]

mod doors;
mod line;
#[path = "../../../../topology/tests/common/ports.rs"]
mod ports;
mod programs;
mod smoke;
mod truth;
