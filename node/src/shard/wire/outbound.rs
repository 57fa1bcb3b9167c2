//! A packet on its way to subscribers: what of it goes on, taken apart once, and what one of them gets.
//!
//! Knows no addresses, keys or runs.

use pipemesh_node_core::bandwidth::PacketKind;
use pipemesh_node_core::codec::ids::{FrameIds, Shift};
use pipemesh_node_core::codec::{Codec, dependency, red};
use pipemesh_node_core::rtp::{Header, HeaderWriter};
use pipemesh_node_media::srtp::Sealer;

use super::Outgoing;
use crate::session::plan::{Extensions, PayloadType};

/// Longest value of a header extension (RFC 8285 section 4.3).
const MAX_EXTENSION_LEN: usize = 255;

/// Most header extensions a forwarded packet carries on.
const MAX_CARRIED: usize = 2;

/// A packet to be forwarded, taken apart once for all its subscribers.
pub(crate) struct Outbound<'a> {
    pub(super) codec: Codec,
    pub(super) marker: bool,
    pub(super) payload: &'a [u8],
    /// Whether the last byte of the payload is RTP padding.
    pub(super) padding: bool,
    /// The payload and a byte of padding, where there is one.
    padded: Option<&'a [u8]>,
    ids: Option<&'a FrameIds>,
    /// A copy of the payload, in which each subscriber's numbers take the place of the last one's.
    draft: Option<&'a mut [u8]>,
    /// By how much the numbers that stand in the copy differ from the publisher's.
    adapted: Shift,
    /// Of redundant audio.
    red: Option<red::Layout>,
    /// Header extensions that go on: which, and the value.
    carried: [Option<(Carried, &'a [u8])>; MAX_CARRIED],
    /// A value that only the two-byte form of header extensions can carry.
    is_long: bool,
}

#[derive(Clone, Copy)]
enum Carried {
    CaptureTime,
    DependencyDescriptor,
}

impl Carried {
    fn id(self, extensions: &Extensions) -> Option<u8> {
        match self {
            Self::CaptureTime => extensions.absolute_capture_time,
            Self::DependencyDescriptor => extensions.dependency_descriptor,
        }
    }
}

impl<'a> Outbound<'a> {
    /// `padded` is the packet with a byte of RTP padding behind it, if its length may be changed;
    /// `extensions` are those of the publisher's section. `None`: the packet is malformed.
    pub(crate) fn new(
        codec: Codec,
        header: &Header,
        packet: &'a [u8],
        padded: Option<&'a [u8]>,
        ids: Option<&'a FrameIds>,
        extensions: &Extensions,
    ) -> Option<Self> {
        let value = |kind: Carried| {
            let value = header.extension(packet, kind.id(extensions)?)?;
            Some((kind, value))
        };
        let carried = [
            value(Carried::CaptureTime),
            value(Carried::DependencyDescriptor),
        ];
        let is_long = carried
            .iter()
            .flatten()
            .any(|(_, value)| !(1..=16).contains(&value.len()));
        let payload = header.payload(packet)?;
        let red = (codec == Codec::Red)
            .then(|| red::Layout::parse(payload))
            .flatten();
        // What has padding of its own, or is taken apart, is not levelled.
        let ends_with_packet = header.header_len() + payload.len() == packet.len();
        let padded = padded
            .filter(|_| codec.is_video() && ends_with_packet)
            .and_then(|padded| padded.get(header.header_len()..));
        Some(Self {
            codec,
            marker: header.marker,
            payload,
            padding: false,
            padded,
            ids,
            draft: None,
            adapted: Shift::default(),
            red,
            carried,
            is_long,
        })
    }

    /// From now on the packet is sealed from a copy, if it has to be changed for its subscribers: to seal one
    /// in two parts, what is changed and the rest, costs each of them more. A copy has room for any payload.
    pub(super) fn copy_to(&mut self, draft: &'a mut [u8]) {
        if self.ids.is_some_and(|ids| ids.len > 0)
            && let Some(draft) = draft.get_mut(..self.payload.len())
        {
            draft.copy_from_slice(self.payload);
            self.draft = Some(draft);
            self.adapted = Shift::default();
        }
    }

    /// Writes a subscriber's numbers into the copy, if there is one and they are not those of the one before:
    /// what reads much waits for what was written of it just now.
    #[inline]
    pub(super) fn adapt(&mut self, shift: Shift) {
        if self.adapted == shift {
            return;
        }
        if let (Some(draft), Some(ids)) = (&mut self.draft, self.ids) {
            ids.apply(shift, draft);
            self.adapted = shift;
        }
    }

    /// What it is to the budget.
    #[inline]
    pub(super) fn kind(&self) -> PacketKind {
        if self.codec.is_video() {
            PacketKind::Video
        } else {
            PacketKind::Audio
        }
    }

    /// Whether its extensions need the two-byte form.
    pub(super) fn is_long(&self) -> bool {
        self.is_long
    }

    /// Whether no header extension goes on.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.carried.iter().all(Option::is_none)
    }

    /// Writes the header extensions that go on.
    pub(super) fn write_extensions(
        &self,
        writer: &mut HeaderWriter<'_>,
        extensions: &Extensions,
        shift: Shift,
    ) {
        for (kind, value) in self.carried.iter().flatten() {
            let Some(id) = kind.id(extensions) else {
                continue;
            };
            let two_byte = self.is_long || id > 14;
            match kind {
                Carried::DependencyDescriptor if shift.frame != 0 => {
                    write_shifted(writer, id, value, two_byte, shift.frame);
                }
                Carried::CaptureTime | Carried::DependencyDescriptor => {
                    writer.extension(id, value, two_byte);
                }
            }
        }
    }

    /// The same with padding for content (RFC 3550 section 5.1).
    pub(super) fn emptied(&self) -> Self {
        Self {
            marker: false,
            payload: &[1],
            padding: true,
            padded: None,
            ids: None,
            draft: None,
            adapted: Shift::default(),
            red: None,
            carried: [None; MAX_CARRIED],
            is_long: false,
            codec: self.codec,
        }
    }

    /// Whether two packets have headers of the same length, whoever is sent them.
    fn is_like(&self, other: &Self) -> bool {
        let lens = |packet: &Self| {
            packet
                .carried
                .map(|value| value.map(|(_, value)| value.len()))
        };
        self.codec == other.codec && lens(self) == lens(other)
    }

    fn pad(&mut self) {
        if let Some(padded) = self.padded {
            (self.payload, self.padding) = (padded, true);
        }
    }
}

