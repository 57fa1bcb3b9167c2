//! What a client is sent.

use super::*;

fn add(answerer: &mut Answerer, name: &str, mime_type: &str) {
    answerer
        .add_outgoing(outgoing(name, mime_type, ""), &mut rand::rng())
        .unwrap();
}

#[test]
fn tracks_are_put_on_free_sections() {
    let mut answerer = answerer();
    let mut client = client(&[('a', None), ('v', None), ('v', None)]);
    add(&mut answerer, "voice", "audio/red");
    add(&mut answerer, "face", "video/VP9");
    assert_eq!(
        answerer.poll_sections_needed(),
        None,
        "the first offer comes by itself"
    );
    let answer = exchange(&mut client, &mut answerer);
    assert_eq!(answerer.poll_sections_needed(), None);

    let directions: Vec<_> = sections(&answer.sdp)
        .iter()
        .take(3)
        .map(|s| direction(s))
        .collect();
    assert_eq!(directions, ["sendonly", "sendonly", "inactive"]);
    let [voice, face] = answer.exchange.plan.send.as_slice() else {
        panic!()
    };
    let numbers: Vec<u8> = voice.codecs.iter().map(|codec| codec.number).collect();
    assert_eq!(
        (voice.mid.as_str(), numbers, voice.repair_ssrc),
        ("0", vec![63, 111], None)
    );
    let section = sections(&answer.sdp)[1];
    let repair = face.repair_ssrc.unwrap();
    assert!(section.contains(&format!("a=ssrc-group:FID {} {repair}\r\n", face.ssrc)));
    assert!(section.contains(&format!("a=ssrc:{repair} cname:PA_bob\r\n")));
    assert!(section.contains("a=rtcp-fb:98 transport-cc\r\n"));
    assert!(!section.contains("a=rtcp-fb:98 goog-remb"));
    let numbered = Extensions {
        transport_sequence: Some(3),
        ..Extensions::default()
    };
    assert!(face.feedback.nack && face.feedback.transport_wide);
    assert_eq!(face.extensions, numbered);
    // Browsers do not offer it for audio, and ask all the same.
    assert!(voice.feedback.nack && !voice.feedback.transport_wide);
    assert_eq!(voice.extensions, Extensions::default());
}

#[test]
fn a_client_without_transport_wide_feedback_estimates_itself() {
    let mut answerer = answerer();
    answerer
        .add_outgoing(outgoing("face", "video/VP8", ""), &mut rng())
        .unwrap();
    let offer = client(&[('v', None)])
        .offer()
        .replace("a=rtcp-fb:96 transport-cc\r\n", "");
    let answer = answer(&mut answerer, &offer);
    let face = &answer.exchange.plan.send[0];
    assert!(face.feedback.estimated_maximum_bitrate && !face.feedback.transport_wide);
    // It needs to know when packets were sent.
    assert_eq!(face.extensions.absolute_send_time, Some(2));
}

#[test]
fn a_client_without_redundancy_is_sent_opus() {
    let mut answerer = answerer();
    let voice = Outgoing {
        red: false,
        ..outgoing("voice", "audio/red", "")
    };
    answerer.add_outgoing(voice, &mut rng()).unwrap();
    let answer = exchange(&mut client(&[('a', None)]), &mut answerer);
    assert_eq!(answer.exchange.plan.send[0].codecs.len(), 1);
    assert_eq!(answer.exchange.plan.send[0].codecs[0].number, 111);
}

#[test]
fn stereo_is_announced_to_the_receiver() {
    let mut answerer = answerer();
    answerer
        .add_outgoing(outgoing("music", "audio/opus", "stereo=1"), &mut rng())
        .unwrap();
    let answer = exchange(&mut client(&[('a', None)]), &mut answerer);
    assert!(
        answer
            .sdp
            .contains("a=fmtp:111 minptime=10;useinbandfec=1;sprop-stereo=1\r\n")
    );
}

#[test]
fn missing_sections_are_asked_for_once() {
    let mut answerer = answerer();
    let mut client = client(&[('a', None), ('v', None)]);
    exchange(&mut client, &mut answerer);
    add(&mut answerer, "face", "video/VP8");
    assert_eq!(
        answerer.poll_sections_needed(),
        Some(SectionsNeeded { audio: 0, video: 0 })
    );
    add(&mut answerer, "slides", "video/VP8");
    add(&mut answerer, "voice", "audio/opus");
    add(&mut answerer, "music", "audio/opus");
    assert_eq!(
        answerer.poll_sections_needed(),
        Some(SectionsNeeded { audio: 1, video: 1 })
    );
    assert_eq!(answerer.poll_sections_needed(), None);

    let answer = exchange(&mut client, &mut answerer);
    assert_eq!(
        answer.exchange.mid_to_track.len(),
        2,
        "that offer was on its way"
    );
    assert_eq!(answerer.poll_sections_needed(), None);
    client.add(MediaKind::Video, "recvonly", None);
    client.add(MediaKind::Audio, "recvonly", None);
    let answer = exchange(&mut client, &mut answerer);
    assert_eq!(answer.exchange.mid_to_track.len(), 4);
    assert_eq!(answerer.poll_sections_needed(), None);
}

