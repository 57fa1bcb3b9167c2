//! Who is where: which nodes live, which room is at home on which of them, who is in a room.
//!
//! `snapshot`, `ring`, `placement`, `relay_path` and `geo` are pure. `registry` and `store` are the two things a mesh
//! needs from outside; each is a trait with an in-memory implementation for the embedded default.
//! The store's other implementation is in Redis, where several processes share the ring as well:
//! `shared_ring` is what each of them goes by, `ring_keeper` what one of them writes.
//! Knows nothing of client protocols or media: what is stored about a room is opaque bytes here.

#![forbid(unsafe_code)]

pub mod geo;
mod homes;
pub mod names;
mod pipe_address;
pub mod placement;
pub mod registry;
pub mod relay_path;
pub mod ring;
pub mod ring_keeper;
pub mod shared_ring;
pub mod snapshot;
pub mod store;

pub use homes::Homes;
pub use names::{Identity, RoomName};
pub use pipe_address::{InvalidPipeAddress, PipeAddress};
pub use registry::Registry;
pub use ring_keeper::RingKeeper;
pub use shared_ring::SharedRing;
pub use snapshot::{NodeRecord, NodeState, Snapshot};
pub use store::Store;
