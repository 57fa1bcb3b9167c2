//! Payloads, as far as forwarding reads them: descriptors, key frames, redundant audio; and the
//! dependency descriptor, which lies in front of them.

use pipemesh_node_core::codec::ids::{FrameIds, Shift};
use pipemesh_node_core::codec::{Codec, av1, dependency, h264, red, vp8};

pub fn run(payload: &[u8]) {
    let _ = h264::starts_key_frame(payload);
    let _ = av1::starts_key_frame(payload);
    for codec in [Codec::Vp8, Codec::Vp9] {
        if let Some(ids) = codec.frame_ids(payload) {
            shift(codec, &ids, payload);
        }
    }
    describe(payload);
    if let Some(layout) = red::Layout::parse(payload) {
        assert!(u16::from(layout.headers) <= layout.primary);
        assert!(usize::from(layout.primary) <= payload.len());
        let mut copy = payload.to_vec();
        layout.set_payload_type(63, &mut copy[..usize::from(layout.headers)]);
        assert_eq!(red::Layout::parse(&copy), Some(layout));
    }
}

/// A descriptor whose numbers are shifted is as long as before, and says the shifted numbers.
fn shift(codec: Codec, ids: &FrameIds, payload: &[u8]) {
    const NEWEST: [u8; 7] = [0x90, 0xE0, 0xFF, 0xFF, 0xFF, 0, 1];
    let newest = vp8::Descriptor::parse(&NEWEST).expect("it is VP8");
    let by = ids.shift_after(newest.ids.shifted(Shift::default()));
    let mut copy = payload.to_vec();
    let head = usize::from(ids.len);
    assert!(head <= payload.len());
    ids.apply(by, &mut copy[..head]);
    assert_eq!(copy[head..], payload[head..]);
    let again = codec
        .frame_ids(&copy)
        .expect("it is the same codec as before");
    assert_eq!(again.len, ids.len);
    assert_eq!(again.shifted(Shift::default()), ids.shifted(by));
}

/// The first part brings templates along, or not; the second refers to them.
fn describe(bytes: &[u8]) {
    let (first, second) = bytes.split_at(bytes.len() - bytes.len() / 4);
    let known = dependency::read(first, None).and_then(|(_, brought)| brought);
    let read = dependency::read(second, known.as_ref());
    let mut copy = second.to_vec();
    dependency::shift_number(&mut copy, 1);
    if let Some((before, _)) = read {
        let (after, _) = dependency::read(&copy, known.as_ref()).expect("only a number changed");
        assert_eq!(after.number, before.number.wrapping_add(1));
        assert_eq!(
            (after.layer, after.references),
            (before.layer, before.references)
        );
    }
}
