//! Who may wait at the door: so many in all, so many from one address, and so many from it a second. And
//! what became of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use pipemesh_service::limit::{Rate, Source, SourceLimiter};

/// Callers that have proved nothing, in all. Each costs a descriptor, a small task, and what the kernel
/// keeps for a connection.
const PLACES: usize = 2_048;

/// … from one address: an office behind one, whose people all come back at once after its network failed.
/// A place is taken for a round trip or two, so these let a thousand in within a second.
const PLACES_OF_SOURCE: usize = 256;

/// Addresses whose calls are counted, 32 bytes each.
const SOURCES: usize = 4_096;

/// What an address that has been quiet may call at once, in seconds of its rate; as for all that is new
/// to a shard.
const BURST_SECONDS: u32 = 20;

/// Why a caller was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turned {
    /// Too many wait.
    Full,
    /// Too many wait that come from the same address.
    SourceFull,
    /// Too many have come from the same address of late, whatever became of them.
    Limit,
    /// It did not say what it wants in time.
    Late,
    /// It hung up, or the network did, before it had proved anything.
    Closed,
    /// What it said is no check.
    Malformed,
    /// Its check is for nobody here.
    UnknownUfrag,
    /// Its checks were not signed by whom they are for.
    Unproven,
}

impl Turned {
    const ALL: [Self; 8] = [
        Self::Full,
        Self::SourceFull,
        Self::Limit,
        Self::Late,
        Self::Closed,
        Self::Malformed,
        Self::UnknownUfrag,
        Self::Unproven,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::SourceFull => "source_full",
            Self::Limit => "limit",
            Self::Late => "late",
            Self::Closed => "closed",
            Self::Malformed => "malformed",
            Self::UnknownUfrag => "unknown_ufrag",
            Self::Unproven => "unproven",
        }
    }
}

/// What became of all who called.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    proved: AtomicU64,
    turned: [AtomicU64; Turned::ALL.len()],
}

impl Counters {
    /// Totals by the label of their outcome.
    pub(crate) fn results(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let turned = Turned::ALL
            .into_iter()
            .map(|reason| (reason.label(), &self.turned[reason as usize]));
        [("proved", &self.proved)]
            .into_iter()
            .chain(turned)
            .map(|(label, counter)| (label, counter.load(Ordering::Relaxed)))
    }

