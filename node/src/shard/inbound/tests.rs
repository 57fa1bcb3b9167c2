use super::*;
use crate::session::plan::{Feedback, PayloadType, ReceiveEncoding};
use pipemesh_node_core::router::Router;
use pipemesh_node_core::rtp::{HeaderWriter, OutgoingHeader};
use pipemesh_node_core::track::{Size, TrackSpec};
use std::time::Instant;

const EXTENSIONS: Extensions = Extensions {
    mid: Some(1),
    rid: Some(2),
    repaired_rid: Some(3),
    audio_level: None,
    transport_sequence: Some(4),
    absolute_send_time: None,
    absolute_capture_time: None,
    dependency_descriptor: None,
};

fn key() -> TrackKey {
    keys(1)[0]
}

fn keys(count: usize) -> Vec<TrackKey> {
    let now = Instant::now();
    let spec = TrackSpec {
        room: 1,
        participant: 1,
        is_video: true,
        speaks: false,
        nack: true,
        muted: false,
        encodings: 3,
        sizes: vec![Size::default(); 3],
    };
    let mut router = Router::<u32, u32>::new(now);
    let publish = |_| router.publish(spec.clone(), now);
    (0..count).map(publish).collect()
}

fn section(mid: &str, rids: &[&str], ssrcs: &[(u32, u32)]) -> ReceiveSection {
    let encoding = |index: usize| ReceiveEncoding {
        rid: rids.get(index).map(ToString::to_string),
        ssrc: ssrcs.get(index).map(|(ssrc, _)| *ssrc),
        repair_ssrc: ssrcs.get(index).map(|(_, repair)| *repair),
    };
    ReceiveSection {
        mid: mid.into(),
        track: "TR_x".parse().unwrap(),
        codecs: vec![PayloadType {
            codec: Codec::Vp8,
            number: 96,
            repair: Some(97),
        }],
        extensions: EXTENSIONS,
        encodings: (0..rids.len().max(1)).map(encoding).collect(),
        feedback: Feedback::default(),
    }
}

fn packet(ssrc: u32, payload_type: u8, names: &[(u8, &str)], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 100];
    let header = OutgoingHeader {
        padding: false,
        marker: true,
        payload_type,
        sequence: 9,
        timestamp: 8,
        ssrc,
    };
    let mut writer = HeaderWriter::new(&mut bytes, header).unwrap();
    for (id, name) in names {
        writer.extension(*id, name.as_bytes(), false);
    }
    let len = writer.finish().unwrap();
    bytes.truncate(len);
    bytes.extend_from_slice(payload);
    bytes
}

/// What a packet is taken for: (encoding, is repair), bound if it is.
fn seen(inbound: &mut Inbound, packet: &[u8]) -> Option<(u8, bool)> {
    let header = Header::parse(packet).unwrap();
    let stream = inbound.identify(&header, packet)?;
    inbound.bind(header.ssrc, stream);
    Some((stream.encoding, stream.is_repair))
}

fn inbound(plan: &[ReceiveSection]) -> Inbound {
    let mut inbound = Inbound::default();
    let key = key();
    inbound.apply(plan, |_| Some(key));
    inbound
}

#[test]
fn encodings_are_learned_from_their_names_and_kept() {
    let mut inbound = inbound(&[section("0", &["q", "h", "f"], &[])]);
    assert_eq!(
        seen(&mut inbound, &packet(10, 96, &[], &[1])),
        None,
        "three encodings, no name"
    );
    assert_eq!(
        seen(&mut inbound, &packet(10, 96, &[(1, "0"), (2, "h")], &[1])),
        Some((1, false))
    );
    assert_eq!(
        seen(&mut inbound, &packet(10, 96, &[], &[1])),
        Some((1, false)),
        "names stop"
    );
    // The retransmission stream names what it repairs, and often comes first.
    assert_eq!(
        seen(&mut inbound, &packet(21, 97, &[(1, "0"), (3, "f")], &[])),
        Some((2, true))
    );
    assert_eq!(
        seen(&mut inbound, &packet(20, 96, &[(1, "0"), (2, "f")], &[1])),
        Some((2, false))
    );
    assert_eq!(
        seen(&mut inbound, &packet(30, 96, &[(1, "0"), (2, "x")], &[1])),
        None
    );
    assert_eq!(
        seen(&mut inbound, &packet(30, 96, &[(1, "9"), (2, "q")], &[1])),
        Some((0, false))
    );
}

#[test]
fn without_simulcast_the_payload_type_is_enough() {
    let mut inbound = inbound(&[section("0", &[], &[])]);
    assert_eq!(
        seen(&mut inbound, &packet(10, 96, &[], &[1])),
        Some((0, false))
    );
    assert_eq!(
        seen(&mut inbound, &packet(11, 97, &[], &[1])),
        Some((0, true))
    );
    assert_eq!(seen(&mut inbound, &packet(12, 100, &[], &[1])), None);
}

#[test]
fn ssrcs_that_sdp_states_need_no_names() {
    let mut inbound = inbound(&[section("0", &[], &[(10, 11)])]);
    assert_eq!(
        seen(&mut inbound, &packet(10, 96, &[], &[1])),
        Some((0, false))
    );
    assert_eq!(
        seen(&mut inbound, &packet(11, 97, &[], &[1])),
        Some((0, true))
    );
    assert!(inbound.media_source(10).is_some());
    assert!(
        inbound.media_source(11).is_none(),
        "a retransmission stream has no reports"
    );
}

