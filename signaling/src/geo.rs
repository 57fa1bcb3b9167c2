//! What is known of where a client is: its token, what it says itself, what a proxy or a database says.
//!
//! Owns the settings of that, and how each clue is read. What they lead to is decided by
//! `topology::geo`. No clue of a client's own opens a region to it that its token does not allow; one that
//! cannot be read says nothing, and is no reason to keep somebody out.

mod database;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use pipemesh_proto::ids::Region;
use pipemesh_service::config::{Setting, Values, parse};
use pipemesh_topology::Snapshot;
use pipemesh_topology::geo::{Clues, NotAllowed, Place, Point, Route, World, route};

use crate::auth::Grants;
use crate::livekit::query::Query;
use crate::source::{Network, client_address, is_proxy};

pub use database::Database;

/// The parameters of a join, and of `/settings/regions`, by which a client says where it wants to be, and
/// how far regions are: `regions=eu-west:12,us-east:95`, in milliseconds.
const ASKED: &str = "region";
const MEASURED: &str = "regions";

/// Regions of whose round trips a client may tell. Of more it tells to keep us busy.
const MAX_MEASURED: usize = 16;

/// Longer round trips are those of a client that was asleep while it measured.
const MAX_ROUND_TRIP_MS: u64 = 10_000;

pub const SETTINGS: &[Setting] = &[
    Setting::optional(
        "geo.places",
        "Where regions are, as region/latitude/longitude, separated by commas. The next region is then the \
         next one on the globe, for those who have not measured.",
        "eu-west/53.3/-6.3, us-east/39.0/-77.5",
    ),
    Setting::optional(
        "geo.urls",
        "Where clients reach the signaling of regions, as region=URL, separated by commas: what \
         /settings/regions lists, and what clients measure.",
        "eu-west=wss://eu-west.example.org, us-east=wss://us-east.example.org",
    ),
    Setting::optional(
        "geo.header",
        "The header by which the proxies in http.trusted_proxies say where a client is: a region, one of \
         geo.areas, or latitude,longitude.",
        "CF-IPCountry",
    ),
    Setting::optional(
        "geo.areas",
        "Which regions areas belong to, as area=region, separated by commas: values of the header, and \
         countries of the database.",
        "DE=eu-west, US=us-east",
    ),
    Setting::optional(
        "geo.database",
        "MaxMind DB file with the countries or places of addresses. Read at the start.",
        "/var/lib/GeoIP/GeoLite2-City.mmdb",
    ),
];

/// What the operator says of regions.
#[derive(Debug, Default)]
pub struct Geo {
    pub places: BTreeMap<Region, Point>,
    pub urls: BTreeMap<Region, String>,
    pub header: Option<HeaderName>,
    /// By their names in lower case.
    pub areas: BTreeMap<String, Region>,
    pub database: Option<Database>,
}

impl Geo {
    /// Reads [`SETTINGS`]; problems stay in `values`.
    pub(crate) fn read(values: &mut Values<'_>) -> Option<Self> {
        let places = values.optional("geo.places", map(place));
        let urls = values.optional("geo.urls", map(url));
        let header = values.optional("geo.header", parse::from_str::<HeaderName>);
        let areas = values.optional("geo.areas", map(area));
        let database = values.optional("geo.database", parse::path);
        let (places, header, areas, database) = (places?, header?, areas?, database?);
        if areas.is_some() && header.is_none() && database.is_none() {
            values.problem(
                "geo.areas",
                "has no effect without geo.header or geo.database",
            );
            return None;
        }
        if database.is_some() && areas.is_none() && places.is_none() {
            values.problem(
                "geo.database",
                "has no effect without geo.areas or geo.places",
            );
            return None;
        }
        let database = database.map(|path| Database::open(&path));
        let database = values.check("geo.database", database.transpose())?;
        Some(Self {
            places: places.unwrap_or_default(),
            urls: urls?.unwrap_or_default(),
            header,
            areas: areas.unwrap_or_default(),
            database,
        })
    }

    /// What a request says of the client behind it. `grants`: of its token, if it needs none.
    pub(crate) fn clues(
        &self,
        grants: Option<&Grants>,
        query: &Query,
        headers: &HeaderMap,
        peer: SocketAddr,
        proxies: &[Network],
    ) -> Clues {
        let proxy = is_proxy(peer.ip(), proxies).then(|| self.said(headers));
        Clues {
            token: grants.and_then(|grants| grants.region.clone()),
            allowed: grants.and_then(|grants| grants.regions_allowed.clone()),
            asked: query.get(ASKED).and_then(|region| region.parse().ok()),
            measured: query.get(MEASURED).and_then(measured).unwrap_or_default(),
            proxy: proxy.flatten(),
            address: self.looked_up(client_address(peer, headers, proxies)),
        }
    }

    /// Where somebody is to go whom that is known of.
    pub(crate) fn route(
        &self,
        clues: &Clues,
        snapshot: &Snapshot,
        own: &Region,
    ) -> Result<Route, NotAllowed> {
        route(clues, &self.world(snapshot, own))
    }

