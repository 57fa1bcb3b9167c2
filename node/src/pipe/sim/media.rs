//! What publishers send, thinned: a few frames a second of each layer, and as much audio.

use std::time::Duration;

use pipemesh_node_core::rtp::{HeaderWriter, OutgoingHeader};
use rand::Rng;
use rand::rngs::StdRng;

/// Of a track, as many as browsers send.
pub(super) const LAYERS: u8 = 3;
/// Bytes of a frame's packets, by layer.
const SIZES: [&[usize]; LAYERS as usize] = [&[120], &[420], &[1_000, 700]];
/// … of somebody whose picture moves a lot: three times as many frames.
const LOUD: [&[usize]; LAYERS as usize] = [&[400], &[1_000], &[1_200, 1_200, 1_200]];
/// Between frames, and packets of audio.
pub(super) const FRAME: Duration = Duration::from_millis(200);
pub(super) const LOUD_FRAME: Duration = Duration::from_millis(66);
const AUDIO: usize = 60;
const VIDEO_TYPE: u8 = 96;
const AUDIO_TYPE: u8 = 111;
const TICKS: u32 = 18_000;

/// One encoding, or the audio.
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) ssrc: u32,
    sequence: u16,
    timestamp: u32,
    wants_key_frame: bool,
}

impl Encoder {
    pub(super) fn new(ssrc: u32, rng: &mut StdRng) -> Self {
        Self {
            ssrc,
            sequence: rng.random(),
            timestamp: rng.random(),
            wants_key_frame: true,
        }
    }

    pub(super) fn want_key_frame(&mut self) {
        self.wants_key_frame = true;
    }

    /// A frame of a layer. `extra`: bytes that its last packet is longer by.
    pub(super) fn video(&mut self, layer: u8, is_loud: bool, extra: usize) -> Vec<Vec<u8>> {
        let sizes = match is_loud {
            true => LOUD[usize::from(layer)],
            false => SIZES[usize::from(layer)],
        };
        let is_key_frame = std::mem::take(&mut self.wants_key_frame);
        self.timestamp = self.timestamp.wrapping_add(TICKS);
        let last = sizes.len() - 1;
        let packets = sizes.iter().enumerate().map(|(place, size)| {
            let size = if place == last { size + extra } else { *size };
            // The VP8 descriptor says where the frame begins, the first byte behind it what kind it is.
            let descriptor = if place == 0 { 0x10 } else { 0x00 };
            let kind = u8::from(!is_key_frame);
            self.packet(
                VIDEO_TYPE,
                place == last,
                &[descriptor, kind],
                size.min(1_380),
            )
        });
        packets.collect()
    }

    pub(super) fn audio(&mut self) -> Vec<u8> {
        self.timestamp = self.timestamp.wrapping_add(TICKS / 2);
        self.packet(AUDIO_TYPE, false, &[], AUDIO)
    }

    fn packet(&mut self, payload_type: u8, marker: bool, start: &[u8], size: usize) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut packet = vec![0x55; size];
        let header = OutgoingHeader {
            marker,
            padding: false,
            payload_type,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
        };
        let len = HeaderWriter::new(&mut packet, header).and_then(HeaderWriter::finish);
        let len = len.expect("there is room for a header");
        packet[len..len + start.len()].copy_from_slice(start);
        packet
    }
}
