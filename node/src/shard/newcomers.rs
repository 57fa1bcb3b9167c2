//! What may be begun on a shard, by the address it comes from: handshakes, which cost CPU, and ways to a
//! client, which cost entries.
//!
//! Only what is authenticated is counted. Whoever forges an address would otherwise shut its owner out.

use std::net::IpAddr;
use std::time::Instant;

use pipemesh_service::limit::{Rate, SourceLimiter};

/// Addresses remembered for each of the two, 32 bytes each: a minute of new clients on a busy shard.
const SOURCES: usize = 4096;

/// What an address that has been quiet may begin at once, in seconds of its rate: a node that died sends
/// a whole office here within a moment.
const BURST_SECONDS: u32 = 20;

#[derive(Debug)]
pub(crate) struct Newcomers {
    /// None: no limit.
    handshakes: Option<SourceLimiter>,
    paths: Option<SourceLimiter>,
}

impl Newcomers {
    /// So many of each a second; 0 is no limit.
    pub(crate) fn new(per_second: u32) -> Self {
        let limiter = || {
            Rate::per_second(per_second, BURST_SECONDS)
                .map(|rate| SourceLimiter::new(rate, SOURCES))
        };
        Self {
            handshakes: limiter(),
            paths: limiter(),
        }
    }

    /// Counts a handshake.
    pub(crate) fn allow_handshake(&mut self, from: IpAddr, now: Instant) -> bool {
        let handshakes = self.handshakes.as_mut();
        handshakes.is_none_or(|limiter| limiter.allow(from, now).is_ok())
    }

    /// Whether one more way to a client may lead there.
    pub(crate) fn may_add_path(&self, to: IpAddr, now: Instant) -> bool {
        let paths = self.paths.as_ref();
        paths.is_none_or(|limiter| limiter.check(to, now).is_ok())
    }

    /// Counts one, which a check proved to be a client's.
    pub(crate) fn add_path(&mut self, to: IpAddr, now: Instant) {
        if let Some(limiter) = &mut self.paths {
            // It was asked before.
            let _ = limiter.allow(to, now);
        }
    }
}
