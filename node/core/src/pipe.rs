//! What travels between nodes: how it looks, which packet leaves next, and how many may be on their way.
//!
//! A pipe is one connection to another node, over which tracks of many rooms travel. The connection itself
//! and its identity are the node's.

pub mod congestion;
pub mod frame;
pub mod prober;
pub mod schedule;
