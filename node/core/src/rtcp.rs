//! RTCP (RFC 3550 section 6, RFC 4585, RFC 5104), read in place and written without allocation. What a
//! message means for forwarding is decided elsewhere.

#![warn(clippy::indexing_slicing)]

mod read;
mod transport;
mod write;

pub use read::{Message, Messages, NackIter, ReportBlocks};
pub use transport::{ArrivalLog, MAX_FEEDBACK_LEN};
pub use write::{CompoundWriter, MAX_BLOCKS};

/// Smallest RTCP message: its header and the sender's SSRC.
pub const MIN_LEN: usize = 8;

/// Whether a packet with the RTP version bits is RTCP (RFC 5761 section 4).
pub fn is_rtcp(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|kind| (192..=223).contains(kind))
}

mod kind {
    pub(super) const SENDER_REPORT: u8 = 200;
    pub(super) const RECEIVER_REPORT: u8 = 201;
    pub(super) const SOURCE_DESCRIPTION: u8 = 202;
    pub(super) const BYE: u8 = 203;
    pub(super) const TRANSPORT_FEEDBACK: u8 = 205;
    pub(super) const PAYLOAD_FEEDBACK: u8 = 206;
}

mod format {
    pub(super) const NACK: u8 = 1;
    pub(super) const TRANSPORT_WIDE: u8 = 15;
    pub(super) const PICTURE_LOSS: u8 = 1;
    pub(super) const FULL_INTRA_REQUEST: u8 = 4;
    pub(super) const APPLICATION: u8 = 15;
}

/// The sender's part of a sender report (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// NTP timestamp, 32.32 fixed point.
    pub ntp: u64,
    pub rtp: u32,
    pub packets: u32,
    pub octets: u32,
}

impl SenderInfo {
    /// The middle 32 bits of the NTP timestamp, as receivers echo them.
    pub fn compact_ntp(&self) -> u32 {
        (self.ntp >> 16) as u32
    }
}

/// One receiver's view of one source (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReportBlock {
    pub ssrc: u32,
    /// Lost since the report before, in 1/256.
    pub fraction_lost: u8,
    /// Lost since the beginning; 24 bits, signed.
    pub total_lost: i32,
    /// Highest sequence number received, extended by cycles.
    pub highest_sequence: u32,
    /// In timestamp units.
    pub jitter: u32,
    /// Compact NTP of the last sender report, 0 if there was none.
    pub last_report: u32,
    /// Time since that report, in 1/65536 s.
    pub delay: u32,
}

#[cfg(test)]
mod tests;
