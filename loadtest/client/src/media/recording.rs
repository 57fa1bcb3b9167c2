//! Media of a file, cut into packets once and shared by all who publish it: IVF with VP8, VP9 or AV1,
//! H.264 with start codes, Ogg with Opus.
//!
//! Nothing is decoded: a packet is a head of a few bytes and a part of the file.

mod av1;
mod bits;
mod h264;
mod ivf;
mod ogg;
mod vpx;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use super::Layer;
use super::packet::MAX_PAYLOAD;
use crate::sdp::Format;

/// Offsets have four bytes.
const LARGEST: usize = 1 << 30;
/// Longest head: VP9's flags, picture id and structure of one size.
const MAX_HEAD: usize = 1 + 2 + 1 + 4;
/// A file without times: what its frame rate may be.
const FRAME_RATES: std::ops::RangeInclusive<u32> = 1..=240;
/// Two frames that are further apart are two recordings.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RecordingError(String);

fn wrong(text: impl Into<String>) -> RecordingError {
    RecordingError(text.into())
}

pub struct Recording {
    bytes: Arc<[u8]>,
    format: Format,
    frames: Vec<Frame>,
    packets: Vec<Packet>,
    /// Places of frames that a decoder can begin with, ascending; the first is one.
    key_frames: Vec<usize>,
    size: (u16, u16),
    length: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Since the beginning.
    at: Duration,
    /// Its packets end where the next frame's begin.
    first: usize,
    pub(crate) is_key: bool,
    /// Of audio: the encoder had nothing to say.
    pub(crate) is_silent: bool,
}

/// A head, and the part of the file behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packet {
    head: [u8; MAX_HEAD],
    head_len: u8,
    at: u32,
    len: u16,
}

/// One packet of a recording, as somebody sends it.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) recording: Arc<Recording>,
    /// Below the count of its packets.
    pub(crate) packet: usize,
    /// Of 15 bits, for formats that have one.
    pub(crate) picture_id: u16,
}

impl Recording {
    /// Reads a file; what it is, its first bytes say. `fps`: of H.264, which has no times.
    ///
    /// # Errors
    /// When it is none of these, or broken, or nobody could play it.
    pub fn read(bytes: Arc<[u8]>, fps: u32) -> Result<Self, RecordingError> {
        if bytes.len() > LARGEST {
            return Err(wrong("it is larger than 1 GiB"));
        }
        let cut = match bytes.get(..4) {
            Some(b"DKIF") => ivf::read(&bytes)?,
            Some(b"OggS") => ogg::read(&bytes)?,
            Some([0, 0, 1, _] | [0, 0, 0, 1]) if FRAME_RATES.contains(&fps) => {
                h264::read(&bytes, fps)?
            }
            Some([0, 0, 1, _] | [0, 0, 0, 1]) => {
                return Err(wrong(format!("{fps} is no frame rate of H.264")));
            }
            begin => {
                let begin = begin.unwrap_or(&bytes);
                return Err(wrong(format!(
                    "it is neither IVF nor Ogg nor H.264 with start codes: it begins with {begin:02x?}"
                )));
            }
        };
        cut.finish(bytes)
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    #[must_use]
    pub fn is_video(&self) -> bool {
        self.format != Format::Opus
    }

    /// `vp8`, `h264` and so on.
    #[must_use]
    pub fn codec(&self) -> &'static str {
        match self.format {
            Format::Opus => "opus",
            Format::Vp8 => "vp8",
            Format::Vp9 => "vp9",
            Format::H264 => "h264",
            Format::Av1 => "av1",
        }
    }

    /// Pixels; zero for audio, and where the file does not say.
    #[must_use]
    pub fn size(&self) -> (u16, u16) {
        self.size
    }

    /// From the first frame until after the last.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.length
    }

    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// As an encoding is announced: its size and its means.
    pub(crate) fn layer(&self) -> Layer {
        let seconds = self.length.as_secs_f64();
        let bytes: u64 = self.packets.iter().map(|it| u64::from(it.len)).sum();
        let (width, height) = (self.size.0.into(), self.size.1.into());
        let fps = (self.frames.len() as f64 / seconds).round() as u32;
        let kbps = (bytes as f64 * 8.0 / 1_000.0 / seconds).round() as u32;
        Layer::new("", (width, height), fps.max(1), kbps)
    }

    pub(crate) fn frame(&self, place: usize) -> &Frame {
        &self.frames[place]
    }

    /// Numbers of the packets of a frame.
    pub(crate) fn packets_of(&self, place: usize) -> std::ops::Range<usize> {
        let end = self.frames.get(place + 1);
        self.frames[place].first..end.map_or(self.packets.len(), |next| next.first)
    }

    /// From a frame until the next is due; after the last, the first.
    pub(crate) fn pause_after(&self, place: usize) -> Duration {
        let next = self.frames.get(place + 1);
        next.map_or(self.length, |next| next.at) - self.frames[place].at
    }

    /// From a place on.
    pub(crate) fn next_key_frame(&self, place: usize) -> Option<usize> {
        let later = self.key_frames.partition_point(|it| *it < place);
        self.key_frames.get(later).copied()
    }

    /// The one that is the fewest frames away; of two, the later.
    pub(crate) fn nearest_key_frame(&self, place: usize) -> usize {
        let later = self.key_frames.partition_point(|it| *it < place);
        let after = self.key_frames.get(later).copied();
        let before = later.checked_sub(1).map(|it| self.key_frames[it]);
        match (before, after) {
            (Some(before), Some(after)) if place - before < after - place => before,
            (_, Some(after)) => after,
            (Some(before), None) => before,
            (None, None) => 0,
        }
    }
}

