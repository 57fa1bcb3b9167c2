//! Addresses of other nodes on whose way full datagrams get lost. Connections there begin with smaller ones,
//! and find out by themselves how much larger they may be.
//!
//! A way that is narrow from the beginning lets no handshake through. Whether it is that, or nobody is there,
//! cannot be told: the next calls are tried with smaller datagrams. Where that was nothing but doubt, QUIC
//! finds out, and the connection is made anew as soon as nobody uses it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::transport::{MTU, Path};

/// The UDP payload that every path carries which QUIC can be spoken on (RFC 9000 section 14).
const LEAST_MTU: u16 = 1200;
/// For two ends that notice it one after the other to meet.
const DOUBT: Duration = Duration::from_secs(30);
/// Strangers' addresses are among them. Without room, no doubt is remembered.
const MOST_DOUBTS: usize = 1024;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Narrow(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Of nodes that have shown who they are.
    narrow: BTreeSet<IpAddr>,
    /// Where a handshake timed out, and until when that is remembered.
    doubted: BTreeMap<IpAddr, Instant>,
}

impl Narrow {
    /// How a connection to this address, or from it, is to begin.
    pub(super) fn path(&self, address: IpAddr, now: Instant) -> Path {
        let address = address.to_canonical();
        let known = self.known();
        let is_doubted = known.doubted.get(&address).is_some_and(|end| now < *end);
        let mut path = Path::default();
        if is_doubted || known.narrow.contains(&address) {
            path.mtu = LEAST_MTU;
        }
        path
    }

    /// A handshake there timed out.
    pub(super) fn doubt(&self, address: IpAddr, now: Instant) {
        let mut known = self.known();
        known.doubted.retain(|_, end| now < *end);
        if known.doubted.len() < MOST_DOUBTS {
            known.doubted.insert(address.to_canonical(), now + DOUBT);
        }
    }

    /// Full datagrams get lost there; `false`: that was known.
    pub(super) fn add(&self, address: IpAddr) -> bool {
        self.known().narrow.insert(address.to_canonical())
    }

    /// What QUIC has found to get through.
    pub(super) fn learn(&self, address: IpAddr, mtu: u16) {
        let address = address.to_canonical();
        let mut known = self.known();
        match mtu < MTU {
            true => known.narrow.insert(address),
            false => known.narrow.remove(&address),
        };
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_doubted_begins_small_for_a_while_and_who_is_narrow_until_it_is_not() {
        let narrow = Narrow::default();
        let now = Instant::now();
        let address: IpAddr = "10.0.0.7".parse().unwrap();
        let mapped: IpAddr = "::ffff:10.0.0.7".parse().unwrap();
        let mtu = |at: Instant| narrow.path(mapped, at).mtu;
        assert_eq!(mtu(now), MTU);
        narrow.doubt(address, now);
        assert_eq!(mtu(now), LEAST_MTU);
        assert_eq!(mtu(now + DOUBT), MTU);
        assert!(narrow.add(address));
        assert!(!narrow.add(mapped), "that is known");
        assert_eq!(mtu(now + DOUBT), LEAST_MTU);
        narrow.learn(address, MTU + 50);
        assert_eq!(mtu(now + DOUBT), MTU);
        narrow.learn(address, 1280);
        assert_eq!(mtu(now + DOUBT), LEAST_MTU);
    }

    #[test]
    fn strangers_do_not_fill_the_memory() {
        let narrow = Narrow::default();
        let now = Instant::now();
        for number in 0..2000_u32 {
            narrow.doubt(IpAddr::from(number.to_be_bytes()), now);
        }
        assert_eq!(narrow.known().doubted.len(), MOST_DOUBTS);
        narrow.doubt("10.0.0.7".parse().unwrap(), now + DOUBT);
        assert_eq!(narrow.known().doubted.len(), 1);
    }
}
