//! Decides which of the server's SCTP packets reach rtc-sctp.
//!
//! rtc-sctp trusts its peer: it panics on a cut-off error cause, walks from one TSN to another however far
//! apart they are, keeps any number of streams, fragments and reset requests, and ends the association over
//! chunks that only inform. What it has taken is learned from the SACKs that it sends.

use crate::wire::{be16, be32};

/// What rtc-sctp may hold of messages that are not whole.
pub(super) const RECEIVE_WINDOW: u32 = 1 << 20;

/// Far more than the two channels there are.
const MAX_STREAMS: u16 = 1_024;

/// How far ahead of what is acknowledged a TSN may be; the server sends again what it is too early for.
const TSN_WINDOW: i32 = 4_096;

/// How far a FORWARD-TSN may jump; rtc-sctp takes every step of it.
const MAX_FORWARD: i32 = 1 << 16;

/// Stream resets in the life of an association. LiveKit's channels stay.
const MAX_RESETS: u32 = 256;

/// Ports, tag and checksum.
const HEADER: usize = 12;

/// Kinds of chunks (RFC 9260 section 3.2, RFC 6525, RFC 3758).
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const INIT_ACK: u8 = 2;
    pub(super) const SACK: u8 = 3;
    pub(super) const HEARTBEAT: u8 = 4;
    pub(super) const ABORT: u8 = 6;
    pub(super) const SHUTDOWN: u8 = 7;
    pub(super) const SHUTDOWN_ACK: u8 = 8;
    pub(super) const COOKIE_ACK: u8 = 11;
    pub(super) const SHUTDOWN_COMPLETE: u8 = 14;
    pub(super) const RECONFIG: u8 = 130;
    pub(super) const FORWARD_TSN: u8 = 192;
}

/// Kinds of parameters.
mod parameter {
    pub(super) const HEARTBEAT_INFO: u16 = 1;
    pub(super) const OUTGOING_RESET: u16 = 13;
    pub(super) const RECONFIG_RESPONSE: u16 = 16;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Pass,
    Refuse,
    /// The server ends the association, or sends what no server does.
    End,
}

#[derive(Debug)]
pub(super) struct Gate {
    /// The last TSN that we have acknowledged with all before it. None until the server has named its first.
    acknowledged: Option<u32>,
    /// Bytes that rtc-sctp holds, at most.
    held: u32,
    resets_left: u32,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            acknowledged: None,
            held: 0,
            resets_left: MAX_RESETS,
        }
    }

    /// Packets pass whole or not at all: rtc-sctp goes on where what it has understood of a chunk ends, so
    /// that others could be hidden in the rest.
    pub(super) fn admit(&mut self, packet: &[u8]) -> Admission {
        let mut chunks = Parts::of(packet.get(HEADER..).unwrap_or_default());
        let mut admission = Admission::Refuse;
        while let Some(([kind, _flags], value)) = chunks.take() {
            let admitted = self.admit_chunk(kind, value);
            admission = admitted.unwrap_or(Admission::Refuse);
            if admission != Admission::Pass {
                return admission;
            }
        }
        if chunks.is_malformed {
            return Admission::Refuse;
        }
        admission
    }

    fn admit_chunk(&mut self, kind: u8, value: &[u8]) -> Option<Admission> {
        let is_sound = match kind {
            // rtc-sctp panics on some of these, and need not know.
            kind::ABORT => return Some(Admission::End),
            kind::DATA => return self.admit_data(value),
            kind::INIT_ACK => self.admit_init_ack(value)?,
            kind::SACK => is_sound_sack(value)?,
            kind::FORWARD_TSN => self.admit_forward_tsn(value)?,
            kind::RECONFIG => self.admit_reconfig(value)?,
            kind::HEARTBEAT => {
                let length = usize::from(be16(value, 2)?);
                be16(value, 0)? == parameter::HEARTBEAT_INFO && length == value.len()
            }
            kind::SHUTDOWN => value.len() == 4,
            kind::SHUTDOWN_ACK | kind::SHUTDOWN_COMPLETE | kind::COOKIE_ACK => value.is_empty(),
            // What only clients send, and ERROR, which rtc-sctp takes for the end.
            _ => false,
        };
        is_sound.then_some(Admission::Pass)
    }

    /// Once: rtc-sctp does nothing with another one.
    fn admit_init_ack(&mut self, value: &[u8]) -> Option<bool> {
        const FIXED: usize = 16;
        let mut parameters = Parts::of(value.get(FIXED..)?);
        while parameters.take().is_some() {}
        if parameters.is_malformed || self.acknowledged.is_some() {
            return None;
        }
        self.acknowledged = Some(be32(value, 12)?.wrapping_sub(1));
        Some(true)
    }

    fn admit_data(&mut self, value: &[u8]) -> Option<Admission> {
        const FIXED: usize = 12;
        let ahead = self.distance_to(be32(value, 0)?)?;
        let length = value.len().checked_sub(FIXED).filter(|len| *len > 0)?;
        if be16(value, 4)? >= MAX_STREAMS || ahead > TSN_WINDOW {
            return None;
        }
        if ahead > 0 {
            self.held = self.held.saturating_add(length as u32);
        }
        // rtc-sctp lets one message grow beyond the window if it comes in sequence.
        let is_overrun = self.held > 2 * RECEIVE_WINDOW;
        Some(if is_overrun {
            Admission::End
        } else {
            Admission::Pass
        })
    }

    fn admit_forward_tsn(&self, value: &[u8]) -> Option<bool> {
        let ahead = self.distance_to(be32(value, 0)?)?;
        Some(ahead <= MAX_FORWARD && value.len().is_multiple_of(4))
    }

    /// Any parameter but these ends the association, and requests that are too early are kept.
    fn admit_reconfig(&mut self, value: &[u8]) -> Option<bool> {
        let mut parameters = Parts::of(value);
        let mut number = 0;
        while let Some((kind, value)) = parameters.take() {
            number += 1;
            match u16::from_be_bytes(kind) {
                parameter::OUTGOING_RESET if self.distance_to(be32(value, 8)?)? <= 0 => {
                    self.resets_left = self.resets_left.checked_sub(1)?;
                }
                parameter::RECONFIG_RESPONSE if value.len() == 8 => {}
                _ => return None,
            }
        }
        Some((1..=2).contains(&number) && !parameters.is_malformed)
    }

    /// Learns from what rtc-sctp wants to send.
    pub(super) fn observe(&mut self, packet: &[u8]) {
        let mut chunks = Parts::of(packet.get(HEADER..).unwrap_or_default());
        while let Some(([kind, _flags], value)) = chunks.take() {
            if let (kind::SACK, Some(acknowledged), Some(window)) =
                (kind, be32(value, 0), be32(value, 4))
            {
                self.acknowledged = Some(acknowledged);
                // What is missing from the window is held. Of a full one only that is known.
                if window > 0 {
                    self.held = RECEIVE_WINDOW.saturating_sub(window);
                }
            }
        }
    }

    /// Steps from what is acknowledged (RFC 1982).
    fn distance_to(&self, tsn: u32) -> Option<i32> {
        Some(tsn.wrapping_sub(self.acknowledged?).cast_signed())
    }
}

