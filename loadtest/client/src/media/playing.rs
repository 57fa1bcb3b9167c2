//! A recording that is published: which of its frames is due, and where it goes on when somebody needs a
//! key frame.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::publication::note_frame;
use super::recording::{Piece, Recording};
use super::sender::{Sender, Terms, Uplink};
use super::source::{SILENCE_LEVEL, SPEECH_LEVEL};

#[derive(Debug)]
pub(super) struct Playing {
    pub(super) recording: Arc<Recording>,
    pub(super) sender: Sender,
    /// Begins anew when it is over.
    loops: bool,
    picture_id: u16,
    /// The frame that is next; none when it is over.
    place: Option<usize>,
    next: Instant,
    /// Whoever waits for one cannot wait for the file's next: it goes on at the nearest.
    wants_key_frame: bool,
    /// The key frame that it went back to last.
    went_back_to: Option<usize>,
}

impl Playing {
    pub(super) fn new(
        recording: &Arc<Recording>,
        loops: bool,
        sender: Sender,
        picture_id: u16,
        now: Instant,
    ) -> Self {
        Self {
            recording: Arc::clone(recording),
            sender,
            loops,
            picture_id: picture_id & 0x7FFF,
            place: Some(0),
            next: now,
            wants_key_frame: false,
            went_back_to: None,
        }
    }

    /// When the next frame is due; none when it is over.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.place.map(|_| self.next)
    }

    /// It goes on from here: what was due while nothing could be sent is not made up for.
    pub(super) fn resume(&mut self, now: Instant) {
        self.next = now;
        self.wants_key_frame = true;
    }

    pub(super) fn want_key_frame(&mut self) {
        self.wants_key_frame = true;
    }

    pub(super) fn send_frame(
        &mut self,
        terms: &Terms,
        timestamp: u32,
        uplink: &mut Uplink<'_>,
        now: Instant,
    ) {
        let Some(mut place) = self.place else {
            return;
        };
        let recording = Arc::clone(&self.recording);
        if std::mem::take(&mut self.wants_key_frame) {
            place = self.key_frame_for(place);
        }
        let pause = recording.pause_after(place);
        note_frame(uplink, self.next, pause.max(MIN_PAUSE), now);
        let level = (!recording.is_video()).then(|| match recording.frame(place).is_silent {
            true => SILENCE_LEVEL,
            false => SPEECH_LEVEL,
        });
        let packets = recording.packets_of(place);
        for packet in packets.clone() {
            let piece = Piece {
                recording: Arc::clone(&recording),
                packet,
                picture_id: self.picture_id,
            };
            // Of audio the marker begins a talkspurt (RFC 7587 section 4.2), which nobody needs.
            let marker = recording.is_video() && packet + 1 == packets.end;
            self.sender
                .send(terms, timestamp, marker, level, piece, uplink, now);
        }
        self.picture_id = (self.picture_id + 1) & 0x7FFF;
        self.next += pause;
        let is_last = place + 1 == recording.frames();
        self.place = match is_last {
            false => Some(place + 1),
            true => self.loops.then_some(0),
        };
    }

    /// Where it goes on for whoever needs a key frame: at the nearest, but back to the same one only once,
    /// else many who ask would keep it at one spot.
    fn key_frame_for(&mut self, place: usize) -> usize {
        let nearest = self.recording.nearest_key_frame(place);
        if nearest >= place {
            return nearest;
        }
        if self.went_back_to == Some(nearest) {
            let ahead = self.recording.next_key_frame(place);
            if let Some(ahead) = ahead.or_else(|| self.loops.then_some(0)) {
                return ahead;
            }
        }
        self.went_back_to = Some(nearest);
        nearest
    }
}

/// Half of it late is no lateness that anybody could do something about.
const MIN_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::super::recording::samples;
    use super::*;

    #[test]
    fn requests_do_not_keep_it_at_one_spot() {
        // Of twelve frames every fifth is a key frame.
        let recording = Recording::read(samples::vp8().into(), 25).unwrap();
        let recording = Arc::new(recording);
        let playing = |loops| {
            let sender = Sender::new("", 1, 2, 3);
            Playing::new(&recording, loops, sender, 0, Instant::now())
        };
        let mut film = playing(true);
        let places = [2, 2, 7, 7, 9, 11, 11].map(|place| film.key_frame_for(place));
        assert_eq!(places, [0, 5, 5, 10, 10, 10, 0]);
        // Behind the last there is none ahead.
        let mut film = playing(false);
        let places = [11, 11].map(|place| film.key_frame_for(place));
        assert_eq!(places, [10, 10]);
    }
}
