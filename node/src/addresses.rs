//! Where media arrives, and what clients are told of it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// An address clients are told, and the bound one it leads to: behind NAT they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertised {
    pub external: IpAddr,
    /// None: whichever is bound of the same family.
    pub internal: Option<IpAddr>,
}

impl FromStr for Advertised {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = |text: &str| {
            let address: Result<IpAddr, _> = text.trim().parse();
            address.map_err(|_| format!("has {text:?}, which is no IP address"))
        };
        let (external, internal) = match text.split_once('/') {
            None => (address(text)?, None),
            Some((external, internal)) => (address(external)?, Some(address(internal)?)),
        };
        if internal.is_some_and(|internal| internal.is_ipv4() != external.is_ipv4()) {
            return Err(format!(
                "has {text:?}, whose parts are of different IP versions"
            ));
        }
        Ok(Self { external, internal })
    }
}

impl fmt::Display for Advertised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.external)?;
        match self.internal {
            None => Ok(()),
            Some(internal) => write!(f, "/{internal}"),
        }
    }
}

/// No address that clients could reach.
#[derive(Debug, thiserror::Error)]
pub enum NoAddress {
    #[error("cannot list the addresses of this machine")]
    Interfaces(#[source] std::io::Error),
    #[error(
        "this machine has no address but loopback and link-local ones; set media.bind to the one \
         that media shall arrive at"
    )]
    Nothing,
    #[error("{0} leads to no address that media is bound to")]
    Unbound(Advertised),
}

/// The addresses to bind: those given, else every one of the machine that clients may reach.
pub(crate) fn to_bind(given: &[IpAddr]) -> Result<Vec<IpAddr>, NoAddress> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let interfaces = if_addrs::get_if_addrs().map_err(NoAddress::Interfaces)?;
    let mut found: Vec<IpAddr> = interfaces
        .iter()
        .map(|interface| interface.ip())
        .filter(|ip| is_reachable(*ip))
        .collect();
    // IPv4 first: where both are told, clients try in order.
    found.sort_by_key(|ip| (ip.is_ipv6(), *ip));
    found.dedup();
    if found.is_empty() {
        Err(NoAddress::Nothing)
    } else {
        Ok(found)
    }
}

fn is_reachable(ip: IpAddr) -> bool {
    let is_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(ip.is_loopback() || ip.is_unspecified() || is_local)
}

/// What clients of a shard are told, given where it is bound.
pub(crate) fn to_advertise(
    bound: &[SocketAddr],
    advertise: &[Advertised],
) -> Result<Vec<SocketAddr>, NoAddress> {
    if advertise.is_empty() {
        return Ok(bound.to_vec());
    }
    let told = advertise.iter().map(|advertised| {
        let leads_to = |bound: &&SocketAddr| match advertised.internal {
            Some(internal) => bound.ip() == internal,
            None => bound.is_ipv4() == advertised.external.is_ipv4(),
        };
        let bound = bound
            .iter()
            .find(leads_to)
            .ok_or(NoAddress::Unbound(*advertised))?;
        Ok(SocketAddr::new(advertised.external, bound.port()))
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_and_nonsense_is_named() {
        fn check(text: &str, expected: Result<&str, &str>) {
            let read = text
                .parse::<Advertised>()
                .map(|advertised| advertised.to_string());
            let expected = expected.map(ToOwned::to_owned).map_err(ToOwned::to_owned);
            assert_eq!(read, expected, "{text:?}");
        }
        check("203.0.113.9", Ok("203.0.113.9"));
        check("203.0.113.9/10.0.0.5", Ok("203.0.113.9/10.0.0.5"));
        check(" 203.0.113.9 / 10.0.0.5 ", Ok("203.0.113.9/10.0.0.5"));
        check("2001:db8::1/fd00::5", Ok("2001:db8::1/fd00::5"));
        check("node-1", Err("has \"node-1\", which is no IP address"));
        check(
            "1.2.3.4/::1",
            Err("has \"1.2.3.4/::1\", whose parts are of different IP versions"),
        );
    }

    #[test]
    fn what_clients_are_told_leads_to_what_is_bound() {
        fn check(advertise: &[&str], expected: Result<&[&str], &str>) {
            let bound = ["10.0.0.5:7882", "10.0.0.6:7882", "[fd00::5]:7883"];
            let bound: Vec<SocketAddr> = bound.iter().map(|text| text.parse().unwrap()).collect();
            let advertise: Vec<Advertised> =
                advertise.iter().map(|text| text.parse().unwrap()).collect();
            let told = to_advertise(&bound, &advertise)
                .map(|told| told.iter().map(ToString::to_string).collect::<Vec<_>>())
                .map_err(|error| error.to_string());
            let expected = expected
                .map(|told| told.iter().map(ToString::to_string).collect::<Vec<_>>())
                .map_err(ToOwned::to_owned);
            assert_eq!(told, expected);
        }
        check(
            &[],
            Ok(&["10.0.0.5:7882", "10.0.0.6:7882", "[fd00::5]:7883"]),
        );
        check(&["203.0.113.9"], Ok(&["203.0.113.9:7882"]));
        check(
            &["203.0.113.9/10.0.0.6", "2001:db8::9"],
            Ok(&["203.0.113.9:7882", "[2001:db8::9]:7883"]),
        );
        let error = "203.0.113.9/10.0.0.7 leads to no address that media is bound to";
        check(&["203.0.113.9/10.0.0.7"], Err(error));
    }

    #[test]
    fn loopback_and_link_local_addresses_are_not_told() {
        let check = |text: &str, expected: bool| {
            assert_eq!(is_reachable(text.parse().unwrap()), expected, "{text}");
        };
        check("10.0.0.5", true);
        check("203.0.113.9", true);
        check("2001:db8::1", true);
        check("127.0.0.1", false);
        check("::1", false);
        check("169.254.1.1", false);
        check("fe80::1", false);
        check("0.0.0.0", false);
    }
}
