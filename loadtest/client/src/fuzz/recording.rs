//! A file that somebody wants to publish: any bytes at all.

use std::sync::Arc;
use std::time::Duration;

use crate::media::packet::MAX_PAYLOAD;
use crate::media::recording::{Piece, Recording};

/// The first byte is the frame rate, the rest the file.
pub fn recording(input: &[u8]) {
    let Some((&fps, file)) = input.split_first() else {
        return;
    };
    let Ok(recording) = Recording::read(file.into(), fps.into()) else {
        return;
    };
    let recording = Arc::new(recording);
    assert!(recording.frames() > 0);
    let mut played = Duration::ZERO;
    for place in 0..recording.frames() {
        played += recording.pause_after(place);
        let key_frame = recording.nearest_key_frame(place);
        assert!(recording.frame(key_frame).is_key);
        for packet in recording.packets_of(place) {
            let piece = Piece {
                recording: Arc::clone(&recording),
                packet,
                picture_id: 0x7FFF,
            };
            let mut out = [0; MAX_PAYLOAD];
            piece.write(&mut out);
        }
    }
    assert_eq!(played, recording.length());
    let _ = recording.layer();
}
