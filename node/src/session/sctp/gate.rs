//! Decides which of the client's SCTP packets reach rtc-sctp.
//!
//! rtc-sctp trusts its peer: it walks from one TSN to another however far apart they are, keeps
//! any number of streams, fragments and reset requests, panics on a cut-off error cause, and ends
//! the association over chunks that only inform. Everything a client can make it hold or do is
//! bounded here. What rtc-sctp has taken is learned from the SACKs that it sends.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::packet::{self, Chunk, Init, be16, be32};

/// How far ahead of what is acknowledged a TSN may be. A receiver may refuse what it has no room
/// for; the client sends it again.
const TSN_WINDOW: i32 = 4_096;

/// How far a FORWARD-TSN may jump; rtc-sctp takes every step of it. More than any client has in
/// flight.
const MAX_FORWARD: i32 = 1 << 16;

/// Chunks that wait for the rest of their message or for a message before it. The receive window
/// counts only their payload, which can be a byte each.
const MAX_QUEUED_CHUNKS: u32 = 2_048;

/// Stream resets of ours that the client has not answered; rtc-sctp repeats all of them.
const MAX_UNANSWERED_RESETS: usize = 64;

/// Reset requests of the client that wait for data to arrive.
const MAX_PENDING_RESETS: usize = 4;

/// Reset requests of the client that may have got lost in a row.
const MAX_RESET_GAP: i32 = 16;

/// How old a request may be to be answered again.
const MAX_RESET_AGE: i32 = 1_000;

/// RFC 6525 section 4.4.
const IN_PROGRESS: u32 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Pass,
    /// The client begins an association.
    Init(Init),
    /// The client ends it.
    Abort,
    /// A stream reset that has been dealt with; [`Gate::answer`] says so again.
    Repeat(u32),
    Refuse,
    /// No honest client sends this.
    Violation,
}

/// What becomes of a packet that rtc-sctp wants to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Emission {
    Send,
    Suppress,
    /// It is sent, and the client has left too much unanswered.
    Violation,
}

pub(super) struct Gate {
    init: Init,
    receive_window: u32,
    streams: u16,
    /// The last TSN that we have acknowledged with all before it.
    acknowledged: u32,
    /// The highest that has been let through.
    highest: u32,
    queued_chunks: u32,
    queued_bytes: u32,
    /// The client's last reset request (RFC 6525 section 4.1).
    last_reset: u32,
    /// Requests that rtc-sctp has answered with "in progress", and whether the client has been told
    /// so. rtc-sctp says it again with every chunk that comes in.
    pending_resets: Vec<(u32, bool)>,
    /// It has been answered for good. rtc-sctp must not see it again: it would reset the stream,
    /// which by then may carry another channel.
    reset_answered: bool,
    /// Requests of ours that await an answer, by number, with the packet that carries them.
    own_resets: BTreeMap<u32, Bytes>,
}

impl Gate {
    pub(super) fn new(init: Init, receive_window: u32, streams: u16) -> Self {
        let before = init.initial_tsn.wrapping_sub(1);
        Self {
            init,
            receive_window,
            streams,
            acknowledged: before,
            highest: before,
            queued_chunks: 0,
            queued_bytes: 0,
            last_reset: before,
            pending_resets: Vec::new(),
            reset_answered: false,
            own_resets: BTreeMap::new(),
        }
    }

    pub(super) fn init(&self) -> Init {
        self.init
    }

