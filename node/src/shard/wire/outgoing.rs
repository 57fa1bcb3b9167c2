//! How one subscription's packets are marked and sealed, the first time and again.
//!
//! Owns the numbers of its streams: one that was sealed under is never used for another packet. Knows no
//! addresses, runs or budgets of others.

use std::time::Instant;

use pipemesh_node_core::bandwidth::PacketKind;
use pipemesh_node_core::codec::Codec;
use pipemesh_node_core::codec::ids::Shift;
use pipemesh_node_core::drops::DropReason;
use pipemesh_node_core::forward::continuity::Rewrite;
use pipemesh_node_core::router::SubscriptionKey;
use pipemesh_node_core::rtp::{HeaderWriter, OutgoingHeader};
use pipemesh_node_media::srtp::{Profile, Sealer};
use pipemesh_node_media::udp::MAX_DATAGRAM_LEN;

use super::outbound::{Outbound, Shape};
use super::repeats::Repeats;
use super::shaping::Shaping;
use super::stamp::Stamp;
use crate::session::plan::{Extensions, PayloadType, SendSection};

/// What stands before a payload that is sent again on a stream of its own (RFC 4588 section 4).
const ORIGINAL_SEQUENCE_LEN: usize = 2;

/// How one subscription's packets are marked.
pub(crate) struct Outgoing {
    pub(super) link: usize,
    ssrc: u32,
    /// By codec: found without leaving the cache line.
    pub(super) codecs: [Option<PayloadType>; Codec::COUNT],
    pub(super) extensions: Extensions,
    pub(super) repair: Option<Repairs>,
    /// Of audio, which has no retransmission stream, if its receiver asks for what it misses.
    repeats: Option<Repeats>,
    /// The first number that has not left, and the timestamp that left last: what has a number may
    /// still wait.
    pub(super) next_unsent: u64,
    pub(super) last_timestamp: Option<u32>,
}

/// The retransmission stream of a subscription (RFC 4588): numbers of its own, never used twice.
pub(super) struct Repairs {
    pub(super) ssrc: u32,
    pub(super) next_sequence: u64,
}

impl Outgoing {
    /// `first` is media's first number, `first_repair` that of the retransmission stream, with the same
    /// rules.
    pub(crate) fn new(link: usize, section: &SendSection, first: u64, first_repair: u64) -> Self {
        let mut codecs = [None; Codec::COUNT];
        // The first one of a codec is the one that was preferred.
        for known in section.codecs.iter().rev() {
            codecs[known.codec as usize] = Some(*known);
        }
        let is_audio = section.codecs.iter().all(|known| !known.codec.is_video());
        let repeats = (is_audio && section.feedback.nack).then(Repeats::new);
        Self {
            link,
            ssrc: section.ssrc,
            codecs,
            repeats,
            extensions: section.extensions,
            repair: section.repair_ssrc.map(|ssrc| Repairs {
                ssrc,
                next_sequence: first_repair,
            }),
            next_unsent: first,
            last_timestamp: None,
        }
    }

    pub(crate) fn link(&self) -> usize {
        self.link
    }

    /// Which numbers are used up: SSRC and the first number that is not.
    pub(crate) fn spent(&self) -> impl Iterator<Item = (u32, u64)> + use<> {
        let repair = self
            .repair
            .as_ref()
            .map(|repair| (repair.ssrc, repair.next_sequence));
        let media = (self.ssrc, self.next_unsent);
        [Some(media), repair].into_iter().flatten()
    }

    /// Takes back what waits and does not belong to the frame that is under way. Answers how many packets
    /// that were, and the first number that has not left and will not.
    pub(super) fn withdraw(
        &self,
        key: SubscriptionKey,
        shaping: Option<&mut Shaping>,
    ) -> (usize, u64) {
        let withdrawn = shaping.map(|shaping| shaping.withdraw(key, self.last_timestamp));
        let (dropped, kept) = withdrawn.unwrap_or_default();
        (dropped, self.next_unsent.max(kept.unwrap_or_default()))
    }

    /// Seals a packet, which leaves now, and answers its length. One that is refused has used up no number
    /// of any kind.
    #[inline]
    pub(super) fn seal(
        &mut self,
        out: &mut [u8],
        sealer: &Sealer,
        shaping: Option<&mut Shaping>,
        packet: &mut Outbound<'_>,
        rewrite: &Rewrite,
        now: Instant,
    ) -> Result<usize, DropReason> {
        let mut emptied = rewrite.is_filler.then(|| packet.emptied());
        let packet = emptied.as_mut().unwrap_or(packet);
        packet.adapt(rewrite.shift);
        let shape =
            Shape::new(self, packet, rewrite.shift).ok_or(DropReason::UnknownPayloadType)?;
        let size = datagram_len(shape.payload.len());
        let stamp = Stamp::next(shaping.as_deref(), &self.extensions, now);
        let header_len = self.write_header(out, packet, &shape, rewrite, stamp)?;
        stamp.spend(shaping, size, packet.kind(), now);
        let len = shape.seal(out, header_len, sealer, rewrite.sequence);
        if let Some(repeats) = &mut self.repeats {
            repeats.note(rewrite.sequence, self.next_unsent, stamp, &out[..len]);
        }
        // What comes late says nothing of the frame that is under way.
        if rewrite.sequence >= self.next_unsent {
            self.next_unsent = rewrite.sequence + 1;
            self.last_timestamp = Some(rewrite.timestamp);
        }
        Ok(len)
    }

