//! What signaling and nodes say to each other, what nodes say among themselves, and the ids all speak of.
//!
//! Generated messages of the control contract (`pipemesh/node/v1/node.proto`), the gRPC service and
//! who may call it behind the feature `grpc`, those of pipes (`pipemesh/pipe/v1/pipe.proto`), and typed
//! ids. Knows nothing of how either side works.

#[cfg(feature = "grpc")]
pub mod auth;
pub mod ids;

/// The control contract, version 1.
pub mod node {
    #![allow(
        clippy::allow_attributes_without_reason,
        clippy::derive_partial_eq_without_eq,
        clippy::large_enum_variant,
        unreachable_pub,
        elided_lifetimes_in_paths,
        reason = "generated code"
    )]
    include!(concat!(env!("OUT_DIR"), "/pipemesh.node.v1.rs"));
}

/// What nodes say to each other on a pipe's control stream.
pub mod pipe {
    #![allow(
        clippy::allow_attributes_without_reason,
        clippy::derive_partial_eq_without_eq,
        clippy::large_enum_variant,
        unreachable_pub,
        elided_lifetimes_in_paths,
        reason = "generated code"
    )]
    include!(concat!(env!("OUT_DIR"), "/pipemesh.pipe.v1.rs"));
}

/// The contract version this build speaks, and the oldest it still works with.
pub const CONTRACT_VERSION: u32 = 1;
pub const CONTRACT_VERSION_MIN: u32 = 1;
/// The same for what nodes say to each other.
pub const PIPE_VERSION: u32 = 1;
pub const PIPE_VERSION_MIN: u32 = 1;
