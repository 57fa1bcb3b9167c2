//! Two regions and more: who lands where, and who is let in nowhere.

mod cases;

use pipemesh_proto::node::NodeState;
use pipemesh_signaling::{Config, Geo};
use pipemesh_topology::geo::Point;

use self::cases::{Door, PROXY, Person};
use crate::fake_node::{FakeNode, PATIENCE};
use crate::fixture::*;

fn door(fixture: &Fixture) -> Door {
    Door {
        address: fixture.address,
        region: "eu",
        key: (KEY, SECRET),
    }
}

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

#[tokio::test]
async fn a_hundred_people_land_where_the_rules_say() {
    let nodes = ["eu-1", "eu-2", "us-1", "us-2"].map(|id| FakeNode::start(id, &id[..2], 1));
    let fixture = Fixture::with(config(), &nodes.each_ref()).await;
    cases::a_hundred_people(&[door(&fixture)]).await;
    let counted = fixture.metric("pipemesh_joins_total", &[("result", "ok")]);
    assert!((fixture.metric("pipemesh_routes_total", &[]) - counted).abs() < 0.5);
}

#[tokio::test]
async fn a_room_is_where_it_began_and_keeps_out_who_may_not_be_there() {
    let nodes = [
        FakeNode::start("eu-1", "eu", 1),
        FakeNode::start("us-1", "us", 1),
    ];
    let fixture = Fixture::with(undivided(), &nodes.each_ref()).await;
    let nobody = Person::default();
    let alice = nobody
        .join(door(&fixture), "standup", "alice")
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
        .join(door(&fixture), "standup", "bob")
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
        .join(door(&fixture), "retro", "cleo")
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
    let (status, body) = only
        .join(door(&fixture), "standup", "dan")
        .await
        .err()
        .unwrap();
    let text = "no region that the token allows can take the participant: the room is in eu, and the token allows us";
    assert_eq!((status, body.as_str()), (451, text));
    assert!(only.join(door(&fixture), "retro", "dan").await.is_ok());
    // A list that cannot be read allows nothing.
    for nonsense in ["", "us,,eu", "eu west"] {
        let person = Person {
            allowed: Some(nonsense),
            ..Person::default()
        };
        let (status, body) = person
            .join(door(&fixture), "planning", "eve")
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
    let connect = person.connect(door(&fixture), "planning", "eve");
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
                .join(door(&fixture), &who, &who)
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
            let landed = person(regions, allowed)
                .join(door(&fixture), &who, &who)
                .await;
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
        .connect(door(&fixture), "standup", "alice")
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
