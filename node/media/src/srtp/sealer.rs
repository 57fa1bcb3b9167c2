//! The outbound half of a connection.

use super::keys::{SessionKeys, Traffic};
use super::transform::Transform;
use super::{MAX_RTP_INDEX, MasterKey, PacketId, RTCP_CLEAR_LEN, RTP_FIXED_HEADER_LEN, read_u32};

/// Seals everything one connection sends, whatever its SSRCs.
///
/// RTP indices are the caller's: **no two different packets of one SSRC may be sealed with the same
/// index**, or GCM gives away both and its authentication key (RFC 7714 section 8.4). Sealing the
/// same packet twice is harmless. SRTCP indices are counted here.
pub struct Sealer {
    rtp: Transform,
    rtcp: Transform,
    /// One counter for all SSRCs, so that none can meet an index twice. Starts at 1, as in libsrtp.
    next_rtcp_index: u32,
}

/// All 2^31 SRTCP indices of a key are used up (RFC 3711 section 9.2): the connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key has sealed as many SRTCP packets as it may")]
pub struct IndexExhausted;

/// SRTCP indices have 31 bits.
const MAX_RTCP_INDEX: u32 = u32::MAX >> 1;

impl Sealer {
    pub fn new(master: &MasterKey) -> Self {
        let transform =
            |traffic| Transform::new(master.profile(), &SessionKeys::derive(master, traffic));
        Self {
            rtp: transform(Traffic::Rtp),
            rtcp: transform(Traffic::Rtcp),
            next_rtcp_index: 1,
        }
    }

    /// Seals `payload` into `packet` behind the header that stands in `packet[..header_len]`, its
    /// extensions and CSRCs included. Returns the length of the sealed packet:
    /// `header_len + payload.len()` and the profile's
    /// [`rtp_overhead`](super::Profile::rtp_overhead).
    ///
    /// `index` is rollover counter and sequence number: `(roc << 16) | seq`, 48 bits. Its low 16
    /// bits must be the header's sequence number.
    ///
    /// # Panics
    ///
    /// If `packet` is too short, the header shorter than 12 bytes, or `index` has more than 48 bits.
    #[inline]
    pub fn seal_rtp(
        &self,
        index: u64,
        packet: &mut [u8],
        header_len: usize,
        payload: &[u8],
    ) -> usize {
        self.seal_rtp_patched(index, packet, header_len, 0, payload)
    }

    /// As [`seal_rtp`](Self::seal_rtp), for a payload whose first bytes differ from the shared
    /// packet's: they stand in `packet[header_len..][..patched_len]`, and `rest` is what follows
    /// them. With an empty `rest` the whole payload is sealed in place.
    ///
    /// # Panics
    ///
    /// As [`seal_rtp`](Self::seal_rtp).
    pub fn seal_rtp_patched(
        &self,
        index: u64,
        packet: &mut [u8],
        header_len: usize,
        patched_len: usize,
        rest: &[u8],
    ) -> usize {
        assert!(
            header_len >= RTP_FIXED_HEADER_LEN,
            "a header of {header_len} bytes has no SSRC"
        );
        assert!(
            index <= MAX_RTP_INDEX,
            "index {index} would repeat the nonce of another packet"
        );
        debug_assert_eq!(
            super::read_u16(packet, 2),
            index as u16,
            "sequence number and index"
        );
        let id = PacketId {
            ssrc: read_u32(packet, 8),
            index,
        };
        self.rtp.seal_rtp(id, packet, header_len, patched_len, rest)
    }

    /// Asks for what sealing media reads, to be there when it is needed.
    #[inline]
    pub fn prefetch(&self) {
        self.rtp.prefetch();
    }

    /// Seals the RTCP compound in `packet[..len]` in place and returns the length of the sealed
    /// packet: `len` and the profile's [`rtcp_overhead`](super::Profile::rtcp_overhead).
    ///
    /// # Errors
    ///
    /// [`IndexExhausted`] after 2^31 packets.
    ///
    /// # Panics
    ///
    /// If `packet` is too short or `len` is below 8.
    pub fn seal_rtcp(&mut self, packet: &mut [u8], len: usize) -> Result<usize, IndexExhausted> {
        assert!(
            len >= RTCP_CLEAR_LEN,
            "a compound of {len} bytes has no SSRC"
        );
        let index = self.next_rtcp_index;
        if index > MAX_RTCP_INDEX {
            return Err(IndexExhausted);
        }
        self.next_rtcp_index += 1;
        let id = PacketId {
            ssrc: read_u32(packet, 4),
            index: index.into(),
        };
        Ok(self.rtcp.seal_rtcp(id, packet, len))
    }

    /// The index of the next SRTCP packet: with the master key, what another sealer needs to
    /// [resume](Self::resume_rtcp_at) where this one stopped.
    pub fn next_rtcp_index(&self) -> u32 {
        self.next_rtcp_index
    }

    /// Continues another sealer's SRTCP indices under the same key. Never goes back.
    pub fn resume_rtcp_at(&mut self, next_index: u32) {
        self.next_rtcp_index = self.next_rtcp_index.max(next_index);
    }

    #[cfg(test)]
    pub(super) fn from_session_keys(profile: super::Profile, keys: &SessionKeys) -> Self {
        let transform = || Transform::new(profile, keys);
        Self {
            rtp: transform(),
            rtcp: transform(),
            next_rtcp_index: 1,
        }
    }
}
