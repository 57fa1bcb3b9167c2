//! Where a client is sent to, and where somebody else would be who has its password: in virtual time, with
//! every byte accounted for.

use std::collections::HashMap;

use rand::Rng;

use super::*;

const ROUND_TRIP: Duration = Duration::from_millis(80);

/// What goes to and comes from each path of an agent.
struct Ledger {
    agent: IceAgent,
    rng: StdRng,
    /// Bytes (in, out) of each path while it is not proven.
    unproven: HashMap<Path, (usize, usize)>,
    /// Checks of the agent's.
    asked: Vec<(Path, Vec<u8>)>,
    replies: Vec<Path>,
    events: Vec<Event>,
}

impl Ledger {
    fn new(agent: IceAgent) -> Self {
        Self {
            agent,
            rng: rng(),
            unproven: HashMap::new(),
            asked: Vec::new(),
            replies: Vec::new(),
            events: Vec::new(),
        }
    }

    /// One whose client has joined over a path.
    fn joined(over: Path, now: Instant) -> Self {
        let mut ledger = Self::new(agent());
        ledger.agent.set_remote(REMOTE, REMOTE_PASSWORD, now);
        ledger.join(over, now);
        assert_eq!(ledger.agent.selected(), Some(over));
        ledger.forget();
        ledger
    }

    fn forget(&mut self) {
        (self.asked, self.replies, self.events) = Default::default();
    }

    fn join(&mut self, path: Path, now: Instant) {
        let check = Check::to(&self.agent).nominating();
        self.check(&check, path, false, now);
        self.handshake_datagram(path, 1_463, now);
        assert_eq!(self.handshake_sends(48), Some(path), "the cookie");
        self.handshake_datagram(path, 1_483, now);
        self.agent.handshake_answered();
        self.agent.handshake_ends();
        self.settle();
    }

    fn check(&mut self, check: &Check, path: Path, is_taken: bool, now: Instant) {
        let check = check.bytes();
        self.came(path, check.len());
        let (verdict, reply) = self
            .agent
            .handle_binding(&check, path, is_taken, now)
            .unwrap();
        assert_eq!(verdict, Verdict::Accepted);
        if let Some(reply) = reply {
            self.went(path, reply.bytes());
        }
        self.settle();
    }

    fn handshake_datagram(&mut self, path: Path, bytes: usize, now: Instant) {
        self.came(path, bytes);
        self.agent.handle_handshake(path, bytes, now);
        self.settle();
    }

    fn handshake_sends(&mut self, bytes: usize) -> Option<Path> {
        let path = self.agent.handshake_path(bytes)?;
        self.unproven.entry(path).or_default().1 += bytes;
        Some(path)
    }

    fn time(&mut self, now: Instant) {
        self.agent.handle_timeout(now);
        self.settle();
    }

    /// The client answers the last check of the agent's.
    fn answers(&mut self) {
        let (path, check) = self.asked.last().cloned().expect("it was asked");
        let answer = answer(&check).unwrap();
        assert_eq!(IceAgent::asker(&answer), Some(NAME));
        self.came(path, answer.len());
        if let Some(owed) = self.agent.handle_answer(&answer, path).unwrap() {
            self.went(path, owed.bytes());
        }
        self.settle();
    }

    fn came(&mut self, path: Path, bytes: usize) {
        self.unproven.entry(path).or_default().0 += bytes;
    }

    fn went(&mut self, path: Path, message: &[u8]) {
        self.unproven.entry(path).or_default().1 += message.len();
        match answer(message) {
            Some(_) => self.asked.push((path, message.to_vec())),
            None => self.replies.push(path),
        }
    }

    /// Everything that the agent has to send and to say, checked.
    fn settle(&mut self) {
        while let Some((path, message)) = self.agent.poll_transmit(NAME, &mut self.rng) {
            self.went(path, message.bytes());
        }
        let events = events(&mut self.agent);
        for event in &events {
            if let Event::PathRemoved(path) = event {
                self.unproven.remove(path);
            }
        }
        self.events.extend(events);
        let agent = &self.agent;
        self.unproven.retain(|path, _| !agent.is_proven(*path));
        for (path, (came, went)) in &self.unproven {
            assert!(went <= came, "{went} bytes for {came} to {path:?}");
        }
        assert!(agent.selected().is_none_or(|path| agent.is_proven(path)));
    }
}

