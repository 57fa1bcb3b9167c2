//! Reading: an iterator over a compound packet that skips what it does not know and ends at what it
//! cannot trust.

use super::{ReportBlock, SenderInfo, format, kind};

/// An entry of a full intra request.
const INTRA_REQUEST_LEN: usize = 8;

/// One message of a compound packet.
#[derive(Debug, Clone)]
pub enum Message<'a> {
    SenderReport {
        ssrc: u32,
        info: SenderInfo,
        blocks: ReportBlocks<'a>,
    },
    ReceiverReport {
        ssrc: u32,
        blocks: ReportBlocks<'a>,
    },
    /// Generic NACK (RFC 4585 section 6.2.1).
    Nack {
        media_ssrc: u32,
        lost: NackIter<'a>,
    },
    /// PLI (RFC 4585 section 6.3.1).
    PictureLoss {
        media_ssrc: u32,
    },
    /// FIR (RFC 5104 section 4.3.1), one per entry.
    FullIntraRequest {
        media_ssrc: u32,
    },
    /// Transport-wide congestion control feedback: everything behind the two SSRCs.
    TransportFeedback {
        content: &'a [u8],
    },
    /// REMB: the receiver's estimate of the available bandwidth, in bit/s.
    EstimatedMaximumBitrate {
        bits_per_second: u64,
    },
    Bye {
        ssrc: u32,
    },
}

/// Iterates over the messages of a decrypted compound packet. Ends at the first malformed one.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    rest: &'a [u8],
    /// Remaining entries of a full intra request, which may name several sources.
    intra_requests: &'a [u8],
    is_malformed: bool,
}

impl<'a> Messages<'a> {
    pub fn new(packet: &'a [u8]) -> Self {
        Self {
            rest: packet,
            intra_requests: &[],
            is_malformed: false,
        }
    }

    /// Whether they ended before the packet did.
    pub fn is_malformed(&self) -> bool {
        self.is_malformed
    }

    /// The next message as (count or format, kind, body behind the four-byte header). Passes over it only
    /// if it is whole.
    fn next_raw(&mut self) -> Option<(u8, u8, &'a [u8])> {
        let (&[first, kind, w0, w1], after) = self.rest.split_first_chunk()?;
        if first >> 6 != 2 {
            return None;
        }
        let len = usize::from(u16::from_be_bytes([w0, w1])) * 4;
        let (mut body, rest) = after.split_at_checked(len)?;
        if first & 0x20 != 0 {
            let padding = usize::from(*body.last()?);
            body = body.get(..body.len().checked_sub(padding)?)?;
        }
        self.rest = rest;
        Some((first & 0x1F, kind, body))
    }

    fn next_intra_request(&mut self) -> Option<Message<'a>> {
        let (entry, rest) = self
            .intra_requests
            .split_first_chunk::<INTRA_REQUEST_LEN>()?;
        self.intra_requests = rest;
        let [s0, s1, s2, s3, ..] = *entry;
        Some(Message::FullIntraRequest {
            media_ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
        })
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        loop {
            if let Some(request) = self.next_intra_request() {
                return Some(request);
            }
            let parsed = match self.next_raw() {
                Some((count, kind, body)) => parse(count, kind, body),
                None if self.rest.is_empty() => return None,
                None => Parsed::Malformed,
            };
            match parsed {
                Parsed::Message(message) => return Some(message),
                Parsed::IntraRequests(entries) => self.intra_requests = entries,
                Parsed::Unknown => {}
                Parsed::Malformed => {
                    (self.rest, self.is_malformed) = (&[], true);
                    return None;
                }
            }
        }
    }
}

