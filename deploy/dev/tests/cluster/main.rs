//! Several processes as one mesh: real nodes and signaling processes, a real Consul and a real Redis, and
//! what becomes of calls when one of them is killed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod bottleneck;
mod figures;
mod geo;
mod http;
mod leases;
mod losses;
mod mesh;
mod moving;
mod outages;
mod people;
#[path = "../../../../topology/tests/common/ports.rs"]
mod ports;
mod process;
mod ring;
mod server_api;
mod spanning;
mod takeover;
mod together;
mod upgrade;
mod way;
mod webhooks;
