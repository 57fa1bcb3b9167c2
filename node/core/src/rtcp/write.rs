//! Writing: a compound packet, message after message, into a buffer of the caller.

use super::{ReportBlock, SenderInfo, format, kind};

/// Blocks that a report has room for: their count has five bits (RFC 3550 section 6.4.1).
pub const MAX_BLOCKS: usize = 31;

/// Appends messages to a buffer. A message that does not fit is left out whole, which the methods
/// answer with `false`.
#[derive(Debug)]
pub struct CompoundWriter<'a> {
    out: &'a mut [u8],
    len: usize,
    left_out: usize,
}

impl<'a> CompoundWriter<'a> {
    pub fn new(out: &'a mut [u8]) -> Self {
        let (len, left_out) = (0, 0);
        Self { out, len, left_out }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Messages that did not fit.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    pub fn sender_report(&mut self, ssrc: u32, info: SenderInfo, blocks: &[ReportBlock]) -> bool {
        let blocks = first_blocks(blocks);
        self.message(blocks.len() as u8, kind::SENDER_REPORT, |m| {
            m.u32(ssrc)?;
            m.u32((info.ntp >> 32) as u32)?;
            m.u32(info.ntp as u32)?;
            m.u32(info.rtp)?;
            m.u32(info.packets)?;
            m.u32(info.octets)?;
            blocks.iter().try_for_each(|block| m.block(block))
        })
    }

    pub fn receiver_report(&mut self, ssrc: u32, blocks: &[ReportBlock]) -> bool {
        let blocks = first_blocks(blocks);
        self.message(blocks.len() as u8, kind::RECEIVER_REPORT, |m| {
            m.u32(ssrc)?;
            blocks.iter().try_for_each(|block| m.block(block))
        })
    }

    /// A source description with the canonical name alone (RFC 3550 section 6.5.1).
    pub fn canonical_name(&mut self, ssrc: u32, name: &str) -> bool {
        const CNAME: u8 = 1;
        let Ok(len) = u8::try_from(name.len()) else {
            return false;
        };
        self.message(1, kind::SOURCE_DESCRIPTION, |m| {
            m.u32(ssrc)?;
            m.bytes(&[CNAME, len])?;
            m.bytes(name.as_bytes())?;
            // The list ends with at least one zero, up to the next word.
            let end = 4 - (2 + name.len()) % 4;
            m.bytes([0; 4].get(..end)?)
        })
    }

    /// Asks for lost packets. `sequences` must ascend (modulo 2^16).
    pub fn nack(&mut self, sender: u32, media: u32, sequences: &[u16]) -> bool {
        let Some((&first, rest)) = sequences.split_first() else {
            return true;
        };
        self.message(format::NACK, kind::TRANSPORT_FEEDBACK, |m| {
            m.u32(sender)?;
            m.u32(media)?;
            let (mut base, mut bits) = (first, 0u16);
            for &sequence in rest {
                match sequence.wrapping_sub(base) {
                    0 => {}
                    distance @ 1..=16 => bits |= 1 << (distance - 1),
                    _ => {
                        m.u32(u32::from(base) << 16 | u32::from(bits))?;
                        (base, bits) = (sequence, 0);
                    }
                }
            }
            m.u32(u32::from(base) << 16 | u32::from(bits))
        })
    }

    pub fn picture_loss(&mut self, sender: u32, media: u32) -> bool {
        self.message(format::PICTURE_LOSS, kind::PAYLOAD_FEEDBACK, |m| {
            m.u32(sender)?;
            m.u32(media)
        })
    }

    /// `command` differs from the last request for this source (RFC 5104 section 4.3.1.1).
    pub fn full_intra_request(&mut self, sender: u32, media: u32, command: u8) -> bool {
        self.message(format::FULL_INTRA_REQUEST, kind::PAYLOAD_FEEDBACK, |m| {
            m.u32(sender)?;
            m.u32(0)?;
            m.u32(media)?;
            m.u32(u32::from(command) << 24)
        })
    }

    /// REMB (draft-alvestrand-rmcat-remb-03) for these sources together; it names no more than 255.
    pub fn estimated_maximum_bitrate(
        &mut self,
        sender: u32,
        sources: impl Iterator<Item = u32> + Clone,
        bits_per_second: u64,
    ) -> bool {
        const MOST: usize = u8::MAX as usize;
        let count = sources.clone().take(MOST).count() as u32;
        self.message(format::APPLICATION, kind::PAYLOAD_FEEDBACK, |m| {
            let exponent = (64 - bits_per_second.leading_zeros()).saturating_sub(18);
            let mantissa = (bits_per_second >> exponent) as u32;
            m.u32(sender)?;
            m.u32(0)?;
            m.bytes(b"REMB")?;
            m.u32(count << 24 | exponent << 18 | mantissa)?;
            let mut sources = sources.take(MOST);
            sources.try_for_each(|source| m.u32(source))
        })
    }

    /// Transport-wide feedback with a body from [`super::ArrivalLog`].
    pub fn transport_feedback(&mut self, sender: u32, media: u32, content: &[u8]) -> bool {
        let padding = (4 - content.len() % 4) % 4;
        let written = self.message(format::TRANSPORT_WIDE, kind::TRANSPORT_FEEDBACK, |m| {
            m.u32(sender)?;
            m.u32(media)?;
            m.bytes(content)?;
            m.bytes([0; 3].get(..padding)?)
        });
        if written
            && padding > 0
            && let Some(last) = self.len.checked_sub(1).and_then(|at| self.out.get_mut(at))
        {
            *last = padding as u8;
            let first = self.len - (4 + 8 + content.len() + padding);
            if let Some(byte) = self.out.get_mut(first) {
                *byte |= 0x20;
            }
        }
        written
    }

    fn message(
        &mut self,
        count: u8,
        kind: u8,
        body: impl FnOnce(&mut MessageWriter<'_>) -> Option<()>,
    ) -> bool {
        let written = self.try_message(count, kind, body);
        self.len += written.unwrap_or_default();
        self.left_out += usize::from(written.is_none());
        written.is_some()
    }

    /// Answers how long the message is.
    fn try_message(
        &mut self,
        count: u8,
        kind: u8,
        body: impl FnOnce(&mut MessageWriter<'_>) -> Option<()>,
    ) -> Option<usize> {
        let space = self.out.get_mut(self.len..)?;
        let mut message = MessageWriter { out: space, len: 4 };
        body(&mut message)?;
        let len = message.len;
        if !len.is_multiple_of(4) {
            return None;
        }
        let [w0, w1] = u16::try_from(len / 4 - 1).ok()?.to_be_bytes();
        *space.first_chunk_mut::<4>()? = [0x80 | count, kind, w0, w1];
        Some(len)
    }
}

struct MessageWriter<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl MessageWriter<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        self.out
            .get_mut(self.len..self.len + bytes.len())?
            .copy_from_slice(bytes);
        self.len += bytes.len();
        Some(())
    }

    fn u32(&mut self, word: u32) -> Option<()> {
        self.bytes(&word.to_be_bytes())
    }

    fn block(&mut self, block: &ReportBlock) -> Option<()> {
        let lost = block.total_lost.clamp(-0x80_0000, 0x7F_FFFF) as u32 & 0xFF_FFFF;
        self.u32(block.ssrc)?;
        self.u32(u32::from(block.fraction_lost) << 24 | lost)?;
        self.u32(block.highest_sequence)?;
        self.u32(block.jitter)?;
        self.u32(block.last_report)?;
        self.u32(block.delay)
    }
}

fn first_blocks(blocks: &[ReportBlock]) -> &[ReportBlock] {
    blocks.get(..MAX_BLOCKS).unwrap_or(blocks)
}
