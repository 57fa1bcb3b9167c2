//! Malformed datagrams of every kind: sound ones that were damaged, and ones that only begin like
//! something.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use pipemesh_node_core::rtcp::{CompoundWriter, ReportBlock, SenderInfo};

use super::sdp::{Remote, VP8, VP8_REPAIR};
use super::wire::{check, hello};

/// Longest datagram made.
const LONGEST: usize = 1_400;

/// Numbers that lengths and counts are got wrong with.
const EXTREMES: [u8; 7] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF, 0x3F];

/// Damages a datagram: up to six times, anywhere.
pub(crate) fn damage(datagram: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..=6) {
        if datagram.is_empty() {
            return datagram.push(random.random());
        }
        let at = random.random_range(0..datagram.len());
        match random.random_range(0..8) {
            0 => datagram[at] ^= 1 << random.random_range(0..8),
            1 => datagram[at] = random.random(),
            2 => datagram[at] = *EXTREMES.choose(random).expect("there are some"),
            3 => datagram.truncate(at),
            4 => {
                let more = random.random_range(0..=LONGEST.saturating_sub(datagram.len()));
                datagram.extend((0..more).map(|_| random.random::<u8>()));
            }
            5 => {
                let end = random.random_range(at..=datagram.len());
                let piece = datagram[at..end].to_vec();
                let to = random.random_range(0..=datagram.len());
                datagram.splice(to..to, piece);
            }
            6 => {
                let end = random.random_range(at..=datagram.len());
                datagram.drain(at..end);
            }
            _ => {
                // Sixteen bits of a length.
                if let Some(pair) = datagram.get_mut(at..at + 2) {
                    let extreme = *EXTREMES.choose(random).expect("there are some");
                    pair.copy_from_slice(&[extreme, random.random()]);
                }
            }
        }
        datagram.truncate(LONGEST);
    }
}

/// Bytes that only begin like something.
fn noise(first: std::ops::RangeInclusive<u8>, random: &mut StdRng) -> Vec<u8> {
    let mut bytes = vec![0; random.random_range(1..LONGEST)];
    random.fill(&mut bytes[..]);
    bytes[0] = random.random_range(first);
    bytes
}

/// Connectivity checks for a connection of the node, or for none (`remote` made up).
pub(crate) fn stun(remote: &Remote, random: &mut StdRng) -> Vec<u8> {
    if random.random_ratio(1, 4) {
        return noise(0..=3, random);
    }
    let password = match random.random_bool(0.5) {
        true => &remote.password,
        false => "not the node's password at all",
    };
    let mut datagram = check::request("client", &remote.ufrag, password, random.random());
    damage(&mut datagram, random);
    first(datagram, 0)
}

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

/// RTP in the clear, of SSRCs that a client might use.
pub(crate) fn rtp(ssrcs: &[u32], random: &mut StdRng) -> Vec<u8> {
    if random.random_ratio(1, 4) {
        return noise(128..=191, random);
    }
    let mut packet = vec![
        0x90,
        *[VP8, VP8_REPAIR, 111, 0].choose(random).expect("some"),
    ];
    packet.extend(random.random::<[u8; 6]>());
    let ssrc = match random.random_ratio(1, 8) {
        true => random.random(),
        false => *ssrcs.choose(random).expect("there are some"),
    };
    packet.extend(ssrc.to_be_bytes());
    // mid "0" and rid "q", as the offer has them.
    packet.extend([0xBE, 0xDE, 0, 1, 0x40, b'0', 0xA0, b'q']);
    packet.extend([0x90, 0xE0, 0x80, 7, 9, 0]);
    let payload = random.random_range(0..300);
    packet.extend((0..payload).map(|_| random.random::<u8>()));
    damage(&mut packet, random);
    first(packet, 0x80)
}

/// RTCP in the clear, about SSRCs that are in use.
pub(crate) fn rtcp(ssrcs: &[u32], random: &mut StdRng) -> Vec<u8> {
    let ssrc = *ssrcs.choose(random).expect("there are some");
    let mut out = [0; 1_200];
    let mut writer = CompoundWriter::new(&mut out);
    let block = ReportBlock {
        ssrc,
        fraction_lost: random.random(),
        total_lost: random.random_range(-1000..1000),
        highest_sequence: random.random(),
        jitter: random.random(),
        last_report: random.random(),
        delay: random.random(),
    };
    let info = SenderInfo {
        ntp: random.random(),
        rtp: random.random(),
        packets: random.random(),
        octets: random.random(),
    };
    let numbers: Vec<u16> = (0..50).map(|_| random.random()).collect();
    for _ in 0..random.random_range(1..4) {
        match random.random_range(0..6) {
            0 => writer.sender_report(ssrc, info, &[block]),
            1 => writer.receiver_report(1, &[block]),
            2 => writer.nack(1, ssrc, &numbers),
            3 => writer.picture_loss(1, ssrc),
            4 => writer.full_intra_request(1, ssrc, random.random()),
            _ => {
                let mut content = vec![0; random.random_range(0..60) * 4];
                random.fill(&mut content[..]);
                writer.transport_feedback(1, ssrc, &content)
            }
        };
    }
    let len = writer.len();
    let mut packet = out[..len].to_vec();
    damage(&mut packet, random);
    let mut packet = first(packet, 0x80);
    if packet.len() > 1 && random.random_bool(0.9) {
        // It stays RTCP.
        packet[1] = random.random_range(200..=207);
    }
    packet
}

/// Chunks of SCTP (RFC 9260 section 3.2), behind a header that is right.
pub(crate) fn sctp(header: &[u8], tsn: u32, random: &mut StdRng) -> Vec<u8> {
    const KINDS: [u8; 15] = [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 14, 64, 130, 192];
    let mut packet = header.to_vec();
    for _ in 0..random.random_range(1..4) {
        let kind = *KINDS.choose(random).expect("there are some");
        let mut value: Vec<u8> = match kind {
            0 => {
                let mut data = tsn
                    .wrapping_add(random.random_range(0..64))
                    .to_be_bytes()
                    .to_vec();
                data.extend([0, random.random_range(0..4), 0, 0, 0, 0, 0, 50]);
                data.extend((0..random.random_range(0..40)).map(|_| random.random::<u8>()));
                data
            }
            _ => (0..random.random_range(0..60))
                .map(|_| random.random())
                .collect(),
        };
        if random.random_bool(0.3) {
            damage(&mut value, random);
        }
        let len = match random.random_ratio(1, 6) {
            true => random.random(),
            false => value.len() as u16 + 4,
        };
        packet.extend([kind, random.random_range(0..8)]);
        packet.extend(len.to_be_bytes());
        packet.extend(&value);
        packet.resize(packet.len().next_multiple_of(4), 0);
    }
    packet.truncate(LONGEST - 200);
    super::sctp::seal(packet)
}

/// Of the class that its first byte says (RFC 7983).
fn first(mut datagram: Vec<u8>, first: u8) -> Vec<u8> {
    match datagram.first_mut() {
        None => datagram.push(first),
        Some(byte) => match first {
            0 => *byte &= 3,
            0x80 => *byte = *byte & 0x3F | 0x80,
            kind if !(20..=63).contains(byte) => *byte = kind,
            _ => {}
        },
    }
    datagram
}
