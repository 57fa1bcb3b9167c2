//! Which region somebody belongs to, by what is known of where they are. Pure.
//!
//! The first clue that names a region which has nodes, and which their token allows, counts: the token,
//! the client's wish, the round trips it has measured, a proxy's word, their address, and, for want of all
//! that, where the process is that was asked. Knows nothing of how a clue is come by.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use pipemesh_proto::ids::Region;

/// Round trips that differ by less say nothing of which region is nearer: other clues decide between
/// them. Higher: who lives between two regions is sent by a stale clue to the farther one. Lower: noise
/// decides, and a client that comes back lands elsewhere.
pub const NOISE: Duration = Duration::from_millis(10);

/// Mean radius of the Earth.
const EARTH_KM: f64 = 6371.0;

/// A point on Earth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    latitude: f64,
    longitude: f64,
}

impl Point {
    /// In degrees. `None` if there is no such point.
    #[must_use]
    pub fn new(latitude: f64, longitude: f64) -> Option<Self> {
        let exists = latitude.abs() <= 90.0 && longitude.abs() <= 180.0;
        exists.then_some(Self {
            latitude,
            longitude,
        })
    }

    /// Along the surface, in kilometres.
    #[must_use]
    pub fn distance(self, other: Self) -> f64 {
        let half_sine = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
        let (here, there) = (self.latitude.to_radians(), other.latitude.to_radians());
        let haversine = half_sine(other.latitude - self.latitude)
            + here.cos() * there.cos() * half_sine(other.longitude - self.longitude);
        2.0 * EARTH_KM * haversine.clamp(0.0, 1.0).sqrt().asin()
    }
}

/// Where somebody is said to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    Region(Region),
    Point(Point),
}

/// What is known of somebody.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Clues {
    /// Where their token wants them.
    pub token: Option<Region>,
    /// The only regions they may be in.
    pub allowed: Option<BTreeSet<Region>>,
    /// Where they want to be.
    pub asked: Option<Region>,
    /// Round trips to regions, as the client has measured them.
    pub measured: BTreeMap<Region, Duration>,
    /// What a proxy says that is trusted.
    pub proxy: Option<Place>,
    /// What a database says of their address.
    pub address: Option<Place>,
}

/// The regions there are.
#[derive(Debug, Clone)]
pub struct World<'a> {
    /// Those with nodes.
    pub regions: BTreeSet<&'a Region>,
    /// Where the process is that was asked.
    pub own: &'a Region,
    /// Where regions are, of those of which it is known.
    pub places: &'a BTreeMap<Region, Point>,
}

/// Where somebody is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub region: Region,
    pub by: Clue,
    /// Where else they may go, the nearest first.
    pub others: Vec<Region>,
}

/// What has told the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clue {
    Token,
    Asked,
    Measured,
    Proxy,
    Address,
    /// Nothing did: it is where the process is that was asked.
    Own,
    /// Nor can they be there: it is the next region from there.
    Nearest,
}

impl Clue {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Asked => "asked",
            Self::Measured => "measured",
            Self::Proxy => "proxy",
            Self::Address => "address",
            Self::Own => "own",
            Self::Nearest => "nearest",
        }
    }
}

/// There are nodes, but none where the token allows its owner to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no region that the token allows can take the participant: it allows {}, and there are nodes in {}",
    Names(allowed),
    Names(regions)
)]
pub struct NotAllowed {
    pub allowed: BTreeSet<Region>,
    pub regions: BTreeSet<Region>,
}

/// Regions, as people read them.
pub struct Names<'a>(pub &'a BTreeSet<Region>);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, region) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{region}")?;
        }
        Ok(())
    }
}

