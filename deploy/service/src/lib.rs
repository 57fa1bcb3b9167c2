//! What every Pipemesh process does alike: read its configuration, log, have enough descriptors, answer
//! the operator, keep its certificate fresh, limit what one address may do and stop in order.
//!
//! Knows nothing of rooms, media or signaling. A binary declares its settings in a [`Program`],
//! reads them into its own `Config` and hands both to [`start`].

#![forbid(unsafe_code)]

mod chain;
pub mod config;
mod descriptors;
mod endpoint;
pub mod limit;
pub mod log;
pub mod operator;
pub mod secret;
pub mod stop;
pub mod tls;

pub use chain::Chain;
pub use config::{Problems, Program, Setting, Values, parse, start};
pub use endpoint::Endpoint;
pub use secret::Secret;