/// Gap blocks have to be in order and apart (RFC 9260 section 3.3.4). rtc-sctp walks each of them, so
/// repeated ones would multiply its work.
fn is_sound_sack(value: &[u8]) -> Option<bool> {
    const FIXED: usize = 12;
    let gaps = usize::from(be16(value, 8)?);
    let duplicates = usize::from(be16(value, 10)?);
    let mut end_before = 0;
    for gap in 0..gaps {
        let start = be16(value, FIXED + 4 * gap)?;
        let end = be16(value, FIXED + 4 * gap + 2)?;
        if start <= end_before || end < start {
            return None;
        }
        end_before = end;
    }
    Some(value.len() == FIXED + 4 * (gaps + duplicates))
}

/// Things of the form type, length, value, padding.
struct Parts<'a> {
    rest: &'a [u8],
    is_malformed: bool,
}

impl<'a> Parts<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            is_malformed: false,
        }
    }

    /// The next one's first two bytes and its value.
    fn take(&mut self) -> Option<([u8; 2], &'a [u8])> {
        if self.rest.is_empty() || self.is_malformed {
            return None;
        }
        let length = be16(self.rest, 2).map(usize::from);
        let part = length.and_then(|length| {
            let head = *self.rest.first_chunk()?;
            Some((head, self.rest.get(4..length)?, length))
        });
        self.is_malformed = part.is_none();
        let (head, value, length) = part?;
        let padded = length.next_multiple_of(4);
        self.rest = self.rest.get(padded..).unwrap_or_default();
        Some((head, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST_TSN: u32 = u32::MAX - 1;

    fn chunk(kind: u8, value: &[u8]) -> Vec<u8> {
        let mut chunk = vec![kind, 0];
        chunk.extend((value.len() as u16 + 4).to_be_bytes());
        chunk.extend(value);
        chunk.resize(chunk.len().next_multiple_of(4), 0);
        chunk
    }

    fn packet(chunks: &[Vec<u8>]) -> Vec<u8> {
        [vec![0; HEADER], chunks.concat()].concat()
    }

    fn data(tsn: u32, stream: u16, len: usize) -> Vec<u8> {
        let mut value = tsn.to_be_bytes().to_vec();
        value.extend(stream.to_be_bytes());
        value.resize(12 + len, 0);
        chunk(kind::DATA, &value)
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    /// The server has named its first TSN.
    fn begun() -> Gate {
        let mut gate = Gate::new();
        let answer = chunk(
            kind::INIT_ACK,
            &words(&[1, 1 << 20, 0x000A_000A, FIRST_TSN]),
        );
        assert_eq!(gate.admit(&packet(&[answer])), Admission::Pass);
        gate
    }

    fn check(chunks: &[Vec<u8>], expected: Admission) {
        let packet = packet(chunks);
        assert_eq!(begun().admit(&packet), expected, "{packet:02x?}");
    }

    #[test]
    fn what_rtc_sctp_fails_at_does_not_reach_it() {
        use Admission::{End, Pass, Refuse};
        // An error cause that is cut off, in what ends the association and in what only informs.
        check(&[chunk(kind::ABORT, &[0, 12, 0, 99])], End);
        check(&[chunk(9, &[0, 12, 0, 99])], Refuse);
        // Half the numbers there are.
        let far = |steps: u32| chunk(kind::FORWARD_TSN, &words(&[FIRST_TSN.wrapping_add(steps)]));
        check(&[far(MAX_FORWARD as u32 - 1)], Pass);
        check(&[far(MAX_FORWARD as u32)], Refuse);
        check(&[far(i32::MAX as u32 - 1)], Refuse);
        check(&[data(FIRST_TSN.wrapping_add(5_000), 0, 1)], Refuse);
        check(&[data(FIRST_TSN, 0, 1), data(0, MAX_STREAMS, 1)], Refuse);
        check(&[data(FIRST_TSN, 0, 0)], Refuse);
        // The same gap twice, and gaps that are not there.
        let sack = |gaps: u32, blocks: &[u32]| {
            chunk(
                kind::SACK,
                &[words(&[0, 0, gaps << 16]), words(blocks)].concat(),
            )
        };
        check(&[sack(2, &[0x0002_0003, 0x0005_0005])], Pass);
        check(&[sack(2, &[0x0002_0003, 0x0002_0003])], Refuse);
        check(&[sack(3, &[0x0002_0003])], Refuse);
        // Less than a chunk, behind one that is whole.
        check(&[data(FIRST_TSN, 0, 1), vec![0, 0, 0]], Refuse);
        check(&[], Refuse);
    }

    #[test]
    fn resets_are_few_and_not_too_early() {
        let mut gate = begun();
        let reset = |last: u32| {
            let parameter = [vec![0, 13, 0, 16], words(&[1, 1, last])].concat();
            packet(&[chunk(kind::RECONFIG, &parameter)])
        };
        let before = FIRST_TSN.wrapping_sub(1);
        assert_eq!(gate.admit(&reset(FIRST_TSN)), Admission::Refuse);
        for _ in 0..MAX_RESETS {
            assert_eq!(gate.admit(&reset(before)), Admission::Pass);
        }
        assert_eq!(gate.admit(&reset(before)), Admission::Refuse);
    }

    #[test]
    fn a_message_without_end_is_the_end() {
        let mut gate = begun();
        let mut taken = 0;
        let end = loop {
            let tsn = FIRST_TSN.wrapping_add(taken);
            let admission = gate.admit(&packet(&[data(tsn, 0, 1_000)]));
            if admission != Admission::Pass {
                break admission;
            }
            taken += 1;
            // It is acknowledged, but the window is full.
            gate.observe(&packet(&[chunk(kind::SACK, &words(&[tsn, 0, 0]))]));
        };
        assert_eq!(end, Admission::End);
        assert!((2_000..2_200).contains(&taken), "{taken}");
        // Whoever reads has room again.
        let mut gate = begun();
        for number in 0..10_000 {
            let tsn = FIRST_TSN.wrapping_add(number);
            assert_eq!(gate.admit(&packet(&[data(tsn, 0, 1_000)])), Admission::Pass);
            let sack = words(&[tsn, RECEIVE_WINDOW - 1_000, 0]);
            gate.observe(&packet(&[chunk(kind::SACK, &sack)]));
        }
    }

    #[test]
    fn nothing_is_known_before_the_server_has_answered() {
        let mut gate = Gate::new();
        assert_eq!(gate.admit(&packet(&[data(1, 0, 1)])), Admission::Refuse);
        let torn = chunk(
            kind::INIT_ACK,
            &[words(&[1, 1, 1, 1]), vec![0, 7, 0, 9]].concat(),
        );
        assert_eq!(gate.admit(&packet(&[torn])), Admission::Refuse);
    }
}
