//! The stamp in every payload: who, what, when, and a checksum over it and all behind it.

use crate::wire::{be16, be32};

pub(crate) const STAMP_LEN: usize = 36;

const MAGIC: u16 = 0x504D;
const KEY_FRAME: u8 = 1;
const HAS_INNER: u8 = 2;
const INNER_AT: usize = 28;
const CHECKSUM_AT: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) track: TrackStamp,
    pub(crate) layer: u8,
    pub(crate) is_key_frame: bool,
    /// Counted per layer; over all of them where one stream has several.
    pub(crate) frame: u32,
    /// How often its stream was begun anew by a publisher who joined again: what went before is not missing.
    pub(crate) begun: u8,
    /// Of so many in the frame.
    pub(crate) packet: u16,
    pub(crate) packets: u16,
    /// When it was sent first, on [`super::clock`].
    pub(crate) sent: u64,
    /// Of one stream with layers in it.
    pub(crate) inner: Option<Inner>,
}

/// A frame's place in a stream with layers in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Inner {
    pub(crate) temporal: u8,
    /// How far back the frames are that it cannot be decoded without: an earlier picture's, and the
    /// lower layer's. 0: none.
    pub(crate) references: [u8; 2],
}

/// Whose track it is. Follows from what signaling says of a track, so a receiver knows what to
/// expect wherever the publisher runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TrackStamp {
    pub(crate) publisher: u32,
    pub(crate) track: u32,
}

impl TrackStamp {
    pub(crate) fn of(room: &str, identity: &str, track_name: &str) -> Self {
        let publisher = crc32fast::hash(format!("{room}\n{identity}").as_bytes());
        Self {
            publisher,
            track: crc32fast::hash(track_name.as_bytes()),
        }
    }
}

/// What a payload is not, if it is no stamp and what the stamp covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unstamped {
    /// Somebody else's media.
    Foreign,
    /// It was changed on its way.
    Damaged,
}

impl Stamp {
    /// Stamps `payload`: its first bytes become the stamp, the rest is covered by the checksum.
    pub(crate) fn write(&self, payload: &mut [u8]) {
        payload[..2].copy_from_slice(&MAGIC.to_be_bytes());
        let key_frame = if self.is_key_frame { KEY_FRAME } else { 0 };
        let has_inner = self.inner.map_or(0, |_| HAS_INNER);
        payload[2] = key_frame | has_inner;
        payload[3] = self.layer;
        payload[4..8].copy_from_slice(&self.track.publisher.to_be_bytes());
        payload[8..12].copy_from_slice(&self.track.track.to_be_bytes());
        payload[12..14].copy_from_slice(&self.packet.to_be_bytes());
        payload[14..16].copy_from_slice(&self.packets.to_be_bytes());
        payload[16..20].copy_from_slice(&self.frame.to_be_bytes());
        payload[20..INNER_AT].copy_from_slice(&self.sent.to_be_bytes());
        let Inner {
            temporal,
            references: [earlier, lower],
        } = self.inner.unwrap_or_default();
        payload[INNER_AT..CHECKSUM_AT].copy_from_slice(&[temporal, earlier, lower, self.begun]);
        let checksum = checksum(payload).to_be_bytes();
        payload[CHECKSUM_AT..STAMP_LEN].copy_from_slice(&checksum);
    }

    pub(crate) fn read(payload: &[u8]) -> Result<Self, Unstamped> {
        if payload.len() < STAMP_LEN || be16(payload, 0) != Some(MAGIC) {
            return Err(Unstamped::Foreign);
        }
        if be32(payload, CHECKSUM_AT) != Some(checksum(payload)) {
            return Err(Unstamped::Damaged);
        }
        let word = |at| be32(payload, at).expect("the length was checked above");
        let half = |at| be16(payload, at).expect("the length was checked above");
        Ok(Self {
            track: TrackStamp {
                publisher: word(4),
                track: word(8),
            },
            layer: payload[3],
            is_key_frame: payload[2] & KEY_FRAME != 0,
            frame: word(16),
            begun: payload[CHECKSUM_AT - 1],
            packet: half(12),
            packets: half(14),
            sent: u64::from(word(20)) << 32 | u64::from(word(24)),
            inner: (payload[2] & HAS_INNER != 0).then(|| Inner {
                temporal: payload[INNER_AT],
                references: [payload[INNER_AT + 1], payload[INNER_AT + 2]],
            }),
        })
    }
}

fn checksum(payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&payload[..CHECKSUM_AT]);
    hasher.update(&payload[STAMP_LEN..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_anywhere_is_seen() {
        let stamp = Stamp {
            track: TrackStamp::of("room", "alice", "camera"),
            layer: 2,
            is_key_frame: true,
            frame: 77,
            begun: 1,
            packet: 3,
            packets: 9,
            sent: 1 << 40 | 5,
            inner: Some(Inner {
                temporal: 2,
                references: [12, 1],
            }),
        };
        let mut payload = [0xA5; 60];
        stamp.write(&mut payload);
        assert_eq!(Stamp::read(&payload), Ok(stamp));
        for at in 2..payload.len() {
            let mut damaged = payload;
            damaged[at] ^= 1;
            assert_eq!(Stamp::read(&damaged), Err(Unstamped::Damaged), "byte {at}");
        }
        assert_eq!(
            Stamp::read(&payload[..STAMP_LEN - 1]),
            Err(Unstamped::Foreign)
        );
        let plain = Stamp {
            inner: None,
            ..stamp
        };
        plain.write(&mut payload);
        assert_eq!(Stamp::read(&payload), Ok(plain));
        assert_ne!(TrackStamp::of("room", "bob", "camera"), stamp.track);
    }
}
