//! Payloads, as far as forwarding reads them: descriptors, key frames, redundant audio.

use pipemesh_node_core::codec::{av1, h264, red, vp8, vp9};

pub fn run(payload: &[u8]) {
    let _ = h264::starts_key_frame(payload);
    let _ = vp9::starts_key_frame(payload);
    let _ = av1::starts_key_frame(payload);
    if let Some(descriptor) = vp8::Descriptor::parse(payload) {
        shift(&descriptor, payload);
    }
    if let Some(layout) = red::Layout::parse(payload) {
        assert!(u16::from(layout.headers) <= layout.primary);
        assert!(usize::from(layout.primary) <= payload.len());
        let mut copy = payload.to_vec();
        layout.set_payload_type(63, &mut copy[..usize::from(layout.headers)]);
        assert_eq!(red::Layout::parse(&copy), Some(layout));
    }
}

/// A descriptor whose numbers are shifted is as long as before, and says the shifted numbers.
fn shift(descriptor: &vp8::Descriptor, payload: &[u8]) {
    let by = descriptor.shift_after(Some(0x7FFF), Some(0xFF));
    let mut copy = payload.to_vec();
    let head = usize::from(descriptor.len);
    assert!(head <= payload.len());
    descriptor.apply(by, &mut copy[..head]);
    assert_eq!(copy[head..], payload[head..]);
    let again = vp8::Descriptor::parse(&copy).expect("it is VP8 as before");
    assert_eq!(again.len, descriptor.len);
    let (picture, base) = descriptor.shifted(by);
    assert_eq!((again.picture_id(), again.tl0_picture()), (picture, base));
    assert_eq!(again.starts_key_frame, descriptor.starts_key_frame);
}
