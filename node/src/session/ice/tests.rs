//! The agent against checks that another STUN implementation (`rtc::stun`) wrote and whose answers that
//! implementation reads; it answers the agent's own checks, too.

mod proof;

use rand::{SeedableRng, rngs::StdRng};
use rtc::stun::attributes::*;
use rtc::stun::error_code::ErrorCodeAttribute;
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{
    BINDING_REQUEST, BINDING_SUCCESS, Getter, Message, Setter, TransactionId,
};
use rtc::stun::textattrs::TextAttribute;
use rtc::stun::xoraddr::XorMappedAddress;
use rtc_crypto::{RTCCryptoProvider, providers::AwsLcRsProvider};

use super::*;

const REMOTE: &str = "clnt";
const REMOTE_PASSWORD: &str = "the client's password";
/// What the agent is called by those who ask.
const NAME: u32 = 77;

/// A check as a browser writes it, with whatever a test wants different.
#[derive(Clone)]
struct Check {
    username: Option<String>,
    password: Option<String>,
    attributes: Vec<(AttrType, Vec<u8>)>,
    fingerprint: bool,
}

impl Check {
    fn to(agent: &IceAgent) -> Self {
        Self::with(agent.local_credentials())
    }

    fn with(credentials: &Credentials) -> Self {
        Self {
            username: Some(format!("{}:{REMOTE}", credentials.ufrag)),
            password: Some(credentials.password.clone()),
            attributes: vec![
                (ATTR_ICE_CONTROLLING, vec![1; 8]),
                (ATTR_PRIORITY, vec![0x6e, 0, 1, 0xff]),
            ],
            fingerprint: true,
        }
    }

    fn nominating(mut self) -> Self {
        self.attributes.push((ATTR_USE_CANDIDATE, vec![]));
        self
    }

    fn numbered(mut self, value: u32) -> Self {
        let attribute = (AttrType(0xC001), value.to_be_bytes().to_vec());
        self.attributes.push(attribute);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let provider = AwsLcRsProvider::new();
        let mut message = Message::new();
        let setters: Vec<Box<dyn Setter>> =
            vec![Box::new(BINDING_REQUEST), Box::new(TransactionId::new())];
        message.build(&setters).unwrap();
        if let Some(username) = &self.username {
            message.add(ATTR_USERNAME, username.as_bytes());
        }
        for (kind, value) in &self.attributes {
            message.add(*kind, value);
        }
        if let Some(password) = &self.password {
            MessageIntegrity::new_short_term_integrity_with_provider(
                password.clone(),
                provider.crypto(),
            )
            .add_to(&mut message)
            .unwrap();
        }
        if self.fingerprint {
            FINGERPRINT.add_to(&mut message).unwrap();
        }
        message.raw
    }
}

/// One that knows nothing of the client.
fn agent() -> IceAgent {
    IceAgent::new(Credentials::generate(0, &mut rng()))
}

/// One whose client is known, and has done its handshake before.
fn settled() -> IceAgent {
    let mut agent = agent();
    agent.set_remote(REMOTE, REMOTE_PASSWORD, Instant::now());
    agent.handshake_ends();
    agent
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(8445)
}

fn path(number: u16) -> Path {
    Path {
        socket: 0,
        remote: SocketAddr::from(([192, 0, 2, 1], 5000 + number)),
    }
}

fn events(agent: &mut IceAgent) -> Vec<Event> {
    std::iter::from_fn(|| agent.poll_event()).collect()
}

/// A check that a client made which is where it says it is: it answers the agent's, too.
fn accept(agent: &mut IceAgent, check: &Check, path: Path, now: Instant) {
    let check = check.bytes();
    let (verdict, reply) = agent.handle_binding(&check, path, false, now).unwrap();
    assert_eq!(verdict, Verdict::Accepted);
    let mut replies: Vec<_> = reply.into_iter().map(|reply| (path, reply)).collect();
    while let Some((to, message)) = agent.poll_transmit(NAME, &mut rng()) {
        assert_eq!(to, path);
        match answer(message.bytes()) {
            Some(answer) => {
                let owed = agent.handle_answer(&answer, path).unwrap();
                replies.extend(owed.map(|reply| (path, reply)));
            }
            None => replies.push((to, message)),
        }
    }
    assert_eq!(replies.len(), 1, "the check is answered once");
    assert_eq!(replies[0].1.bytes()[8..20], check[8..20]);
}

