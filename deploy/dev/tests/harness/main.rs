//! The load-test harness against the mesh, as people run both: the two programs, and between them
//! somebody who spoils what passes in a way that is known; or a mesh of several processes, of which one dies.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on ends, and what it measured is read by people"
)]

mod back;
mod doors;
#[path = "../cluster/http.rs"]
#[allow(dead_code, reason = "what other tests ask for")]
mod http;
mod line;
#[path = "../cluster/mesh.rs"]
#[allow(dead_code, reason = "what other tests break")]
mod mesh;
#[path = "../../../../topology/tests/common/ports.rs"]
mod ports;
#[path = "../cluster/process.rs"]
#[allow(dead_code, reason = "what other tests do to processes")]
mod process;
mod programs;
mod smoke;
mod truth;
