//! Malformed datagrams of every kind: sound ones that were damaged, and ones that only begin like
//! something.

mod dtls;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use pipemesh_node_core::rtcp::{CompoundWriter, ReportBlock, SenderInfo};

use super::sdp::{Remote, VP8, VP8_REPAIR};
use super::wire::check;
pub(crate) use dtls::{dtls, record};

/// Longest datagram made.
const LONGEST: usize = 1_400;

const WRONG_PASSWORD: &str = "not the node's password at all";

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

/// Connectivity checks for a connection of the node, or for none (`remote` made up), from somebody who
/// knows its name and maybe its password.
pub(crate) fn stun(remote: &Remote, random: &mut StdRng) -> Vec<u8> {
    let password = match random.random_bool(0.5) {
        true => &remote.password,
        false => WRONG_PASSWORD,
    };
    let mut datagram = check::request("client", &remote.ufrag, password, random.random());
    damage(&mut datagram, random);
    first(datagram, 0)
}

/// … from somebody who does not know it. Every fourth is whole.
pub(crate) fn forged_stun(remote: &Remote, random: &mut StdRng) -> Vec<u8> {
    if random.random_ratio(1, 4) {
        return noise(0..=3, random);
    }
    let mut datagram = check::request("client", &remote.ufrag, WRONG_PASSWORD, random.random());
    if random.random_bool(0.67) {
        damage(&mut datagram, random);
    }
    first(datagram, 0)
}

/// Of no class that a node takes (RFC 7983): ZRTP, TURN, QUIC, SCTP without DTLS.
pub(crate) fn unclassified(random: &mut StdRng) -> Vec<u8> {
    const FIRST: [std::ops::RangeInclusive<u8>; 3] = [4..=19, 64..=127, 192..=255];
    let first = FIRST.choose(random).expect("there are some").clone();
    noise(first, random)
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
    let mut packet = compound(ssrcs, random);
    damage(&mut packet, random);
    let mut packet = first(packet, 0x80);
    if packet.len() > 1 && random.random_bool(0.9) {
        // It stays RTCP.
        packet[1] = random.random_range(200..=207);
    }
    packet
}

/// … in good form, but without a word of truth.
pub(crate) fn compound(ssrcs: &[u32], random: &mut StdRng) -> Vec<u8> {
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
            _ => writer.transport_feedback(1, ssrc, &arrivals(random)),
        };
    }
    let len = writer.len();
    out[..len].to_vec()
}

/// Transport-wide feedback on packets that may have been sent: a run of each status, and their times.
fn arrivals(random: &mut StdRng) -> Vec<u8> {
    const RUNS: u16 = 8;
    let mut content = random.random_range::<u16, _>(0..500).to_be_bytes().to_vec();
    content.extend((RUNS * 20).to_be_bytes());
    content.extend([0, 0, random.random(), random.random()]);
    for run in 0..RUNS {
        content.extend(((run % 3) << 13 | 20).to_be_bytes());
    }
    content.extend((0..RUNS * 40).map(|_| random.random::<u8>()));
    content
}

/// RTCP of which something is not what it says, behind a message that is.
pub(crate) fn broken_rtcp(ssrcs: &[u32], random: &mut StdRng) -> Vec<u8> {
    const SSRC: [u8; 4] = [0, 0, 0, 1];
    let [reports, feedback] = [[200, 201], [205, 206]].map(|kinds: [u8; 2]| {
        let kind = kinds.choose(random);
        *kind.expect("there are two")
    });
    let mut broken = match random.random_range(0..9) {
        // Less than a header.
        0 => vec![0x80, reports, 0][..random.random_range(1..=3)].to_vec(),
        // Another version.
        1 => [&[random.random_range(0..0x80), reports, 0, 1][..], &SSRC].concat(),
        // Longer than the packet.
        2 => [
            &[0x81, feedback, random.random_range(1..=255), 0][..],
            &SSRC,
        ]
        .concat(),
        // More padding than message.
        3 => vec![0xA1, feedback, 0, 1, 0, 0, 0, random.random_range(5..=255)],
        // More blocks than there are.
        4 => [
            &[0x81 + random.random_range(0..31), reports, 0, 1][..],
            &SSRC,
        ]
        .concat(),
        // About nobody.
        5 => [&[0x81, feedback, 0, 1][..], &SSRC].concat(),
        // Half an entry.
        6 => [&[0x84, 206, 0, 3][..], &SSRC, &SSRC, &SSRC].concat(),
        // An estimate of nothing.
        7 => [&[0x8F, 206, 0, 3][..], &SSRC, &SSRC, b"REMB"].concat(),
        // Feedback on more packets than it has room for.
        _ => [
            &[0x8F, 205, 0, 5][..],
            &SSRC,
            &SSRC,
            &[0, 1, 255, 255, 0, 0, 1, 0],
            &[0; 4],
        ]
        .concat(),
    };
    let mut packet = compound(ssrcs, random);
    packet.append(&mut broken);
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
