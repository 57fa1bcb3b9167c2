//! RTCP (RFC 3550 section 6, RFC 4585, RFC 5104): what a client reads of it and writes.

use super::{be16, be32};

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

const NACK: u8 = 1;
const TRANSPORT_WIDE: u8 = 15;
const PICTURE_LOSS: u8 = 1;
const FULL_INTRA_REQUEST: u8 = 4;

const BLOCK_LEN: usize = 24;

/// What the other side says of one SSRC it receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Block {
    pub(crate) ssrc: u32,
    pub(crate) fraction_lost: u8,
    /// 24 bits, signed.
    pub(crate) lost: i32,
    pub(crate) highest: u32,
    pub(crate) jitter: u32,
    /// The middle of the last sender report's NTP time, and how long ago that came, in 1/65536 s.
    pub(crate) last_report: u32,
    pub(crate) delay: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    SenderReport {
        ssrc: u32,
        ntp: u64,
    },
    Block(Block),
    Nack {
        media: u32,
        lost: Lost<'a>,
    },
    /// Picture loss or full intra request.
    KeyFrame {
        media: u32,
    },
    /// Transport-wide feedback, from the base sequence number on.
    TransportWide(&'a [u8]),
}

/// The sequence numbers of a NACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost<'a>(&'a [u8]);

impl Lost<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> {
        self.0.chunks_exact(4).flat_map(|pair| {
            let first = u16::from_be_bytes([pair[0], pair[1]]);
            let mask = u16::from_be_bytes([pair[2], pair[3]]);
            let rest = (0..16).filter(move |bit| mask >> bit & 1 == 1);
            std::iter::once(first).chain(rest.map(move |bit| first.wrapping_add(bit + 1)))
        })
    }
}

