use std::net::Ipv4Addr;

use rand::SeedableRng;

use super::*;

const NETWORK: Duration = Duration::from_millis(20);

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn credentials(name: &str) -> Credentials {
    Credentials {
        ufrag: name.to_owned(),
        password: format!("{name}-password"),
    }
}

/// A server at one address that answers a share of checks.
struct Server {
    at: SocketAddr,
    credentials: Credentials,
    rng: StdRng,
    loss: f64,
    nominations: usize,
    seen: usize,
}

impl Server {
    fn new(name: &str, loss: f64, seed: u64) -> Self {
        Self {
            at: address(7),
            credentials: credentials(name),
            rng: StdRng::seed_from_u64(seed),
            loss,
            nominations: 0,
            seen: 0,
        }
    }

    fn answer(&mut self, to: SocketAddr, request: &[u8]) -> Option<Vec<u8>> {
        if to != self.at || self.rng.random_bool(self.loss) {
            return None;
        }
        self.seen += 1;
        self.nominations += usize::from(request.windows(4).any(|bytes| bytes == [0, 0x25, 0, 0]));
        let mut out = vec![1, 1, 0, 24];
        out.extend_from_slice(&request[4..20]);
        let tag = hmac::sign(&stun::key(&self.credentials.password), &out);
        out.extend_from_slice(&[0, 8, 0, 20]);
        out.extend_from_slice(tag.as_ref());
        Some(out)
    }
}

/// Runs in virtual time until `done` or for `limit`; answers how long it took.
fn run(
    agent: &mut IceAgent,
    server: &mut Server,
    now: &mut Instant,
    limit: Duration,
    done: impl Fn(&IceAgent, &Server) -> bool,
) -> Option<Duration> {
    let start = *now;
    let mut flying: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    while !done(agent, server) {
        while let Some((to, request)) = agent.poll_transmit() {
            flying.extend(
                server
                    .answer(to, &request)
                    .map(|answer| (*now + NETWORK, answer)),
            );
        }
        let arrival = flying.front().map(|(at, _)| *at);
        let next = arrival.into_iter().chain(agent.poll_timeout()).min()?;
        *now = next.max(*now);
        if *now - start > limit {
            return None;
        }
        while flying.front().is_some_and(|(at, _)| *at <= *now) {
            let (_, answer) = flying.pop_front().unwrap();
            agent.handle_datagram(&answer, *now);
        }
        agent.handle_timeout(*now);
    }
    Some(*now - start)
}

fn agent(now: Instant) -> IceAgent {
    IceAgent::new(StdRng::seed_from_u64(1), now)
}

#[test]
fn the_candidate_that_answers_is_nominated_and_kept_alive() {
    let mut now = Instant::now();
    let (mut agent, mut server) = (agent(now), Server::new("a", 0.0, 1));
    agent.set_remote(&credentials("a"), &[address(6), address(7)], now);
    let nominated = |agent: &IceAgent, _: &Server| agent.nominated;
    let took = run(
        &mut agent,
        &mut server,
        &mut now,
        Duration::from_secs(9),
        nominated,
    );
    assert_eq!(took, Some(NETWORK * 2));
    assert_eq!(
        (agent.selected(), agent.round_trip()),
        (Some(address(7)), Some(NETWORK))
    );
    assert_eq!(agent.poll_event(), Some(Event::Connected));
    let minute = Duration::from_secs(60);
    run(&mut agent, &mut server, &mut now, minute, |_, _| false);
    assert!(
        (20..=32).contains(&server.seen),
        "{} checks in a minute",
        server.seen
    );
    assert_eq!(agent.poll_event(), None);
}

#[test]
fn checks_survive_loss_and_silence_is_a_failure() {
    for seed in 0..20 {
        let mut now = Instant::now();
        let (mut agent, mut server) = (agent(now), Server::new("a", 0.5, seed));
        agent.set_remote(&credentials("a"), &[address(7)], now);
        let nominated = |agent: &IceAgent, _: &Server| agent.nominated;
        let took = run(
            &mut agent,
            &mut server,
            &mut now,
            Duration::from_secs(15),
            nominated,
        );
        assert!(took.is_some(), "seed {seed}");
        agent.poll_event().unwrap();
        server.loss = 1.0;
        let failed = |agent: &IceAgent, _: &Server| agent.failed;
        let took = run(
            &mut agent,
            &mut server,
            &mut now,
            Duration::from_secs(60),
            failed,
        )
        .unwrap();
        assert!(took >= Duration::from_secs(11), "seed {seed}: {took:?}");
        assert_eq!(agent.poll_event(), Some(Event::Failed));
    }
}

#[test]
fn a_restart_keeps_the_path_until_the_new_one_is_answered() {
    let mut now = Instant::now();
    let (mut agent, mut server) = (agent(now), Server::new("a", 0.0, 1));
    agent.set_remote(&credentials("a"), &[address(7)], now);
    let nominated = |agent: &IceAgent, _: &Server| agent.nominated;
    run(
        &mut agent,
        &mut server,
        &mut now,
        Duration::from_secs(9),
        nominated,
    )
    .unwrap();
    let before = agent.local().clone();
    agent.restart();
    assert_ne!(*agent.local(), before);
    assert_eq!(agent.selected(), Some(address(7)));
    server.credentials = credentials("b");
    server.at = address(8);
    agent.set_remote(&credentials("b"), &[address(8)], now);
    assert_eq!(agent.selected(), Some(address(7)));
    run(
        &mut agent,
        &mut server,
        &mut now,
        Duration::from_secs(9),
        nominated,
    )
    .unwrap();
    assert_eq!(agent.selected(), Some(address(8)));
}
