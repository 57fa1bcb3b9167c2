use proptest::prelude::*;

use super::*;

const PLACES: [(&str, f64, f64); 4] = [
    ("ap", 1.35, 103.8),
    ("eu", 53.3, -6.3),
    ("sa", -23.5, -46.6),
    ("us", 39.0, -77.5),
];

fn region(name: &str) -> Region {
    name.parse().unwrap()
}

fn point(latitude: f64, longitude: f64) -> Point {
    Point::new(latitude, longitude).unwrap()
}

fn places() -> BTreeMap<Region, Point> {
    let places = PLACES.iter();
    places
        .map(|(name, latitude, longitude)| (region(name), point(*latitude, *longitude)))
        .collect()
}

/// As `eu:12 us:95`.
fn measured(text: &str) -> BTreeMap<Region, Duration> {
    let pairs = text
        .split_whitespace()
        .map(|pair| pair.split_once(':').unwrap());
    pairs
        .map(|(name, ms)| (region(name), Duration::from_millis(ms.parse().unwrap())))
        .collect()
}

fn allowed(text: &str) -> Option<BTreeSet<Region>> {
    Some(text.split_whitespace().map(region).collect())
}

fn at(name: &str) -> Option<Place> {
    Some(Place::Region(region(name)))
}

/// Asked in `own` of a mesh with nodes in `regions`; answers as `us by token, then eu ap`.
fn routed(regions: &str, own: &str, clues: &Clues, places: &BTreeMap<Region, Point>) -> String {
    let regions: Vec<Region> = regions.split_whitespace().map(region).collect();
    let world = World {
        regions: regions.iter().collect(),
        own: &region(own),
        places,
    };
    match route(clues, &world) {
        Err(error) => error.to_string(),
        Ok(route) => {
            let others: Vec<&str> = route.others.iter().map(Region::as_str).collect();
            let (region, clue) = (route.region, route.by.name());
            format!("{region} by {clue}, then {}", others.join(" "))
        }
    }
}

#[test]
fn the_first_clue_that_names_an_open_region_counts() {
    let places = places();
    let check = |clues: Clues, expected: &str| {
        assert_eq!(
            routed("ap eu us", "eu", &clues, &places),
            expected,
            "{clues:?}"
        );
    };
    let all = Clues {
        token: Some(region("ap")),
        allowed: None,
        asked: Some(region("us")),
        measured: measured("eu:5 us:90 ap:200"),
        proxy: at("us"),
        address: at("ap"),
    };
    check(all.clone(), "ap by token, then eu us");
    let all = Clues { token: None, ..all };
    check(all.clone(), "us by asked, then eu ap");
    let all = Clues { asked: None, ..all };
    check(all.clone(), "eu by measured, then us ap");
    let all = Clues {
        measured: measured(""),
        ..all
    };
    check(all.clone(), "us by proxy, then eu ap");
    let all = Clues { proxy: None, ..all };
    check(all.clone(), "ap by address, then eu us");
    let all = Clues {
        address: None,
        ..all
    };
    check(all, "eu by own, then us ap");
    // What has no nodes is no clue, unless it is known where it is.
    let nowhere = Clues {
        token: Some(region("mars")),
        asked: Some(region("sa")),
        measured: measured("mars:1 sa:2"),
        proxy: at("mars"),
        address: at("sa"),
        ..Clues::default()
    };
    check(nowhere, "us by address, then eu ap");
}

#[test]
fn round_trips_that_are_as_good_as_equal_leave_the_choice_to_others() {
    let places = places();
    let check = |round_trips: &str, proxy: Option<Place>, expected: &str| {
        let clues = Clues {
            measured: measured(round_trips),
            proxy,
            ..Clues::default()
        };
        assert_eq!(
            routed("ap eu us", "eu", &clues, &places),
            expected,
            "{round_trips}"
        );
    };
    check("us:20 eu:30", None, "us by measured, then eu ap");
    check("us:21 eu:30", None, "eu by own, then us ap");
    check("us:21 eu:30", at("us"), "us by proxy, then eu ap");
    // It chooses among those that are near, and nothing else.
    check("us:21 eu:30", at("ap"), "eu by proxy, then us ap");
    check("us:21 ap:25 eu:80", at("eu"), "us by proxy, then ap eu");
    check("us:21 ap:25 eu:80", None, "us by measured, then ap eu");
    check("us:21", None, "us by measured, then eu ap");
}

