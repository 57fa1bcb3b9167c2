#![allow(clippy::indexing_slicing, reason = "tests may panic")]

use super::*;
use proptest::prelude::*;

/// Bits as the format lists them; what is between them is for the reader.
fn pack(text: &str) -> Vec<u8> {
    let bits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).collect();
    let byte = |bits: &[u8]| {
        let value = bits.iter().fold(0, |byte, bit| byte << 1 | bit & 1);
        value << (8 - bits.len())
    };
    bits.chunks(8).map(byte).collect()
}

/// The descriptor of a key frame, with templates for two temporal layers.
fn key_frame() -> Vec<u8> {
    pack(
        "1 1 000000 1111111111111110 \
         10000 000000 00001 \
         00 01 11 \
         10.10 10.10 00.01 \
         0 1.0001.0 1.0000.0 \
         0 0",
    )
}

#[test]
fn a_frame_is_described_by_the_templates_of_the_key_frame_before() {
    let (key, brought) = read(&key_frame(), None).unwrap();
    let templates = brought.unwrap();
    assert_eq!((key.number, key.layer), (0xFFFE, Layer::default()));
    assert_eq!((key.starts_frame, key.ends_frame), (true, true));
    assert_eq!(key.references.iter().count(), 0);
    assert_eq!((templates.spatial_layers, templates.sizes), (1, None));

    let later = |template: u8| [0x80 | template, 0xFF, 0xFF];
    let (base, brought) = read(&later(1), Some(&templates)).unwrap();
    assert_eq!(brought, None);
    assert_eq!((base.number, base.ends_frame), (0xFFFF, false));
    assert_eq!(base.layer.temporal, 0);
    assert!(base.references.iter().eq([2]));
    let (upper, _) = read(&later(2), Some(&templates)).unwrap();
    assert_eq!(upper.layer.temporal, 1);
    assert!(upper.references.iter().eq([1]));

    assert_eq!(read(&later(3), Some(&templates)), None);
    assert_eq!(read(&later(1), None), None);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(
        structure in prop::collection::vec(any::<u8>(), 0..200),
        later in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let known = read(&structure, None).and_then(|(_, brought)| brought);
        let _ = read(&later, known.as_ref());
    }

    #[test]
    fn a_shifted_descriptor_says_the_same_of_another_frame(
        value in prop::collection::vec(any::<u8>(), 0..20),
        by in any::<u16>(),
    ) {
        let (_, known) = read(&key_frame(), None).unwrap();
        let mut shifted = value.clone();
        shift_number(&mut shifted, by);
        let expected = read(&value, known.as_ref()).map(|(descriptor, brought)| {
            let number = descriptor.number.wrapping_add(by);
            (Descriptor { number, ..descriptor }, brought)
        });
        prop_assert_eq!(read(&shifted, known.as_ref()), expected);
    }
}