/// What a client answers to a check of the agent's. `None`: it is none.
fn answer(check: &[u8]) -> Option<Vec<u8>> {
    let mut request = Message::new();
    request.unmarshal_binary(check).unwrap();
    if request.typ != BINDING_REQUEST {
        return None;
    }
    let username = TextAttribute::get_from_as(&request, ATTR_USERNAME).unwrap();
    assert_eq!(username.text.split(':').next(), Some(REMOTE));
    assert!(request.contains(ATTR_PRIORITY) && request.contains(ATTR_ICE_CONTROLLED));
    assert!(!request.contains(ATTR_USE_CANDIDATE));
    FINGERPRINT.check(&request).unwrap();
    let provider = AwsLcRsProvider::new();
    let password = REMOTE_PASSWORD.as_bytes();
    MessageIntegrity::check(&mut request, password, provider.crypto()).unwrap();

    let mut response = Message::new();
    let id = request.transaction_id;
    let setters: Vec<Box<dyn Setter>> = vec![Box::new(BINDING_SUCCESS), Box::new(id)];
    response.build(&setters).unwrap();
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(
        REMOTE_PASSWORD.to_owned(),
        provider.crypto(),
    );
    integrity.add_to(&mut response).unwrap();
    FINGERPRINT.add_to(&mut response).unwrap();
    Some(response.raw)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_check_is_answered_as_another_implementation_expects() {
    for (remote, fingerprint) in [
        ("192.0.2.1:5000", true),
        ("192.0.2.1:5000", false),
        ("[2001:db8::1]:5000", true),
    ] {
        let mut agent = agent();
        let check = Check {
            fingerprint,
            ..Check::to(&agent)
        };
        let request = check.bytes();
        let path = Path {
            socket: 3,
            remote: remote.parse().unwrap(),
        };
        let (_, reply) = agent
            .handle_binding(&request, path, false, Instant::now())
            .unwrap();
        let reply = reply.unwrap();
        assert!(reply.bytes().len() <= request.len());

        let mut response = Message::new();
        response.unmarshal_binary(reply.bytes()).unwrap();
        assert_eq!(response.transaction_id.0, request[8..20]);
        let mut address = XorMappedAddress::default();
        address.get_from(&response).unwrap();
        assert_eq!(SocketAddr::new(address.ip, address.port), path.remote);
        let password = agent.local_credentials().password.clone();
        let provider = AwsLcRsProvider::new();
        MessageIntegrity::check(&mut response, password.as_bytes(), provider.crypto()).unwrap();
        assert_eq!(response.contains(ATTR_FINGERPRINT), fingerprint);
        if fingerprint {
            FINGERPRINT.check(&response).unwrap();
        }
    }
}

/// Name, error code, whether the answer is signed, and what is wrong with the check.
type Refusal = (&'static str, i32, bool, fn(&mut Check));

#[test]
fn requests_that_are_refused() {
    #[rustfmt::skip]
    let rows: &[Refusal] = &[
        ("no username",         400, false, |c| c.username = None),
        ("no colon",            400, false, |c| c.username = Some("nobody".into())),
        ("no integrity",        400, false, |c| c.password = None),
        ("wrong password",      401, false, |c| c.password = Some("x".repeat(24))),
        ("wrong sender",        401, false, |c| c.username.as_mut().unwrap().push('x')),
        ("unknown attribute",   420, true,  |c| c.attributes.push((AttrType(0x7ffe), vec![1]))),
        ("controlled sender",   487, true,  |c| c.attributes[0].0 = ATTR_ICE_CONTROLLED),
    ];
    for (name, code, signed, spoil) in rows {
        let mut agent = settled();
        let mut check = Check::to(&agent);
        spoil(&mut check);
        let request = check.bytes();
        let (verdict, reply) = agent
            .handle_binding(&request, path(0), false, Instant::now())
            .unwrap_or_else(|reason| panic!("{name}: dropped as {reason:?}"));
        let reply = reply.unwrap();
        assert_eq!(verdict, Verdict::Refused, "{name}");
        assert!(reply.bytes().len() <= request.len(), "{name}");

        let mut response = Message::new();
        response.unmarshal_binary(reply.bytes()).unwrap();
        let mut error = ErrorCodeAttribute::default();
        error.get_from(&response).unwrap();
        assert_eq!(i32::from(error.code.0), *code, "{name}");
        assert_eq!(response.contains(ATTR_MESSAGE_INTEGRITY), *signed, "{name}");
        assert_eq!(agent.selected(), None, "{name}");
        assert_eq!(events(&mut agent), [], "{name}");
    }
}

#[test]
fn datagrams_that_get_no_answer() {
    let mut agent = agent();
    let mut refuse = |datagram: &[u8], reason| {
        let outcome = agent.handle_binding(datagram, path(0), false, Instant::now());
        assert_eq!(outcome.map(|_| ()).unwrap_err(), reason);
    };
    let good = Check::to(&self::agent());
    refuse(b"", DropReason::Malformed);
    refuse(&good.bytes()[1..], DropReason::Malformed);
    let mut indication = good.bytes();
    indication[1] = 0x11;
    refuse(&indication, DropReason::NotARequest);
    let mut damaged = good.bytes();
    *damaged.last_mut().unwrap() ^= 1;
    refuse(&damaged, DropReason::Fingerprint);
    let mut foreign = good.clone();
    foreign.username = Some(format!("somebody:{REMOTE}"));
    refuse(&foreign.bytes(), DropReason::ForeignUfrag);
}

#[test]
fn the_shortest_checks_are_not_amplified() {
    // 20 + username + 24 is the least that can be authenticated, 76 the longest answer.
    let mut agent = agent();
    let ufrag = agent.local_credentials().ufrag.clone();
    let shortest = Check {
        username: Some(format!("{ufrag}:x")),
        password: Some(agent.local_credentials().password.clone()),
        attributes: vec![],
        fingerprint: false,
    };
    let request = shortest.bytes();
    let ipv6 = Path {
        socket: 0,
        remote: "[2001:db8::1]:5000".parse().unwrap(),
    };
    let outcome = agent.handle_binding(&request, ipv6, false, Instant::now());
    assert_eq!(outcome.map(|_| ()).unwrap_err(), DropReason::WouldAmplify);
    assert!(!agent.is_served(ipv6));
    let (_, reply) = agent
        .handle_binding(&request, path(0), false, Instant::now())
        .unwrap();
    assert!(reply.unwrap().bytes().len() <= request.len());

    let bare = Check {
        username: None,
        password: None,
        attributes: vec![],
        fingerprint: false,
    };
    let outcome = agent.handle_binding(&bare.bytes(), path(0), false, Instant::now());
    assert_eq!(outcome.map(|_| ()).unwrap_err(), DropReason::WouldAmplify);
}

#[test]
fn a_path_serves_before_it_is_nominated() {
    let now = Instant::now();
    let mut agent = settled();
    let check = Check::to(&agent);
    accept(&mut agent, &check, path(1), now);
    assert_eq!(
        events(&mut agent),
        [
            Event::PathAdded(path(1)),
            Event::PathProven(path(1)),
            Event::PathSelected(path(1)),
            Event::Connected
        ]
    );
    // Until one is nominated the latest checked path is used.
    accept(&mut agent, &check, path(2), now);
    assert_eq!(agent.selected(), Some(path(2)));
    accept(&mut agent, &check.clone().nominating(), path(1), now);
    assert_eq!(agent.selected(), Some(path(1)));
    accept(&mut agent, &check, path(2), now);
    assert_eq!(agent.selected(), Some(path(1)));
    assert!(agent.is_served(path(2)));
    // The newest nomination wins.
    accept(&mut agent, &check.nominating(), path(2), now);
    assert_eq!(agent.selected(), Some(path(2)));
}

#[test]
fn numbered_nominations_win_by_number() {
    let now = Instant::now();
    let mut agent = settled();
    let check = Check::to(&agent);
    for (number, nomination, selected) in [
        (1, Some(5), 1),
        (2, Some(4), 1),
        (2, Some(5), 1),
        (2, None, 1),
        (2, Some(6), 2),
        (1, Some(5), 2),
    ] {
        let check = match nomination {
            Some(value) => check.clone().numbered(value).nominating(),
            None => check.clone().nominating(),
        };
        accept(&mut agent, &check, path(number), now);
        assert_eq!(agent.selected(), Some(path(selected)), "{nomination:?}");
    }
}

#[test]
fn the_remote_name_is_checked_once_it_is_known() {
    let now = Instant::now();
    let mut agent = agent();
    let mut stranger = Check::to(&agent);
    stranger.username = Some(format!("{}:other", agent.local_credentials().ufrag));
    accept(&mut agent, &stranger, path(1), now);
    agent.set_remote(REMOTE, REMOTE_PASSWORD, now);
    agent.set_remote(REMOTE, REMOTE_PASSWORD, now);
    let outcome = agent
        .handle_binding(&stranger.bytes(), path(1), false, now)
        .unwrap();
    assert_eq!(outcome.0, Verdict::Refused);
    let check = Check::to(&agent);
    accept(&mut agent, &check, path(1), now);
}

#[test]
fn consent_expires_and_comes_back() {
    let start = Instant::now();
    let mut agent = settled();
    let check = Check::to(&agent).nominating();
    assert_eq!(agent.poll_timeout(), None);
    accept(&mut agent, &check, path(1), start);
    events(&mut agent);

    assert_eq!(agent.poll_timeout(), Some(start + seconds(10)));
    agent.handle_timeout(start + seconds(10) - Duration::from_nanos(1));
    assert_eq!(events(&mut agent), []);
    agent.handle_timeout(start + seconds(10));
    assert_eq!(events(&mut agent), [Event::Interrupted]);
    assert_eq!(agent.selected(), Some(path(1)));

    accept(&mut agent, &check, path(1), start + seconds(12));
    assert_eq!(events(&mut agent), [Event::Connected]);

    agent.handle_timeout(start + seconds(22));
    assert_eq!(agent.poll_timeout(), Some(start + seconds(42)));
    agent.handle_timeout(start + seconds(42));
    assert_eq!(
        events(&mut agent),
        [
            Event::Interrupted,
            Event::PathRemoved(path(1)),
            Event::Failed
        ]
    );
    assert_eq!(agent.selected(), None);
    assert!(!agent.is_served(path(1)));
    assert_eq!(agent.poll_timeout(), None);

    accept(&mut agent, &check, path(2), start + seconds(100));
    assert_eq!(
        events(&mut agent),
        [
            Event::PathAdded(path(2)),
            Event::PathProven(path(2)),
            Event::PathSelected(path(2)),
            Event::Connected
        ]
    );
}

#[test]
fn a_silent_path_loses_to_one_that_is_checked() {
    let start = Instant::now();
    let mut agent = settled();
    let check = Check::to(&agent);
    accept(&mut agent, &check.clone().nominating(), path(1), start);
    for second in 1..=6 {
        accept(&mut agent, &check, path(2), start + seconds(second * 5));
        agent.handle_timeout(start + seconds(second * 5));
    }
    assert_eq!(agent.selected(), Some(path(2)));
    assert!(!agent.is_served(path(1)));
    assert!(!events(&mut agent).contains(&Event::Interrupted));
}

#[test]
fn paths_are_bounded_and_the_selected_one_stays() {
    let start = Instant::now();
    let mut agent = settled();
    let check = Check::to(&agent);
    accept(&mut agent, &check.clone().nominating(), path(0), start);
    events(&mut agent);
    for number in 1..100 {
        let now = start + Duration::from_millis(number.into());
        accept(&mut agent, &check, path(number), now);
        let added = events(&mut agent);
        assert!(added.len() <= 4, "{added:?}");
        if usize::from(number) >= MAX_PATHS {
            let stalest = path(number - (MAX_PATHS as u16 - 1));
            assert!(added.contains(&Event::PathRemoved(stalest)), "{added:?}");
        }
    }
    assert_eq!(agent.paths.len(), MAX_PATHS);
    assert_eq!(agent.selected(), Some(path(0)));
    assert!(agent.is_served(path(0)) && agent.is_served(path(99)));
}

#[test]
fn a_restart_serves_both_generations_until_a_nomination() {
    let mut rng = StdRng::seed_from_u64(1);
    let start = Instant::now();
    let mut agent = settled();
    let old = Check::to(&agent).nominating();
    let old_ufrag = agent.local_credentials().ufrag.clone();
    accept(&mut agent, &old, path(1), start);
    events(&mut agent);

    let fresh = Credentials::generate(0, &mut rng);
    agent.restart(fresh.clone());
    assert_ne!(fresh.ufrag, old_ufrag);
    assert_eq!(events(&mut agent), []);
    accept(&mut agent, &old, path(1), start);
    // The client's new name arrives only with its answer, and nobody can be asked before.
    let new = Check::with(&fresh);
    let early = agent.handle_binding(&new.bytes(), path(2), false, start);
    assert!(
        early.unwrap().1.is_none(),
        "what pays for it is kept for ours"
    );
    assert_eq!(agent.selected(), Some(path(1)));
    accept(&mut agent, &old, path(1), start);
    assert_eq!(events(&mut agent), [Event::PathAdded(path(2))]);

    accept(&mut agent, &new.nominating(), path(2), start);
    assert_eq!(events(&mut agent), [Event::UfragRetired(old_ufrag.clone())]);
    agent.set_remote(REMOTE, REMOTE_PASSWORD, start);
    let (to, check) = agent.poll_transmit(NAME, &mut rng).unwrap();
    assert_eq!(to, path(2));
    let answer = answer(check.bytes()).unwrap();
    let owed = agent.handle_answer(&answer, path(2)).unwrap();
    assert!(owed.is_none(), "its last check was answered");
    assert_eq!(
        events(&mut agent),
        [Event::PathProven(path(2)), Event::PathSelected(path(2))]
    );
    let outcome = agent.handle_binding(&old.bytes(), path(1), false, start);
    assert_eq!(outcome.map(|_| ()).unwrap_err(), DropReason::ForeignUfrag);
}

#[test]
fn an_unused_restart_does_not_displace_what_the_client_uses() {
    let mut rng = StdRng::seed_from_u64(2);
    let now = Instant::now();
    let mut agent = settled();
    let in_use = Check::to(&agent).nominating();
    accept(&mut agent, &in_use, path(1), now);
    events(&mut agent);
    let unused = Credentials::generate(0, &mut rng);
    agent.restart(unused.clone());
    let unused = unused.ufrag;
    agent.restart(Credentials::generate(0, &mut rng));
    assert_eq!(events(&mut agent), [Event::UfragRetired(unused)]);
    accept(&mut agent, &in_use, path(1), now);
}

#[test]
fn numbering_starts_over_with_a_restart() {
    let mut rng = StdRng::seed_from_u64(3);
    let now = Instant::now();
    let mut agent = settled();
    let old = Check::to(&agent).numbered(9);
    accept(&mut agent, &old, path(1), now);
    agent.restart(Credentials::generate(0, &mut rng));
    agent.set_remote(REMOTE, REMOTE_PASSWORD, now);
    let new = Check::to(&agent);
    accept(&mut agent, &new.numbered(1), path(2), now);
    assert_eq!(agent.selected(), Some(path(2)));
}

#[test]
fn mutated_checks_change_nothing() {
    use rand::Rng;
    let mut rng = StdRng::seed_from_u64(0x57ab);
    let now = Instant::now();
    let mut agent = settled();
    // Without the fingerprint, which would notice everything before the integrity does.
    let original = Check {
        fingerprint: false,
        ..Check::to(&agent).nominating()
    };
    let original = original.bytes();
    for _ in 0..20_000 {
        let mut datagram = original.clone();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..datagram.len());
            datagram[at] ^= 1 << rng.random_range(0..8);
        }
        if datagram == original {
            continue;
        }
        if let Ok((verdict, reply)) = agent.handle_binding(&datagram, path(1), false, now) {
            assert_eq!(verdict, Verdict::Refused);
            assert!(reply.unwrap().bytes().len() <= datagram.len());
        }
        assert_eq!(agent.selected(), None);
        assert_eq!(agent.poll_event(), None);
    }
}

