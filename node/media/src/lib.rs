//! What a packet meets at the edge of the node: the kernel's sockets and the keys it is sealed with.
//!
//! The only crate of the workspace with unsafe code, so that every other can forbid it; each block
//! states its contract, and each module that has one says why. Linux only, 5.11 or newer.
//!
//! Knows nothing of sessions and rooms, and of RTP only the fixed header. Everything here belongs to
//! one thread, but the two ends of a [`ring`] and the [`poll::Waker`] beside them: there are no locks,
//! and no packet costs an allocation, a log line or a look at the clock.

#![deny(unsafe_op_in_unsafe_fn)]

pub mod alloc;
mod option;
pub mod poll;
pub mod prefetch;
pub mod ring;
pub mod srtp;
pub mod tcp;
pub mod thread;
pub mod udp;
