//! Who joins from where, and where the rules say that they land. No more of the mesh is known here than that it
//! has nodes in eu and us, and how it is asked.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use livekit_protocol::{ClientInfo, JoinRequest, JoinResponse, client_info};
use livekit_token::{AccessToken, VideoGrants};
use pipemesh_loadtest_client::signal::{Connect, ConnectError, SignalClient};
use pipemesh_loadtest_client::url::Dialect;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::net::TcpSocket;

/// Who is believed when it says where a client is, and who is not.
pub(crate) const PROXY: &str = "127.0.0.1";
const STRANGER: &str = "127.0.0.2";

/// For every single wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// A signaling process: where it listens, in which region it is, whose tokens it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) region: &'static str,
    pub(crate) key: (&'static str, &'static str),
}

/// Who joins, from where, with what to tell of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Person {
    pub(crate) token: Option<&'static str>,
    pub(crate) allowed: Option<&'static str>,
    pub(crate) parameters: Vec<(&'static str, String)>,
    pub(crate) header: Option<&'static str>,
    pub(crate) is_stranger: bool,
}

impl Person {
    pub(crate) fn connect(&self, door: Door, room: &str, identity: &str) -> Connect {
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
        let token = AccessToken::with_api_key(door.key.0, door.key.1)
            .with_identity(identity)
            .with_grants(grants)
            .with_attributes(token.into_iter().chain(allowed));
        // Nobody may say himself where he is.
        let forged =
            ["node", "region", "placement"].map(|it| (format!("pipemesh.{it}"), "mars".to_owned()));
        let request = JoinRequest {
            client_info: Some(ClientInfo {
                sdk: client_info::Sdk::Js.into(),
                version: "2.23.0".to_owned(),
                protocol: 17,
                ..Default::default()
            }),
            participant_attributes: forged.into(),
            ..Default::default()
        };
        let mut connect = Connect::new(
            door.address.to_string(),
            token.to_jwt().unwrap(),
            Dialect::single(request),
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
    pub(crate) async fn join(
        &self,
        door: Door,
        room: &str,
        identity: &str,
    ) -> Result<Landed, (u16, String)> {
        let connect = self.connect(door, room, identity);
        let from = if self.is_stranger { STRANGER } else { PROXY };
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind((from.parse::<Ipv4Addr>().unwrap(), 0).into())
            .unwrap();
        let tcp = socket.connect(door.address).await.unwrap();
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
            Err(ConnectError::Refused { status, body }) => Err((status, body)),
            Err(error) => panic!("{error:?}"),
        }
    }
}

pub(crate) struct Landed {
    pub(crate) region: String,
    pub(crate) node: String,
    pub(crate) why: String,
    _client: SignalClient,
}

fn attribute(joined: &JoinResponse, name: &str) -> String {
    joined.participant.as_ref().unwrap().attributes[&format!("pipemesh.{name}")].clone()
}

/// Where somebody belongs in a mesh of eu and us, and what tells it. `own`: the region that was asked.
fn expected(
    person: &Person,
    round_trips: (Option<u64>, Option<u64>),
    own: &'static str,
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
        (None, Some(only)) if only != own => Some((only, "nearest")),
        (None, _) => Some((own, "own")),
    }
}

/// Lets a hundred people in, one after the other and each at the next door, and checks that each lands where the
/// rules say. The seed is said first.
pub(crate) async fn a_hundred_people(doors: &[Door]) {
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut seen = BTreeSet::new();
    for number in 0..100 {
        // Every other one has measured nothing, at each door.
        let door = doors[(number / 2) % doors.len()];
        let (person, round_trips) = draw(&mut random, number);
        let (room, identity) = (format!("room-{number}"), format!("person-{number}"));
        let landed = person.join(door, &room, &identity).await;
        let what = format!("seed {seed}: {number}: {person:?} in {}", door.region);
        match (landed, expected(&person, round_trips, door.region)) {
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
}

/// Somebody, and their round trips to eu and us as far as they make sense.
fn draw(random: &mut StdRng, number: usize) -> (Person, (Option<u64>, Option<u64>)) {
    let mut pick = |options: &[&'static str], share: f64| -> Option<&'static str> {
        let chosen = options.choose(&mut *random).copied();
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
        _ if number.is_multiple_of(2) => (None, None),
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
    (person, round_trips)
}
