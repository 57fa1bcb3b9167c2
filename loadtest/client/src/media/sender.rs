//! One outgoing RTP stream: an encoding of a track with its retransmissions.
//!
//! What was sent is kept as the few numbers that it is a function of, for a second or more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::clock;
use super::packet::Payload;
use super::recording::Piece;
use crate::outbox::Outbox;
use crate::transport::Transport;
use crate::wire::dependency::MAX_LEN as MAX_DEPENDENCY;
use crate::wire::rtcp::{Block, Sent};
use crate::wire::rtp::{Fields, write_header};

/// Packets that can be sent again: more than two seconds of 1.7 Mbit/s.
const KEPT: usize = 512;

/// The way out: a connection's transport and what its packets share.
pub(crate) struct Uplink<'a> {
    pub(crate) transport: &'a mut Transport,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) socket: usize,
    /// The next transport-wide sequence number.
    pub(crate) transport_sequence: &'a mut u16,
    pub(crate) counts: &'a mut SentCounts,
}

impl Uplink<'_> {
    /// The transport-wide number of a packet, if it carries one: none is left out.
    fn number(&mut self, terms: &Terms) -> u16 {
        let number = *self.transport_sequence;
        if terms.extensions.transport_cc > 0 {
            *self.transport_sequence = number.wrapping_add(1);
            self.counts.numbered += 1;
        }
        number
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SentCounts {
    pub(crate) packets: u64,
    /// Those that carry a transport-wide number.
    pub(crate) numbered: u64,
    pub(crate) bytes: u64,
    pub(crate) repairs: u64,
    pub(crate) frames: u64,
    /// Of those, more than half a frame's time late: the generator did not keep up.
    pub(crate) late: u64,
}

/// What a stream's packets say besides their payload. Ids are 0 where nothing was negotiated.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    pub(crate) payload_type: u8,
    pub(crate) repair_payload_type: Option<u8>,
    pub(crate) extensions: crate::sdp::Extensions,
    pub(crate) mid: String,
}

#[derive(Debug)]
pub(crate) struct Sender {
    rid: String,
    /// How often, after the first time.
    begun: u8,
    pub(crate) ssrc: u32,
    pub(crate) repair_ssrc: u32,
    /// Rollover counter and sequence number of the next packet.
    index: u64,
    repair_index: u64,
    /// The server has reported on the SSRC, so it knows what it is, and is not told again.
    known: bool,
    repair_known: bool,
    kept: VecDeque<Kept>,
    packets: u32,
    octets: u32,
    last: Option<(u32, Instant)>,
    round_trip: Option<Duration>,
    /// Of what the server reported last, in 1/256.
    fraction_lost: u8,
}

/// What a packet carries, to be written as often as needed.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Stamped(Payload),
    Recorded(Piece),
}

impl From<Payload> for Content {
    fn from(payload: Payload) -> Self {
        Self::Stamped(payload)
    }
}

impl From<Piece> for Content {
    fn from(piece: Piece) -> Self {
        Self::Recorded(piece)
    }
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Self::Stamped(payload) => payload.len,
            Self::Recorded(piece) => piece.len(),
        }
    }

    fn write(&self, out: &mut [u8]) {
        match self {
            Self::Stamped(payload) => payload.write(out),
            Self::Recorded(piece) => piece.write(out),
        }
    }

    fn dependency<'a>(&self, out: &'a mut [u8; MAX_DEPENDENCY]) -> &'a [u8] {
        match self {
            Self::Stamped(payload) => payload.dependency(out),
            Self::Recorded(_) => &[],
        }
    }
}

#[derive(Debug, Clone)]
struct Kept {
    index: u64,
    timestamp: u32,
    marker: bool,
    content: Content,
    /// To be the same bytes if it is sent again under the same index.
    named: bool,
    transport_sequence: u16,
    level: Option<u8>,
}

