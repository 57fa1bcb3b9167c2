//! Which address a request comes from, where proxies stand in between, and how often one may join.
//!
//! A header says whatever its sender likes. It is believed only as far as it was written by proxies the
//! operator names, so from its end backwards.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::http::HeaderMap;
use pipemesh_service::limit::{Rate, Refused, SourceLimiter};

/// The header that proxies add the address to that they were asked from.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Proxies in a row that are looked through. More is a header made up to keep us busy.
const MAX_HOPS: usize = 16;

/// Addresses that are remembered for [`Joins`], 32 bytes each.
const SOURCES: usize = 1 << 14;

/// Joins that an address which has been quiet may do at once, in seconds of its rate: a whole office
/// comes back together when the node it was on has died.
const BURST_SECONDS: u32 = 20;

/// A range of addresses, as `10.0.0.0/8`; an address alone is a range of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a range of addresses, like 10.0.0.0/8 or 2001:db8::/32")]
pub struct InvalidNetwork;

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, prefix) = text
            .split_once('/')
            .map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(prefix) => prefix.parse().map_err(|_| InvalidNetwork)?,
        };
        (prefix <= longest)
            .then_some(Self { address, prefix })
            .ok_or(InvalidNetwork)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Whether a request that comes from there comes from a proxy that is believed.
pub(crate) fn is_proxy(peer: IpAddr, proxies: &[Network]) -> bool {
    let peer = peer.to_canonical();
    proxies.iter().any(|network| network.contains(peer))
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        let differing = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros()
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros()
            }
            _ => return false,
        };
        differing >= self.prefix.into()
    }
}

/// The client behind a request that came from `peer`: the last address that is not a proxy's.
pub(crate) fn client_address(peer: SocketAddr, headers: &HeaderMap, proxies: &[Network]) -> IpAddr {
    let mut client = peer.ip().to_canonical();
    // Proxies append, each to the line it got or in a line of its own.
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let hops = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.rsplit(','));
    for hop in hops.take(MAX_HOPS) {
        if !is_proxy(client, proxies) {
            break;
        }
        let Some(address) = address_of(hop.trim()) else {
            break;
        };
        client = address;
    }
    client
}

/// Some proxies write the port as well.
fn address_of(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address| address.to_canonical())
}

/// Joins by address.
pub(crate) struct Joins {
    /// None: no limit. Held for one look-up, never across an await.
    limiter: Option<Mutex<SourceLimiter>>,
}

impl Joins {
    /// So many a second; 0 is no limit.
    pub(crate) fn new(per_second: u32) -> Self {
        let rate = Rate::per_second(per_second, BURST_SECONDS);
        Self {
            limiter: rate.map(|rate| Mutex::new(SourceLimiter::new(rate, SOURCES))),
        }
    }

    /// Counts a join.
    pub(crate) fn allow(&self, client: IpAddr, now: Instant) -> Result<(), Refused> {
        self.with(|limiter| limiter.allow(client, now))
    }

    /// Whether a join would be allowed.
    pub(crate) fn check(&self, client: IpAddr, now: Instant) -> Result<(), Refused> {
        self.with(|limiter| limiter.check(client, now))
    }

    fn with(
        &self,
        ask: impl FnOnce(&mut SourceLimiter) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let Some(limiter) = &self.limiter else {
            return Ok(());
        };
        // No operation leaves the table half changed.
        ask(&mut limiter.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn ranges_are_read_and_matched() {
        let check = |range: &str, address: &str, expected: bool| {
            let network: Network = range.parse().unwrap();
            let address = address.parse().unwrap();
            assert_eq!(network.contains(address), expected, "{range} {address}");
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("192.0.2.7", "192.0.2.7", true);
        check("192.0.2.7", "192.0.2.6", false);
        check("0.0.0.0/0", "203.0.113.1", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("2001:db8::/32", "2001:db8:ffff::1", true);
        check("2001:db8::/32", "2001:db9::1", false);
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "::1/129",
            "10.0.0.0/-1",
            "a/8",
        ] {
            assert_eq!(bad.parse::<Network>(), Err(InvalidNetwork), "{bad}");
        }
    }

    #[test]
    fn a_header_is_believed_as_far_as_proxies_wrote_it() {
        let proxies: Vec<Network> = ["127.0.0.0/8", "10.0.0.0/8", "2001:db8::/32"]
            .map(|range| range.parse().unwrap())
            .to_vec();
        let check = |peer: &str, lines: &[&'static str], expected: &str| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, HeaderValue::from_static(line));
            }
            let peer: SocketAddr = peer.parse().unwrap();
            let client = client_address(peer, &headers, &proxies);
            assert_eq!(client.to_string(), expected, "{peer} {lines:?}");
        };
        check("203.0.113.1:5", &[], "203.0.113.1");
        // Who is no proxy says it in vain.
        check("203.0.113.1:5", &["198.51.100.9"], "203.0.113.1");
        check("127.0.0.1:5", &[], "127.0.0.1");
        check("127.0.0.1:5", &["198.51.100.9"], "198.51.100.9");
        check("10.1.1.1:5", &["198.51.100.9, 10.0.0.2"], "198.51.100.9");
        // What a client put there itself stands before what the proxy added.
        check(
            "10.1.1.1:5",
            &["192.0.2.1, 198.51.100.9, 10.0.0.2"],
            "198.51.100.9",
        );
        check("10.1.1.1:5", &["192.0.2.1", "198.51.100.9"], "198.51.100.9");
        check("10.1.1.1:5", &["nonsense"], "10.1.1.1");
        check("10.1.1.1:5", &["192.0.2.1, nonsense"], "10.1.1.1");
        check("10.1.1.1:5", &["198.51.100.9:4711"], "198.51.100.9");
        check("10.1.1.1:5", &["[2001:db9::7]:4711"], "2001:db9::7");
        check("10.1.1.1:5", &["[2001:db9::7]"], "2001:db9::7");
        check("[::ffff:10.0.0.1]:5", &["::ffff:192.0.2.1"], "192.0.2.1");
        // A row of proxies without end leads nowhere.
        check(
            "10.1.1.1:5",
            &[
                "192.0.2.1,10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5,10.0.0.6,10.0.0.7,10.0.0.8,\
               10.0.0.9,10.0.0.10,10.0.0.11,10.0.0.12,10.0.0.13,10.0.0.14,10.0.0.15,10.0.0.16",
            ],
            "10.0.0.1",
        );
    }

    #[test]
    fn without_a_limit_everybody_may() {
        let (joins, now) = (Joins::new(0), Instant::now());
        let client = IpAddr::from([192, 0, 2, 1]);
        assert!((0..10_000).all(|_| joins.allow(client, now).is_ok()));
        let joins = Joins::new(1);
        let allowed = (0..100)
            .filter(|_| joins.allow(client, now).is_ok())
            .count();
        assert_eq!(allowed, BURST_SECONDS as usize);
        assert!(joins.check(client, now).is_err());
    }
}
