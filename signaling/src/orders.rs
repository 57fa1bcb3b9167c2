//! What one signaling process asks of another: something is to be done to people whom that one serves.
//!
//! A participant's record is written by the session that serves them, and no other: whoever is asked
//! for a change by the server API says so to the process that has the session, and waits for its
//! answer. What is said can be lost, so it is said again until it is answered; whoever hears it twice
//! does it once. Nothing is kept: an order that nobody answers is a failure of whoever gave it.

mod carry;
mod post;
mod wire;

pub(crate) use post::{AskError, Post};
pub(crate) use wire::{Answer, Data, Leave, Order, Outcome, What};
