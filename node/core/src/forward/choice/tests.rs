use super::*;
use crate::codec::frame::References;

/// Frames of a stream with `spatial` layers: pictures of one frame per layer, in coding order.
struct Encoder {
    spatial: u8,
    /// Temporal layer of each picture, repeated.
    pattern: &'static [u8],
    /// Layers use each other on key pictures only.
    key_only: bool,
    /// Every frame needs the one before of its own temporal layer, too.
    chained: bool,
    picture: u64,
    /// Number of the newest base frame of each layer, and of the newest in each temporal layer.
    last: [[Option<u64>; 3]; 3],
}

impl Encoder {
    fn new(spatial: u8, pattern: &'static [u8], key_only: bool) -> Self {
        Self {
            spatial,
            pattern,
            key_only,
            chained: false,
            picture: 0,
            last: [[None; 3]; 3],
        }
    }

    fn picture(&mut self, key: bool) -> Vec<Frame> {
        if key {
            self.last = [[None; 3]; 3];
        }
        let place = self.picture as usize % self.pattern.len();
        let temporal = if key { 0 } else { self.pattern[place] };
        let base = self.picture * u64::from(self.spatial);
        self.picture += 1;
        let frames = (0..self.spatial).map(|spatial| {
            let number = base + u64::from(spatial);
            let mut references = References::default();
            let own = &self.last[usize::from(spatial)];
            let before = own.iter().take(usize::from(temporal) + 1);
            if let Some(last) = before.flatten().max() {
                references.push(number - last);
            }
            if let Some(last) = own[usize::from(temporal)].filter(|_| self.chained) {
                references.push(number - last);
            }
            if spatial > 0 && (key || !self.key_only) {
                references.push(1);
            }
            self.last[usize::from(spatial)][usize::from(temporal)] = Some(number);
            let serves = if self.key_only && !key {
                LayerSet::only(spatial)
            } else {
                LayerSet::from(spatial)
            };
            Frame {
                number,
                layer: Layer { spatial, temporal },
                ends: true,
                references,
                serves,
                top: self.spatial - 1,
                is_counted: false,
            }
        });
        frames.collect()
    }
}

/// A receiver that decodes what it gets.
struct Decoder {
    choice: Choice,
    forwarded: std::collections::BTreeSet<u64>,
    began: bool,
}

impl Decoder {
    fn new(spatial: u8, temporal: u8) -> Self {
        Self {
            choice: Choice::new(Layer { spatial, temporal }),
            forwarded: std::collections::BTreeSet::new(),
            began: false,
        }
    }

    fn want(&mut self, spatial: u8, temporal: u8) {
        self.choice.set_wanted(Layer { spatial, temporal });
    }

    /// Layers of the picture that arrive; each can be decoded.
    fn picture(&mut self, frames: &[Frame]) -> Vec<u8> {
        let mut layers = Vec::new();
        for frame in frames {
            let timestamp = (frame.number / frames.len() as u64) as u32;
            let verdict = self.choice.decide(frame, timestamp);
            assert_eq!(
                self.choice.decide(frame, timestamp) == Verdict::Forward,
                verdict == Verdict::Forward,
                "every packet of a frame fares alike"
            );
            if verdict != Verdict::Forward {
                continue;
            }
            for distance in frame.references.iter() {
                let needed = frame.number - u64::from(distance);
                assert!(self.forwarded.contains(&needed), "{frame:?} needs {needed}");
            }
            assert!(self.began || frame.is_key());
            self.began = true;
            self.forwarded.insert(frame.number);
            layers.push(frame.layer.spatial);
        }
        layers
    }
}

