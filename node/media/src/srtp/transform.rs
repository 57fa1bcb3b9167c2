//! Where each profile puts what: which bytes stay clear, which are authenticated, where tag and
//! SRTCP index stand. Sealer and opener share it, so they cannot disagree.

use super::cm::{self, Cm};
use super::gcm::{self, Gcm};
use super::keys::SessionKeys;
use super::{PacketId, Profile, RTCP_CLEAR_LEN, RTCP_INDEX_LEN, read_u32};
use crate::prefetch::prefetch;

/// The cipher for one kind of traffic in one direction.
pub(super) enum Transform {
    Gcm(Gcm),
    /// Boxed: its key schedules are half a kilobyte.
    Cm(Box<Cm>),
}

/// Set in the word behind an SRTCP packet if the packet is encrypted.
const E_FLAG: u32 = 1 << 31;

impl Transform {
    pub(super) fn new(profile: Profile, keys: &SessionKeys) -> Self {
        let key = &keys.cipher.0[..profile.key_len()];
        match profile {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => {
                let salt = keys
                    .salt
                    .0
                    .first_chunk()
                    .expect("a salt of 14 bytes has 12");
                Self::Gcm(Gcm::new(key, salt))
            }
            Profile::AesCm128HmacSha1_80 => {
                Self::Cm(Box::new(Cm::new(key, &keys.auth.0, &keys.salt.0)))
            }
        }
    }

    pub(super) fn tag_len(&self) -> usize {
        match self {
            Self::Gcm(_) => gcm::TAG_LEN,
            Self::Cm(_) => cm::TAG_LEN,
        }
    }

    /// Asks for the key, to be there when it is needed.
    #[inline]
    pub(super) fn prefetch(&self) {
        match self {
            Self::Gcm(gcm) => gcm.prefetch(),
            Self::Cm(cm) => prefetch(&**cm),
        }
    }

    /// Seals the packet of which `packet[..header_len]` stays clear, `packet[header_len..][..patched]`
    /// is encrypted in place and `rest` behind it. Returns the length of the sealed packet.
    pub(super) fn seal_rtp(
        &self,
        id: PacketId,
        packet: &mut [u8],
        header_len: usize,
        patched: usize,
        rest: &[u8],
    ) -> usize {
        match self {
            Self::Gcm(gcm) => {
                let (header, body) = packet.split_at_mut(header_len);
                header_len + gcm.seal(id, header, body, patched, rest)
            }
            Self::Cm(cm) => {
                let clear_end = header_len + patched;
                let end = clear_end + rest.len();
                let mut keystream = cm.keystream(id);
                keystream.apply_in_place(&mut packet[header_len..clear_end]);
                keystream.apply(rest, &mut packet[clear_end..end]);
                let tag = cm.tag(&packet[..end], &rollover_counter(id));
                packet[end..][..cm::TAG_LEN].copy_from_slice(&tag);
                end + cm::TAG_LEN
            }
        }
    }

    /// Opens a packet in place. Returns its length without the tag, or `None` if it is not authentic;
    /// what follows the header is then undefined.
    pub(super) fn open_rtp(
        &self,
        id: PacketId,
        packet: &mut [u8],
        header_len: usize,
    ) -> Option<usize> {
        match self {
            Self::Gcm(gcm) => {
                let (header, body) = packet.split_at_mut(header_len);
                Some(header_len + gcm.open(id, header, body)?)
            }
            Self::Cm(cm) => {
                let (message, tag) = packet.split_last_chunk_mut()?;
                if !cm.verify(message, &rollover_counter(id), tag) {
                    return None;
                }
                cm.keystream(id)
                    .apply_in_place(message.get_mut(header_len..)?);
                Some(message.len())
            }
        }
    }

