//! Datagrams of a pipe: packets of tracks as their publishers sent them, and what is asked for again.
//!
//! The layouts are told in `docs/pipe.md`. Everything read here comes from another machine: what does not
//! make sense is refused as a whole. Knows nothing of what carries the datagrams, or of tracks: a stream
//! is one encoding of one subscription, under a number that the taker chose.

use bytes::BufMut;

use crate::forward::MAX_ENCODINGS;

/// Bytes that a media datagram may have beyond its packet: the head, the longest stream number, what the
/// number of the packet does not say itself, and when it was sent.
pub const MEDIA_OVERHEAD: usize = 1 + 4 + 1 + 2 + 4;
/// … and one of the pieces of a packet that is too long.
pub const PIECE_OVERHEAD: usize = 1 + 4 + 1 + 4 + 4 + 1;
/// Pieces of a packet: one that needs more does not fit.
pub const MAX_PIECES: u8 = 2;
/// Packets that one datagram asks for, at most.
pub const MAX_ASKED: usize = 128;

/// The version in the first two bits. Another one's datagrams are refused.
const VERSION: u8 = 0;

const MEDIA: u8 = 0;
const PIECE: u8 = 1;
const REPAIR: u8 = 2;
const CONTROL: u8 = 4;
const PADDING: u8 = 5;

const KEY_FRAME: u8 = 0b100;
const FRAME_END: u8 = 0b010;
const RESUMES: u8 = 0b001;

const NACK: u8 = 0;
const KEY_FRAME_REQUEST: u8 = 1;
const PROBE: u8 = 2;

/// One encoding of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    /// The taker's number of it, below 2^28.
    pub subscription: u32,
    pub encoding: u8,
}

impl Stream {
    /// Subscriptions have numbers below this.
    pub const SUBSCRIPTIONS: u32 = 1 << 28;

    /// Small numbers for small numbers of subscriptions.
    pub fn number(self) -> u32 {
        self.subscription * MAX_ENCODINGS as u32 + u32::from(self.encoding)
    }

    pub fn of(number: u32) -> Self {
        Self {
            subscription: number / MAX_ENCODINGS as u32,
            encoding: (number % MAX_ENCODINGS as u32) as u8,
        }
    }
}

/// What goes with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaHead {
    pub stream: Stream,
    /// Its extended sequence number, modulo 2^32.
    pub number: u32,
    /// How often the encoding has begun anew under another SSRC, modulo 256.
    pub restarts: u8,
    /// When it was given to the pipe, in microseconds of the sender's clock, modulo 2^32.
    pub sent: u32,
    pub marks: Marks,
    /// It was asked for again.
    pub is_repair: bool,
}

/// What a hop has to know of a packet without looking into it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// It begins a key frame.
    pub key_frame: bool,
    /// It is the last of its frame.
    pub frame_end: bool,
    /// What is missing in front of it was not lost.
    pub resumes: bool,
}

impl Marks {
    fn bits(self) -> u8 {
        let bit = |set, bit| if set { bit } else { 0 };
        bit(self.key_frame, KEY_FRAME) | bit(self.frame_end, FRAME_END) | bit(self.resumes, RESUMES)
    }

    fn of(bits: u8) -> Self {
        Self {
            key_frame: bits & KEY_FRAME != 0,
            frame_end: bits & FRAME_END != 0,
            resumes: bits & RESUMES != 0,
        }
    }
}

/// A part of a packet that is too long for one datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub index: u8,
    pub is_last: bool,
}

/// How long a datagram takes to the peer and back, and how far its clock is from ours. Each answers the
/// other's last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    pub sequence: u32,
    /// When it was sent, in microseconds of the sender's clock.
    pub sent: u64,
    /// `sent` of the last one that came; 0: none has.
    pub echoed: u64,
    /// Microseconds since that one came.
    pub echo_delay: u32,
}