#[test]
fn temporal_layers_come_and_go_without_a_key_frame() {
    let mut encoder = Encoder::new(1, &[0, 2, 1, 2], false);
    let mut decoder = Decoder::new(0, 2);
    let shown = |encoder: &mut Encoder, decoder: &mut Decoder, pictures: u32| {
        let shown = (0..pictures).filter(|_| !decoder.picture(&encoder.picture(false)).is_empty());
        shown.count()
    };
    decoder.picture(&encoder.picture(true));
    assert_eq!(shown(&mut encoder, &mut decoder, 7), 7);
    decoder.want(0, 0);
    assert_eq!(shown(&mut encoder, &mut decoder, 8), 2);
    decoder.want(0, 1);
    assert_eq!(shown(&mut encoder, &mut decoder, 8), 4);
    decoder.want(0, 2);
    assert_eq!(shown(&mut encoder, &mut decoder, 8), 8);
    assert!(!decoder.choice.awaits_key_picture());
}

/// Pictures until one with this temporal layer goes on, or a key picture is awaited.
fn wait(encoder: &mut Encoder, decoder: &mut Decoder, temporal: u8, ticks: u64) -> Option<u32> {
    for pictures in 0..1000 {
        let frames = encoder.picture(false);
        let timestamp = (encoder.picture * ticks) as u32;
        let goes_on = frames
            .iter()
            .filter(|frame| decoder.choice.decide(frame, timestamp) == Verdict::Forward)
            .any(|frame| frame.layer.temporal == temporal);
        if goes_on {
            return None;
        }
        if decoder.choice.awaits_key_picture() {
            return Some(pictures);
        }
    }
    panic!("{temporal} is waited for without end");
}

#[test]
fn a_temporal_layer_that_offers_no_way_in_is_taken_up_at_a_key_picture() {
    for (spatial, key_only) in [(1, false), (3, false), (3, true)] {
        let mut encoder = Encoder::new(spatial, &[0, 2, 1, 2], key_only);
        encoder.chained = true;
        let mut decoder = Decoder::new(spatial - 1, 0);
        let ticks = 90_000 / 30;
        let frames = encoder.picture(true);
        let begins = frames.iter().map(|frame| decoder.choice.decide(frame, 0));
        assert!(begins.eq(frames.iter().map(|_| Verdict::Forward)));
        for _ in 0..20 {
            let frames = encoder.picture(false);
            let timestamp = (encoder.picture * ticks) as u32;
            frames.iter().for_each(|frame| {
                let _ = decoder.choice.decide(frame, timestamp);
            });
        }
        assert!(
            !decoder.choice.awaits_key_picture(),
            "nothing more is wanted"
        );
        decoder.want(spatial - 1, 2);
        let waited = wait(&mut encoder, &mut decoder, 1, ticks).unwrap();
        assert!(
            (60..=66).contains(&waited),
            "{waited} pictures at 30 a second"
        );
        encoder.picture = encoder.picture.next_multiple_of(4);
        decoder.picture(&encoder.picture(true));
        assert!(!decoder.choice.awaits_key_picture());
    }
}

#[test]
fn few_frames_in_a_second_are_no_reason_for_a_key_picture() {
    // Every fourth frame of layer 1 needs none of its own layer.
    let mut encoder = Encoder::new(1, &[0, 1, 1, 1, 1], false);
    let mut decoder = Decoder::new(0, 0);
    decoder.picture(&encoder.picture(true));
    decoder.picture(&encoder.picture(false));
    decoder.want(0, 1);
    // One picture in two seconds.
    assert_eq!(wait(&mut encoder, &mut decoder, 1, 180_000), None);
}

#[test]
fn a_nested_layer_is_left_at_once_and_taken_up_at_a_key_picture() {
    let mut encoder = Encoder::new(3, &[0, 2, 1, 2], false);
    let mut decoder = Decoder::new(2, 2);
    assert_eq!(decoder.picture(&encoder.picture(true)), [0, 1, 2]);
    assert_eq!(decoder.picture(&encoder.picture(false)), [0, 1, 2]);
    decoder.want(1, 2);
    assert_eq!(decoder.picture(&encoder.picture(false)), [0, 1]);
    assert!(!decoder.choice.awaits_key_picture());
    decoder.want(2, 2);
    assert_eq!(decoder.picture(&encoder.picture(false)), [0, 1]);
    assert!(decoder.choice.awaits_key_picture());
    assert_eq!(decoder.picture(&encoder.picture(true)), [0, 1, 2]);
    assert!(!decoder.choice.awaits_key_picture());
}