enum Parsed<'a> {
    Message(Message<'a>),
    IntraRequests(&'a [u8]),
    Unknown,
    Malformed,
}

fn parse(count: u8, kind: u8, body: &[u8]) -> Parsed<'_> {
    let mut reader = Reader(body);
    let message = match (kind, count) {
        (kind::SENDER_REPORT, count) => reader.sender_report(count),
        (kind::RECEIVER_REPORT, count) => reader.receiver_report(count),
        (kind::BYE, 1..) => reader.u32().map(|ssrc| Message::Bye { ssrc }),
        (kind::TRANSPORT_FEEDBACK, format::NACK) => {
            reader.ssrcs().map(|media_ssrc| Message::Nack {
                media_ssrc,
                lost: NackIter {
                    rest: reader.0,
                    bits: 0,
                    at: 0,
                },
            })
        }
        (kind::TRANSPORT_FEEDBACK, format::TRANSPORT_WIDE) => reader
            .ssrcs()
            .map(|_| Message::TransportFeedback { content: reader.0 }),
        (kind::PAYLOAD_FEEDBACK, format::PICTURE_LOSS) => reader
            .ssrcs()
            .map(|media_ssrc| Message::PictureLoss { media_ssrc }),
        (kind::PAYLOAD_FEEDBACK, format::FULL_INTRA_REQUEST) => {
            return match reader.ssrcs() {
                Some(_) if reader.0.len().is_multiple_of(INTRA_REQUEST_LEN) => {
                    Parsed::IntraRequests(reader.0)
                }
                _ => Parsed::Malformed,
            };
        }
        (kind::PAYLOAD_FEEDBACK, format::APPLICATION) => {
            if reader.ssrcs().is_none() {
                return Parsed::Malformed;
            }
            if reader.u32() != Some(u32::from_be_bytes(*b"REMB")) {
                return Parsed::Unknown;
            }
            reader.estimated_maximum_bitrate()
        }
        _ => return Parsed::Unknown,
    };
    message.map_or(Parsed::Malformed, Parsed::Message)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    /// The sender's SSRC and the media SSRC of a feedback message; answers the latter.
    fn ssrcs(&mut self) -> Option<u32> {
        self.u32()?;
        self.u32()
    }

    fn sender_report(&mut self, count: u8) -> Option<Message<'a>> {
        let ssrc = self.u32()?;
        let ntp = u64::from(self.u32()?) << 32 | u64::from(self.u32()?);
        let info = SenderInfo {
            ntp,
            rtp: self.u32()?,
            packets: self.u32()?,
            octets: self.u32()?,
        };
        Some(Message::SenderReport {
            ssrc,
            info,
            blocks: self.blocks(count)?,
        })
    }

    fn receiver_report(&mut self, count: u8) -> Option<Message<'a>> {
        Some(Message::ReceiverReport {
            ssrc: self.u32()?,
            blocks: self.blocks(count)?,
        })
    }

    fn blocks(&mut self, count: u8) -> Option<ReportBlocks<'a>> {
        let (blocks, rest) = self
            .0
            .split_at_checked(usize::from(count) * ReportBlock::LEN)?;
        self.0 = rest;
        Some(ReportBlocks(blocks))
    }

    /// draft-alvestrand-rmcat-remb-03 section 2.2, behind the four letters.
    fn estimated_maximum_bitrate(&mut self) -> Option<Message<'a>> {
        let word = self.u32()?;
        let exponent = word >> 18 & 0x3F;
        let mantissa = u64::from(word & 0x3_FFFF);
        // What does not fit is as much as can be said.
        let fits = mantissa.leading_zeros() >= exponent;
        Some(Message::EstimatedMaximumBitrate {
            bits_per_second: if fits { mantissa << exponent } else { u64::MAX },
        })
    }
}

impl ReportBlock {
    pub(super) const LEN: usize = 24;

    fn parse(bytes: &[u8; Self::LEN]) -> Self {
        let mut reader = Reader(bytes);
        let mut word = || reader.u32().unwrap_or_default();
        let (ssrc, lost) = (word(), word());
        Self {
            ssrc,
            fraction_lost: (lost >> 24) as u8,
            // Sign-extend 24 bits.
            total_lost: (lost << 8) as i32 >> 8,
            highest_sequence: word(),
            jitter: word(),
            last_report: word(),
            delay: word(),
        }
    }
}

/// The report blocks of a report.
#[derive(Debug, Clone)]
pub struct ReportBlocks<'a>(&'a [u8]);

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (block, rest) = self.0.split_first_chunk::<{ ReportBlock::LEN }>()?;
        self.0 = rest;
        Some(ReportBlock::parse(block))
    }
}

/// The sequence numbers a NACK asks for.
#[derive(Debug, Clone)]
pub struct NackIter<'a> {
    rest: &'a [u8],
    /// Bitmask of what follows `at`, lowest bit next.
    bits: u16,
    at: u16,
}

impl Iterator for NackIter<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.bits != 0 {
            let skipped = self.bits.trailing_zeros() as u16 + 1;
            self.at = self.at.wrapping_add(skipped);
            self.bits = self.bits.checked_shr(u32::from(skipped)).unwrap_or(0);
            return Some(self.at);
        }
        let (&[p0, p1, b0, b1], rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        self.at = u16::from_be_bytes([p0, p1]);
        self.bits = u16::from_be_bytes([b0, b1]);
        Some(self.at)
    }
}
