//! LiveKit's wire messages ↔ what a session works with. Pure functions; no state, no permissions.

pub(crate) mod client;
pub(crate) mod demand;
pub(crate) mod join;
pub(crate) mod message;
pub(crate) mod query;
pub(crate) mod track;
pub(crate) mod wish;