/// Writes a dependency descriptor whose frame number goes on from another encoding's.
#[cold]
fn write_shifted(writer: &mut HeaderWriter<'_>, id: u8, value: &[u8], two_byte: bool, by: u16) {
    let mut copy = [0; MAX_EXTENSION_LEN];
    let Some(copy) = copy.get_mut(..value.len()) else {
        return;
    };
    copy.copy_from_slice(value);
    dependency::shift_number(copy, by);
    writer.extension(id, copy, two_byte);
}

/// Makes neighbours that differ by a byte equally long, so that the kernel takes them as one message.
///
/// Encoders split a frame into packets of n or n + 1 bytes. One message is cut into datagrams of one
/// length, only the last of which may be shorter: without this, a frame would be two.
pub(super) fn level(packets: &mut [Option<Outbound<'_>>]) {
    let alike = |a: &Option<Outbound<'_>>, b: &Option<Outbound<'_>>| matches!((a, b), (Some(a), Some(b)) if a.padded.is_some() && b.padded.is_some() && a.is_like(b));
    for mut rest in packets.chunk_by_mut(alike) {
        while let [Some(_), Some(_), ..] = rest {
            let len =
                |packet: &Option<Outbound<'_>>| packet.as_ref().map_or(0, |p| p.payload.len());
            let (count, longest) = one_message(rest.iter().map(len));
            let (message, after) = rest.split_at_mut(count);
            if let [before_last @ .., _] = message {
                let shorter = before_last.iter_mut().flatten();
                shorter
                    .filter(|packet| packet.payload.len() < longest)
                    .for_each(Outbound::pad);
            }
            rest = after;
        }
    }
}

/// How many of these, from the first on, fit one message if those that are a byte shorter grow; and how
/// long they are then.
fn one_message(lens: impl Iterator<Item = usize>) -> (usize, usize) {
    let (mut shortest, mut longest) = (usize::MAX, 0);
    let mut count = 0;
    for len in lens {
        let (low, high) = (shortest.min(len), longest.max(len));
        if count > 0 && high - low > 1 {
            // A shorter one ends the message, a longer one begins the next.
            return (count + usize::from(len < longest), longest);
        }
        (shortest, longest) = (low, high);
        count += 1;
    }
    (count, longest)
}

/// What one receiver gets of a packet: as which payload type, and what differs at its beginning.
pub(super) struct Shape<'a> {
    pub(super) payload_type: PayloadType,
    pub(super) payload: &'a [u8],
    change: Change<'a>,
}

