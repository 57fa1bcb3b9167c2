use super::*;

mod layers;
mod properties;
mod repairs;

const LEN: usize = 1_000;
const ROOM: usize = 1 << 20;

/// Any moment does: time is only ever compared.
#[expect(
    clippy::disallowed_methods,
    reason = "an origin is needed, and no test reads it again"
)]
fn start() -> Instant {
    Instant::now()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn layer(layer: u8) -> Kind {
    Kind::Video { layer, layers: 3 }
}

fn packet(alias: u32) -> Packet {
    Packet {
        alias,
        len: LEN,
        key_frame: false,
        frame_end: true,
        resend: false,
    }
}

fn key_frame(alias: u32) -> Packet {
    Packet {
        key_frame: true,
        ..packet(alias)
    }
}

/// Payloads are the alias and what the test calls the packet.
type Named = Schedule<(u32, u32)>;

struct Bench {
    schedule: Named,
    now: Instant,
}

const AUDIO: u32 = 1;
const BASE: u32 = 2;
const MID: u32 = 3;
const HIGH: u32 = 4;
const OTHER_BASE: u32 = 5;

impl Bench {
    /// One of each, and a second base layer.
    fn new() -> Self {
        let now = start();
        let mut schedule = Schedule::new(now);
        let kinds = [
            (AUDIO, Kind::Audio),
            (BASE, layer(0)),
            (MID, layer(1)),
            (HIGH, layer(2)),
            (OTHER_BASE, layer(0)),
        ];
        for (alias, kind) in kinds {
            schedule.open(alias, kind, 0, now).unwrap();
        }
        Self { schedule, now }
    }

    fn push(&mut self, packet: Packet, name: u32) {
        self.schedule.push(packet, (packet.alias, name), self.now);
    }

    fn pop(&mut self) -> Option<(u32, u32)> {
        self.schedule.pop(self.now, ROOM)
    }

    fn pop_all(&mut self) -> Vec<(u32, u32)> {
        std::iter::from_fn(|| self.pop()).collect()
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.schedule.poll_event()).collect()
    }

    fn dropped(&self, class: Class, reason: Reason) -> u64 {
        self.schedule.stats().dropped(class, reason).packets
    }
}