/// A datagram, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// A packet, whole.
    Media(MediaHead, &'a [u8]),
    Piece(MediaHead, Piece, &'a [u8]),
    Nack(Nack<'a>),
    KeyFrameRequest(Stream),
    Probe(Probe),
    /// To see what the path takes.
    Padding,
}

/// Packets that did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nack<'a> {
    pub stream: Stream,
    pub restarts: u8,
    /// Pairs of a number and what follows it, as in RFC 4585 section 6.2.1.
    pairs: &'a [u8],
}

const PAIR: usize = 4 + 2;

impl Nack<'_> {
    /// Extended sequence numbers, modulo 2^32; no more than [`MAX_ASKED`].
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        let pairs = self.pairs.chunks_exact(PAIR).filter_map(|pair| {
            let (first, following) = pair.split_first_chunk::<4>()?;
            let following = u16::from_be_bytes(*following.first_chunk()?);
            Some((u32::from_be_bytes(*first), following))
        });
        let numbers = pairs.flat_map(|(first, following)| {
            let more = (0..16).filter(move |bit| following & 1 << bit != 0);
            std::iter::once(first).chain(more.map(move |bit| first.wrapping_add(bit + 1)))
        });
        numbers.take(MAX_ASKED)
    }
}

/// Understands a datagram; `None`: it is not one of this version, or makes no sense.
pub fn read(datagram: &[u8]) -> Option<Datagram<'_>> {
    let (&head, rest) = datagram.split_first()?;
    if head >> 6 != VERSION {
        return None;
    }
    let marks = Marks::of(head);
    match head >> 3 & 0b111 {
        MEDIA => read_media(marks, false, rest),
        REPAIR => read_media(marks, true, rest),
        PIECE => read_piece(marks, rest),
        CONTROL => read_control(rest),
        PADDING => Some(Datagram::Padding),
        _ => None,
    }
}

fn read_media(marks: Marks, is_repair: bool, bytes: &[u8]) -> Option<Datagram<'_>> {
    let (stream, bytes) = read_stream(bytes)?;
    let (&restarts, bytes) = bytes.split_first()?;
    let (cycle, bytes) = bytes.split_first_chunk()?;
    let (sent, packet) = bytes.split_first_chunk()?;
    // The rest of the number is in the packet itself (RFC 3550 section 5.1).
    let sequence = u16::from_be_bytes(*packet.get(2..)?.first_chunk()?);
    let head = MediaHead {
        stream,
        number: u32::from(u16::from_be_bytes(*cycle)) << 16 | u32::from(sequence),
        restarts,
        sent: u32::from_be_bytes(*sent),
        marks,
        is_repair,
    };
    Some(Datagram::Media(head, packet))
}

fn read_piece(marks: Marks, bytes: &[u8]) -> Option<Datagram<'_>> {
    let (stream, bytes) = read_stream(bytes)?;
    let (&restarts, bytes) = bytes.split_first()?;
    let (number, bytes) = bytes.split_first_chunk()?;
    let (sent, bytes) = bytes.split_first_chunk()?;
    let (&place, part) = bytes.split_first()?;
    let piece = Piece {
        index: place >> 1 & 0b11_1111,
        is_last: place & 1 != 0,
    };
    if piece.index >= MAX_PIECES || part.is_empty() {
        return None;
    }
    let head = MediaHead {
        stream,
        number: u32::from_be_bytes(*number),
        restarts,
        sent: u32::from_be_bytes(*sent),
        marks,
        is_repair: place & 0b1000_0000 != 0,
    };
    Some(Datagram::Piece(head, piece, part))
}

fn read_control(bytes: &[u8]) -> Option<Datagram<'_>> {
    let (&kind, bytes) = bytes.split_first()?;
    match kind {
        NACK => {
            let (stream, bytes) = read_stream(bytes)?;
            let (&restarts, pairs) = bytes.split_first()?;
            let is_whole = !pairs.is_empty() && pairs.len().is_multiple_of(PAIR);
            is_whole.then_some(Datagram::Nack(Nack {
                stream,
                restarts,
                pairs,
            }))
        }
        KEY_FRAME_REQUEST => {
            let (stream, rest) = read_stream(bytes)?;
            rest.is_empty().then_some(Datagram::KeyFrameRequest(stream))
        }
        PROBE => {
            let (sequence, bytes) = bytes.split_first_chunk()?;
            let (sent, bytes) = bytes.split_first_chunk()?;
            let (echoed, bytes) = bytes.split_first_chunk()?;
            // Probes are as long as the path is to be seen to carry.
            let (echo_delay, _filler) = bytes.split_first_chunk()?;
            Some(Datagram::Probe(Probe {
                sequence: u32::from_be_bytes(*sequence),
                sent: u64::from_be_bytes(*sent),
                echoed: u64::from_be_bytes(*echoed),
                echo_delay: u32::from_be_bytes(*echo_delay),
            }))
        }
        _ => None,
    }
}

