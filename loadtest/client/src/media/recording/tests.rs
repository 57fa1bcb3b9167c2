use super::samples::{self, is_key};
use super::*;

fn read(bytes: Vec<u8>) -> Recording {
    Recording::read(bytes.into(), 25).unwrap()
}

fn refused(bytes: impl Into<Vec<u8>>) -> String {
    let read = Recording::read(bytes.into().into(), 25);
    read.map_or_else(|error| error.to_string(), |it| format!("taken: {it:?}"))
}

/// What the packets of a frame carry.
fn payloads(recording: &Arc<Recording>, place: usize) -> Vec<Vec<u8>> {
    let packets = recording.packets_of(place);
    let payload = |packet| {
        let piece = Piece {
            recording: Arc::clone(recording),
            packet,
            picture_id: 0x1234,
        };
        let mut out = vec![0; piece.len()];
        piece.write(&mut out);
        assert!(out.len() <= MAX_PAYLOAD, "{}", out.len());
        out
    };
    packets.map(payload).collect()
}

#[test]
fn files_are_cut_into_frames_at_their_times() {
    for (name, bytes) in samples::all() {
        let recording = read(bytes);
        assert_eq!(recording.codec(), name);
        let (frames, pause) = match name {
            "opus" => (4, Duration::from_millis(20)),
            _ => (12, Duration::from_millis(40)),
        };
        assert_eq!(recording.frames(), frames, "{name}");
        assert_eq!(recording.length(), pause * frames as u32, "{name}");
        for place in 0..frames {
            assert_eq!(recording.pause_after(place), pause, "{name} {place}");
            let is_key = name == "opus" || is_key(place);
            assert_eq!(recording.frame(place).is_key, is_key, "{name} {place}");
        }
        let size = if name == "opus" { (0, 0) } else { (320, 180) };
        assert_eq!(recording.size(), size, "{name}");
    }
}

#[test]
fn a_key_frame_is_found_where_it_is_nearest() {
    let recording = read(samples::vp8());
    let nearest: Vec<_> = (0..12).map(|it| recording.nearest_key_frame(it)).collect();
    assert_eq!(nearest, [0, 0, 0, 5, 5, 5, 5, 5, 10, 10, 10, 10]);
}

#[test]
fn packets_say_what_servers_look_for() {
    let recording = Arc::new(read(samples::vp8()));
    let key = payloads(&recording, 0);
    assert_eq!(key.len(), 3);
    assert_eq!(key[0][..7], [0x90, 0x80, 0x92, 0x34, 0x10, 0, 0]);
    assert_eq!(key[1][..4], [0x80, 0x80, 0x92, 0x34]);
    assert_eq!(payloads(&recording, 1)[0][4] & 1, 1);

    let recording = Arc::new(read(samples::vp9()));
    let key = payloads(&recording, 0);
    let structure = [0x8A, 0x92, 0x34, 0x10, 1, 64, 0, 180, 0x82];
    assert_eq!(key[0][..9], structure);
    assert_eq!(key[2][..3], [0x84, 0x92, 0x34]);
    assert_eq!(payloads(&recording, 1)[0][..4], [0xCC, 0x92, 0x34, 0x86]);

    let recording = Arc::new(read(samples::av1()));
    let key = payloads(&recording, 0);
    // The sequence header without its size; the frame in parts.
    assert_eq!(key[0], [0x18, 0x08, 1, 2, 3, 4]);
    assert_eq!(key[1][..3], [0x50, 0x30, 0x10]);
    assert_eq!(key[2][0], 0xD0);
    assert_eq!(key[3][0], 0x90);
    assert_eq!(key.len(), 4);
    assert_eq!(payloads(&recording, 1)[0][..3], [0x10, 0x30, 0x30]);

    let recording = Arc::new(read(samples::opus()));
    assert!(!recording.frame(0).is_silent && recording.frame(3).is_silent);
    assert_eq!(payloads(&recording, 1)[0].len(), 300);
    assert_eq!(payloads(&recording, 1), payloads(&recording, 0));
    assert_eq!(payloads(&recording, 3), [[0xFC, 1]]);
}

#[test]
fn every_key_frame_of_h264_has_its_parameters_before_it() {
    let recording = Arc::new(read(samples::h264()));
    for place in 0..recording.frames() {
        let payloads = payloads(&recording, place);
        let heads: Vec<u8> = payloads.iter().map(|it| it[0] & 0x1F).collect();
        match is_key(place) {
            true => assert_eq!(heads, [7, 8, 28, 28, 28, 28, 28, 28], "{place}"),
            false => assert_eq!(heads, [1, 1], "{place}"),
        }
    }
    let key = payloads(&recording, 5);
    let marks: Vec<u8> = key[2..].iter().map(|it| it[1]).collect();
    assert_eq!(marks, [0x85, 5, 0x45, 0x85, 5, 0x45]);
    // Together the fragments are the unit.
    let unit: usize = key[2..5].iter().map(|it| it.len() - 2).sum();
    assert_eq!(unit, 3_001);
}