#[test]
fn a_join_waits_for_no_proof_beside_the_cookie() {
    let now = Instant::now();
    let mut ledger = Ledger::new(agent());
    // In a server's offer nothing is known of the client yet.
    ledger.join(path(1), now);
    assert_eq!(ledger.replies, [path(1)]);
    assert_eq!(ledger.asked, []);
    assert_eq!(
        ledger.events,
        [
            Event::PathAdded(path(1)),
            Event::PathProven(path(1)),
            Event::PathSelected(path(1)),
            Event::Connected
        ]
    );
}

#[test]
fn before_the_cookie_is_back_a_handshake_gets_what_it_pays_for() {
    let now = Instant::now();
    let mut ledger = Ledger::new(agent());
    assert_eq!(ledger.agent.handshake_path(1), None, "to nowhere");
    let check = Check::to(&ledger.agent).nominating();
    ledger.check(&check, path(1), false, now);
    ledger.handshake_datagram(path(1), 150, now);
    assert_eq!(ledger.handshake_sends(60), Some(path(1)));
    assert_eq!(ledger.handshake_sends(700), None);
    assert_eq!(ledger.agent.selected(), None);
    // Whoever gets no cookie cannot go on.
    ledger.handshake_datagram(path(1), 150, now);
    ledger.agent.handshake_answered();
    ledger.settle();
    assert_eq!(ledger.agent.selected(), Some(path(1)));
    assert_eq!(ledger.handshake_sends(700), Some(path(1)));
}

#[test]
fn a_cookie_proves_the_only_path_it_went_over() {
    let now = Instant::now();
    let mut ledger = Ledger::new(agent());
    ledger.agent.set_remote(REMOTE, REMOTE_PASSWORD, now);
    let check = Check::to(&ledger.agent).nominating();
    for number in [1, 2] {
        ledger.check(&check, path(number), false, now);
        ledger.handshake_datagram(path(number), 1_400, now);
        assert_eq!(ledger.handshake_sends(48), Some(path(number)));
    }
    ledger.agent.handshake_answered();
    ledger.settle();
    assert_eq!(ledger.agent.selected(), None);
    // The client is asked instead.
    ledger.handshake_datagram(path(2), 1_400, now);
    assert_eq!(ledger.asked.len(), 1);
    ledger.answers();
    assert_eq!(ledger.agent.selected(), Some(path(2)));
}

#[test]
fn a_client_that_moves_is_followed_in_one_round_trip() {
    let start = Instant::now();
    let mut ledger = Ledger::joined(path(1), start);
    let check = Check::to(&ledger.agent).nominating();
    let moved = start + seconds(3);
    ledger.check(&check, path(2), false, moved);
    assert_eq!(ledger.agent.selected(), Some(path(1)));
    assert_eq!(ledger.asked.len(), 1, "at once");
    assert_eq!(ledger.replies, [], "there is no credit for both");
    ledger.time(moved + ROUND_TRIP);
    ledger.answers();
    assert_eq!(ledger.agent.selected(), Some(path(2)));
    assert_eq!(ledger.replies, [path(2)], "its check is answered, too");
    assert_eq!(
        ledger.events,
        [
            Event::PathAdded(path(2)),
            Event::PathProven(path(2)),
            Event::PathSelected(path(2))
        ]
    );
    // Back again: that was proved before.
    ledger.forget();
    ledger.check(&check, path(1), false, moved + seconds(1));
    assert_eq!(ledger.agent.selected(), Some(path(1)));
    assert_eq!((ledger.asked.len(), ledger.replies.len()), (0, 1));
}

/// Its handshake would be taken for that of whoever has the address.
#[test]
fn who_checks_from_anothers_address_is_answered_once_it_is_proved() {
    let start = Instant::now();
    let mut ledger = Ledger::new(agent());
    let check = Check::to(&ledger.agent).nominating();
    let mut now = start;
    for _ in 0..20 {
        ledger.check(&check, path(1), true, now);
        now += Duration::from_millis(50);
    }
    assert_eq!((ledger.asked.len(), ledger.replies.len()), (0, 0));
    // The description comes late.
    ledger.agent.set_remote(REMOTE, REMOTE_PASSWORD, now);
    ledger.settle();
    assert_eq!(ledger.asked.len(), 1);
    for _ in 0..20 {
        ledger.check(&check, path(1), true, now);
        now += Duration::from_millis(500);
    }
    assert!(ledger.asked.len() > 4, "{}", ledger.asked.len());
    assert_eq!(ledger.replies, []);
    ledger.answers();
    assert_eq!(ledger.agent.selected(), Some(path(1)));
    assert_eq!(ledger.replies, [path(1)]);
}