/// A variable-length integer (RFC 9000 section 16), of four bytes at most.
fn read_stream(bytes: &[u8]) -> Option<(Stream, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let low = u32::from(first & 0b11_1111);
    let (number, rest) = match first >> 6 {
        0 => (low, rest),
        1 => {
            let (&[second], rest) = rest.split_first_chunk()?;
            (low << 8 | u32::from(second), rest)
        }
        2 => {
            let (&[second, third, fourth], rest) = rest.split_first_chunk()?;
            let tail = u32::from_be_bytes([0, second, third, fourth]);
            (low << 24 | tail, rest)
        }
        _ => return None,
    };
    Some((Stream::of(number), rest))
}

fn write_stream(stream: Stream, out: &mut impl BufMut) {
    let number = stream.number();
    match number {
        0..0x40 => out.put_u8(number as u8),
        0x40..0x4000 => out.put_slice(&(number as u16 | 0x4000).to_be_bytes()),
        _ => out.put_slice(&(number & 0x3FFF_FFFF | 0x8000_0000).to_be_bytes()),
    }
}

fn head(kind: u8, marks: Marks) -> u8 {
    VERSION << 6 | kind << 3 | marks.bits()
}

/// Appends a packet as one datagram; its number has to be that of `head`.
pub fn write_media(media: &MediaHead, packet: &[u8], out: &mut impl BufMut) {
    let kind = if media.is_repair { REPAIR } else { MEDIA };
    out.put_u8(head(kind, media.marks));
    write_stream(media.stream, out);
    out.put_u8(media.restarts);
    out.put_slice(&((media.number >> 16) as u16).to_be_bytes());
    out.put_slice(&media.sent.to_be_bytes());
    out.put_slice(packet);
}

/// Appends one piece of a packet.
pub fn write_piece(media: &MediaHead, piece: Piece, part: &[u8], out: &mut impl BufMut) {
    out.put_u8(head(PIECE, media.marks));
    write_stream(media.stream, out);
    out.put_u8(media.restarts);
    out.put_slice(&media.number.to_be_bytes());
    out.put_slice(&media.sent.to_be_bytes());
    let repair = if media.is_repair { 0b1000_0000 } else { 0 };
    out.put_u8(repair | piece.index << 1 | u8::from(piece.is_last));
    out.put_slice(part);
}

/// Appends a request for packets, `numbers` ascending; answers how many of them found room.
pub fn write_nack(stream: Stream, restarts: u8, numbers: &[u32], out: &mut impl BufMut) -> usize {
    out.put_slice(&[head(CONTROL, Marks::default()), NACK]);
    write_stream(stream, out);
    out.put_u8(restarts);
    let numbers = numbers.get(..MAX_ASKED).unwrap_or(numbers);
    let mut left = numbers.iter().peekable();
    while let Some(&first) = left.next() {
        let mut following = 0_u16;
        while let Some(step) = left.peek().map(|next| next.wrapping_sub(first))
            && (1..=16).contains(&step)
        {
            following |= 1 << (step - 1);
            left.next();
        }
        out.put_slice(&first.to_be_bytes());
        out.put_slice(&following.to_be_bytes());
    }
    numbers.len()
}

pub fn write_key_frame_request(stream: Stream, out: &mut impl BufMut) {
    out.put_slice(&[head(CONTROL, Marks::default()), KEY_FRAME_REQUEST]);
    write_stream(stream, out);
}

/// Appends a probe, with so many bytes behind it that the datagram has `len`.
pub fn write_probe(probe: &Probe, len: usize, out: &mut impl BufMut) {
    out.put_slice(&[head(CONTROL, Marks::default()), PROBE]);
    out.put_slice(&probe.sequence.to_be_bytes());
    out.put_slice(&probe.sent.to_be_bytes());
    out.put_slice(&probe.echoed.to_be_bytes());
    out.put_slice(&probe.echo_delay.to_be_bytes());
    const LEN: usize = 2 + 4 + 8 + 8 + 4;
    out.put_bytes(0, len.saturating_sub(LEN));
}

/// Appends filler of `len` bytes in all, at least one.
pub fn write_padding(len: usize, out: &mut impl BufMut) {
    out.put_u8(head(PADDING, Marks::default()));
    out.put_bytes(0, len.saturating_sub(1));
}

#[cfg(test)]
mod tests;
