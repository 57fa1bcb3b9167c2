//! What is sent again, and what is not.

use super::*;

const FRAME: Duration = Duration::from_millis(20);

struct Asker {
    bench: Bench,
    /// Bytes of what was sent, by alias: for the first time, and again.
    sent: BTreeMap<u32, [u64; 2]>,
}

impl Asker {
    fn new() -> Self {
        Self {
            bench: Bench::new(),
            sent: BTreeMap::new(),
        }
    }

    /// A packet of so many bytes, and so many times again.
    fn send(&mut self, alias: u32, len: usize, times: usize) {
        for time in 0..=times {
            let packet = Packet {
                len,
                resend: time > 0,
                ..packet(alias)
            };
            self.bench.push(packet, time.min(1) as u32);
        }
        for (alias, is_again) in self.bench.pop_all() {
            self.sent.entry(alias).or_default()[is_again as usize] += len as u64;
        }
    }

    fn refused(&self, class: Class) -> u64 {
        let stats = self.bench.schedule.stats();
        stats.dropped(class, Reason::RepairLimit).bytes
    }
}

#[test]
fn who_asks_for_everything_gets_a_share() {
    let mut asker = Asker::new();
    // A megabit a second for twenty seconds, asked for three times.
    for _ in 0..1_000 {
        for _ in 0..5 {
            asker.send(HIGH, 500, 3);
        }
        asker.send(OTHER_BASE, 500, 0);
        asker.bench.wait(FRAME);
    }
    let [first, again] = asker.sent[&HIGH];
    assert_eq!(first, 2_500_000);
    let most = first * 15 / 100 + 20 * 6_000 + 64_000;
    assert!((most - 1_000..=most).contains(&again), "{again} of {most}");
    assert_eq!(asker.refused(Class::LayerResend), 3 * first - again);
    // Others have theirs.
    let before = asker.sent[&OTHER_BASE][0];
    for _ in 0..50 {
        asker.send(OTHER_BASE, 1_000, 1);
    }
    assert_eq!(asker.sent[&OTHER_BASE], [before + 50_000, 50_000]);
    assert_eq!(asker.refused(Class::BaseResend), 0);
}

#[test]
fn a_loss_of_a_tenth_is_repaired() {
    let mut asker = Asker::new();
    for number in 0..10_000 {
        // Of what is sent again a tenth is lost, too.
        let times = match number % 100 {
            0 => 2,
            _ => usize::from(number % 10 == 0),
        };
        asker.send(HIGH, 1_000, times);
        asker.bench.wait(millis(3));
    }
    assert_eq!(asker.refused(Class::LayerResend), 0);
    assert_eq!(asker.sent[&HIGH], [10_000_000, 1_100_000]);
}

#[test]
fn what_sends_little_is_answered_a_few_times_a_second() {
    let mut asker = Asker::new();
    // Audio of which every fourth packet is lost: twelve a second.
    for number in 0..60 * 50 {
        asker.send(AUDIO, 80, usize::from(number % 4 == 0));
        asker.bench.wait(FRAME);
    }
    assert_eq!(asker.refused(Class::BaseResend), 0);
    // A picture that stands: of a frame every other second all packets, twice.
    for _ in 0..60 {
        for _ in 0..5 {
            asker.send(HIGH, 1_000, 2);
        }
        asker.bench.wait(millis(2_000));
    }
    assert_eq!(asker.refused(Class::LayerResend), 0);
}

#[test]
fn what_is_refused_breaks_nothing() {
    let mut asker = Asker::new();
    asker.send(BASE, 1_000, 100);
    assert_eq!(asker.sent[&BASE], [1_000, 64_000]);
    asker.send(BASE, 1_000, 0);
    assert_eq!(asker.sent[&BASE], [2_000, 64_000]);
    assert_eq!(asker.bench.events(), []);
}
