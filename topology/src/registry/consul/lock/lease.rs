//! How long a lock may be believed to be held.
//!
//! Pure, in virtual time. Counts from before a request was sent, so belief ends before Consul's own
//! clock, which starts later, can give the lock to somebody else.

use std::time::{Duration, Instant};

/// A session that is not renewed for this long ends; the shortest that Consul takes. It may let the
/// session live twice as long, never shorter.
pub(super) const TTL: Duration = Duration::from_secs(10);

const RENEW_AFTER: Duration = Duration::from_secs(3);
const RETRY_AFTER: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    /// Greater than that of whoever held the lock before.
    pub(super) fence: u64,
    until: Instant,
    renew_at: Instant,
}

impl Lease {
    /// `asked`: before the session was asked for.
    pub(super) fn new(fence: u64, asked: Instant) -> Self {
        let mut lease = Self {
            fence,
            until: asked,
            renew_at: asked,
        };
        lease.handle_renewed(asked);
        lease
    }

    /// `asked`: before the renewal was asked for.
    pub(super) fn handle_renewed(&mut self, asked: Instant) {
        self.until = asked + TTL;
        self.renew_at = asked + RENEW_AFTER;
    }

    /// Nobody said whether the session still lives.
    pub(super) fn handle_failure(&mut self, now: Instant) {
        self.renew_at = now + RETRY_AFTER;
    }

    pub(super) fn renew_at(&self) -> Instant {
        self.renew_at.min(self.until)
    }

    pub(super) fn until(&self) -> Instant {
        self.until
    }

    pub(super) fn is_held(&self, now: Instant) -> bool {
        now < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_believed_for_one_ttl_after_the_last_renewal() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut lease = Lease::new(4, start);
        assert!(lease.is_held(at(9_999)) && !lease.is_held(at(10_000)));
        assert_eq!(lease.renew_at(), at(3_000));
        // Asked at 3 s, answered at 5 s: the answer's time does not count.
        lease.handle_renewed(at(3_000));
        assert!(lease.is_held(at(12_999)) && !lease.is_held(at(13_000)));
        lease.handle_failure(at(7_000));
        assert_eq!(lease.renew_at(), at(7_500));
        assert_eq!(lease.until(), at(13_000), "a failure prolongs nothing");
        lease.handle_failure(at(12_900));
        assert_eq!(lease.renew_at(), at(13_000), "the end is not slept through");
    }
}