/// Calls `take` with everything in a compound that concerns us, up to what cannot be read.
pub(crate) fn read(mut compound: &[u8], mut take: impl FnMut(Message<'_>)) {
    while let Some(length) = be16(compound, 2) {
        let end = 4 * (usize::from(length) + 1);
        let Some(packet) = compound.get(..end) else {
            return;
        };
        read_packet(packet, &mut take);
        compound = &compound[end..];
    }
}

fn read_packet(packet: &[u8], take: &mut impl FnMut(Message<'_>)) -> Option<()> {
    let count = packet[0] & 0x1F;
    match (packet[1], count) {
        (SENDER_REPORT, _) => {
            let ntp = u64::from(be32(packet, 8)?) << 32 | u64::from(be32(packet, 12)?);
            let ssrc = be32(packet, 4)?;
            take(Message::SenderReport { ssrc, ntp });
            read_blocks(packet.get(28..)?, count, take);
        }
        (RECEIVER_REPORT, _) => read_blocks(packet.get(8..)?, count, take),
        (TRANSPORT_FEEDBACK, NACK) => take(Message::Nack {
            media: be32(packet, 8)?,
            lost: Lost(&packet[12..]),
        }),
        (TRANSPORT_FEEDBACK, TRANSPORT_WIDE) => take(Message::TransportWide(packet.get(12..)?)),
        (PAYLOAD_FEEDBACK, PICTURE_LOSS) => take(Message::KeyFrame {
            media: be32(packet, 8)?,
        }),
        (PAYLOAD_FEEDBACK, FULL_INTRA_REQUEST) => {
            for entry in packet.get(12..)?.chunks_exact(8) {
                let media = be32(entry, 0)?;
                take(Message::KeyFrame { media });
            }
        }
        _ => {}
    }
    Some(())
}

fn read_blocks(bytes: &[u8], count: u8, take: &mut impl FnMut(Message<'_>)) {
    for block in bytes.chunks_exact(BLOCK_LEN).take(count.into()) {
        let word = |at| be32(block, at).expect("a block has six words");
        take(Message::Block(Block {
            ssrc: word(0),
            fraction_lost: block[4],
            lost: (word(4) << 8).cast_signed() >> 8,
            highest: word(8),
            jitter: word(12),
            last_report: word(16),
            delay: word(20),
        }));
    }
}

/// What a sender says of one SSRC of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) ssrc: u32,
    pub(crate) ntp: u64,
    pub(crate) timestamp: u32,
    pub(crate) packets: u32,
    pub(crate) octets: u32,
}

pub(crate) fn write_sender_report(out: &mut Vec<u8>, sent: &Sent) {
    begin(out, SENDER_REPORT, 0, 24);
    out.extend_from_slice(&sent.ssrc.to_be_bytes());
    out.extend_from_slice(&sent.ntp.to_be_bytes());
    for word in [sent.timestamp, sent.packets, sent.octets] {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

/// At most 31 blocks.
pub(crate) fn write_receiver_report(out: &mut Vec<u8>, sender: u32, blocks: &[Block]) {
    begin(
        out,
        RECEIVER_REPORT,
        blocks.len() as u8,
        4 + BLOCK_LEN * blocks.len(),
    );
    out.extend_from_slice(&sender.to_be_bytes());
    for block in blocks {
        let lost = block.lost.clamp(-0x80_0000, 0x7F_FFFF).cast_unsigned() & 0xFF_FFFF;
        let words = [
            block.ssrc,
            u32::from(block.fraction_lost) << 24 | lost,
            block.highest,
            block.jitter,
            block.last_report,
            block.delay,
        ];
        words
            .iter()
            .for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
    }
}

/// `lost` ascends.
pub(crate) fn write_nack(out: &mut Vec<u8>, sender: u32, media: u32, lost: &[u16]) {
    let mut pairs: Vec<(u16, u16)> = Vec::new();
    for &sequence in lost {
        match pairs.last_mut() {
            Some((first, mask)) if (1..=16).contains(&sequence.wrapping_sub(*first)) => {
                *mask |= 1 << (sequence.wrapping_sub(*first) - 1);
            }
            _ => pairs.push((sequence, 0)),
        }
    }
    feedback(
        out,
        TRANSPORT_FEEDBACK,
        NACK,
        sender,
        media,
        4 * pairs.len(),
    );
    for (first, mask) in pairs {
        out.extend_from_slice(&first.to_be_bytes());
        out.extend_from_slice(&mask.to_be_bytes());
    }
}

pub(crate) fn write_picture_loss(out: &mut Vec<u8>, sender: u32, media: u32) {
    feedback(out, PAYLOAD_FEEDBACK, PICTURE_LOSS, sender, media, 0);
}

/// `body` from the base sequence number on, padded to whole words.
pub(crate) fn write_transport_wide(out: &mut Vec<u8>, sender: u32, media: u32, body: &[u8]) {
    feedback(
        out,
        TRANSPORT_FEEDBACK,
        TRANSPORT_WIDE,
        sender,
        media,
        body.len(),
    );
    out.extend_from_slice(body);
}

fn feedback(out: &mut Vec<u8>, kind: u8, format: u8, sender: u32, media: u32, len: usize) {
    begin(out, kind, format, 8 + len);
    out.extend_from_slice(&sender.to_be_bytes());
    out.extend_from_slice(&media.to_be_bytes());
}

/// `len`: of what follows the first word.
fn begin(out: &mut Vec<u8>, kind: u8, count: u8, len: usize) {
    out.extend_from_slice(&[0x80 | count, kind]);
    out.extend_from_slice(&((len / 4) as u16).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compound_is_read_as_it_was_written() {
        let block = Block {
            ssrc: 9,
            fraction_lost: 12,
            lost: -3,
            highest: 70_000,
            jitter: 5,
            last_report: 0x1234_5678,
            delay: 77,
        };
        let sent = Sent {
            ssrc: 1,
            ntp: 1 << 40 | 5,
            timestamp: 2,
            packets: 3,
            octets: 4,
        };
        let lost = [10, 11, 26, 27, 65_535, 0, 3];
        let mut compound = Vec::new();
        write_sender_report(&mut compound, &sent);
        write_receiver_report(&mut compound, 1, &[block]);
        write_nack(&mut compound, 1, 9, &lost);
        write_picture_loss(&mut compound, 1, 8);
        write_transport_wide(&mut compound, 1, 9, &[1, 2, 3, 4]);
        let mut told = Vec::new();
        read(&compound, |message| {
            told.push(match message {
                Message::Nack { media, lost } => {
                    format!("{media} {:?}", lost.iter().collect::<Vec<_>>())
                }
                other => format!("{other:?}"),
            });
        });
        let expected = [
            format!(
                "{:?}",
                Message::SenderReport {
                    ssrc: 1,
                    ntp: 1 << 40 | 5
                }
            ),
            format!("{:?}", Message::Block(block)),
            format!("9 {lost:?}"),
            format!("{:?}", Message::KeyFrame { media: 8 }),
            format!("{:?}", Message::TransportWide(&[1, 2, 3, 4])),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let mut compound = Vec::new();
        write_picture_loss(&mut compound, 1, 8);
        for len in 0..compound.len() {
            read(&compound[..len], |message| {
                panic!("{message:?} of {len} bytes")
            });
        }
        // A NACK that claims to be shorter than its own header.
        read(&[0x81, 205, 0, 1, 0, 0, 0, 1], |message| {
            panic!("{message:?}")
        });
    }
}