/// How the first bytes of a payload differ from the publisher's.
#[derive(Clone, Copy)]
enum Change<'a> {
    Nothing,
    Ids(&'a FrameIds, Shift),
    /// The receiver's payload type for the blocks inside.
    Red(red::Layout, u8),
}

impl<'a> Shape<'a> {
    /// `None`: the receiver cannot be sent this codec. Redundant audio is reduced to its newest block
    /// for those that do not take it.
    pub(super) fn new(outgoing: &Outgoing, packet: &'a Outbound<'_>, shift: Shift) -> Option<Self> {
        let opus = packet.red.and_then(|_| outgoing.payload_type(Codec::Opus));
        match (outgoing.payload_type(packet.codec), packet.red, opus) {
            (Some(payload_type), Some(layout), Some(opus)) => Some(Self {
                payload_type: *payload_type,
                payload: packet.payload,
                change: Change::Red(layout, opus.number),
            }),
            (Some(payload_type), _, _) => Some(Self {
                payload_type: *payload_type,
                payload: packet.draft.as_deref().unwrap_or(packet.payload),
                change: packet
                    .ids
                    .filter(|_| packet.draft.is_none() && !shift.is_zero())
                    .map_or(Change::Nothing, |ids| Change::Ids(ids, shift)),
            }),
            (None, Some(layout), Some(opus)) => Some(Self {
                payload_type: *opus,
                payload: packet.payload.get(usize::from(layout.primary)..)?,
                change: Change::Nothing,
            }),
            (None, _, _) => None,
        }
    }

    /// Seals the payload behind a header, and answers the length of all that. `index`: of the packet, as the
    /// cipher counts.
    #[inline(always)]
    pub(super) fn seal(
        &self,
        out: &mut [u8],
        header_len: usize,
        sealer: &Sealer,
        index: u64,
    ) -> usize {
        let rest = self.begin(&mut out[header_len..]);
        let patched_len = self.payload.len() - rest.len();
        sealer.seal_rtp_patched(index, out, header_len, patched_len, rest)
    }

    /// Writes what differs into `out`, and answers the rest of the payload.
    #[inline]
    pub(super) fn begin(&self, out: &mut [u8]) -> &'a [u8] {
        match self.change {
            Change::Nothing => self.payload,
            Change::Ids(..) | Change::Red(..) => self.change_to(out),
        }
    }

    fn change_to(&self, out: &mut [u8]) -> &'a [u8] {
        let changed = match self.change {
            Change::Nothing => 0,
            Change::Ids(ids, _) => ids.len,
            Change::Red(layout, _) => layout.headers,
        };
        let Some((head, rest)) = self.payload.split_at_checked(usize::from(changed)) else {
            return self.payload;
        };
        let space = &mut out[..head.len()];
        space.copy_from_slice(head);
        match self.change {
            Change::Nothing => {}
            Change::Ids(ids, shift) => ids.apply(shift, space),
            Change::Red(layout, payload_type) => layout.set_payload_type(payload_type, space),
        }
        rest
    }
}

#[cfg(test)]
mod tests;