#[test]
fn classes_leave_in_their_order() {
    let mut bench = Bench::new();
    let resend = |alias| Packet {
        resend: true,
        ..packet(alias)
    };
    bench.push(resend(HIGH), 7);
    bench.push(packet(HIGH), 6);
    bench.push(packet(MID), 5);
    bench.push(resend(AUDIO), 4);
    bench.push(packet(BASE), 3);
    bench.push(packet(AUDIO), 2);
    bench.schedule.push_control(20, (0, 1), bench.now);
    let names: Vec<u32> = bench.pop_all().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn what_does_not_fit_is_not_overtaken() {
    let mut bench = Bench::new();
    bench.push(packet(BASE), 1);
    bench.push(
        Packet {
            len: 10,
            ..packet(MID)
        },
        2,
    );
    assert_eq!(bench.schedule.pop(bench.now, LEN - 1), None);
    assert_eq!(bench.schedule.pop(bench.now, LEN), Some((BASE, 1)));
    assert_eq!(bench.schedule.pop(bench.now, LEN), Some((MID, 2)));
}

#[test]
fn aliases_take_turns_by_their_priority() {
    let mut bench = Bench::new();
    bench.schedule.set_demand(OTHER_BASE, 2, true);
    for name in 0..400 {
        bench.push(packet(BASE), name);
        bench.push(packet(OTHER_BASE), name);
    }
    let first: Vec<_> = (0..240).filter_map(|_| bench.pop()).collect();
    let of_base = first.iter().filter(|(alias, _)| *alias == BASE).count();
    assert!((55..=65).contains(&of_base), "{of_base}");
    for alias in [BASE, OTHER_BASE] {
        let names = first.iter().filter(|(of, _)| *of == alias);
        assert!(names.map(|(_, name)| name).is_sorted());
    }
}

#[test]
fn who_has_little_to_send_is_not_passed_over() {
    let mut bench = Bench::new();
    for name in 0..10 {
        bench.push(packet(BASE), name);
    }
    bench.push(packet(OTHER_BASE), 10);
    let names: Vec<u32> = bench.pop_all().into_iter().map(|(_, name)| name).collect();
    // After one share of the other's.
    assert_eq!(names, [0, 1, 2, 3, 10, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_slot_is_good_until_its_alias_is_closed() {
    let mut bench = Bench::new();
    let (now, kind) = (bench.now, layer(0));
    let slot = bench.schedule.open(20, kind, 0, now).unwrap();
    bench.schedule.push_at(slot, packet(20), (20, 1), now);
    bench.push(packet(20), 2);
    assert_eq!(bench.pop_all(), [(20, 1), (20, 2)]);
    bench.schedule.close(20);
    bench.schedule.push_at(slot, packet(20), (20, 3), now);
    assert_eq!(bench.pop_all(), []);
    assert_eq!(bench.schedule.stats().unknown, 1);
}

#[test]
fn audio_that_is_late_goes_packet_by_packet() {
    let mut bench = Bench::new();
    bench.push(packet(AUDIO), 1);
    bench.wait(millis(100));
    bench.push(packet(AUDIO), 2);
    bench.wait(millis(100));
    assert_eq!(bench.pop_all(), [(AUDIO, 2)]);
    assert_eq!(bench.dropped(Class::Audio, Reason::Expired), 1);
    assert_eq!(bench.events(), []);
}

#[test]
fn video_that_is_late_goes_up_to_the_next_key_frame() {
    let mut bench = Bench::new();
    bench.push(packet(HIGH), 1);
    bench.wait(millis(100));
    bench.push(packet(HIGH), 2);
    bench.wait(millis(60));
    assert_eq!(bench.pop_all(), []);
    assert_eq!(bench.dropped(Class::High, Reason::Expired), 2);
    assert_eq!(bench.events(), [Event::KeyFrameNeeded(HIGH)]);
    // The rest of a key frame that has begun before is of no use, …
    bench.push(packet(HIGH), 3);
    assert_eq!(bench.dropped(Class::High, Reason::AwaitingKeyFrame), 1);
    // … a new one is.
    bench.push(key_frame(HIGH), 4);
    bench.push(packet(HIGH), 5);
    assert_eq!(bench.pop_all(), [(HIGH, 4), (HIGH, 5)]);
    assert_eq!(bench.events(), []);
}

#[test]
fn a_key_frame_that_waits_makes_up_for_what_is_dropped_before_it() {
    let mut bench = Bench::new();
    bench.push(packet(HIGH), 1);
    bench.wait(millis(100));
    bench.push(packet(HIGH), 2);
    bench.push(key_frame(HIGH), 3);
    bench.push(packet(HIGH), 4);
    bench.wait(millis(60));
    assert_eq!(bench.pop_all(), [(HIGH, 3), (HIGH, 4)]);
    assert_eq!(bench.events(), []);
}

#[test]
fn half_a_key_frame_is_none() {
    let mut bench = Bench::new();
    let part = Packet {
        frame_end: false,
        ..key_frame(HIGH)
    };
    bench.push(part, 1);
    bench.push(part, 2);
    bench.wait(millis(200));
    assert_eq!(bench.pop_all(), []);
    bench.push(part, 3);
    bench.push(key_frame(HIGH), 4);
    assert_eq!(bench.pop_all(), []);
    assert_eq!(bench.events(), [Event::KeyFrameNeeded(HIGH)]);
    bench.push(key_frame(HIGH), 5);
    assert_eq!(bench.pop_all(), [(HIGH, 5)]);
}

#[test]
fn a_frame_that_has_begun_to_leave_may_take_longer() {
    let mut bench = Bench::new();
    let begin = Packet {
        frame_end: false,
        ..packet(HIGH)
    };
    bench.push(begin, 1);
    bench.push(packet(HIGH), 2);
    bench.wait(millis(140));
    assert_eq!(bench.pop(), Some((HIGH, 1)));
    bench.wait(millis(20));
    assert_eq!(bench.pop(), Some((HIGH, 2)));
}

#[test]
fn a_resend_that_is_late_breaks_nothing() {
    let mut bench = Bench::new();
    let resend = Packet {
        resend: true,
        ..packet(BASE)
    };
    bench.push(resend, 1);
    bench.wait(millis(200));
    bench.push(packet(BASE), 2);
    assert_eq!(bench.pop_all(), [(BASE, 2)]);
    assert_eq!(bench.dropped(Class::BaseResend, Reason::Expired), 1);
    assert_eq!(bench.events(), []);
}

#[test]
fn an_alias_holds_so_much_and_no_more() {
    let mut bench = Bench::new();
    for name in 0..=MAX_PACKETS as u32 {
        bench.push(packet(AUDIO), name);
    }
    assert_eq!(bench.schedule.queued(Class::Audio), MAX_PACKETS);
    assert_eq!(bench.pop(), Some((AUDIO, 1)));
    // Of video, the packet that finds no room needs what went.
    for name in 0..=MAX_PACKETS as u32 {
        bench.push(packet(BASE), name);
    }
    assert_eq!(bench.schedule.queued(Class::Base), 0);
    assert_eq!(bench.events(), [Event::KeyFrameNeeded(BASE)]);
}

#[test]
fn the_least_class_makes_room_for_the_others() {
    let now = start();
    let mut schedule = Schedule::new(now);
    schedule.open(AUDIO, Kind::Audio, 0, now).unwrap();
    for alias in 10..30 {
        let kind = layer(if alias < 20 { 2 } else { 0 });
        schedule.open(alias, kind, 0, now).unwrap();
        for _ in 0..MAX_PACKETS {
            schedule.push(packet(alias), (alias, 0), now);
        }
    }
    schedule.push(packet(AUDIO), (AUDIO, 0), now);
    assert_eq!(schedule.queued(Class::Audio), 1);
    assert_eq!(schedule.queued(Class::High), 0);
    assert!(schedule.queued(Class::Base) > MAX_PACKETS);
    assert!(schedule.waiting <= MAX_BYTES);
}

#[test]
fn an_alias_that_closes_takes_what_waits_with_it() {
    let mut bench = Bench::new();
    bench.push(packet(BASE), 1);
    bench.push(packet(OTHER_BASE), 2);
    bench.schedule.close(BASE);
    bench.push(packet(BASE), 3);
    assert_eq!(bench.pop_all(), [(OTHER_BASE, 2)]);
    assert_eq!(bench.dropped(Class::Base, Reason::Closed), 1);
    assert_eq!(bench.schedule.stats().unknown, 1);
    // Its number may be given to another.
    bench
        .schedule
        .open(BASE, Kind::Audio, 0, bench.now)
        .unwrap();
    bench.push(packet(BASE), 4);
    assert_eq!(bench.pop_all(), [(BASE, 4)]);
    let again = bench.schedule.open(BASE, Kind::Audio, 0, bench.now);
    assert_eq!(again, Err(OpenError::AlreadyOpen));
}

#[test]
fn control_that_is_never_sent_goes_oldest_first() {
    let mut bench = Bench::new();
    for name in 0..=MAX_CONTROL as u32 {
        bench.schedule.push_control(20, (0, name), bench.now);
    }
    assert_eq!(bench.pop(), Some((0, 1)));
    bench.wait(millis(1_500));
    assert_eq!(bench.pop(), None);
    assert_eq!(bench.schedule.waiting, 0);
}

#[test]
fn nothing_flows_nothing_wakes() {
    let mut bench = Bench::new();
    assert_eq!(bench.schedule.poll_timeout(), None);
    bench.push(packet(BASE), 1);
    assert!(bench.schedule.poll_timeout().is_some());
    bench.pop_all();
    bench.schedule.handle_timeout(bench.now);
    assert_eq!(bench.schedule.poll_timeout(), None);
}

#[test]
fn what_lies_in_the_transport_is_little() {
    let mut bench = Bench::new();
    assert_eq!(bench.schedule.transport_share(), MOST_IN_TRANSPORT);
    bench
        .schedule
        .set_path(Bitrate::from_kbps(10_000), Duration::ZERO);
    assert_eq!(bench.schedule.transport_share(), 12_500);
    bench
        .schedule
        .set_path(Bitrate::from_kbps(100), Duration::ZERO);
    assert_eq!(bench.schedule.transport_share(), LEAST_IN_TRANSPORT);
}
