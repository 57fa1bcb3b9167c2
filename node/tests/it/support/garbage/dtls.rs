//! Malformed DTLS: hellos that were damaged, and records that nobody has a use for.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::{damage, first, noise};
use crate::support::wire::hello;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// What begins a handshake, damaged.
pub(crate) fn dtls(random: &mut StdRng) -> Vec<u8> {
    thread_local!(static HELLO: Vec<Vec<u8>> = hello());
    if random.random_ratio(1, 4) {
        return noise(20..=63, random);
    }
    let mut datagram = HELLO.with(|hello| hello.choose(random).expect("it has one").clone());
    if random.random_bool(0.3) {
        // Another kind of record, of another epoch.
        datagram[0] = random.random_range(20..=25);
        datagram[4] = random.random_range(0..3);
    }
    damage(&mut datagram, random);
    first(datagram, 22)
}

/// A record that no association has a use for, handshaking or established, and which is to be dropped
/// without a word (RFC 6347 section 4.1.2.7). What a handshake has to believe is not among them: a fatal
/// alert, or a fragment of the message that is due.
pub(crate) fn record(random: &mut StdRng) -> Vec<u8> {
    let kind = random.random_range(CHANGE_CIPHER_SPEC..=APPLICATION_DATA);
    match random.random_range(0..10) {
        // Less than it says.
        0 => {
            let mut record = written(kind, random.random_range(0..2), &bytes(60, random));
            record.truncate(random.random_range(1..record.len()));
            record
        }
        // Of no kind.
        1 => written(
            random.random_range(APPLICATION_DATA + 1..=63),
            random.random_range(0..2),
            &bytes(60, random),
        ),
        // Of an epoch to come.
        2 => written(kind, random.random_range(2..=u16::MAX), &bytes(60, random)),
        // Sealed by nobody.
        3 => {
            let kind = *[CHANGE_CIPHER_SPEC, ALERT, APPLICATION_DATA]
                .choose(random)
                .expect("there are some");
            let len = random.random_range(0..200);
            written(kind, 1, &bytes(len, random))
        }
        // Longer than what ends a handshake, or too short to be sealed at all.
        4 => {
            let lens = [random.random_range(100..300), random.random_range(0..24)];
            let len = *lens.choose(random).expect("there are two");
            written(HANDSHAKE, 1, &bytes(len, random))
        }
        // A fragment without a whole header, or whose body is not there.
        5 => {
            let len = random.random_range(0..12);
            written(HANDSHAKE, 0, &bytes(len, random))
        }
        6 => {
            let body = fragment(random.random_range(2..8), 500, 0, 1_000, &bytes(40, random));
            written(HANDSHAKE, 0, &body)
        }
        7 => written(HANDSHAKE, 0, &unsound(random)),
        // Alerts that say nothing, or nothing final.
        8 => {
            let warning = [1, random.random_range(1..=255)];
            let other = bytes(*[0, 1, 3, 26].choose(random).expect("some"), random);
            let body: &[u8] = if random.random() { &warning } else { &other };
            written(ALERT, 0, body)
        }
        // A change to a cipher there is not, and data in the clear.
        _ => match random.random() {
            true => written(CHANGE_CIPHER_SPEC, 0, &[0, random.random()]),
            false => written(APPLICATION_DATA, 0, &bytes(50, random)),
        },
    }
}

/// A fragment that cannot be one of any message.
fn unsound(random: &mut StdRng) -> Vec<u8> {
    let due = random.random_range(2..8);
    match random.random_range(0..4) {
        // Beyond the message's end, empty, or of one that is too long.
        0 => fragment(
            due,
            30,
            random.random_range(20..500),
            20,
            &bytes(20, random),
        ),
        1 => fragment(due, random.random_range(1..1_000), 0, 0, &[]),
        2 => fragment(
            due,
            random.random_range(10_000..1 << 24),
            0,
            20,
            &bytes(20, random),
        ),
        // Of a message that no handshake comes to.
        _ => fragment(
            random.random_range(100..=u16::MAX),
            20,
            0,
            20,
            &bytes(20, random),
        ),
    }
}

fn fragment(sequence: u16, length: u32, offset: u32, claimed: u32, body: &[u8]) -> Vec<u8> {
    let mut fragment = vec![11];
    fragment.extend(&length.to_be_bytes()[1..]);
    fragment.extend(sequence.to_be_bytes());
    fragment.extend(&offset.to_be_bytes()[1..]);
    fragment.extend(&claimed.to_be_bytes()[1..]);
    fragment.extend(body);
    fragment
}

fn written(kind: u8, epoch: u16, body: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 0xFE, 0xFD];
    record.extend(epoch.to_be_bytes());
    // A number far from those in use.
    record.extend([0, 1, 0, 0, 0, 0]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

fn bytes(len: usize, random: &mut StdRng) -> Vec<u8> {
    (0..len).map(|_| random.random()).collect()
}
