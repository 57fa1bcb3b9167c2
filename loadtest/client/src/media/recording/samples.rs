//! Small files of each kind, as encoders write them; what is in their frames is filler.

/// So many frames; every fifth is a key frame, and has more bytes than fit into a packet.
const FRAMES: usize = 12;

pub(crate) fn is_key(place: usize) -> bool {
    place.is_multiple_of(5)
}

fn filler(len: usize) -> impl Iterator<Item = u8> {
    (0..len).map(|place| (place * 7 + 3) as u8 | 0x10)
}

/// 320 x 180, 25 frames a second.
pub(crate) fn ivf(codec: &[u8; 4], frames: &[Vec<u8>]) -> Vec<u8> {
    let mut out = b"DKIF\0\0\x20\0".to_vec();
    out.extend_from_slice(codec);
    out.extend_from_slice(&[64, 1, 180, 0]);
    for field in [25_u32, 1, frames.len() as u32, 0] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    for (time, frame) in (1_u64..).zip(frames) {
        out.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        out.extend_from_slice(&time.to_le_bytes());
        out.extend_from_slice(frame);
    }
    out
}

fn sized(place: usize, head: &[u8]) -> Vec<u8> {
    let len = if is_key(place) { 3_000 } else { 200 };
    head.iter().copied().chain(filler(len)).collect()
}

pub(crate) fn vp8() -> Vec<u8> {
    let frame = |place| match is_key(place) {
        true => sized(place, &[0x10, 0, 0, 0x9D, 1, 0x2A, 64, 1, 180, 0]),
        false => sized(place, &[0x11, 0, 0]),
    };
    ivf(b"VP80", &(0..FRAMES).map(frame).collect::<Vec<_>>())
}

pub(crate) fn vp9() -> Vec<u8> {
    let frame = |place| sized(place, &[if is_key(place) { 0x82 } else { 0x86 }]);
    ivf(b"VP90", &(0..FRAMES).map(frame).collect::<Vec<_>>())
}

/// A delimiter, a sequence header before key frames, a frame.
pub(crate) fn av1() -> Vec<u8> {
    let frame = |place| {
        let mut unit = vec![0x12, 0];
        if is_key(place) {
            unit.extend_from_slice(&[0x0A, 4, 1, 2, 3, 4]);
        }
        let body = sized(place, &[if is_key(place) { 0x10 } else { 0x30 }]);
        let len = [body.len() as u8 | 0x80, (body.len() >> 7) as u8];
        unit.push(0x32);
        unit.extend_from_slice(&len);
        unit.extend(body);
        unit
    };
    ivf(b"AV01", &(0..FRAMES).map(frame).collect::<Vec<_>>())
}

/// Constrained baseline, 320 x 180: 20 macroblocks by 12, twelve rows of pixels cropped.
const SEQUENCE: [u8; 9] = [0x67, 0x42, 0xC0, 0x1E, 0xDA, 0x05, 0x06, 0x7E, 0x74];

/// Parameter sets at the beginning only; every picture has two slices, and a delimiter in front of it.
pub(crate) fn h264() -> Vec<u8> {
    let mut out = vec![0, 0, 0, 1];
    out.extend_from_slice(&SEQUENCE);
    out.extend_from_slice(&[0, 0, 1, 0x68, 0xCE, 0x3C, 0x80]);
    for place in 0..FRAMES {
        let header = if is_key(place) { 0x65 } else { 0x41 };
        out.extend_from_slice(&[0, 0, 0, 1, 9, 0xF0]);
        // First macroblock 0, then 2; slices of kind 0, without B.
        out.extend_from_slice(&[0, 0, 0, 1]);
        out.extend(sized(place, &[header, 0b1100_0000]));
        out.extend_from_slice(&[0, 0, 1]);
        out.extend(sized(place, &[header, 0b0111_0000]));
    }
    out
}

/// A page of Ogg with these packets; the last goes on on the next page if it says so.
fn page(out: &mut Vec<u8>, flags: u8, packets: &[&[u8]], goes_on: bool) {
    out.extend_from_slice(b"OggS\0");
    out.push(flags);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(b"mine");
    out.extend_from_slice(&[0; 8]);
    let mut table = Vec::new();
    for (place, packet) in packets.iter().enumerate() {
        table.extend(std::iter::repeat_n(255, packet.len() / 255));
        if !(goes_on && place + 1 == packets.len()) {
            table.push((packet.len() % 255) as u8);
        }
    }
    out.push(table.len() as u8);
    out.extend(table);
    packets.iter().for_each(|it| out.extend_from_slice(it));
}

/// Tags and a packet are spread over two pages each; 20 ms a packet, the last says nothing.
pub(crate) fn opus() -> Vec<u8> {
    let mut out = Vec::new();
    let head = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";
    page(&mut out, 2, &[head], false);
    let tags: Vec<u8> = b"OpusTags".iter().copied().chain(filler(600)).collect();
    page(&mut out, 0, &[&tags[..510]], true);
    page(&mut out, 1, &[&tags[510..]], false);
    let packet: Vec<u8> = [0xFC].into_iter().chain(filler(299)).collect();
    page(&mut out, 0, &[&packet, &packet[..255]], true);
    page(
        &mut out,
        1,
        &[&packet[255..], &packet[..60], &[0xFC, 1]],
        false,
    );
    out
}

pub(crate) fn all() -> [(&'static str, Vec<u8>); 5] {
    [
        ("vp8", vp8()),
        ("vp9", vp9()),
        ("av1", av1()),
        ("h264", h264()),
        ("opus", opus()),
    ]
}
