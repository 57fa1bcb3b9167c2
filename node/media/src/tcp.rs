//! Datagrams over TCP (RFC 4571), for peers whose network lets nothing else through.
//!
//! A stream is treated as a bad network is: what it does not take in time is dropped, a whole datagram
//! at a time, so that what is late never grows beyond a bound and no frame is ever cut short. Knows
//! neither ICE nor whose datagrams they are.

mod batch;
mod outgoing;
mod socket;
mod stream;
mod streams;

pub use batch::FrameBatch;
pub use socket::{connect, listen};
pub use stream::{End, Stream};
pub use streams::{Change, FIRST_STREAM, StreamStats, Streams};

use crate::udp::MAX_DATAGRAM_LEN;

/// Before each datagram stands its length.
const HEADER_LEN: usize = 2;

/// The longest frame.
const MAX_FRAME_LEN: usize = HEADER_LEN + MAX_DATAGRAM_LEN;

/// The length a frame claims. `None`: of no datagram that anybody sends, so this is no frame.
pub fn datagram_len(header: [u8; HEADER_LEN]) -> Option<usize> {
    let len = usize::from(u16::from_be_bytes(header));
    (1..=MAX_DATAGRAM_LEN).contains(&len).then_some(len)
}
