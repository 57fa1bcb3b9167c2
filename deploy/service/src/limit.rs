//! How often one source address may do what costs us: a token bucket for each, in a table whose size
//! does not depend on how many there are.
//!
//! Pure: an address and a time in, an answer out. Knows neither what is limited nor what becomes of who
//! is refused.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Entries of one set. A source competes for a place with those that its hash puts into the same set;
/// eight leave a table of honest sources half full before anybody is forgotten.
const WAYS: usize = 8;

/// What one source may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At once, by a source that has been quiet.
    pub burst: u32,
    /// In the long run, one for each of these.
    pub interval: Duration,
}

impl Rate {
    /// When a bucket that is full at `full_at` is full again, if something is taken out of it.
    fn next(self, full_at: Option<Instant>, now: Instant) -> Result<Instant, Refused> {
        let next = full_at.map_or(now, |at| at.max(now)) + self.interval;
        let over = next
            .saturating_duration_since(now)
            .saturating_sub(self.interval.saturating_mul(self.burst));
        match over {
            Duration::ZERO => Ok(next),
            retry_after => Err(Refused { retry_after }),
        }
    }

    /// So many a second, and those of `seconds` at once: people behind one address come together after
    /// a pause, and a whole office joins anew when a node has died. `None`: no limit.
    pub fn per_second(number: u32, seconds: u32) -> Option<Self> {
        let interval = Duration::from_secs(1).checked_div(number)?;
        Some(Self {
            burst: number.saturating_mul(seconds).max(1),
            interval,
        })
    }
}

/// How much one may do at present, for who keeps it with what is limited.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    /// When it is full again; none or in the past, if nothing was done lately.
    full_at: Option<Instant>,
}

impl Bucket {
    /// Whether it may be done once more. Changes nothing.
    pub fn check(self, rate: Rate, now: Instant) -> Result<(), Refused> {
        rate.next(self.full_at, now).map(drop)
    }

    /// The same, and counts it.
    pub fn allow(&mut self, rate: Rate, now: Instant) -> Result<(), Refused> {
        self.full_at = Some(rate.next(self.full_at, now)?);
        Ok(())
    }
}

/// The source has done enough; it may again after this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub retry_after: Duration,
}

/// Buckets by [`Source`].
///
/// A source that finds its set full takes the place of the one that has done the least, and that one
/// starts afresh. Somebody with thousands of addresses escapes the limit anyway; nobody else is refused
/// because of them, and no memory is spent on them.
#[derive(Debug)]
pub struct SourceLimiter {
    rate: Rate,
    /// Keyed, so that nobody can choose addresses that share a set.
    hasher: RandomState,
    slots: Box<[Slot]>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    source: Source,
    bucket: Bucket,
}

/// Whom an address stands for: an IPv4 address for itself, one of IPv6 for its /64, which is what one
/// customer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    V4(u32),
    V6(u64),
}

impl Source {
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

impl SourceLimiter {
    /// A table for about `sources` at a time, 32 bytes each.
    pub fn new(rate: Rate, sources: usize) -> Self {
        let slots = sources.max(WAYS).next_power_of_two();
        let empty = Slot {
            source: Source::V4(0),
            bucket: Bucket::default(),
        };
        Self {
            rate,
            hasher: RandomState::new(),
            slots: vec![empty; slots].into(),
        }
    }

    /// Whether the source may do it once more. Changes nothing: for what has yet to prove that it comes
    /// from there.
    pub fn check(&self, source: IpAddr, now: Instant) -> Result<(), Refused> {
        let source = Source::of(source);
        let set = &self.slots[self.set(source)];
        let known = set.iter().find(|slot| slot.source == source);
        let bucket = known.map_or(Bucket::default(), |slot| slot.bucket);
        bucket.check(self.rate, now)
    }

    /// The same, and counts it.
    pub fn allow(&mut self, source: IpAddr, now: Instant) -> Result<(), Refused> {
        let source = Source::of(source);
        let range = self.set(source);
        let set = &self.slots[range.clone()];
        let known = set.iter().position(|slot| slot.source == source);
        let mut bucket = known.map_or(Bucket::default(), |at| set[at].bucket);
        bucket.allow(self.rate, now)?;
        let set = &mut self.slots[range];
        let slot = match known {
            Some(at) => &mut set[at],
            None => set
                .iter_mut()
                .min_by_key(|slot| slot.bucket.full_at)
                .expect("a set has entries"),
        };
        *slot = Slot { source, bucket };
        Ok(())
    }

    fn set(&self, source: Source) -> std::ops::Range<usize> {
        let sets = self.slots.len() / WAYS;
        let first = (self.hasher.hash_one(source) as usize & (sets - 1)) * WAYS;
        first..first + WAYS
    }
}

#[cfg(test)]
mod tests;