#[test]
fn a_section_is_inactive_before_it_carries_another_track() {
    let mut answerer = answerer();
    let mut client = client(&[('v', None)]);
    add(&mut answerer, "face", "video/VP8");
    exchange(&mut client, &mut answerer);
    assert!(answerer.remove_outgoing(&track("face")));
    assert_eq!(answerer.plan().unwrap().send, [], "sending stops at once");
    add(&mut answerer, "next", "video/VP8");
    assert_eq!(
        answerer.poll_sections_needed(),
        Some(SectionsNeeded { audio: 0, video: 1 })
    );

    let answer = exchange(&mut client, &mut answerer);
    assert_eq!(direction(sections(&answer.sdp)[0]), "inactive");
    let answer = exchange(&mut client, &mut answerer);
    assert_eq!(answer.exchange.mid_to_track["0"], "TR_next");
}

#[test]
fn a_track_that_returns_has_other_ssrcs() {
    let mut answerer = answerer();
    let mut client = client(&[('v', None), ('v', None)]);
    add(&mut answerer, "face", "video/VP8");
    let first = exchange(&mut client, &mut answerer).exchange.plan.send[0].clone();
    answerer.remove_outgoing(&track("face"));
    add(&mut answerer, "face", "video/VP8");
    let second = exchange(&mut client, &mut answerer).exchange.plan.send[0].clone();
    assert_eq!((first.mid.as_str(), second.mid.as_str()), ("0", "1"));
    assert_ne!(first.ssrc, second.ssrc);
    assert_ne!(first.repair_ssrc, second.repair_ssrc);
}

#[test]
fn a_client_without_the_codec_is_no_subscriber() {
    let mut answerer = answerer();
    let mut client = client(&[('v', None)]);
    let high = "packetization-mode=1;profile-level-id=640034";
    answerer
        .add_outgoing(outgoing("hd", "video/H264", high), &mut rng())
        .unwrap();
    let answer = exchange(&mut client, &mut answerer);
    assert_eq!(answer.exchange.unsupported, [track("hd")]);
    assert_eq!(answerer.poll_sections_needed(), None);
    assert_eq!(
        exchange(&mut client, &mut answerer).exchange.unsupported,
        [],
        "said once"
    );

    let able = client
        .offer()
        .replace("profile-level-id=42e01f", "profile-level-id=640c1f");
    let able = able.replace(
        "packetization-mode=0;profile-level-id=640c1f",
        "packetization-mode=1;profile-level-id=64001f",
    );
    let answer = super::answer(&mut answerer, &able);
    assert_eq!(answer.exchange.plan.send[0].codecs[0].number, 114);
}

#[test]
fn a_section_may_be_used_both_ways() {
    let mut answerer = answerer();
    let mut client = client(&[('v', Some("cam"))]);
    client.sections[0].direction = "sendrecv";
    answerer
        .announce(publication("cam", MediaKind::Video, Some("video/H264")))
        .unwrap();
    add(&mut answerer, "face", "video/VP8");
    let answer = exchange(&mut client, &mut answerer);
    let section = sections(&answer.sdp)[0];
    assert!(
        section.starts_with("m=video 9 UDP/TLS/RTP/SAVPF 108 109 96 97\r\n"),
        "{section}"
    );
    assert_eq!(direction(section), "sendrecv");
    assert_eq!(answer.exchange.plan.send[0].codecs[0].number, 96);
    assert_eq!(answer.exchange.plan.receive[0].codecs.len(), 1);
}

#[test]
fn a_section_that_stops_receiving_loses_its_track() {
    let mut answerer = answerer();
    let mut client = client(&[('v', None), ('v', None)]);
    add(&mut answerer, "face", "video/VP8");
    exchange(&mut client, &mut answerer);
    client.sections[0].direction = "inactive";
    let answer = exchange(&mut client, &mut answerer);
    assert_eq!(answer.exchange.mid_to_track["1"], "TR_face");
}

#[test]
fn no_more_sections_are_asked_for_than_may_be() {
    let mut answerer = answerer();
    let mut client = client(&[]);
    for _ in 0..508 {
        client.add(MediaKind::Video, "inactive", None);
    }
    exchange(&mut client, &mut answerer);
    for number in 0..4 {
        add(&mut answerer, &format!("voice{number}"), "audio/opus");
        add(&mut answerer, &format!("face{number}"), "video/VP8");
    }
    let needed = SectionsNeeded { audio: 3, video: 0 };
    assert_eq!(answerer.poll_sections_needed(), Some(needed));
}
