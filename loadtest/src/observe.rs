//! Participants of simulated users, and what is measured of them.
//!
//! [`Room`] is a participant as a script holds it: it looks at what its client has seen once a second,
//! by the clock, so that a stream that died gives zeros and not silence. What a look is worth is pure:
//! `second`.

mod doings;
mod meters;
mod mos;
mod outages;
mod room;
mod second;

pub use doings::Doings;
pub use meters::Meters;
pub use outages::Outages;
pub(crate) use room::{Asked, Room, Wanted};
pub(crate) use second::millis;