#[test]
fn an_encoding_that_changes_its_ssrc_begins_anew() {
    let mut inbound = inbound(&[section("0", &["q"], &[])]);
    let named = |ssrc| packet(ssrc, 96, &[(1, "0"), (2, "q")], &[1]);
    let mut bind = |ssrc| {
        let packet = named(ssrc);
        let header = Header::parse(&packet).unwrap();
        let stream = inbound.identify(&header, &packet).unwrap();
        inbound.bind(ssrc, stream).map(|bound| bound.restarted)
    };
    assert_eq!(bind(10), Some(false));
    assert_eq!(bind(10), None);
    assert_eq!(bind(20), Some(true));
    assert!(!inbound.is_bound(10));
}

#[test]
fn all_that_was_negotiated_is_bound_and_no_more() {
    const TRACKS: usize = 64;
    let rids = ["q", "h", "f"];
    let mids: Vec<String> = (0..TRACKS).map(|mid| mid.to_string()).collect();
    let tracks: Vec<ReceiveSection> = mids
        .iter()
        .map(|mid| ReceiveSection {
            track: format!("TR_{mid}").parse().unwrap(),
            ..section(mid, &rids, &[])
        })
        .collect();
    let keys = keys(TRACKS);
    let key = |track: &TrackId| Some(keys[track.as_str()[3..].parse::<usize>().unwrap()]);
    let mut inbound = Inbound::default();
    inbound.apply(&tracks, key);
    let most = TRACKS * rids.len() * 2;
    assert_eq!(inbound.max_streams(), most);

    // Every SSRC is bound, also when a client changes all of them; the former ones are forgotten.
    let mut ssrc = 0u32;
    for _ in 0..3 {
        let first = ssrc;
        for mid in &mids {
            for (encoding, rid) in rids.iter().enumerate() {
                for (payload_type, name) in [(96, 2), (97, 3)] {
                    let names = [(1, mid.as_str()), (name, *rid)];
                    // Spread, so that they do not come in order.
                    let packet = packet(ssrc.reverse_bits(), payload_type, &names, &[1]);
                    assert_eq!(
                        seen(&mut inbound, &packet),
                        Some((encoding as u8, payload_type == 97))
                    );
                    ssrc += 1;
                }
            }
        }
        assert_eq!(inbound.streams.len(), most);
        assert!((first..ssrc).all(|ssrc| inbound.is_bound(ssrc.reverse_bits())));
        assert!((0..first).all(|ssrc| !inbound.is_bound(ssrc.reverse_bits())));
    }
    // Half of the tracks end; the others' SSRCs stay theirs, wherever their sections are now.
    let kept: Vec<ReceiveSection> = tracks.iter().skip(1).step_by(2).rev().cloned().collect();
    inbound.apply(&kept, key);
    assert_eq!(inbound.streams.len(), most / 2);
    assert!(inbound.streams.is_sorted_by_key(|(ssrc, _)| *ssrc));
    for section in &kept {
        let sources = inbound.media_sources();
        let sources = sources.filter(|(_, source)| Some(source.track) == key(&section.track));
        for (ssrc, source) in sources.collect::<Vec<_>>() {
            let (found, of) = inbound.media_source(ssrc).expect("it is bound");
            assert_eq!((&found.track, of), (&section.track, source));
        }
    }
}

#[test]
fn a_new_plan_keeps_what_was_learned() {
    let mut inbound = inbound(&[section("0", &["q", "h"], &[])]);
    let names = [(1, "0"), (2, "h")];
    assert_eq!(
        seen(&mut inbound, &packet(10, 96, &names, &[1])),
        Some((1, false))
    );
    let key = inbound.sections()[0].key;
    inbound.apply(&[section("0", &["q", "h"], &[])], |_| Some(key));
    assert_eq!(
        seen(&mut inbound, &packet(10, 96, &[], &[1])),
        Some((1, false))
    );
    inbound.apply(&[], |_| Some(key));
    assert_eq!(seen(&mut inbound, &packet(10, 96, &names, &[1])), None);
}

#[test]
fn a_retransmission_is_restored_to_the_packet_it_was() {
    let mut bytes = packet(11, 97, &[(1, "0")], &[0x12, 0x34, 7, 8, 9]);
    let header = Header::parse(&bytes).unwrap();
    let start = restore(&mut bytes, &header, 10, 96).unwrap();
    let restored = &bytes[start..];
    let header = Header::parse(restored).unwrap();
    assert_eq!(
        (header.ssrc, header.payload_type, header.sequence),
        (10, 96, 0x1234)
    );
    assert_eq!((header.timestamp, header.marker), (8, true));
    assert_eq!(header.payload(restored), Some(&[7, 8, 9][..]));
    assert_eq!(header.extension(restored, 1), Some(&b"0"[..]));
    // Padding that probes for bandwidth restores to nothing.
    let mut probe = packet(11, 97, &[], &[]);
    let header = Header::parse(&probe).unwrap();
    assert_eq!(restore(&mut probe, &header, 10, 96), None);
}