#[test]
fn nobody_is_sent_where_they_may_not_be() {
    let places = places();
    let check = |only: &str, clues: Clues, expected: &str| {
        let clues = Clues {
            allowed: allowed(only),
            ..clues
        };
        assert_eq!(
            routed("ap eu us", "eu", &clues, &places),
            expected,
            "{clues:?}"
        );
    };
    let wishes = Clues {
        token: Some(region("eu")),
        asked: Some(region("eu")),
        measured: measured("eu:5 us:90 ap:200"),
        proxy: at("eu"),
        ..Clues::default()
    };
    check("us ap", wishes.clone(), "us by measured, then ap");
    check("ap", wishes.clone(), "ap by measured, then ");
    check("us ap", Clues::default(), "us by nearest, then ap");
    check(
        "us sa",
        Clues {
            proxy: at("eu"),
            ..Clues::default()
        },
        "us by proxy, then ",
    );
    let refused = "no region that the token allows can take the participant: \
                   it allows mars, sa, and there are nodes in ap, eu, us";
    check("sa mars", wishes, refused);
}

#[test]
fn without_places_names_decide_and_without_nodes_nothing() {
    let nowhere = BTreeMap::new();
    let check = |regions: &str, own: &str, expected: &str| {
        assert_eq!(routed(regions, own, &Clues::default(), &nowhere), expected);
    };
    check("us eu ap", "eu", "eu by own, then ap us");
    check("us ap", "eu", "ap by nearest, then us");
    check("", "eu", "eu by own, then ");
    let clues = Clues {
        allowed: allowed("us"),
        ..Clues::default()
    };
    // It may be that they are not known yet.
    assert_eq!(routed("", "eu", &clues, &nowhere), "eu by own, then ");
    let somewhere = Clues {
        address: Some(Place::Point(point(1.0, 103.0))),
        ..Clues::default()
    };
    assert_eq!(
        routed("ap eu", "eu", &somewhere, &nowhere),
        "eu by own, then ap"
    );
}

#[test]
fn distances_are_those_of_a_globe() {
    let check = |from: (f64, f64), to: (f64, f64), expected: f64| {
        let (from, to) = (point(from.0, from.1), point(to.0, to.1));
        let distance = from.distance(to);
        assert!(
            (distance - expected).abs() < 1.0,
            "{from:?} {to:?} {distance}"
        );
        assert!((distance - to.distance(from)).abs() < 1e-6);
    };
    check((0.0, 0.0), (0.0, 0.0), 0.0);
    check((0.0, 179.0), (0.0, -179.0), 222.4);
    check((90.0, 0.0), (-90.0, 0.0), 20015.1);
    check((60.0, 0.0), (60.0, 180.0), 6671.7);
    assert_eq!(Point::new(90.1, 0.0), None);
    assert_eq!(Point::new(0.0, -180.1), None);
    assert_eq!(Point::new(f64::NAN, 0.0), None);
}

proptest! {
    #[test]
    fn a_route_is_open_complete_and_the_same_again(
        regions in prop::collection::btree_set(0..4usize, 0..4),
        own in 0..4usize,
        token in prop::option::of(0..4usize),
        only in prop::option::of(prop::collection::btree_set(0..4usize, 1..4)),
        round_trips in prop::collection::btree_map(0..4usize, 0..60u64, 0..4),
        proxy in prop::option::of(0..4usize),
    ) {
        let name = |i: usize| region(PLACES[i].0);
        let clues = Clues {
            token: token.map(name),
            allowed: only.map(|only| only.into_iter().map(name).collect()),
            measured: round_trips.into_iter().map(|(i, ms)| (name(i), Duration::from_millis(ms))).collect(),
            proxy: proxy.map(|i| Place::Region(name(i))),
            ..Clues::default()
        };
        let regions: BTreeSet<Region> = regions.into_iter().map(name).collect();
        let (own, places) = (name(own), places());
        let world = World { regions: regions.iter().collect(), own: &own, places: &places };
        let open: BTreeSet<Region> = regions
            .iter()
            .filter(|it| clues.allowed.as_ref().is_none_or(|allowed| allowed.contains(it)))
            .cloned()
            .collect();
        match route(&clues, &world) {
            Err(_) => prop_assert!(open.is_empty() && !regions.is_empty()),
            Ok(route) if regions.is_empty() => prop_assert_eq!(&route.region, &own),
            Ok(found) => {
                let named: BTreeSet<Region> = found.others.iter().cloned().chain([found.region.clone()]).collect();
                prop_assert_eq!(named.len(), found.others.len() + 1, "none is named twice");
                prop_assert_eq!(&named, &open);
                if let Some(token) = &clues.token && open.contains(token) {
                    prop_assert_eq!(&found.region, token);
                } else if let Some(round_trip) = clues.measured.get(&found.region) {
                    let best = clues.measured.iter().filter(|(it, _)| open.contains(it)).map(|(_, it)| it).min();
                    prop_assert!(*round_trip < *best.unwrap() + NOISE);
                } else {
                    prop_assert!(!clues.measured.keys().any(|it| open.contains(it)));
                }
                prop_assert_eq!(Ok(found), route(&clues, &world));
            }
        }
    }
}