    /// Seals a packet that was sent before, and answers its length: for the retransmission stream, or as it
    /// was where there is none.
    pub(super) fn seal_repair(
        &mut self,
        out: &mut [u8],
        sealer: &Sealer,
        shaping: Option<&mut Shaping>,
        packet: &Outbound<'_>,
        rewrite: &Rewrite,
        now: Instant,
    ) -> Result<usize, DropReason> {
        let emptied = rewrite.is_filler.then(|| packet.emptied());
        let packet = emptied.as_ref().unwrap_or(packet);
        let shape =
            Shape::new(self, packet, rewrite.shift).ok_or(DropReason::UnknownPayloadType)?;
        let (Some(number), Some(repair)) = (shape.payload_type.repair, &mut self.repair) else {
            return self.seal_again(out, sealer, shaping, packet, &shape, rewrite);
        };
        let header = OutgoingHeader {
            padding: packet.padding,
            marker: packet.marker || rewrite.ends_picture,
            payload_type: number,
            sequence: repair.next_sequence as u16,
            timestamp: rewrite.timestamp,
            ssrc: repair.ssrc,
        };
        let overhead = ORIGINAL_SEQUENCE_LEN + Profile::MAX_OVERHEAD;
        let size = datagram_len(shape.payload.len()) + ORIGINAL_SEQUENCE_LEN;
        let stamp = Stamp::next(shaping.as_deref(), &self.extensions, now);
        let shift = rewrite.shift;
        let header_len = write_header(out, header, packet, &self.extensions, shift, stamp);
        let header_len = header_len
            .filter(|len| len + shape.payload.len() + overhead <= MAX_DATAGRAM_LEN)
            .ok_or(DropReason::Limit)?;
        stamp.spend(shaping, size, PacketKind::Repair, now);
        let index = repair.next_sequence;
        repair.next_sequence += 1;
        let (original, space) = out[header_len..].split_at_mut(ORIGINAL_SEQUENCE_LEN);
        original.copy_from_slice(&(rewrite.sequence as u16).to_be_bytes());
        let rest = shape.begin(space);
        let patched_len = ORIGINAL_SEQUENCE_LEN + shape.payload.len() - rest.len();
        Ok(sealer.seal_rtp_patched(index, out, header_len, patched_len, rest))
    }

    /// Seals a packet that was sent before as it was then, and answers its length. Refused if it comes out as
    /// another packet.
    fn seal_again(
        &self,
        out: &mut [u8],
        sealer: &Sealer,
        shaping: Option<&mut Shaping>,
        packet: &Outbound<'_>,
        shape: &Shape<'_>,
        rewrite: &Rewrite,
    ) -> Result<usize, DropReason> {
        let repeats = self.repeats.as_ref();
        let repeats = repeats.ok_or(DropReason::UnknownPayloadType)?;
        let sent = repeats.find(rewrite.sequence);
        let sent = sent.ok_or(DropReason::NotKept)?;
        let header_len = self.write_header(out, packet, shape, rewrite, sent.stamp)?;
        let len = shape.seal(out, header_len, sealer, rewrite.sequence);
        if !sent.is(&out[..len]) {
            return Err(DropReason::NotKept);
        }
        if let Some(shaping) = shaping {
            shaping.repeated(sent.stamp.number, len, packet.kind());
        }
        Ok(len)
    }

    /// Writes the header of a packet of the media stream, and answers its length. Refused is what is longer
    /// than can be sent.
    #[inline(always)]
    fn write_header(
        &self,
        out: &mut [u8],
        packet: &Outbound<'_>,
        shape: &Shape<'_>,
        rewrite: &Rewrite,
        stamp: Stamp,
    ) -> Result<usize, DropReason> {
        let header = OutgoingHeader {
            padding: packet.padding,
            marker: packet.marker || rewrite.ends_picture,
            payload_type: shape.payload_type.number,
            sequence: rewrite.sequence as u16,
            timestamp: rewrite.timestamp,
            ssrc: self.ssrc,
        };
        if datagram_len(shape.payload.len()) > MAX_DATAGRAM_LEN {
            return Err(DropReason::Limit);
        }
        write_header(out, header, packet, &self.extensions, rewrite.shift, stamp)
            .filter(|len| len + shape.payload.len() + Profile::MAX_OVERHEAD <= MAX_DATAGRAM_LEN)
            .ok_or(DropReason::Limit)
    }

    pub(super) fn payload_type(&self, codec: Codec) -> Option<&PayloadType> {
        self.codecs[codec as usize].as_ref()
    }
}

#[inline(always)]
fn write_header(
    out: &mut [u8],
    header: OutgoingHeader,
    packet: &Outbound<'_>,
    extensions: &Extensions,
    shift: Shift,
    stamp: Stamp,
) -> Option<usize> {
    if let (Some(id @ 1..=14), Some(number)) = (extensions.transport_sequence, stamp.number)
        && packet.is_plain()
    {
        return header.write_with_number(out, id, number);
    }
    let mut writer = HeaderWriter::new(out, header)?;
    stamp.write(&mut writer, extensions, packet.is_long());
    packet.write_extensions(&mut writer, extensions, shift);
    writer.finish()
}

/// About what a packet with such a payload is as a datagram, as far as an estimate is concerned.
pub(super) fn datagram_len(payload_len: usize) -> usize {
    const USUAL_HEADER_LEN: usize = 20;
    USUAL_HEADER_LEN + payload_len + Profile::MAX_OVERHEAD
}
