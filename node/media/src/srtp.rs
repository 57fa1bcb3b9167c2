//! SRTP and SRTCP (RFC 3711, RFC 7714) as DTLS-SRTP uses them (RFC 5764): one pair of master keys
//! per connection, no MKI, key derivation rate zero.
//!
//! A [`Sealer`] protects what a connection sends, an [`Opener`] checks what it receives. Neither
//! parses RTP: of a packet they read the SSRC, and the sequence number where it is received. All
//! key schedules are computed when the keys arrive, none per packet.

mod cm;
mod gcm;
mod hmac;
mod keys;
mod opener;
mod replay;
mod sealer;
mod secret;
mod transform;

pub use keys::{DtlsRole, MasterKey, MasterKeys, WrongLength};
pub use opener::{OpenError, Opened, Opener, RTCP_REPLAY_WINDOW, RTP_REPLAY_WINDOW, SourceIndex};
pub use sealer::{IndexExhausted, Sealer};

/// A protection profile that DTLS may negotiate, in our order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// `SRTP_AEAD_AES_128_GCM`, RFC 7714 section 14.2.
    AeadAes128Gcm,
    /// `SRTP_AEAD_AES_256_GCM`, RFC 7714 section 14.2.
    AeadAes256Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80`, RFC 5764 section 4.1.2: what every client has, at two to five
    /// times the cost, depending on the processor.
    AesCm128HmacSha1_80,
}

impl Profile {
    /// Most bytes that sealing adds to any packet under any profile.
    pub const MAX_OVERHEAD: usize = gcm::TAG_LEN + RTCP_INDEX_LEN;

    /// Length of the master key and of the session encryption keys, in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AesCm128HmacSha1_80 => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// Length of the master salt and of the session salts, in bytes.
    pub const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
            Self::AesCm128HmacSha1_80 => 14,
        }
    }

    /// Length of the authentication tag, in bytes.
    pub const fn tag_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => gcm::TAG_LEN,
            Self::AesCm128HmacSha1_80 => cm::TAG_LEN,
        }
    }

    /// What DTLS must export under `EXTRACTOR-dtls_srtp` (RFC 5764 section 4.2), in bytes.
    pub const fn keying_material_len(self) -> usize {
        2 * (self.key_len() + self.salt_len())
    }

    /// Bytes that sealing adds to an RTP packet.
    pub const fn rtp_overhead(self) -> usize {
        self.tag_len()
    }

    /// Bytes that sealing adds to an RTCP packet.
    pub const fn rtcp_overhead(self) -> usize {
        self.tag_len() + RTCP_INDEX_LEN
    }
}

/// The E flag and the 31-bit index behind every SRTCP packet (RFC 3711 section 3.4).
const RTCP_INDEX_LEN: usize = 4;

/// Version to SSRC: the part of an RTP packet that is always there and always clear.
const RTP_FIXED_HEADER_LEN: usize = 12;

/// The first eight bytes of an RTCP compound stay clear (RFC 3711 section 3.4).
const RTCP_CLEAR_LEN: usize = 8;

/// The largest packet index: 32 bits of rollover counter before 16 of sequence number.
const MAX_RTP_INDEX: u64 = (1 << 48) - 1;

/// What no two packets under one key may share: cipher and nonce depend on nothing else.
#[derive(Debug, Clone, Copy)]
struct PacketId {
    ssrc: u32,
    /// At most [`MAX_RTP_INDEX`]; of SRTCP packets the 31-bit index.
    index: u64,
}

fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests;
