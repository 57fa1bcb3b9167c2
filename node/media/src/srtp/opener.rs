//! The inbound half of a connection.

use super::keys::{SessionKeys, Traffic};
use super::replay::{Found, ReplayWindow, Sources, estimate_index};
use super::transform::Transform;
use super::{
    MAX_RTP_INDEX, MasterKey, PacketId, Profile, RTCP_CLEAR_LEN, RTCP_INDEX_LEN,
    RTP_FIXED_HEADER_LEN, read_u16, read_u32,
};

/// How far behind the newest packet of its source an RTP packet may arrive, in packets. About a
/// second of 10 Mbit/s. Wider costs a byte per eight packets and source; narrower refuses what a
/// jittery path delivers late.
pub const RTP_REPLAY_WINDOW: usize = 1024;

/// The same for RTCP, which has one packet for hundreds of RTP's.
pub const RTCP_REPLAY_WINDOW: usize = 128;

/// Rollover counters ahead of the expected one that are tried for a source which went on unheard. Four
/// cycles are minutes of the fastest stream; no path that is silent for longer is still the client's.
const MAX_MISSED_CYCLES: u64 = 4;

/// Checks and opens everything one connection receives, whatever its SSRCs.
///
/// Only a packet that proved authentic changes what is known of a source.
pub struct Opener {
    rtp: Later,
    rtcp: Transform,
    rtp_sources: Sources<{ RTP_REPLAY_WINDOW / 64 }>,
    rtcp_sources: Sources<{ RTCP_REPLAY_WINDOW / 64 }>,
    doubt: Doubt,
}

/// A cipher that is made when it is first needed: who only watches never sends what this one opens.
enum Later {
    Keys(Profile, SessionKeys),
    Made(Transform),
}

impl Later {
    fn made(&mut self) -> &Transform {
        if let Self::Keys(profile, keys) = self {
            *self = Self::Made(Transform::new(*profile, keys));
        }
        match self {
            Self::Made(transform) => transform,
            Self::Keys(..) => unreachable!("it was made above"),
        }
    }
}

/// The source whose last packet did not fit the rollover counter expected of it. Somebody forges; or it
/// went on unheard for half a cycle of its numbers or more, after which nobody can tell from a number
/// which cycle it is of (RFC 3711 section 3.3.1), and all it sends would seem forged for ever.
#[derive(Debug, Default)]
struct Doubt {
    ssrc: Option<u32>,
    /// Cycles ahead that are tried with its next packet.
    cycles: u64,
    /// What a packet was before it was opened in vain.
    copy: Vec<u8>,
}

impl Doubt {
    fn note(&mut self, ssrc: u32) {
        if self.ssrc == Some(ssrc) {
            self.cycles = self.cycles % MAX_MISSED_CYCLES + 1;
        } else {
            (self.ssrc, self.cycles) = (Some(ssrc), 1);
        }
    }
}

/// An RTP packet that proved authentic and new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Bytes of header and plain payload.
    pub len: usize,
    /// Rollover counter and sequence number: `(roc << 16) | seq`, 48 bits.
    pub index: u64,
    /// Half a cycle of the source's numbers or more were missed before it: who counts by sequence
    /// numbers alone has to begin anew.
    pub leapt: bool,
}

/// Why a packet is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The packet does not fit our keys, or is RTCP that claims not to be encrypted.
    #[error("the packet is not authentic")]
    Authentication,
    /// The packet was seen, or is older than the replay window.
    #[error("the packet was seen or is too old")]
    Replayed,
    /// Shorter than header and tag.
    #[error("the packet is too short")]
    TooShort,
}

/// How far a source has come, as a plain value: what an opener under the same keys needs to go on
/// where another stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceIndex {
    pub ssrc: u32,
    /// The highest index received: `(roc << 16) | seq` of RTP, 31 bits of RTCP.
    pub highest: u64,
}

impl Opener {
    /// An opener for some `max_sources` SSRCs of RTP at a time, at least one, and as many of RTCP. A
    /// further one takes the place of one that was silent. That one may come back: of its packets,
    /// those that were reordered over its rest are then refused.
    pub fn new(master: &MasterKey, max_sources: usize) -> Self {
        let profile = master.profile();
        Self {
            rtp: Later::Keys(profile, SessionKeys::derive(master, Traffic::Rtp)),
            rtcp: Transform::new(profile, &SessionKeys::derive(master, Traffic::Rtcp)),
            rtp_sources: Sources::new(max_sources),
            rtcp_sources: Sources::new(max_sources),
            doubt: Doubt::default(),
        }
    }

    /// There may be so many SSRCs at a time, if that is more than before.
    pub fn allow_sources(&mut self, max_sources: usize) {
        self.rtp_sources.allow(max_sources);
        self.rtcp_sources.allow(max_sources);
    }

