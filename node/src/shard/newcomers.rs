//! What may be begun on a shard, by the address it comes from: handshakes, which cost CPU, and ways to a
//! client, which cost entries.
//!
//! Only what is authenticated is counted. Whoever forges an address would otherwise shut its owner out.
//! One who has credentials can forge one, too; so a client may only begin little, wherever it is.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use pipemesh_service::limit::{Bucket, Rate, SourceLimiter};

/// Addresses remembered for each of the two, 32 bytes each: a minute of new clients on a busy shard.
const SOURCES: usize = 4096;

/// What an address that has been quiet may begin at once, in seconds of its rate: a node that died sends
/// a whole office here within a moment.
const BURST_SECONDS: u32 = 20;

/// Ways to one client. A phone that goes from network to network has a few new ones each time.
const PATHS_OF_CLIENT: Rate = Rate {
    burst: 32,
    interval: Duration::from_secs(1),
};
/// Handshakes of one client. Most do one in their life; a failed one is repeated.
const HANDSHAKES_OF_CLIENT: Rate = Rate {
    burst: 8,
    interval: Duration::from_secs(5),
};

/// What one connection of a client has begun.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Begun {
    paths: Bucket,
    handshakes: Bucket,
}

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

    /// Counts a client's handshake.
    pub(crate) fn allow_handshake(
        &mut self,
        begun: &mut Begun,
        from: IpAddr,
        now: Instant,
    ) -> bool {
        let own = &mut begun.handshakes;
        let handshakes = self.handshakes.as_mut();
        // What is refused uses nothing up, neither of the client's nor of the address's.
        own.check(HANDSHAKES_OF_CLIENT, now).is_ok()
            && handshakes.is_none_or(|limiter| limiter.allow(from, now).is_ok())
            && own.allow(HANDSHAKES_OF_CLIENT, now).is_ok()
    }

    /// Whether one more way to a client may lead there.
    pub(crate) fn may_add_path(&self, begun: &Begun, to: IpAddr, now: Instant) -> bool {
        let paths = self.paths.as_ref();
        begun.paths.check(PATHS_OF_CLIENT, now).is_ok()
            && paths.is_none_or(|limiter| limiter.check(to, now).is_ok())
    }

    /// Counts one, which an authenticated check came from.
    pub(crate) fn add_path(&mut self, begun: &mut Begun, to: IpAddr, now: Instant) {
        // It was asked before.
        let _ = begun.paths.allow(PATHS_OF_CLIENT, now);
        if let Some(limiter) = &mut self.paths {
            let _ = limiter.allow(to, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_cannot_use_up_the_share_of_an_address() {
        let mut newcomers = Newcomers::new(100);
        let office: IpAddr = "192.0.2.1".parse().unwrap();
        let mut now = Instant::now();
        let (mut forger, mut honest) = (Begun::default(), Begun::default());
        let (mut paths, mut handshakes) = (0, 0);
        for _ in 0..10_000 {
            if newcomers.may_add_path(&forger, office, now) {
                newcomers.add_path(&mut forger, office, now);
                paths += 1;
            }
            handshakes += u32::from(newcomers.allow_handshake(&mut forger, office, now));
            assert!(newcomers.may_add_path(&honest, office, now));
            now += Duration::from_millis(1);
        }
        assert!((32..=42).contains(&paths), "{paths}");
        assert!((8..=10).contains(&handshakes), "{handshakes}");
        assert!(newcomers.allow_handshake(&mut honest, office, now));
        // All clients of an address together have its share.
        let crowd = (0..10_000).filter(|_| {
            let mut begun = Begun::default();
            newcomers.allow_handshake(&mut begun, office, now)
        });
        assert_eq!(crowd.count(), 100 * BURST_SECONDS as usize - 1);
    }
}