#[test]
fn a_path_that_was_not_nominated_is_proved_meanwhile() {
    let start = Instant::now();
    let mut ledger = Ledger::joined(path(1), start);
    let check = Check::to(&ledger.agent);
    ledger.check(&check, path(2), false, start);
    ledger.answers();
    assert_eq!(ledger.agent.selected(), Some(path(1)));
    ledger.check(&check.nominating(), path(2), false, start + seconds(6));
    assert_eq!(ledger.agent.selected(), Some(path(2)), "at once");
    assert_eq!(ledger.asked.len(), 1);
}

#[test]
fn a_check_of_ours_that_is_lost_is_repeated_as_far_as_it_is_paid_for() {
    let start = Instant::now();
    let mut ledger = Ledger::joined(path(1), start);
    let check = Check::to(&ledger.agent).nominating();
    ledger.check(&check, path(2), false, start);
    assert_eq!(ledger.asked.len(), 1);
    // A subscriber that gets nothing sends little: each of its checks pays for one of ours, which goes before
    // the answer.
    let mut now = start;
    for asked in 2..=4 {
        now += Duration::from_millis(600);
        ledger.time(now);
        ledger.check(&check, path(2), false, now);
        assert_eq!((ledger.asked.len(), ledger.replies.len()), (asked, 0));
    }
    for (_, again) in &ledger.asked {
        assert_eq!(again[8..20], ledger.asked[0].1[8..20], "one transaction");
    }
    // Whoever does not answer is answered nevertheless.
    ledger.check(&check, path(2), false, now + Duration::from_millis(100));
    assert_eq!((ledger.asked.len(), ledger.replies.len()), (4, 1));
    ledger.answers();
    assert_eq!(ledger.agent.selected(), Some(path(2)));
}

#[test]
fn an_address_that_does_not_answer_gets_no_more_than_came_from_there() {
    let start = Instant::now();
    let mut ledger = Ledger::joined(path(1), start);
    let check = Check::to(&ledger.agent).nominating();
    // Whoever has the password claims to be there, every way he can.
    for step in 0..4_000 {
        let now = start + Duration::from_millis(step * 20);
        ledger.check(&check, path(2), step % 2 == 0, now);
        ledger.handshake_datagram(path(2), 40, now);
        ledger.handshake_sends(40);
        ledger.time(now);
        if step % 50 == 0 {
            ledger.check(&Check::to(&ledger.agent), path(1), false, now);
        }
        assert_eq!(ledger.agent.selected(), Some(path(1)));
    }
    assert!(!ledger.events.contains(&Event::PathProven(path(2))));
    assert!(ledger.asked.len() < 60, "{}", ledger.asked.len());
}

#[test]
fn a_client_whose_only_path_is_not_proven_is_not_sent_to() {
    let start = Instant::now();
    let mut ledger = Ledger::joined(path(1), start);
    let check = Check::to(&ledger.agent).nominating();
    for second in 0..40 {
        let now = start + seconds(second);
        ledger.check(&check, path(2), false, now);
        ledger.time(now);
        // What comes from elsewhere does not show that it gets anything.
        assert_eq!(ledger.events.contains(&Event::Interrupted), second >= 10);
    }
    assert_eq!(ledger.agent.selected(), None, "no consent at the other");
    ledger.answers();
    assert_eq!(ledger.agent.selected(), Some(path(2)));
    assert_eq!(ledger.events.last(), Some(&Event::Connected));
}

