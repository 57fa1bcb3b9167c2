//! Two regions and more: who lands where, and who is let in nowhere.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use livekit_protocol::{JoinRequest, JoinResponse};
use livekit_token::{AccessToken, VideoGrants};
use pipemesh_loadtest::client::signal::{Connect, SignalClient};
use pipemesh_proto::node::NodeState;
use pipemesh_signaling::{Config, Geo};
use pipemesh_topology::geo::Point;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::net::TcpSocket;

use crate::fake_node::{FakeNode, PATIENCE};
use crate::fixture::*;

const PROXY: &str = "127.0.0.1";
const STRANGER: &str = "127.0.0.2";

/// Signaling in eu, that knows where regions are and believes one proxy.
fn config() -> Config {
    let region = |name: &str| name.parse().unwrap();
    let point = |latitude, longitude| Point::new(latitude, longitude).unwrap();
    Config {
        geo: Geo {
            places: [
                (region("ap"), point(1.35, 103.8)),
                (region("eu"), point(53.3, -6.3)),
                (region("us"), point(39.0, -77.5)),
            ]
            .into(),
            urls: [
                (region("mars"), "wss://mars.example.org".to_owned()),
                (region("us"), "wss://us.example.org".to_owned()),
            ]
            .into(),
            header: Some("cf-ipcountry".parse().unwrap()),
            areas: [
                ("de".to_owned(), region("eu")),
                ("us".to_owned(), region("us")),
            ]
            .into(),
            database: None,
        },
        trusted_proxies: vec![PROXY.parse().unwrap()],
        ..crate::fixture::config()
    }
}

/// Who joins, from where, with what to tell of it.
#[derive(Debug, Clone, Default)]
struct Person {
    token: Option<&'static str>,
    allowed: Option<&'static str>,
    parameters: Vec<(&'static str, String)>,
    header: Option<&'static str>,
    is_stranger: bool,
}

impl Person {
    fn connect(&self, address: SocketAddr, room: &str, identity: &str) -> Connect {
        let grants = VideoGrants {
            room_join: true,
            room: room.to_owned(),
            can_update_own_metadata: Some(true),
            ..Default::default()
        };
        let token = self.token.map(|region| ("pipemesh.region", region));
        let allowed = self
            .allowed
            .map(|regions| ("pipemesh.regions_allowed", regions));
        let token = AccessToken::with_api_key(KEY, SECRET)
            .with_identity(identity)
            .with_grants(grants)
            .with_attributes(token.into_iter().chain(allowed));
        // Nobody may say himself where he is.
        let forged =
            ["node", "region", "placement"].map(|it| (format!("pipemesh.{it}"), "mars".to_owned()));
        let request = JoinRequest {
            participant_attributes: forged.into(),
            ..Default::default()
        };
        let mut connect = Connect::new(
            address.to_string(),
            token.to_jwt().unwrap(),
            single(request),
        );
        let parameters = self.parameters.iter();
        connect.parameters = parameters
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let header = self
            .header
            .map(|value| ("cf-ipcountry".parse().unwrap(), value.parse().unwrap()));
        connect.headers = header.into_iter().collect();
        connect
    }