    /// Chunks pass only if rtc-sctp takes them for as long as they are: it goes on where what it has
    /// understood of a chunk ends, so that others could be hidden in the rest.
    pub(super) fn admit(&mut self, packet: &[u8]) -> Admission {
        if packet::first_chunk(packet) == Some(packet::INIT) {
            return Init::read(packet).map_or(Admission::Refuse, Admission::Init);
        }
        let mut admission = Admission::Pass;
        let whole = packet::for_each_chunk(packet, |chunk| {
            admission = self.admit_chunk(&chunk);
            if admission == Admission::Pass {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        if whole { admission } else { Admission::Refuse }
    }

    fn admit_chunk(&mut self, chunk: &Chunk<'_>) -> Admission {
        let value = chunk.value;
        let admission = match chunk.kind {
            packet::DATA => self.admit_data(value),
            packet::SACK => admit_sack(value),
            packet::FORWARD_TSN => self.admit_forward_tsn(value),
            packet::RECONFIG => self.admit_reconfig(value),
            // rtc-sctp panics on some of these, and need not know.
            packet::ABORT => Some(Admission::Abort),
            packet::HEARTBEAT => admit_heartbeat(value),
            packet::COOKIE_ECHO => Some(Admission::Pass),
            packet::SHUTDOWN => (value.len() == 4).then_some(Admission::Pass),
            packet::SHUTDOWN_ACK | packet::SHUTDOWN_COMPLETE | packet::COOKIE_ACK => {
                value.is_empty().then_some(Admission::Pass)
            }
            // ERROR among them, which rtc-sctp takes for the end.
            _ => None,
        };
        admission.unwrap_or(Admission::Refuse)
    }

    fn admit_data(&mut self, value: &[u8]) -> Option<Admission> {
        const HEADER_LENGTH: usize = 12;
        let tsn = be32(value, 0)?;
        let stream = be16(value, 4)?;
        let length = value.len().checked_sub(HEADER_LENGTH).filter(|n| *n > 0)?;
        if stream >= self.streams {
            return Some(Admission::Violation);
        }
        let ahead = distance(self.acknowledged, tsn);
        if ahead <= 0 {
            return Some(Admission::Pass);
        }
        let is_new = distance(self.highest, tsn) > 0;
        if ahead > TSN_WINDOW || (is_new && self.queued_chunks >= MAX_QUEUED_CHUNKS) {
            return None;
        }
        self.queued_chunks = self.queued_chunks.saturating_add(1);
        self.queued_bytes = self.queued_bytes.saturating_add(length as u32);
        if is_new {
            self.highest = tsn;
        }
        // rtc-sctp lets one message grow beyond the window if it comes in sequence.
        let overrun = self.queued_bytes > self.receive_window.saturating_mul(2);
        Some(if overrun {
            Admission::Violation
        } else {
            Admission::Pass
        })
    }

    fn admit_forward_tsn(&mut self, value: &[u8]) -> Option<Admission> {
        let tsn = be32(value, 0).filter(|_| value.len().is_multiple_of(4))?;
        if distance(self.acknowledged, tsn) > MAX_FORWARD {
            return Some(Admission::Violation);
        }
        if distance(self.highest, tsn) > 0 {
            self.highest = tsn;
        }
        Some(Admission::Pass)
    }

    fn admit_reconfig(&mut self, value: &[u8]) -> Option<Admission> {
        let mut repeated = None;
        packet::for_each_parameter(value, |kind, value| {
            if kind == packet::OUTGOING_RESET {
                repeated = repeated.or(be32(value, 0).filter(|n| self.is_dealt_with(*n)));
            }
        });
        if let Some(number) = repeated {
            return Some(Admission::Repeat(number));
        }
        let mut admit = true;
        let mut parameters = 0;
        let whole = packet::for_each_parameter(value, |kind, value| {
            parameters += 1;
            admit &= match kind {
                packet::OUTGOING_RESET => self.admit_reset(value),
                packet::RECONFIG_RESPONSE => self.admit_response(value),
                // rtc-sctp ends the association over any other, such as Firefox' wish for more
                // streams.
                _ => Some(false),
            }
            .unwrap_or(false);
        });
        (whole && admit && parameters <= 2).then_some(Admission::Pass)
    }

    fn is_dealt_with(&self, number: u32) -> bool {
        if self.pending_resets.iter().any(|(n, _)| *n == number) {
            return false;
        }
        match distance(self.last_reset, number) {
            0 => self.reset_answered,
            age => (-MAX_RESET_AGE..0).contains(&age),
        }
    }

    /// There is one request at a time, and they are numbered without gaps (RFC 6525 section 5.2.1);
    /// but clients made of rtc-sctp or pion do not repeat each that is lost.
    fn admit_reset(&mut self, value: &[u8]) -> Option<bool> {
        let number = be32(value, 0)?;
        if distance(self.acknowledged, be32(value, 8)?) > TSN_WINDOW {
            return None;
        }
        if let Some((_, told)) = self.pending_resets.iter_mut().find(|(n, _)| *n == number) {
            *told = false;
            return Some(true);
        }
        Some(match distance(self.last_reset, number) {
            0 => true,
            1..=MAX_RESET_GAP if self.pending_resets.len() < MAX_PENDING_RESETS => {
                self.last_reset = number;
                self.reset_answered = false;
                true
            }
            _ => false,
        })
    }

    fn admit_response(&mut self, value: &[u8]) -> Option<bool> {
        let number = be32(value, 0).filter(|_| value.len() == 8)?;
        if be32(value, 4)? == IN_PROGRESS {
            // rtc-sctp would take it for the final answer. Without one it asks again.
            return Some(false);
        }
        self.own_resets.remove(&number);
        Some(true)
    }

    /// A message has left rtc-sctp.
    pub(super) fn handle_delivery(&mut self, chunks: usize, bytes: usize) {
        self.queued_chunks = self.queued_chunks.saturating_sub(chunks as u32);
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes as u32);
    }

    /// Learns from what rtc-sctp wants to send, and decides about that, too.
    pub(super) fn observe(&mut self, packet: &Bytes) -> Emission {
        let mut emission = Emission::Send;
        packet::for_each_chunk(packet, |chunk| {
            match chunk.kind {
                packet::SACK => self.observe_sack(chunk.value),
                packet::RECONFIG => {
                    packet::for_each_parameter(chunk.value, |kind, value| {
                        if self.observe_reconfig(kind, value, packet) == Some(false) {
                            emission = Emission::Suppress;
                        }
                    });
                }
                _ => {}
            }
            ControlFlow::Continue(())
        });
        if self.own_resets.len() > MAX_UNANSWERED_RESETS {
            emission = Emission::Violation;
        }
        emission
    }

    /// Says of a stream reset that there is nothing left to do (RFC 6525 section 4.4).
    pub(super) fn answer(&self, number: u32) -> Bytes {
        const NOTHING_TO_DO: u32 = 0;
        let [a, b, c, d] = self.init.ports;
        packet::reconfig_response([c, d, a, b], self.init.tag, number, NOTHING_TO_DO)
    }

    /// Packets with requests that the client has not answered.
    pub(super) fn unanswered_resets(&self) -> impl ExactSizeIterator<Item = &Bytes> {
        self.own_resets.values()
    }

    fn observe_sack(&mut self, value: &[u8]) {
        let (Some(acknowledged), Some(window)) = (be32(value, 0), be32(value, 4)) else {
            return;
        };
        self.acknowledged = acknowledged;
        // What is missing from the window is queued. Of a full one only that is known.
        if window > 0 {
            self.queued_bytes = self.receive_window.saturating_sub(window);
            self.queued_chunks = self.queued_chunks.min(self.queued_bytes);
        }
    }

    /// False for what the client has been told before.
    fn observe_reconfig(&mut self, kind: u16, value: &[u8], packet: &Bytes) -> Option<bool> {
        let number = be32(value, 0)?;
        if kind == packet::OUTGOING_RESET {
            self.own_resets.entry(number).or_insert(packet.clone());
        } else if kind == packet::RECONFIG_RESPONSE && be32(value, 4)? == IN_PROGRESS {
            let pending = self.pending_resets.iter_mut().find(|(n, _)| *n == number);
            match pending {
                Some((_, told)) => return Some(!std::mem::replace(told, true)),
                None => self.pending_resets.push((number, true)),
            }
        } else if kind == packet::RECONFIG_RESPONSE {
            self.pending_resets.retain(|(n, _)| *n != number);
            self.reset_answered |= number == self.last_reset;
        }
        Some(true)
    }
}

/// Gap blocks have to be in order and apart (RFC 9260 section 3.3.4). rtc-sctp walks each of them,
/// so repeated ones would multiply its work.
fn admit_sack(value: &[u8]) -> Option<Admission> {
    const HEADER_LENGTH: usize = 12;
    let gaps = usize::from(be16(value, 8)?);
    let mut end_before = 0;
    for gap in 0..gaps {
        let start = be16(value, HEADER_LENGTH + 4 * gap)?;
        let end = be16(value, HEADER_LENGTH + 4 * gap + 2)?;
        if start <= end_before || end < start {
            return None;
        }
        end_before = end;
    }
    let duplicates = usize::from(be16(value, 10)?);
    (value.len() == HEADER_LENGTH + 4 * (gaps + duplicates)).then_some(Admission::Pass)
}

/// One parameter, of which the client wants to see the inside again.
fn admit_heartbeat(value: &[u8]) -> Option<Admission> {
    const HEARTBEAT_INFO: u16 = 1;
    let whole = be16(value, 0)? == HEARTBEAT_INFO && usize::from(be16(value, 2)?) == value.len();
    whole.then_some(Admission::Pass)
}

/// Steps from one serial number to another (RFC 1982).
fn distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from).cast_signed()
}

#[cfg(test)]
impl Gate {
    pub(super) fn highest_tsn(&self) -> u32 {
        self.highest
    }

    pub(super) fn queued_chunks(&self) -> u32 {
        self.queued_chunks
    }
}

#[cfg(test)]
mod tests;
