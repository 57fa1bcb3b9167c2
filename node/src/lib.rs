//! The media node: peer connections, tracks, subscriptions. Driven over gRPC, it knows no tokens, no
//! permissions and no client protocol.
//!
//! [`Node::start`] is the way in. The media plane is `shard` (threads) over `node/core` (decisions) and
//! `node/media` (sockets, SRTP); `session` negotiates and drives it; `control` is the contract.

pub mod addresses;
pub mod config;
mod control;
mod door;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod mailbox;
mod metrics;
mod node;
mod pipe;
mod registration;
pub mod session;
mod sessions;
mod shard;
mod spread;
mod status;
mod tracks;

pub use config::Config;
pub use node::{Ended, Node, StartError};
pub use pipe::TlsError;