#[test]
fn generated_credentials_are_what_sdp_allows() {
    let mut rng = StdRng::seed_from_u64(4);
    let first = Credentials::generate(0, &mut rng);
    let second = Credentials::generate(0, &mut rng);
    assert_ne!(first, second);
    assert!(first.ufrag.len() >= 8 && first.password.len() >= 24);
    let ice_char = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
    assert!(
        first
            .ufrag
            .chars()
            .chain(first.password.chars())
            .all(ice_char)
    );
    assert!(!format!("{first:?}").contains(&first.password));
}

fn stream(number: u16) -> Path {
    Path {
        socket: 64 + u32::from(number),
        ..path(number)
    }
}

#[test]
fn a_closed_path_is_left_at_once() {
    let now = Instant::now();
    let mut agent = settled();
    let check = Check::to(&agent);
    accept(&mut agent, &check.clone().nominating(), path(1), now);
    accept(&mut agent, &check.clone(), stream(2), now + seconds(1));
    accept(
        &mut agent,
        &check.clone().nominating(),
        stream(3),
        now + seconds(1),
    );
    events(&mut agent);

    // One that is not in use goes without consequence, and only once.
    agent.close_path(stream(2));
    agent.close_path(stream(2));
    assert_eq!(events(&mut agent), [Event::PathRemoved(stream(2))]);
    // The one in use is replaced by what was checked last, as if nothing had been nominated.
    agent.close_path(stream(3));
    assert_eq!(
        events(&mut agent),
        [Event::PathRemoved(stream(3)), Event::PathSelected(path(1))]
    );
    accept(&mut agent, &check, stream(4), now + seconds(2));
    assert_eq!(agent.selected(), Some(stream(4)));
}

