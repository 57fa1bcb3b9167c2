//! A packet in a ring between shards, or to or from a pipe: what its taker has to know of it, then its bytes.

use pipemesh_node_core::router::relay::{Alias, Port, Stamp};

use crate::shard::neighbours::Neighbours;

/// In front of every packet in a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) alias: Alias,
    pub(crate) encoding: u8,
    pub(crate) stamp: Stamp,
    pub(crate) repaired: bool,
}

impl RecordHeader {
    pub(crate) const LEN: usize = 24;
    const REPAIRED: u8 = 1;
    const RESUMES: u8 = 2;
    const KEY_FRAME: u8 = 4;

    pub(crate) fn write(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let mut flags = 0;
        if self.repaired {
            flags |= Self::REPAIRED;
        }
        if self.stamp.resumes {
            flags |= Self::RESUMES;
        }
        if self.stamp.key_frame {
            flags |= Self::KEY_FRAME;
        }
        bytes[..8].copy_from_slice(&self.alias.0.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.stamp.number.to_ne_bytes());
        bytes[16..19].copy_from_slice(&[self.encoding, self.stamp.restarts, flags]);
        bytes
    }

    pub(crate) fn read(record: &[u8]) -> Option<(Self, &[u8])> {
        let (bytes, packet) = record.split_first_chunk::<{ Self::LEN }>()?;
        let word = |at: usize| bytes[at..at + 8].try_into().map(u64::from_ne_bytes).ok();
        let [encoding, restarts, flags] = [bytes[16], bytes[17], bytes[18]];
        let header = Self {
            alias: Alias(word(0)?),
            encoding,
            stamp: Stamp {
                number: word(8)?,
                restarts,
                resumes: flags & Self::RESUMES != 0,
                key_frame: flags & Self::KEY_FRAME != 0,
            },
            repaired: flags & Self::REPAIRED != 0,
        };
        Some((header, packet))
    }
}

/// For the packets of an accepted burst: a way to the shards that use them.
pub(in crate::shard) fn pass_on<'a>(
    neighbours: &'a mut Neighbours,
    encoding: u8,
    packet: &'a [u8],
    repaired: bool,
) -> impl FnMut(Port, Alias, Stamp) -> bool + 'a {
    move |port, alias, stamp| {
        let header = RecordHeader {
            alias,
            encoding,
            stamp,
            repaired,
        };
        neighbours.push(port.0, &header.write(), packet)
    }
}