impl PartialEq for Recording {
    /// The rest follows from them.
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.length == other.length
    }
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording")
            .field("format", &self.format)
            .field("frames", &self.frames.len())
            .field("packets", &self.packets.len())
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl Piece {
    fn packet(&self) -> &Packet {
        &self.recording.packets[self.packet]
    }

    pub(crate) fn len(&self) -> usize {
        let packet = self.packet();
        usize::from(packet.head_len) + usize::from(packet.len)
    }

    /// Writes the payload to the beginning of `out`.
    pub(crate) fn write(&self, out: &mut [u8]) {
        let packet = self.packet();
        let (head, rest) = out[..self.len()].split_at_mut(packet.head_len.into());
        head.copy_from_slice(&packet.head[..head.len()]);
        match self.recording.format {
            Format::Vp8 => head[2..4].copy_from_slice(&self.long_picture_id()),
            Format::Vp9 => head[1..3].copy_from_slice(&self.long_picture_id()),
            Format::Av1 | Format::H264 | Format::Opus => {}
        }
        let at = packet.at as usize;
        rest.copy_from_slice(&self.recording.bytes[at..at + rest.len()]);
    }

    fn long_picture_id(&self) -> [u8; 2] {
        (0x8000 | self.picture_id).to_be_bytes()
    }
}

/// A file as its reader cuts it.
struct Cut {
    format: Format,
    size: (u16, u16),
    frames: Vec<Frame>,
    packets: Vec<Packet>,
    /// When the first frame is shown.
    origin: Option<Duration>,
    /// Where the last frame ends, if the file says.
    end: Option<Duration>,
    /// What packets are parts of, if that is not the file as it is.
    content: Option<Arc<[u8]>>,
}

impl Cut {
    fn new(format: Format, size: (u16, u16)) -> Self {
        Self {
            format,
            size,
            frames: Vec::new(),
            packets: Vec::new(),
            origin: None,
            end: None,
            content: None,
        }
    }

    /// A frame begins; its packets follow.
    fn begin(&mut self, at: Duration, is_key: bool, is_silent: bool) -> Result<(), RecordingError> {
        // Before the first there may be ones that are not sent.
        let at = at.saturating_sub(*self.origin.get_or_insert(at));
        let number = self.frames.len() + 1;
        if self.frames.is_empty() && !is_key {
            return Err(wrong("it does not begin with a key frame"));
        }
        let before = self.frames.last().map_or(Duration::ZERO, |it| it.at);
        if number > 1 && at <= before {
            return Err(wrong(format!(
                "frame {number} is not later than that before it"
            )));
        }
        if at - before > LONGEST_PAUSE {
            return Err(wrong(format!(
                "frame {number} is {:?} later than that before it",
                at - before
            )));
        }
        self.frames.push(Frame {
            at,
            first: self.packets.len(),
            is_key,
            is_silent,
        });
        Ok(())
    }

    fn packet(&mut self, head: &[u8], part: std::ops::Range<usize>) {
        let mut packet = Packet {
            head: [0; MAX_HEAD],
            head_len: head.len() as u8,
            // Files are no larger.
            at: part.start as u32,
            len: part.len() as u16,
        };
        packet.head[..head.len()].copy_from_slice(head);
        self.packets.push(packet);
    }

    fn finish(self, bytes: Arc<[u8]>) -> Result<Recording, RecordingError> {
        let Some(last) = self.frames.last() else {
            return Err(wrong("there is no frame in it"));
        };
        // The last frame is shown as long as the others.
        let pauses = self.frames.len() as u32 - 1;
        let mean = last.at.checked_div(pauses);
        let length = self
            .end
            .unwrap_or(last.at + mean.unwrap_or(Duration::from_millis(33)));
        let key_frames = self.frames.iter().enumerate();
        let key_frames = key_frames.filter(|(_, it)| it.is_key);
        Ok(Recording {
            key_frames: key_frames.map(|(place, _)| place).collect(),
            bytes: self.content.unwrap_or(bytes),
            format: self.format,
            length: length.max(last.at + Duration::from_millis(1)),
            frames: self.frames,
            packets: self.packets,
            size: self.size,
        })
    }
}

/// Cuts `part` into equal pieces of `room` at most: the piece, and whether it is the first and the last.
fn pieces(
    part: std::ops::Range<usize>,
    room: usize,
) -> impl Iterator<Item = (std::ops::Range<usize>, bool, bool)> {
    let count = part.len().div_ceil(room).max(1);
    let (len, longer) = (part.len() / count, part.len() % count);
    let mut at = part.start;
    (0..count).map(move |piece| {
        let begin = at;
        at += len + usize::from(piece < longer);
        (begin..at, piece == 0, piece + 1 == count)
    })
}

/// So much of a packet is left behind a head.
fn room(head: usize) -> usize {
    MAX_PAYLOAD - head
}