impl Sender {
    /// `start`: the first sequence number, below 2^15 so that its rollover counter is known.
    pub(crate) fn new(rid: &str, ssrc: u32, repair_ssrc: u32, start: u16) -> Self {
        let start = u64::from(start & 0x7FFF);
        Self {
            rid: rid.to_owned(),
            begun: 0,
            ssrc,
            repair_ssrc,
            index: start,
            repair_index: start,
            known: false,
            repair_known: false,
            kept: VecDeque::new(),
            packets: 0,
            octets: 0,
            last: None,
            round_trip: None,
            fraction_lost: 0,
        }
    }

    /// To go on as another stream, over another connection.
    pub(crate) fn begin_anew(&mut self, ssrc: u32, repair_ssrc: u32, start: u16) {
        let begun = self.begun.wrapping_add(1);
        *self = Self {
            begun,
            ..Self::new(&self.rid, ssrc, repair_ssrc, start)
        };
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    pub(crate) fn packets(&self) -> u32 {
        self.packets
    }

    pub(crate) fn fraction_lost(&self) -> u8 {
        self.fraction_lost
    }

    pub(crate) fn send(
        &mut self,
        terms: &Terms,
        timestamp: u32,
        marker: bool,
        level: Option<u8>,
        content: impl Into<Content>,
        uplink: &mut Uplink<'_>,
        now: Instant,
    ) {
        if !uplink.transport.is_secured() {
            return;
        }
        let mut content = content.into();
        if let Content::Stamped(payload) = &mut content {
            payload.stamp.begun = self.begun;
        }
        let kept = Kept {
            index: self.index,
            timestamp,
            marker,
            content,
            named: !self.known,
            transport_sequence: uplink.number(terms),
            level,
        };
        self.index += 1;
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(kept.content.len() as u32);
        self.last = Some((timestamp, now));
        self.write_media(terms, &kept, uplink);
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(kept);
    }

    /// Sends packets again that the server misses.
    pub(crate) fn repair(
        &mut self,
        terms: &Terms,
        lost: impl Iterator<Item = u16>,
        uplink: &mut Uplink<'_>,
    ) {
        for sequence in lost {
            let Some(first) = self.kept.front() else {
                return;
            };
            let place = sequence.wrapping_sub(first.index as u16);
            let Some(kept) = self.kept.get(usize::from(place)).cloned() else {
                continue;
            };
            uplink.counts.repairs += 1;
            match terms.repair_payload_type {
                Some(payload_type) => self.write_repair(terms, payload_type, &kept, uplink),
                // Under the same index only the very same packet may be sealed.
                None => self.write_media(terms, &kept, uplink),
            }
        }
    }

    fn write_media(&self, terms: &Terms, kept: &Kept, uplink: &mut Uplink<'_>) {
        let fields = Fields {
            marker: kept.marker,
            payload_type: terms.payload_type,
            sequence: kept.index as u16,
            timestamp: kept.timestamp,
            ssrc: self.ssrc,
        };
        let ids = terms.extensions;
        let level = kept.level.map(|level| [level]);
        let sequence = kept.transport_sequence.to_be_bytes();
        let named = |id: u8, text: &str| id > 0 && kept.named && !text.is_empty();
        let mut dependency = [0; MAX_DEPENDENCY];
        let extensions = [
            (ids.transport_cc > 0).then_some((ids.transport_cc, &sequence[..])),
            level
                .as_ref()
                .filter(|_| ids.audio_level > 0)
                .map(|it| (ids.audio_level, &it[..])),
            named(ids.mid, &terms.mid).then_some((ids.mid, terms.mid.as_bytes())),
            named(ids.rid, &self.rid).then_some((ids.rid, self.rid.as_bytes())),
            dependency_of(kept, ids.dependency, &mut dependency),
        ];
        write(uplink, kept.index, fields, &extensions, &[], &kept.content);
    }

    fn write_repair(
        &mut self,
        terms: &Terms,
        payload_type: u8,
        kept: &Kept,
        uplink: &mut Uplink<'_>,
    ) {
        let fields = Fields {
            marker: kept.marker,
            payload_type,
            sequence: self.repair_index as u16,
            timestamp: kept.timestamp,
            ssrc: self.repair_ssrc,
        };
        let ids = terms.extensions;
        let sequence = uplink.number(terms).to_be_bytes();
        let named = |id: u8, text: &str| id > 0 && !self.repair_known && !text.is_empty();
        let mut dependency = [0; MAX_DEPENDENCY];
        let extensions = [
            (ids.transport_cc > 0).then_some((ids.transport_cc, &sequence[..])),
            named(ids.mid, &terms.mid).then_some((ids.mid, terms.mid.as_bytes())),
            named(ids.repaired_rid, &self.rid).then_some((ids.repaired_rid, self.rid.as_bytes())),
            dependency_of(kept, ids.dependency, &mut dependency),
        ];
        let original = (kept.index as u16).to_be_bytes();
        write(
            uplink,
            self.repair_index,
            fields,
            &extensions,
            &original,
            &kept.content,
        );
        self.repair_index += 1;
    }

    /// What the server says of this stream, or of its retransmissions.
    pub(crate) fn handle_report(&mut self, block: &Block, now: Instant) {
        if block.ssrc == self.repair_ssrc {
            self.repair_known = true;
            return;
        }
        self.known = true;
        self.fraction_lost = block.fraction_lost;
        if block.last_report != 0 {
            let there_and_back = clock::middle(clock::ntp(now))
                .wrapping_sub(block.last_report)
                .wrapping_sub(block.delay);
            // More is a report about a time that never was.
            if there_and_back < 1 << 20 {
                self.round_trip = Some(Duration::from_secs_f64(
                    f64::from(there_and_back) / 65_536.0,
                ));
            }
        }
    }

    /// What a sender report says, if anything was sent. `clock_rate`: of timestamps.
    pub(crate) fn report(&self, clock_rate: u32, now: Instant) -> Option<Sent> {
        let (timestamp, at) = self.last?;
        let since = now.saturating_duration_since(at).as_secs_f64() * f64::from(clock_rate);
        Some(Sent {
            ssrc: self.ssrc,
            ntp: clock::ntp(now),
            timestamp: timestamp.wrapping_add(since as u32),
            packets: self.packets,
            octets: self.octets,
        })
    }
}

fn dependency_of<'a>(
    kept: &Kept,
    id: u8,
    out: &'a mut [u8; MAX_DEPENDENCY],
) -> Option<(u8, &'a [u8])> {
    let value = kept.content.dependency(out);
    (id > 0 && !value.is_empty()).then_some((id, value))
}

/// Extensions of a packet at most.
const EXTENSIONS: usize = 5;

/// Writes and seals one packet.
fn write(
    uplink: &mut Uplink<'_>,
    index: u64,
    fields: Fields,
    extensions: &[Option<(u8, &[u8])>],
    prefix: &[u8],
    content: &Content,
) {
    let mut present = [(0, &[][..]); EXTENSIONS];
    let mut count = 0;
    for extension in extensions.iter().flatten() {
        present[count] = *extension;
        count += 1;
    }
    let Uplink {
        transport, outbox, ..
    } = uplink;
    let mut sent = 0;
    let written = outbox.write(uplink.socket, |out| {
        let header_len = write_header(out, fields, &present[..count]);
        let body = header_len + prefix.len();
        out[header_len..body].copy_from_slice(prefix);
        content.write(&mut out[body..]);
        let (to, len) = transport.seal_rtp(index, out, header_len, body + content.len())?;
        sent = len;
        Some((to, len))
    });
    if written {
        uplink.counts.packets += 1;
        uplink.counts.bytes += sent as u64;
    }
}