#[test]
fn what_is_no_answer_proves_nothing() {
    let now = Instant::now();
    let mut ledger = Ledger::joined(path(1), now);
    let check = Check::to(&ledger.agent).nominating();
    ledger.check(&check, path(2), false, now);
    ledger.check(&check, path(3), false, now);
    let (_, asked) = ledger.asked[0].clone();
    let good = answer(&asked).unwrap();
    let agent = &mut ledger.agent;
    let refused = |outcome: Result<Option<super::super::Message>, DropReason>| {
        assert_eq!(outcome.map(|_| ()).unwrap_err(), DropReason::NotAnAnswer);
    };
    refused(agent.handle_answer(&good, path(3)));
    refused(agent.handle_answer(&good, path(4)));
    let mut error = good.clone();
    error[1] = 0x11;
    refused(agent.handle_answer(&error, path(2)));
    // Whoever cannot see what went there has to guess.
    let mut guessed = asked.clone();
    guessed[19] ^= 1;
    let unsigned = |message: &[u8]| {
        let mut unsigned = message[..20].to_vec();
        (unsigned[0], unsigned[1], unsigned[2], unsigned[3]) = (1, 1, 0, 0);
        unsigned
    };
    refused(agent.handle_answer(&unsigned(&guessed), path(2)));
    // Somebody at the address who does not have the client's password.
    refused(agent.handle_answer(&unsigned(&asked), path(2)));
    for bit in 0..good.len() * 8 {
        let mut mutated = good.clone();
        mutated[bit / 8] ^= 1 << (bit % 8);
        // What stands behind the integrity is not read.
        if bit / 8 < good.len() - 8 {
            assert!(agent.handle_answer(&mutated, path(2)).is_err(), "bit {bit}");
        }
    }
    assert_eq!(agent.selected(), Some(path(1)));
    agent.handle_answer(&good, path(2)).unwrap();
    agent.handle_answer(&good, path(2)).unwrap();
    assert_eq!(events(agent).last(), Some(&Event::PathProven(path(2))));
}

#[test]
fn an_address_that_is_anothers_has_to_be_proved_before_anything_else() {
    let now = Instant::now();
    let mut ledger = Ledger::new(agent());
    ledger.agent.set_remote(REMOTE, REMOTE_PASSWORD, now);
    let check = Check::to(&ledger.agent).nominating();
    ledger.check(&check, path(1), true, now);
    assert_eq!((ledger.asked.len(), ledger.replies.len()), (1, 0));
    ledger.answers();
    assert_eq!(ledger.replies, [path(1)]);
    assert_eq!(ledger.agent.selected(), Some(path(1)));
}

#[test]
fn who_never_answers_is_answered_and_not_sent_to() {
    let start = Instant::now();
    let mut ledger = Ledger::joined(path(1), start);
    let check = Check::to(&ledger.agent);
    let steps = 1_000;
    for step in 0..steps {
        ledger.check(
            &check,
            path(2),
            false,
            start + Duration::from_millis(step * 100),
        );
    }
    let answered = ledger.replies.len() as u64;
    assert!(answered >= steps * 9 / 10, "{answered}");
}

#[test]
fn nothing_goes_beyond_what_came_whatever_happens() {
    for seed in 0..200 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut now = Instant::now();
        let mut ledger = Ledger::new(agent());
        for _ in 0..300 {
            let at = path(random.random_range(0..4));
            let check = Check::to(&ledger.agent);
            match random.random_range(0..12) {
                0..4 => {
                    let nominates = random.random();
                    let check = if nominates { check.nominating() } else { check };
                    ledger.check(&check, at, random.random(), now);
                }
                4 => ledger.handshake_datagram(at, random.random_range(13..1_500), now),
                5 => {
                    ledger.handshake_sends(random.random_range(13..1_200));
                }
                6 if random.random_bool(0.1) => match random.random() {
                    true => ledger.agent.handshake_begins(),
                    false => ledger.agent.handshake_ends(),
                },
                7 if !ledger.asked.is_empty() => {
                    let place = random.random_range(0..ledger.asked.len());
                    let (path, check) = ledger.asked[place].clone();
                    let answer = answer(&check).unwrap();
                    // An answer may come too late.
                    let _ = ledger.agent.handle_answer(&answer, path);
                }
                8 => ledger.agent.set_remote(REMOTE, REMOTE_PASSWORD, now),
                9 if random.random_bool(0.2) => ledger.agent.handshake_answered(),
                10 if random.random_bool(0.1) => {
                    let fresh = Credentials::generate(0, &mut random);
                    ledger.agent.restart(fresh);
                }
                _ => {
                    now += Duration::from_millis(random.random_range(1..4_000));
                    ledger.time(now);
                }
            }
            ledger.settle();
            let due = ledger.agent.poll_timeout();
            ledger.time(now.max(due.unwrap_or(now)));
            now = now.max(due.unwrap_or(now));
            let later = ledger.agent.poll_timeout();
            assert!(later.is_none_or(|at| at > now), "it would spin");
        }
    }
}
