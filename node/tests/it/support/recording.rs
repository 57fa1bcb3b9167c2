//! What a receiver got of a camera, and whether a decoder could show it.

use super::camera::Mark;

/// A packet of one SSRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// Sequence number, with or without its rollover counter.
    pub(crate) index: u64,
    pub(crate) timestamp: u32,
    pub(crate) mark: Mark,
}

/// Checks that the packets of one SSRC, in order, are one unbroken stream, and counts the switches
/// between encodings.
///
/// No sequence number is missing; no timestamp goes back, and every frame has its own; picture ids count
/// frames; and whatever does not continue the frames before it begins with a key frame.
pub(crate) fn check(packets: &[Recorded]) -> usize {
    let first = packets.first().expect("something was received");
    assert!(
        first.mark.starts_key_frame(),
        "begins in the middle: {first:?}"
    );
    let mut switches = 0;
    for pair in packets.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        let (was, is) = (&before.mark, &after.mark);
        let context = format!("{before:?}\nthen {after:?}");
        let next = before.index.wrapping_add(1);
        assert_eq!(after.index as u16, next as u16, "a hole\n{context}");
        let elapsed = after.timestamp.wrapping_sub(before.timestamp) as i32;
        let pictures = is.picture.wrapping_sub(was.picture) & 0x7FFF;
        let base_pictures = is.base_picture.wrapping_sub(was.base_picture);
        if (was.encoding, was.frame) == (is.encoding, is.frame) {
            assert!(!is.starts_frame, "twice\n{context}");
            assert_eq!((elapsed, pictures, base_pictures), (0, 0, 0), "{context}");
            continue;
        }
        assert!(is.starts_frame, "not from its beginning\n{context}");
        assert!(elapsed > 0, "time does not go on\n{context}");
        assert_eq!((pictures, base_pictures), (1, 1), "{context}");
        if was.encoding != is.encoding {
            switches += 1;
        }
        if (was.encoding, was.frame + 1) != (is.encoding, is.frame) {
            assert!(is.is_key, "goes on without a key frame\n{context}");
        }
    }
    switches
}