    /// Where they are and why, or the status and the reason of a refusal.
    async fn join(
        &self,
        fixture: &Fixture,
        room: &str,
        identity: &str,
    ) -> Result<Landed, (u16, String)> {
        let connect = self.connect(fixture.address, room, identity);
        let from = if self.is_stranger { STRANGER } else { PROXY };
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind((from.parse::<std::net::Ipv4Addr>().unwrap(), 0).into())
            .unwrap();
        let tcp = socket.connect(fixture.address).await.unwrap();
        match SignalClient::connect_over(Box::new(tcp), &connect, PATIENCE).await {
            Ok(mut client) => {
                let joined = client.joined(PATIENCE).await.unwrap();
                Ok(Landed {
                    why: attribute(&joined, "placement"),
                    region: attribute(&joined, "region"),
                    node: attribute(&joined, "node"),
                    _client: client,
                })
            }
            Err(pipemesh_loadtest::client::signal::ConnectError::Refused { status, body }) => {
                Err((status, body))
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

struct Landed {
    region: String,
    node: String,
    why: String,
    _client: SignalClient,
}

fn attribute(joined: &JoinResponse, name: &str) -> String {
    joined.participant.as_ref().unwrap().attributes[&format!("pipemesh.{name}")].clone()
}

/// Where somebody belongs in a mesh of eu and us that was asked in eu, and what tells it.
fn expected(
    person: &Person,
    round_trips: (Option<u64>, Option<u64>),
) -> Option<(&'static str, &'static str)> {
    let allowed: BTreeSet<&str> = match person.allowed {
        None => ["eu", "us"].into(),
        Some(regions) => regions.split(", ").collect(),
    };
    let open: Vec<&'static str> = ["eu", "us"]
        .into_iter()
        .filter(|it| allowed.contains(it))
        .collect();
    let only = match open[..] {
        [] => return None,
        [only] => Some(only),
        _ => None,
    };
    if let Some(region) = person.token.filter(|it| open.contains(it)) {
        return Some((region, "token"));
    }
    let measured = match round_trips {
        (None, None) => None,
        (Some(_), None) => Some("eu"),
        (None, Some(_)) => Some("us"),
        (Some(eu), Some(us)) if only.is_none() && eu.abs_diff(us) < 10 => None,
        (Some(eu), Some(us)) => only.or(if eu < us { Some("eu") } else { Some("us") }),
    };
    if let Some(region) = measured.filter(|it| open.contains(it)) {
        return Some((region, "measured"));
    }
    let said = match person.header.filter(|_| !person.is_stranger) {
        Some("DE" | "eu" | "51.5,-0.1") => Some("eu"),
        Some("US" | "us" | "40.7,-74.0") => Some("us"),
        _ => None,
    };
    match (said, only) {
        // The next one to there is the one that is left.
        (Some(_), Some(only)) => Some((only, "proxy")),
        (Some(said), None) => Some((said, "proxy")),
        (None, Some("us")) => Some(("us", "nearest")),
        (None, _) => Some(("eu", "own")),
    }
}

#[tokio::test]
async fn a_hundred_people_land_where_the_rules_say() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let nodes = ["eu-1", "eu-2", "us-1", "us-2"].map(|id| FakeNode::start(id, &id[..2], 1));
    let fixture = Fixture::with(config(), &nodes.each_ref()).await;
    let mut seen = BTreeSet::new();
    for number in 0..100 {
        let mut pick = |options: &[&'static str], share: f64| -> Option<&'static str> {
            let chosen = options.choose(&mut random).copied();
            chosen.filter(|_| random.random_bool(share))
        };
        let mut person = Person {
            token: pick(&["eu", "us", "mars"], 0.2),
            allowed: pick(&["eu", "us", "eu, us", "us, mars", "mars"], 0.3),
            header: pick(
                &[
                    "DE",
                    "eu",
                    "51.5,-0.1",
                    "US",
                    "us",
                    "40.7,-74.0",
                    "??",
                    "mars",
                ],
                0.7,
            ),
            ..Person::default()
        };
        person.is_stranger = random.random_bool(0.3);
        let mut round_trip = || {
            random
                .random_bool(0.7)
                .then(|| random.random_range(1..60_u64))
        };
        let round_trips = match (round_trip(), round_trip()) {
            _ if number % 2 == 0 => (None, None),
            (eu, us) => (eu, us),
        };
        let named = [("eu", round_trips.0), ("us", round_trips.1)];
        let named = named
            .into_iter()
            .filter_map(|(it, ms)| Some(format!("{it}:{}", ms?)));
        let named: Vec<String> = named.collect();
        let regions = match number % 10 {
            // What makes no sense says nothing, and what has no nodes neither.
            0 => "eu:fast,us:1".to_owned(),
            1 if !named.is_empty() => format!("mars:1,{}", named.join(",")),
            _ => named.join(","),
        };
        person.parameters = vec![("regions", regions)];
        let (room, identity) = (format!("room-{number}"), format!("person-{number}"));
        let landed = person.join(&fixture, &room, &identity).await;
        let what = format!("seed {seed}: {number}: {person:?}");
        match (landed, expected(&person, round_trips)) {
            (Ok(landed), Some((region, clue))) => {
                let (by, how) = landed.why.split_once('/').unwrap();
                assert_eq!((landed.region.as_str(), by), (region, clue), "{what}");
                assert!(landed.node.starts_with(region), "{} {what}", landed.node);
                assert!(["ring", "overflow"].contains(&how), "{how} {what}");
                seen.insert(clue);
            }
            (Err((status, body)), None) => {
                assert_eq!(status, 451, "{body} {what}");
                assert!(body.contains("there are nodes in eu, us"), "{body} {what}");
                seen.insert("nothing");
            }
            (Ok(landed), None) => panic!("in {} {what}", landed.region),
            (Err(refused), Some(expected)) => panic!("{refused:?} {expected:?} {what}"),
        }
    }
    assert!(seen.len() >= 5, "a mesh of all sorts: {seen:?}");
    let counted = fixture.metric("pipemesh_joins_total", &[("result", "ok")]);
    assert!((fixture.metric("pipemesh_routes_total", &[]) - counted).abs() < 0.5);
}

#[tokio::test]
async fn a_room_is_where_it_began_and_keeps_out_who_may_not_be_there() {
    let nodes = [
        FakeNode::start("eu-1", "eu", 1),
        FakeNode::start("us-1", "us", 1),
    ];
    let fixture = Fixture::with(config(), &nodes.each_ref()).await;
    let nobody = Person::default();
    let alice = nobody
        .join(&fixture, "standup", "alice")
        .await
        .unwrap_or_else(|it| panic!("{it:?}"));
    assert_eq!(
        (alice.region.as_str(), alice.why.as_str()),
        ("eu", "own/ring")
    );
    let far = Person {
        parameters: vec![("regions", "eu:90,us:5".to_owned())],
        ..Person::default()
    };
    let bob = far
        .join(&fixture, "standup", "bob")
        .await
        .unwrap_or_else(|it| panic!("{it:?}"));
    assert_eq!(
        (bob.region.as_str(), bob.why.as_str()),
        ("eu", "measured/sticky")
    );
    let wishes = Person {
        parameters: vec![("region", "us".to_owned())],
        ..Person::default()
    };
    let cleo = wishes
        .join(&fixture, "retro", "cleo")
        .await
        .unwrap_or_else(|it| panic!("{it:?}"));
    assert_eq!(
        (cleo.region.as_str(), cleo.why.as_str()),
        ("us", "asked/ring")
    );
    let only = Person {
        allowed: Some("us"),
        ..Person::default()
    };
    let (status, body) = only.join(&fixture, "standup", "dan").await.err().unwrap();
    let text = "no region that the token allows can take the participant: the room is in eu, and the token allows us";
    assert_eq!((status, body.as_str()), (451, text));
    assert!(only.join(&fixture, "retro", "dan").await.is_ok());
    // A list that cannot be read allows nothing.
    for nonsense in ["", "us,,eu", "eu west"] {
        let person = Person {
            allowed: Some(nonsense),
            ..Person::default()
        };
        let (status, body) = person
            .join(&fixture, "planning", "eve")
            .await
            .err()
            .unwrap();
        assert_eq!(status, 400, "{nonsense:?}");
        assert!(body.contains("pipemesh.regions_allowed"), "{body}");
    }
    // An SDK asks again why.
    let person = Person {
        allowed: Some("mars"),
        ..Person::default()
    };
    let connect = person.connect(fixture.address, "planning", "eve");
    let told = fixture.http("GET", &connect.validate_target(), &[]).await;
    assert_eq!(told.status, 451, "{told:?}");
    assert_eq!(told.headers["access-control-allow-origin"], "*");
}

#[tokio::test]
async fn a_full_region_overflows_to_the_next_by_round_trip_that_is_allowed() {
    let nodes = ["ap-1", "eu-1", "us-1"].map(|id| FakeNode::start(id, &id[..2], 1));
    let fixture = Fixture::with(config(), &nodes.each_ref()).await;
    nodes[1].set_state(NodeState::Full);
    let person = |regions: &str, allowed| Person {
        allowed,
        parameters: vec![("regions", regions.to_owned())],
        ..Person::default()
    };
    let full = async {
        let near = person("eu:5,ap:50,us:90", None);
        for attempt in 0.. {
            let who = format!("first-{attempt}");
            if near
                .join(&fixture, &who, &who)
                .await
                .is_ok_and(|it| it.region != "eu")
            {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, full)
        .await
        .expect("the region is full");
    let check =
        async |number: u8, regions: &str, allowed, expected: Result<(&str, &str), (u16, &str)>| {
            let who = format!("person-{number}");
            let landed = person(regions, allowed).join(&fixture, &who, &who).await;
            let landed = landed
                .as_ref()
                .map(|it| (it.region.as_str(), it.why.as_str()));
            let landed = landed.map_err(|(status, body)| (*status, body.as_str()));
            assert_eq!(landed, expected, "{regions} {allowed:?}");
        };
    check(0, "eu:5,ap:50,us:90", None, Ok(("ap", "measured/region"))).await;
    check(1, "eu:5,ap:90,us:50", None, Ok(("us", "measured/region"))).await;
    // Without round trips by the way over the globe.
    check(2, "", None, Ok(("us", "own/region"))).await;
    check(
        3,
        "eu:5,ap:50,us:90",
        Some("eu, us"),
        Ok(("us", "measured/region")),
    )
    .await;
    let refusal = "no region that the token allows can take the participant: no node can take the room: \
                   ap-1 is in a region that is not allowed, eu-1 is full, us-1 is in a region that is not allowed";
    check(4, "eu:5", Some("eu"), Err((451, refusal))).await;
    assert!(fixture.metric("pipemesh_joins_total", &[("result", "not_allowed")]) > 0.5);
}

#[tokio::test]
async fn regions_are_listed_best_first_for_who_asks() {
    let nodes = ["ap-1", "eu-1", "us-1"].map(|id| FakeNode::start(id, &id[..2], 1));
    let fixture = Fixture::with(config(), &nodes.each_ref()).await;
    let listed = async |target: &str, headers: &[&str]| {
        let answer = fixture.http("GET", target, headers).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        (json["regions"].clone(), answer)
    };
    let own = format!("ws://{}", fixture.address);
    let eu =
        |distance: &str| serde_json::json!({ "region": "eu", "url": own, "distance": distance });
    let us = |distance: &str| serde_json::json!({ "region": "us", "url": "wss://us.example.org", "distance": distance });
    // Neither mars, which has no nodes, nor ap, of which nobody knows how to reach it.
    let (regions, first) = listed("/settings/regions", &[]).await;
    let metres = regions[1]["distance"].as_str().unwrap().to_owned();
    assert!(
        (5_300_000..5_600_000).contains(&metres.parse::<u64>().unwrap()),
        "{metres}"
    );
    assert_eq!(regions, serde_json::json!([eu("0"), us(&metres)]));
    assert_eq!(first.headers["content-type"], "application/json");
    assert_eq!(first.headers["cache-control"], "private, max-age=5");
    assert_eq!(first.headers["access-control-allow-origin"], "*");
    let known = format!("If-None-Match: {}", first.headers["etag"]);
    let again = fixture.http("GET", "/settings/regions", &[&known]).await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));

    let (regions, _) = listed("/settings/regions?regions=eu:90,us:5", &[&known]).await;
    assert_eq!(regions, serde_json::json!([us("0"), eu(&metres)]));
    let (regions, _) = listed("/settings/regions", &["CF-IPCountry: US"]).await;
    assert_eq!(regions, serde_json::json!([us("0"), eu(&metres)]));
    let person = |allowed| {
        Person {
            allowed,
            ..Person::default()
        }
        .connect(fixture.address, "standup", "alice")
        .token
    };
    let bearer = format!("Authorization: Bearer {}", person(Some("us")));
    let (regions, _) = listed("/settings/regions", &[&bearer]).await;
    assert_eq!(regions, serde_json::json!([us("0")]));
    let target = format!("/settings/regions?access_token={}", person(Some("mars")));
    assert_eq!(fixture.http("GET", &target, &[]).await.status, 451);
    let forged = fixture
        .http(
            "GET",
            "/settings/regions",
            &["Authorization: Bearer nonsense"],
        )
        .await;
    assert_eq!(forged.status, 401);
}

#[tokio::test]
async fn how_far_a_region_is_is_measured_with_next_to_nothing() {
    let fixture = Fixture::start(&[]).await;
    let answer = fixture.http("GET", "/rtt", &[]).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["timing-allow-origin"], "*");
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
}
