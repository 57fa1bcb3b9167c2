//! The stores: what both do, and what becomes of the one in Redis when a real server misbehaves.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod access;
mod contract;
mod model;
mod outages;
#[path = "../common/ports.rs"]
mod ports;
mod server;
mod sharing;

use std::sync::Arc;
use std::time::Duration;

use pipemesh_topology::store::{RoomEvent, Watch};
use tokio::time::timeout;

/// How long anything that has to happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// The next event, which has to come.
pub(crate) async fn next(watch: &mut Watch) -> Arc<RoomEvent> {
    let event = timeout(PATIENCE, watch.next()).await;
    let event = event.expect("an event in time").expect("no event was lost");
    event.expect("the watch goes on")
}