    /// Seals the compound in `packet[..len]` in place. Returns the length of the sealed packet.
    pub(super) fn seal_rtcp(&self, id: PacketId, packet: &mut [u8], len: usize) -> usize {
        let trailer = (E_FLAG | id.index as u32).to_be_bytes();
        match self {
            // RFC 7714 section 9.2: the clear bytes and the trailer are authenticated together; the
            // trailer goes behind the tag.
            Self::Gcm(gcm) => {
                let (clear, body) = packet.split_at_mut(RTCP_CLEAR_LEN);
                let associated = gcm_rtcp_associated(clear, trailer);
                let sealed = gcm.seal(id, &associated, body, len - RTCP_CLEAR_LEN, &[]);
                body[sealed..][..RTCP_INDEX_LEN].copy_from_slice(&trailer);
                RTCP_CLEAR_LEN + sealed + RTCP_INDEX_LEN
            }
            // RFC 3711 section 3.4: the trailer goes in front of the tag, which covers it.
            Self::Cm(cm) => {
                cm.keystream(id)
                    .apply_in_place(&mut packet[RTCP_CLEAR_LEN..len]);
                let tag = cm.tag(&packet[..len], &trailer);
                packet[len..][..RTCP_INDEX_LEN].copy_from_slice(&trailer);
                packet[len + RTCP_INDEX_LEN..][..cm::TAG_LEN].copy_from_slice(&tag);
                len + RTCP_INDEX_LEN + cm::TAG_LEN
            }
        }
    }

    /// The index that a received packet claims. `None` if the packet is not encrypted, which our
    /// profiles do not allow, or too short to have an index.
    pub(super) fn rtcp_index(&self, packet: &[u8]) -> Option<u32> {
        let behind = match self {
            Self::Gcm(_) => 0,
            Self::Cm(_) => cm::TAG_LEN,
        };
        let at = packet.len().checked_sub(behind + RTCP_INDEX_LEN)?;
        let trailer = read_u32(packet, at);
        (trailer & E_FLAG != 0).then_some(trailer & !E_FLAG)
    }

    /// Opens a compound in place. Returns its length without tag and index, or `None` if it is not
    /// authentic; what follows the first eight bytes is then undefined.
    pub(super) fn open_rtcp(&self, id: PacketId, packet: &mut [u8]) -> Option<usize> {
        match self {
            Self::Gcm(gcm) => {
                let (packet, trailer) = packet.split_last_chunk_mut::<RTCP_INDEX_LEN>()?;
                let (clear, body) = packet.split_at_mut_checked(RTCP_CLEAR_LEN)?;
                let associated = gcm_rtcp_associated(clear, *trailer);
                Some(RTCP_CLEAR_LEN + gcm.open(id, &associated, body)?)
            }
            Self::Cm(cm) => {
                let (message, tag) = packet.split_last_chunk_mut()?;
                if !cm.verify(message, &[], tag) {
                    return None;
                }
                let (message, _) = message.split_last_chunk_mut::<RTCP_INDEX_LEN>()?;
                cm.keystream(id)
                    .apply_in_place(message.get_mut(RTCP_CLEAR_LEN..)?);
                Some(message.len())
            }
        }
    }
}

/// What HMAC covers besides the packet itself (RFC 3711 section 4.2).
fn rollover_counter(id: PacketId) -> [u8; 4] {
    ((id.index >> 16) as u32).to_be_bytes()
}

/// RFC 7714 section 9.2: the clear bytes, then the word with E flag and index.
fn gcm_rtcp_associated(clear: &[u8], trailer: [u8; RTCP_INDEX_LEN]) -> [u8; 12] {
    let mut associated = [0; RTCP_CLEAR_LEN + RTCP_INDEX_LEN];
    associated[..RTCP_CLEAR_LEN].copy_from_slice(clear);
    associated[RTCP_CLEAR_LEN..].copy_from_slice(&trailer);
    associated
}

const _: () = assert!(gcm::TAG_LEN > cm::TAG_LEN, "Profile::MAX_OVERHEAD is GCM's");