#[test]
fn without_a_path_the_client_has_until_its_consent_expires() {
    let now = Instant::now();
    let mut agent = settled();
    let check = Check::to(&agent).nominating();
    accept(&mut agent, &check, stream(1), now);
    agent.close_path(stream(1));
    assert_eq!(
        events(&mut agent).split_off(4),
        [Event::PathRemoved(stream(1)), Event::Interrupted]
    );
    assert_eq!(agent.selected(), None);

    // It comes back over another connection.
    accept(&mut agent, &check, stream(2), now + seconds(5));
    assert_eq!(
        events(&mut agent),
        [
            Event::PathAdded(stream(2)),
            Event::PathProven(stream(2)),
            Event::PathSelected(stream(2)),
            Event::Connected
        ]
    );

    agent.close_path(stream(2));
    events(&mut agent);
    assert_eq!(agent.poll_timeout(), Some(now + seconds(35)));
    agent.handle_timeout(now + seconds(34));
    assert_eq!(events(&mut agent), []);
    agent.handle_timeout(now + seconds(35));
    assert_eq!(events(&mut agent), [Event::Failed]);
    assert_eq!(agent.poll_timeout(), None);
    accept(&mut agent, &check, path(1), now + seconds(40));
    assert_eq!(events(&mut agent).last(), Some(&Event::Connected));
}

#[test]
fn a_renomination_outlives_no_path() {
    let now = Instant::now();
    let mut agent = settled();
    let check = Check::to(&agent);
    accept(&mut agent, &check.clone().numbered(9), stream(1), now);
    accept(&mut agent, &check.clone(), path(2), now);
    agent.close_path(stream(1));
    assert_eq!(agent.selected(), Some(path(2)));
    accept(&mut agent, &check.numbered(3), path(3), now);
    assert_eq!(agent.selected(), Some(path(3)));
}