    fn count(&self, turned: Turned) {
        self.turned[turned as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// See the module.
pub(crate) struct Places {
    // Held for one look-up, by those who accept and, once for each connection, by shards.
    taken: Mutex<Taken>,
    counters: Arc<Counters>,
}

struct Taken {
    all: usize,
    by_source: HashMap<Source, usize>,
    /// None: no limit.
    calls: Option<SourceLimiter>,
}

/// A caller's place. However it ends, the place is free again.
pub(crate) struct Place {
    places: Arc<Places>,
    source: Source,
}

impl Places {
    /// So many calls of one address a second; 0 is no limit.
    pub(crate) fn new(calls_per_second: u32, counters: Arc<Counters>) -> Self {
        let calls = Rate::per_second(calls_per_second, BURST_SECONDS);
        let taken = Taken {
            all: 0,
            by_source: HashMap::new(),
            calls: calls.map(|rate| SourceLimiter::new(rate, SOURCES)),
        };
        Self {
            taken: Mutex::new(taken),
            counters,
        }
    }

    /// A place for who calls from this address, if there is one.
    pub(crate) fn take(self: &Arc<Self>, from: IpAddr, now: Instant) -> Option<Place> {
        let refused = self.try_take(from, now).err();
        if let Some(refused) = refused {
            self.counters.count(refused);
            return None;
        }
        Some(Place {
            places: Arc::clone(self),
            source: Source::of(from),
        })
    }

    fn try_take(&self, from: IpAddr, now: Instant) -> Result<(), Turned> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        // An address cannot be forged here: the kernel has shaken hands with it.
        if let Some(calls) = &mut taken.calls {
            calls.allow(from, now).map_err(|_| Turned::Limit)?;
        }
        if taken.all >= PLACES {
            return Err(Turned::Full);
        }
        let of_source = taken.by_source.entry(Source::of(from)).or_default();
        if *of_source >= PLACES_OF_SOURCE {
            return Err(Turned::SourceFull);
        }
        *of_source += 1;
        taken.all += 1;
        Ok(())
    }
}

impl Place {
    /// The caller has proved who it is, and needs the place no more.
    pub(crate) fn give_back(self) {
        self.places.counters.proved.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn turn_away(self, turned: Turned) {
        self.places.counters.count(turned);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let taken = &self.places.taken;
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(of_source) = taken.by_source.get_mut(&self.source) {
            *of_source -= 1;
            if *of_source == 0 {
                taken.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;
    use std::time::Duration;

    use super::*;

    fn places() -> Arc<Places> {
        Arc::new(Places::new(0, Arc::default()))
    }

    fn take(places: &Arc<Places>, from: IpAddr) -> Option<Place> {
        places.take(from, Instant::now())
    }

    fn count(places: &Places, label: &str) -> u64 {
        let mut results = places.counters.results();
        results.find(|(it, _)| *it == label).unwrap().1
    }

    #[test]
    fn one_address_has_a_share_and_gets_it_back() {
        let places = places();
        let from: IpAddr = "192.0.2.1".parse().unwrap();
        let mut held: Vec<Place> = (0..PLACES_OF_SOURCE)
            .map(|_| take(&places, from).unwrap())
            .collect();
        assert!(take(&places, from).is_none());
        assert!(take(&places, "::ffff:192.0.2.1".parse().unwrap()).is_none());
        assert_eq!(count(&places, "source_full"), 2);
        assert!(take(&places, "192.0.2.2".parse().unwrap()).is_some());
        held.pop().unwrap().give_back();
        held.pop().unwrap().turn_away(Turned::Late);
        held.push(take(&places, from).unwrap());
        held.push(take(&places, from).unwrap());
        assert!(take(&places, from).is_none());
        assert_eq!((count(&places, "proved"), count(&places, "late")), (1, 1));
        drop(held);
        let taken = places.taken.lock().unwrap();
        assert_eq!((taken.all, taken.by_source.len()), (0, 0));
    }

    #[test]
    fn all_together_have_so_many() {
        let places = places();
        let held: Vec<Option<Place>> = (0..PLACES as u128)
            .map(|number| take(&places, Ipv6Addr::from_bits(number << 64).into()))
            .collect();
        assert!(held.iter().all(Option::is_some));
        assert!(take(&places, "192.0.2.1".parse().unwrap()).is_none());
        assert_eq!(count(&places, "full"), 1);
        drop(held);
        assert!(take(&places, "192.0.2.1".parse().unwrap()).is_some());
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let places = places();
        let from = |host: u128| Ipv6Addr::from_bits(0x2001_0db8 << 96 | host).into();
        let held: Vec<_> = (0..PLACES_OF_SOURCE as u128)
            .map(|host| take(&places, from(host)).unwrap())
            .collect();
        assert!(take(&places, from(u128::from(u64::MAX))).is_none());
        assert!(take(&places, from(1 << 64)).is_some());
        drop(held);
    }

    #[test]
    fn who_calls_and_hangs_up_over_and_over_has_to_pause() {
        let places = Arc::new(Places::new(5, Arc::default()));
        let from: IpAddr = "192.0.2.1".parse().unwrap();
        let start = Instant::now();
        let calls = |from: IpAddr, now: Instant| {
            let calls = std::iter::from_fn(|| places.take(from, now));
            calls.take(1000).map(drop).count()
        };
        assert_eq!(calls(from, start), 5 * BURST_SECONDS as usize);
        assert_eq!(count(&places, "limit"), 1);
        assert_eq!(calls("192.0.2.2".parse().unwrap(), start), 100);
        assert_eq!(calls(from, start + Duration::from_secs(2)), 10);
        assert_eq!(places.taken.lock().unwrap().all, 0);
    }
}
