//! One simulated participant.

pub mod signal;
pub mod url;