    pub(crate) fn world<'a>(&'a self, snapshot: &'a Snapshot, own: &'a Region) -> World<'a> {
        World {
            regions: snapshot.nodes().iter().map(|node| &node.region).collect(),
            own,
            places: &self.places,
        }
    }

    /// What the database says.
    fn looked_up(&self, client: IpAddr) -> Option<Place> {
        let found = self.database.as_ref()?.find(client)?;
        let country = found
            .country
            .and_then(|it| self.areas.get(&it.to_lowercase()));
        let country = country.cloned().map(Place::Region);
        country.or(found.point.map(Place::Point))
    }

    /// What the proxy says.
    fn said(&self, headers: &HeaderMap) -> Option<Place> {
        // Of several lines the last one is the proxy's own.
        let value = headers.get_all(self.header.as_ref()?).iter().next_back()?;
        let value = value.to_str().ok()?.trim();
        if let Some(region) = self.areas.get(&value.to_lowercase()) {
            return Some(Place::Region(region.clone()));
        }
        if let Some((latitude, longitude)) = value.split_once(',') {
            return point(latitude.trim(), longitude.trim()).map(Place::Point);
        }
        value.parse().ok().map(Place::Region)
    }
}

/// `eu-west:12,us-east:95.5`. `None` if it is anything else; of a region that is named twice the shorter
/// round trip counts.
fn measured(text: &str) -> Option<BTreeMap<Region, Duration>> {
    let mut round_trips = BTreeMap::new();
    for (i, pair) in text.split(',').enumerate() {
        let (region, ms) = pair.split_once(':')?;
        let (region, ms): (Region, u64) = (region.parse().ok()?, ms.parse().ok()?);
        if i >= MAX_MEASURED || ms > MAX_ROUND_TRIP_MS {
            return None;
        }
        let round_trip = Duration::from_millis(ms);
        let known = round_trips.entry(region).or_insert(round_trip);
        *known = round_trip.min(*known);
    }
    Some(round_trips)
}

fn point(latitude: &str, longitude: &str) -> Option<Point> {
    Point::new(latitude.parse().ok()?, longitude.parse().ok()?)
}

/// A list of pairs, of which none may have another's name.
fn map<K: Ord, V>(
    pair: impl Fn(&str) -> Result<(K, V), String>,
) -> impl Fn(&str) -> Result<BTreeMap<K, V>, String> {
    let list = parse::list(pair);
    move |text| {
        let pairs = list(text)?;
        let (count, map) = (pairs.len(), BTreeMap::from_iter(pairs));
        match map.len() {
            len if len == count => Ok(map),
            _ => Err("names something twice".to_owned()),
        }
    }
}

fn region(text: &str) -> Result<Region, String> {
    let region: Result<Region, _> = text.trim().parse();
    region.map_err(|what| format!("has a region that {what}"))
}

fn place(text: &str) -> Result<(Region, Point), String> {
    let parts: Vec<&str> = text.split('/').collect();
    let [name, latitude, longitude] = parts[..] else {
        return Err("is not region/latitude/longitude".to_owned());
    };
    let point = point(latitude, longitude).ok_or("is nowhere on Earth")?;
    Ok((region(name)?, point))
}

fn url(text: &str) -> Result<(Region, String), String> {
    let (name, url) = text.split_once('=').ok_or("is not region=URL")?;
    let url = url.trim().trim_end_matches('/');
    let host = url.strip_prefix("wss://").or(url.strip_prefix("ws://"));
    if host.is_none_or(str::is_empty) {
        return Err("has a URL that does not begin with wss:// or ws://".to_owned());
    }
    Ok((region(name)?, url.to_owned()))
}