#[test]
fn layers_that_need_each_other_on_key_pictures_only_are_sent_alone() {
    let mut encoder = Encoder::new(3, &[0, 1], true);
    let mut decoder = Decoder::new(1, 2);
    assert_eq!(decoder.picture(&encoder.picture(true)), [0, 1]);
    assert_eq!(decoder.picture(&encoder.picture(false)), [1]);
    assert_eq!(decoder.picture(&encoder.picture(false)), [1]);
    // The lower one has not been sent: it has to begin again.
    decoder.want(0, 2);
    assert_eq!(decoder.picture(&encoder.picture(false)), [1]);
    assert!(decoder.choice.awaits_key_picture());
    assert_eq!(decoder.picture(&encoder.picture(true)), [0]);
    assert_eq!(decoder.picture(&encoder.picture(false)), [0]);
}

#[test]
fn a_layer_that_the_encoder_gives_up_is_missed() {
    let mut encoder = Encoder::new(3, &[0], true);
    let mut decoder = Decoder::new(2, 2);
    decoder.picture(&encoder.picture(true));
    assert_eq!(decoder.picture(&encoder.picture(false)), [2]);
    let fewer = |encoder: &mut Encoder, decoder: &mut Decoder, key: bool| {
        let mut frames = encoder.picture(key);
        frames.truncate(2);
        frames.iter_mut().for_each(|frame| frame.top = 1);
        let timestamp = (frames[0].number / 3) as u32;
        let forwarded = frames
            .iter()
            .filter(|frame| decoder.choice.decide(frame, timestamp) == Verdict::Forward);
        forwarded
            .map(|frame| frame.layer.spatial)
            .collect::<Vec<_>>()
    };
    assert_eq!(fewer(&mut encoder, &mut decoder, false), []);
    assert!(decoder.choice.awaits_key_picture());
    assert_eq!(fewer(&mut encoder, &mut decoder, true), [0, 1]);
    assert_eq!(fewer(&mut encoder, &mut decoder, false), [1]);
    assert!(!decoder.choice.awaits_key_picture());
}

#[test]
fn a_picture_under_way_is_finished() {
    let mut encoder = Encoder::new(3, &[0], false);
    let mut decoder = Decoder::new(2, 2);
    decoder.picture(&encoder.picture(true));
    let frames = encoder.picture(false);
    assert_eq!(decoder.choice.decide(&frames[0], 1), Verdict::Forward);
    decoder.want(0, 0);
    assert_eq!(decoder.choice.decide(&frames[1], 1), Verdict::Forward);
    assert_eq!(decoder.choice.decide(&frames[2], 1), Verdict::Forward);
    decoder
        .forwarded
        .extend(frames.iter().map(|frame| frame.number));
    assert_eq!(decoder.picture(&encoder.picture(false)), [0]);
}

#[test]
fn whatever_is_wanted_every_frame_can_be_decoded() {
    for (spatial, key_only) in [(1, false), (2, false), (3, false), (3, true)] {
        let mut encoder = Encoder::new(spatial, &[0, 2, 1, 2], key_only);
        let mut decoder = Decoder::new(0, 0);
        let mut state = 7u32;
        let mut random = move |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        decoder.picture(&encoder.picture(true));
        for _ in 0..5000 {
            decoder.want(random(3) as u8 % spatial, random(3) as u8);
            for _ in 0..random(12) {
                let key = decoder.choice.awaits_key_picture() && random(4) == 0;
                let layers = decoder.picture(&encoder.picture(key));
                let highest = decoder.choice.current().spatial;
                assert!(layers.iter().all(|layer| *layer <= highest));
            }
        }
    }
}