/// Chooses a region.
///
/// # Errors
/// If none is allowed that has nodes. Where there are no nodes at all it is not the token's fault.
pub fn route(clues: &Clues, world: &World<'_>) -> Result<Route, NotAllowed> {
    let is_allowed = |region: &Region| clues.allowed.as_ref().is_none_or(|it| it.contains(region));
    let open = world.regions.iter().copied().filter(|it| is_allowed(it));
    let open: BTreeSet<&Region> = open.collect();
    if open.is_empty() {
        return match &clues.allowed {
            Some(allowed) if !world.regions.is_empty() => Err(NotAllowed {
                allowed: allowed.clone(),
                regions: world.regions.iter().copied().cloned().collect(),
            }),
            _ => Ok(Route {
                region: world.own.clone(),
                by: Clue::Own,
                others: Vec::new(),
            }),
        };
    }
    let (region, by) = choose(clues, world, &open);
    let mut others: Vec<&Region> = open.into_iter().filter(|it| *it != region).collect();
    // Stable: where neither is known they stay sorted by name.
    others.sort_by(|a, b| {
        let round_trip = |it: &Region| clues.measured.get(it).copied().unwrap_or(Duration::MAX);
        let distance = |it: &Region| world.distance(region, it).unwrap_or(f64::INFINITY);
        let by_distance = distance(a).total_cmp(&distance(b));
        round_trip(a).cmp(&round_trip(b)).then(by_distance)
    });
    Ok(Route {
        region: region.clone(),
        by,
        others: others.into_iter().cloned().collect(),
    })
}

/// One of the open regions, of which there is at least one.
fn choose<'a>(
    clues: &'a Clues,
    world: &World<'a>,
    open: &BTreeSet<&'a Region>,
) -> (&'a Region, Clue) {
    let named = |region: &'a Option<Region>| region.as_ref().filter(|it| open.contains(it));
    if let Some(region) = named(&clues.token) {
        return (region, Clue::Token);
    }
    if let Some(region) = named(&clues.asked) {
        return (region, Clue::Asked);
    }
    let measured = clues.measured.iter().filter(|(it, _)| open.contains(it));
    let nearest = measured.clone().min_by_key(|(_, round_trip)| **round_trip);
    let near: BTreeSet<&Region> = match nearest {
        None => open.clone(),
        Some((nearest, least)) => {
            let equals = measured.filter(|(_, it)| it.saturating_sub(*least) < NOISE);
            let equals: BTreeSet<&Region> = equals.map(|(region, _)| region).collect();
            if equals.len() == 1 {
                return (nearest, Clue::Measured);
            }
            equals
        }
    };
    for (place, clue) in [(&clues.proxy, Clue::Proxy), (&clues.address, Clue::Address)] {
        if let Some(region) = place.as_ref().and_then(|it| world.nearest(it, &near)) {
            return (region, clue);
        }
    }
    if near.contains(world.own) {
        return (world.own, Clue::Own);
    }
    if let Some((nearest, _)) = nearest {
        return (nearest, Clue::Measured);
    }
    let from = Place::Region(world.own.clone());
    let next = world.nearest(&from, open).or_else(|| open.first().copied());
    (next.expect("one is open"), Clue::Nearest)
}

impl<'a> World<'a> {
    /// Between two regions, in kilometres; `None` if it is not known.
    #[must_use]
    pub fn distance(&self, from: &Region, to: &Region) -> Option<f64> {
        Some(self.places.get(from)?.distance(*self.places.get(to)?))
    }

    fn nearest(&self, place: &Place, among: &BTreeSet<&'a Region>) -> Option<&'a Region> {
        let point = match place {
            Place::Region(region) => match among.get(region).copied() {
                Some(region) => return Some(region),
                None => self.places.get(region)?,
            },
            Place::Point(point) => point,
        };
        let distance = |region: &Region| Some(self.places.get(region)?.distance(*point));
        let known = among.iter().filter_map(|it| Some((*it, distance(it)?)));
        let nearest = known.min_by(|(_, a), (_, b)| a.total_cmp(b));
        nearest.map(|(region, _)| region)
    }
}

#[cfg(test)]
mod tests;