fn area(text: &str) -> Result<(String, Region), String> {
    let (area, name) = text.split_once('=').ok_or("is not area=region")?;
    Ok((area.trim().to_lowercase(), region(name)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn as_text(round_trips: Option<BTreeMap<Region, Duration>>) -> String {
        let Some(round_trips) = round_trips else {
            return "none".to_owned();
        };
        let pairs = round_trips.iter();
        let pairs: Vec<String> = pairs
            .map(|(region, it)| format!("{region}:{}", it.as_millis()))
            .collect();
        pairs.join(" ")
    }

    #[test]
    fn round_trips_are_read_if_they_make_sense() {
        let check = |text: &str, expected: &str| {
            assert_eq!(as_text(measured(text)), expected, "{text}");
        };
        check("eu-west:12,us-east:95", "eu-west:12 us-east:95");
        check("eu:0", "eu:0");
        check("eu:20,eu:12,eu:30", "eu:12");
        check("eu:10000", "eu:10000");
        let many =
            |count: usize| -> Vec<String> { (0..count).map(|i| format!("r{i}:1")).collect() };
        assert_eq!(measured(&many(16).join(",")).unwrap().len(), 16);
        for nonsense in [
            "",
            "eu",
            "eu:",
            ":12",
            "eu:-1",
            "eu:x",
            "eu:1.5",
            "eu:10001",
            "eu:12,",
            "e u:12",
            "eu:12;us:9",
            &many(17).join(","),
        ] {
            check(nonsense, "none");
        }
    }

    #[test]
    fn a_header_is_a_region_an_area_or_a_point_and_only_a_proxys() {
        let region = |name: &str| -> Region { name.parse().unwrap() };
        let geo = Geo {
            header: Some(HeaderName::from_static("x-place")),
            areas: [("de".to_owned(), region("eu"))].into(),
            ..Geo::default()
        };
        let proxies: Vec<Network> = vec!["10.0.0.0/8".parse().unwrap()];
        let check = |peer: &str, lines: &[&'static str], expected: Option<Place>| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-place", HeaderValue::from_static(line));
            }
            let peer = peer.parse().unwrap();
            let clues = geo.clues(None, &Query::default(), &headers, peer, &proxies);
            assert_eq!(clues.proxy, expected, "{peer} {lines:?}");
        };
        let eu = Some(Place::Region(region("eu")));
        let berlin = Point::new(52.5, 13.4).map(Place::Point);
        check("10.0.0.1:5", &["DE"], eu.clone());
        check("10.0.0.1:5", &["eu"], eu.clone());
        check("[::ffff:10.0.0.1]:5", &["de"], eu.clone());
        check("10.0.0.1:5", &["52.5,13.4"], berlin.clone());
        check("10.0.0.1:5", &["52.5, 13.4"], berlin);
        check("10.0.0.1:5", &["us", "eu"], eu);
        check("203.0.113.1:5", &["eu"], None);
        for nonsense in ["", "a b", "95,0", "NaN,0", "1,2,3"] {
            check("10.0.0.1:5", &[nonsense], None);
        }
        check("10.0.0.1:5", &[], None);
    }

    #[test]
    fn an_address_is_looked_up_as_a_country_first() {
        let file = database::tests::file(&[
            ([203, 0, 113], "DE", Some((52.5, 13.4))),
            ([198, 51, 100], "FR", Some((48.9, 2.4))),
            ([192, 0, 2], "BR", None),
        ]);
        let geo = Geo {
            areas: [("de".to_owned(), region("eu").unwrap())].into(),
            database: Some(Database::open(file.path()).unwrap()),
            ..Geo::default()
        };
        let proxies: Vec<Network> = vec!["10.0.0.0/8".parse().unwrap()];
        let check = |peer: &str, forwarded: &'static str, expected: Option<Place>| {
            let headers = [("x-forwarded-for", forwarded)];
            let headers = headers
                .map(|(name, it)| (HeaderName::from_static(name), HeaderValue::from_static(it)));
            let headers = HeaderMap::from_iter(headers);
            let clues = geo.clues(
                None,
                &Query::default(),
                &headers,
                peer.parse().unwrap(),
                &proxies,
            );
            assert_eq!(clues.address, expected, "{peer} {forwarded}");
        };
        let eu = Some(Place::Region(region("eu").unwrap()));
        let paris = Point::new(48.9, 2.4).map(Place::Point);
        check("203.0.113.1:5", "198.51.100.1", eu.clone());
        check("10.0.0.1:5", "203.0.113.1", eu);
        check("10.0.0.1:5", "198.51.100.1", paris);
        check("192.0.2.1:5", "", None);
        check("127.0.0.1:5", "", None);
    }

    #[test]
    fn settings_are_pairs_with_names_of_their_own() {
        let places = map(place);
        assert_eq!(places("eu/53.3/-6.3, us/39/-77.5").unwrap().len(), 2);
        let check = |outcome: Option<String>, expected: &str| {
            assert_eq!(outcome.as_deref(), Some(expected));
        };
        check(
            places("eu/53.3").err(),
            "has \"eu/53.3\", which is not region/latitude/longitude",
        );
        check(
            places("eu/95/0").err(),
            "has \"eu/95/0\", which is nowhere on Earth",
        );
        check(places("eu/1/1,eu/2/2").err(), "names something twice");
        let urls = map(url);
        let read = urls("eu=wss://eu.example.org/, us = ws://127.0.0.1:7880").unwrap();
        let read: Vec<&str> = read.values().map(String::as_str).collect();
        assert_eq!(read, ["wss://eu.example.org", "ws://127.0.0.1:7880"]);
        for wrong in [
            "eu",
            "eu=https://eu.example.org",
            "eu=wss://",
            "e u=wss://a",
        ] {
            assert!(urls(wrong).is_err(), "{wrong}");
        }
        let read = map(area)("DE=eu, US = us").unwrap();
        assert_eq!(read["de"].as_str(), "eu");
        assert_eq!(read["us"].as_str(), "us");
        assert!(map(area)("DE=eu,de=us").is_err());
    }
}
