//! What a client sees: drives tests and benchmarks from the outside.
//!
//! Speaks LiveKit's public client protocol and knows nothing of how a server is built.

#![forbid(unsafe_code)]

pub mod client;