    /// Opens an RTP packet in place. `header_len` counts CSRCs and extensions; the caller has parsed
    /// them. A source's first packet is taken to have rollover counter 0. If packets do not fit the
    /// counter they should have, those that follow are tried with later ones as well.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. What follows the header is then undefined, and the packet cannot be tried
    /// again.
    pub fn open_rtp(&mut self, packet: &mut [u8], header_len: usize) -> Result<Opened, OpenError> {
        let rtp = self.rtp.made();
        let shortest = header_len + rtp.tag_len();
        if header_len < RTP_FIXED_HEADER_LEN || packet.len() < shortest {
            return Err(OpenError::TooShort);
        }
        let seq = read_u16(packet, 2);
        let ssrc = read_u32(packet, 8);
        let found = self.rtp_sources.find(ssrc);
        let highest = found.window().map(ReplayWindow::highest);
        let expected = highest.map_or(seq.into(), |highest| estimate_index(highest, seq));
        // What is refused was seen or is old, unless the source is a cycle or nearly one ahead.
        let is_refused = found
            .window()
            .is_some_and(|window| window.refuses(expected));
        let is_doubted = self.doubt.ssrc == Some(ssrc);

        let mut opened = None;
        if !is_refused {
            if is_doubted {
                self.doubt.copy.clear();
                self.doubt.copy.extend_from_slice(&packet[header_len..]);
            }
            let id = PacketId {
                ssrc,
                index: expected,
            };
            let len = rtp.open_rtp(id, packet, header_len);
            opened = len.map(|len| (len, expected));
        }
        if opened.is_none() && is_doubted {
            if !is_refused {
                packet[header_len..].copy_from_slice(&self.doubt.copy);
            }
            let index = expected + (self.doubt.cycles << 16);
            if index <= MAX_RTP_INDEX {
                let id = PacketId { ssrc, index };
                let len = rtp.open_rtp(id, packet, header_len);
                opened = len.map(|len| (len, index));
            }
        }
        let Some((len, index)) = opened else {
            self.doubt.note(ssrc);
            return Err(match is_refused {
                true => OpenError::Replayed,
                false => OpenError::Authentication,
            });
        };
        if is_doubted {
            self.doubt.ssrc = None;
        }
        match found {
            Found::Live(window) => window.record(index),
            Found::Resting(mut window) => {
                window.record(index);
                self.rtp_sources.insert(ssrc, window);
            }
            Found::New => {
                let window = ReplayWindow::starting_at(index);
                self.rtp_sources.insert(ssrc, window);
            }
        }
        const HALF_A_CYCLE: u64 = 1 << 15;
        let leapt = highest.is_some_and(|highest| index >= highest + HALF_A_CYCLE);
        Ok(Opened { len, index, leapt })
    }

    /// Opens an RTCP compound in place and returns its length.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. What follows the first eight bytes is then undefined.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, OpenError> {
        let shortest = RTCP_CLEAR_LEN + RTCP_INDEX_LEN + self.rtcp.tag_len();
        if packet.len() < shortest {
            return Err(OpenError::TooShort);
        }
        let ssrc = read_u32(packet, 4);
        let index = self
            .rtcp
            .rtcp_index(packet)
            .ok_or(OpenError::Authentication)?
            .into();
        let found = self.rtcp_sources.find(ssrc);
        if found.window().is_some_and(|window| window.refuses(index)) {
            return Err(OpenError::Replayed);
        }
        let id = PacketId { ssrc, index };
        let len = self
            .rtcp
            .open_rtcp(id, packet)
            .ok_or(OpenError::Authentication)?;
        match found {
            Found::Live(window) => window.record(index),
            Found::Resting(mut window) => {
                window.record(index);
                self.rtcp_sources.insert(ssrc, window);
            }
            Found::New => {
                let window = ReplayWindow::starting_at(index);
                self.rtcp_sources.insert(ssrc, window);
            }
        }
        Ok(len)
    }

    /// How far each source of RTP has come.
    pub fn rollover_counters(&self) -> impl Iterator<Item = SourceIndex> {
        self.rtp_sources
            .iter()
            .map(|(ssrc, highest)| SourceIndex { ssrc, highest })
    }

    /// How far each source of RTCP has come.
    pub fn rtcp_indices(&self) -> impl Iterator<Item = SourceIndex> {
        self.rtcp_sources
            .iter()
            .map(|(ssrc, highest)| SourceIndex { ssrc, highest })
    }

    /// Continues a source of RTP where another opener under the same keys stopped. All it received
    /// or may have received, up to the given index, counts as seen.
    pub fn resume_rtp(&mut self, source: SourceIndex) {
        resume(&mut self.rtp_sources, source);
    }

    /// The same for a source of RTCP.
    pub fn resume_rtcp(&mut self, source: SourceIndex) {
        resume(&mut self.rtcp_sources, source);
    }

    #[cfg(test)]
    pub(super) fn from_session_keys(profile: Profile, keys: &SessionKeys) -> Self {
        Self {
            rtp: Later::Made(Transform::new(profile, keys)),
            rtcp: Transform::new(profile, keys),
            rtp_sources: Sources::new(4),
            rtcp_sources: Sources::new(4),
            doubt: Doubt::default(),
        }
    }
}

fn resume<const WORDS: usize>(
    sources: &mut Sources<WORDS>,
    SourceIndex { ssrc, highest }: SourceIndex,
) {
    let window = ReplayWindow::closed_up_to(highest);
    match sources.find(ssrc) {
        Found::Live(known) => *known = window,
        Found::Resting(_) | Found::New => sources.insert(ssrc, window),
    }
}
