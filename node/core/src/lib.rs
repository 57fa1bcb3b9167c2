//! Which packet goes where: tracks, layers, caches, losses, speakers.
//!
//! Performs no I/O, reads no clock, draws no randomness, so that a whole room can be run in virtual
//! time. [`router::Router`] is the way in. Knows nothing of sockets, encryption, SDP, or the SSRCs
//! and payload types that receivers see.

pub mod allocate;
pub mod bandwidth;
pub mod cache;
pub mod codec;
pub mod data;
mod demand;
pub mod drops;
pub mod forward;
pub mod ingress;
pub mod key_frames;
pub mod layer;
pub mod loudest;
pub mod nack;
pub mod pipe;
pub mod quality;
pub mod rate;
pub mod router;
pub mod rtcp;
pub mod rtp;
mod seen;
pub mod speaker;
pub mod stats;
mod structure;
pub mod track;
pub mod units;
pub mod wheel;
