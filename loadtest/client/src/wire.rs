//! What travels in a client's datagrams, as bytes: RTP with its extensions, RTCP and STUN, read and written.
//!
//! Pure functions of bytes. Nothing read here is trusted before its packet proved authentic.

pub(super) mod dependency;
pub(super) mod rtcp;
pub(super) mod rtp;
pub(super) mod stun;
pub(super) mod transport_cc;

pub(super) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}
