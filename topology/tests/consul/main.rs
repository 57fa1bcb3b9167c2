//! The Consul registry and its lock against a real Consul. Every test has an agent of its own.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod acl;
mod agent;
mod connection;
mod lock;
mod node;
mod outage;
#[path = "../common/ports.rs"]
mod ports;
mod record;
