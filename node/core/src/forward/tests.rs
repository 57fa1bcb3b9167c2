use super::*;

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
    Instant::now()
}

fn live(encodings: &[u8]) -> EncodingSet {
    let mut set = EncodingSet::default();
    encodings.iter().for_each(|encoding| set.insert(*encoding));
    set
}

fn portion(highest: u8) -> Portion {
    Portion {
        paused: false,
        encoding: highest,
        layer: Layer::MAX,
    }
}

struct Receiver {
    forwarder: Forwarder,
    now: Instant,
}

impl Receiver {
    fn new(highest: u8) -> Self {
        Self {
            forwarder: Forwarder::new(portion(highest), 100, 90_000),
            now: start(),
        }
    }

    /// The number a packet goes out under.
    fn packet(&mut self, encoding: u8, sequence: u64, starts_key_frame: bool) -> Option<u64> {
        self.now += Duration::from_millis(10);
        let candidate = Candidate {
            encoding,
            sequence,
            timestamp: 0,
            starts_key_frame,
            is_empty: false,
            ids: None,
            frame: None,
        };
        self.candidate(&candidate)
    }

    fn candidate(&mut self, candidate: &Candidate<'_>) -> Option<u64> {
        let mut number = None;
        let clocks = [None; MAX_ENCODINGS];
        self.forwarder
            .handle_packet(candidate, 1000, &clocks, self.now, |rewrite| {
                number = Some(rewrite.sequence);
            });
        number
    }
}

#[test]
fn the_best_encoding_is_the_highest_wanted_one_that_lives() {
    fn check(encodings: &[u8], highest: u8, expected: Option<u8>) {
        assert_eq!(
            live(encodings).nearest(highest),
            expected,
            "{encodings:?} {highest}"
        );
    }
    check(&[], 2, None);
    check(&[0, 1, 2], 2, Some(2));
    check(&[0, 1, 2], 1, Some(1));
    check(&[0, 2], 1, Some(0));
    check(&[1, 2], 0, Some(1));
    check(&[0, 3], u8::MAX, Some(3));
}

#[test]
fn nothing_goes_out_before_a_key_frame() {
    let mut receiver = Receiver::new(2);
    receiver.forwarder.select(live(&[0]));
    assert_eq!(receiver.packet(0, 1000, false), None);
    assert_eq!(receiver.forwarder.awaits_key_frame_of(), Some(0));
    assert_eq!(receiver.packet(0, 1001, true), Some(100));
    assert_eq!(receiver.packet(0, 1002, false), Some(101));
    assert_eq!(receiver.forwarder.awaits_key_frame_of(), None);
}

#[test]
fn a_switch_waits_for_the_new_encodings_key_frame() {
    let mut receiver = Receiver::new(2);
    receiver.forwarder.select(live(&[0]));
    assert_eq!(receiver.packet(0, 1000, true), Some(100));
    receiver.forwarder.select(live(&[0, 2]));
    assert_eq!(receiver.forwarder.awaits_key_frame_of(), Some(2));
    assert_eq!(receiver.packet(2, 50, false), None);
    assert_eq!(
        receiver.packet(0, 1001, false),
        Some(101),
        "the old one goes on meanwhile"
    );
    assert_eq!(receiver.packet(2, 51, true), Some(102));
    assert_eq!(receiver.packet(0, 1002, true), None);
    assert_eq!(receiver.packet(2, 52, false), Some(103));
}

#[test]
fn a_wish_for_less_is_followed_at_the_next_key_frame() {
    let mut receiver = Receiver::new(2);
    receiver.forwarder.select(live(&[0, 1, 2]));
    assert_eq!(receiver.packet(2, 10, true), Some(100));
    receiver.forwarder.set_portion(portion(0), live(&[0, 1, 2]));
    assert_eq!(receiver.packet(2, 11, false), Some(101));
    assert_eq!(receiver.packet(0, 500, true), Some(102));
    assert_eq!(receiver.packet(2, 12, true), None);
}

#[test]
fn pause_stops_at_once_and_resumes_with_a_key_frame() {
    let mut receiver = Receiver::new(0);
    receiver.forwarder.select(live(&[0]));
    assert_eq!(receiver.packet(0, 10, true), Some(100));
    receiver.forwarder.set_portion(
        Portion {
            paused: true,
            ..portion(0)
        },
        live(&[0]),
    );
    assert_eq!(receiver.packet(0, 11, true), None);
    assert_eq!(receiver.forwarder.interest(), EncodingSet::default());
    receiver.forwarder.set_portion(portion(0), live(&[0]));
    assert_eq!(receiver.packet(0, 12, false), None);
    assert_eq!(receiver.packet(0, 13, true), Some(101), "and no gap");
}

#[test]
fn padding_is_not_passed_on_and_not_missed() {
    let mut receiver = Receiver::new(0);
    receiver.forwarder.select(live(&[0]));
    assert_eq!(receiver.packet(0, 10, true), Some(100));
    let padding = Candidate {
        encoding: 0,
        sequence: 11,
        timestamp: 0,
        starts_key_frame: false,
        is_empty: true,
        ids: None,
        frame: None,
    };
    assert_eq!(receiver.candidate(&padding), None);
    assert_eq!(receiver.packet(0, 12, false), Some(101));
}

#[test]
fn a_lost_packet_is_resent_once_per_round_trip() {
    let mut receiver = Receiver::new(0);
    receiver.forwarder.select(live(&[0]));
    receiver.packet(0, 10, true);
    let round_trip = Duration::from_millis(40);
    let now = receiver.now;
    let mut ask = |sequence, millis| {
        let at = now + Duration::from_millis(millis);
        let resend = receiver.forwarder.find(sequence)?;
        let forwarder = &mut receiver.forwarder;
        let may_resend = forwarder.may_resend(resend.sequence, round_trip, at);
        may_resend.then_some(resend.origin.sequence)
    };
    assert_eq!(ask(100, 0), Some(10));
    assert_eq!(ask(100, 39), None);
    assert_eq!(ask(100, 40), Some(10));
    assert_eq!(ask(101, 0), None, "not sent yet");
    assert_eq!(ask(99, 0), None, "never sent");
}