#[test]
fn parameter_sets_of_h264_are_kept_by_their_ids() {
    const START: &[u8] = &[0, 0, 1];
    let sequence: &[u8] = &[0x67, 0x42, 0xC0, 0x1E, 0xDA, 0x05, 0x06, 0x7E, 0x74];
    // Ids 0 and 1, and another of id 1.
    let pictures: [&[u8]; 3] = [
        &[0x68, 0xCE, 0x3C, 0x80],
        &[0x68, 0x4E, 0x3C, 0x80],
        &[0x68, 0x4E, 0x3C, 0xC0],
    ];
    let idr: &[u8] = &[0x65, 0b1100_0000, 0x11];
    let file = |units: &[&[u8]]| -> Vec<u8> {
        let units = units.iter().map(|unit| [START, unit].concat());
        units.flatten().collect()
    };
    let bytes = file(&[
        sequence,
        pictures[0],
        pictures[1],
        idr,
        // The sequence's again alone, then one of its pictures' alone, changed.
        sequence,
        idr,
        pictures[2],
        idr,
    ]);
    let recording = Arc::new(read(bytes));
    let [first, second, third] = [0, 1, 2].map(|place| payloads(&recording, place));
    let expected = [sequence, pictures[0], pictures[1], idr];
    assert_eq!(first, expected);
    assert_eq!(second, expected);
    assert_eq!(third, [sequence, pictures[0], pictures[2], idr]);
}

#[test]
fn what_cannot_be_played_is_refused_with_the_reason() {
    let [(_, vp8), (_, vp9), (_, av1), (_, h264), (_, opus)] = samples::all();
    let check = |bytes: &[u8], expected: &str| {
        let said = refused(bytes);
        assert!(said.contains(expected), "{said:?} instead of {expected:?}");
    };
    check(b"", "neither IVF nor Ogg nor H.264");
    check(b"\0\0\0\x18ftypmp42", "it begins with [00, 00, 00, 18]");
    check(&vp8[..20], "the header of the file at byte 0 is cut off");
    check(&vp8[..32], "there is no frame in it");
    check(&vp8[..40], "the header of a frame at byte 32 is cut off");
    check(&vp8[..60], "frame 1 at byte 32 is cut off");
    check(&vp8[..vp8.len() - 1], "frame 12 at byte");
    let changed = |bytes: &[u8], at: usize, value: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    check(&changed(&vp8, 8, b"MJPG"), "its codec is MJPG");
    check(&changed(&vp8, 16, &[0; 4]), "its time base is 1/0");
    check(&changed(&vp8, 44, &[1]), "does not begin with a key frame");
    check(&changed(&vp8, 47, &[0]), "frame 1 is no frame of VP8");
    check(
        &changed(&vp9, 44, &[0x86]),
        "does not begin with a key frame",
    );
    check(&changed(&vp9, 44, &[0x92]), "VP9 of profile 2");
    check(&changed(&vp9, 44, &[0x02]), "frame 1 is no frame of VP9");
    check(&changed(&av1, 44, &[0x92]), "frame 1 is broken at byte 44");
    let second = 32 + 12 + 3_010;
    check(
        &changed(&vp8, second + 4, &[1]),
        "frame 2 is not later than that before it",
    );
    check(
        &changed(&vp8, second + 4, &[0, 9]),
        "later than that before it",
    );
    check(
        &changed(&vp8, second + 4, &[255; 8]),
        "frame 2 is shown at 18446744073709551615, which is too late",
    );

    check(&h264[..40], "taken");
    check(&h264[20..], "there are no parameter sets before picture 1");
    check(&[0, 0, 0, 1, 0x41, 0x88, 1], "does not begin with a key");
    // Slices of kind 6 are of B.
    check(
        &[&h264[..21], &[0, 0, 1, 0x65, 0b1001_1100, 1][..]].concat(),
        "picture 1 has B slices",
    );
    check(&[0, 0, 1, 0x7F], "a unit of kind 31");
    let odd = Recording::read(h264.into(), 0).unwrap_err().to_string();
    assert!(odd.contains("0 is no frame rate"), "{odd}");

    check(&opus[..30], "the page at byte 0 is cut off");
    check(&opus[..opus.len() - 1], "is cut off");
    check(&changed(&opus, 28, b"Vorbis"), "what is in it is not Opus");
    check(&changed(&opus, 28 + 18, &[1]), "more channels than two");
    let tags = 28 + 19;
    check(&changed(&opus, tags, b"X"), "no page of Ogg at byte 47");
    check(&changed(&opus, tags + 14, b"x"), "more than one stream");
    check(
        &changed(&opus, tags + 5, &[1]),
        "something is missing before byte 47",
    );
}
