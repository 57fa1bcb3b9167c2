//! The mark by which a receiver's feedback, or its own estimate, tells packets of a connection apart.

use std::time::Instant;

use pipemesh_node_core::bandwidth::PacketKind;
use pipemesh_node_core::rtp::HeaderWriter;

use super::shaping::Shaping;
use crate::session::plan::Extensions;

/// What the receiver's feedback, or its own estimate, goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    /// Transport-wide: one count for all that a connection is sent with it, in the order of sending.
    pub(super) number: Option<u16>,
    /// Seconds, 6.18 fixed point (abs-send-time).
    time: [u8; 3],
}

impl Stamp {
    pub(super) const NONE: Self = Self {
        number: None,
        time: [0; 3],
    };

    /// Of a packet that leaves now, if all goes well; then it is [spent](Self::spend).
    #[inline]
    pub(super) fn next(shaping: Option<&Shaping>, extensions: &Extensions, now: Instant) -> Self {
        let Some(shaping) = shaping else {
            return Self::NONE;
        };
        if extensions.transport_sequence.is_some() {
            return Self {
                number: Some(shaping.bandwidth.next_number()),
                ..Self::NONE
            };
        }
        Self {
            time: shaping.absolute_time(now),
            ..Self::NONE
        }
    }

    /// The packet leaves: what was never sent must not look lost.
    #[inline(always)]
    pub(super) fn spend(
        self,
        shaping: Option<&mut Shaping>,
        len: usize,
        kind: PacketKind,
        now: Instant,
    ) {
        match (shaping, self.number) {
            (Some(shaping), Some(number)) => {
                let sent = shaping.sent(len, kind, now);
                debug_assert_eq!(sent, number, "the number that stands in the packet");
            }
            (Some(shaping), None) => shaping.sent_unnumbered(len, kind, now),
            (None, _) => {}
        }
    }

    pub(super) fn write(
        self,
        writer: &mut HeaderWriter<'_>,
        extensions: &Extensions,
        is_long: bool,
    ) {
        if let (Some(id), Some(number)) = (extensions.transport_sequence, self.number) {
            writer.extension(id, &number.to_be_bytes(), is_long || id > 14);
        } else if let Some(id) = extensions.absolute_send_time {
            writer.extension(id, &self.time, is_long || id > 14);
        }
    }
}
