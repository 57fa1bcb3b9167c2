//! What a client publishes.

use super::*;

#[test]
fn the_preferred_codec_is_the_only_one_answered() {
    fn check(preferred: Option<&str>, numbers: &str, mime_type: &str) {
        let mut answerer = answerer();
        answerer
            .announce(publication("cam", MediaKind::Video, preferred))
            .unwrap();
        let answer = exchange(&mut client(&[('v', Some("cam"))]), &mut answerer);
        let m_line = format!("m=video 9 UDP/TLS/RTP/SAVPF {numbers}\r\n");
        assert!(
            sections(&answer.sdp)[0].starts_with(&m_line),
            "{}",
            answer.sdp
        );
        assert_eq!(answer.exchange.started[0].format.mime_type(), mime_type);
    }
    check(None, "96 97", "video/VP8");
    check(Some("video/vp9"), "98 99", "video/VP9");
    check(Some("video/H264"), "108 109", "video/H264");
    check(Some("video/AV1"), "45 46", "video/AV1");
    check(Some("video/H265"), "96 97", "video/VP8");
}

#[test]
fn redundancy_comes_first_if_it_is_wanted() {
    fn check(red: bool, numbers: &str) {
        let mut answerer = answerer();
        let mic = Publication {
            red,
            ..publication("mic", MediaKind::Audio, None)
        };
        answerer.announce(mic).unwrap();
        let answer = exchange(&mut client(&[('a', Some("mic"))]), &mut answerer);
        let section = sections(&answer.sdp)[0];
        assert!(section.starts_with(&format!("m=audio 9 UDP/TLS/RTP/SAVPF {numbers}\r\n")));
        // What redundancy replaces is lost with the packet behind it often enough.
        assert!(section.contains("a=rtcp-fb:111 nack\r\n"));
        let receive = &answer.exchange.plan.receive[0];
        assert!(receive.feedback.nack);
        // It is sent again as it was: nothing in it may change from one time to the next.
        assert!(!receive.feedback.transport_wide);
        let extensions = &receive.extensions;
        assert_eq!(extensions.transport_sequence, None);
        assert_eq!(extensions.absolute_send_time, None);
        assert!(!section.contains("transport-cc") && !section.contains("abs-send-time"));
        assert_eq!(receive.extensions.audio_level, Some(1));
    }
    check(true, "63 111");
    check(false, "111");
}

#[test]
fn opus_is_asked_for_as_announced() {
    fn check(stereo: bool, dtx: bool, expected: &str) {
        let mut answerer = answerer();
        let kind = MediaKind::Audio;
        let mic = Publication {
            stereo,
            dtx,
            ..publication("mic", kind, None)
        };
        answerer.announce(mic).unwrap();
        let offer = client(&[('a', None), ('a', Some("mic"))]).offer();
        let answer = answer(&mut answerer, &offer);
        let fmtp = |index: usize| lines(sections(&answer.sdp)[index], "a=fmtp:111 ")[0];
        assert_eq!(fmtp(1), expected);
        assert_eq!(
            fmtp(0),
            expected,
            "a payload type has one meaning in the bundle"
        );
    }
    check(false, false, "minptime=10;useinbandfec=1");
    check(false, true, "minptime=10;useinbandfec=1;usedtx=1");
    check(
        true,
        false,
        "minptime=10;useinbandfec=1;stereo=1;maxaveragebitrate=510000",
    );
}

#[test]
fn a_track_may_be_announced_after_its_offer() {
    let mut answerer = answerer();
    let mut client = client(&[('v', Some("cam"))]);
    let answer = exchange(&mut client, &mut answerer);
    assert_eq!(
        direction(sections(&answer.sdp)[0]),
        "recvonly",
        "the codecs are accepted"
    );
    assert_eq!(answer.exchange.plan.receive, []);

    let cam = publication("cam", MediaKind::Video, Some("video/AV1"));
    let started = answerer.announce(cam).unwrap().unwrap();
    assert_eq!(
        started.format,
        Format::Vp8,
        "what the client has begun to send"
    );
    assert_eq!(answerer.plan().unwrap().receive[0].track, track("cam"));

    let answer = exchange(&mut client, &mut answerer);
    let section = sections(&answer.sdp)[0];
    assert!(
        section.starts_with("m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n"),
        "and goes on with"
    );
    assert_eq!(answer.exchange.started, []);
}

#[test]
fn a_codec_stays_while_the_track_lives() {
    let mut answerer = answerer();
    let mut client = client(&[('v', Some("cam"))]);
    answerer
        .announce(publication("cam", MediaKind::Video, Some("video/VP9")))
        .unwrap();
    exchange(&mut client, &mut answerer);
    let reordered = client.offer().replace("96 97 98 99", "45 46 98 99 96 97");
    let answer = answer(&mut answerer, &reordered);
    assert_eq!(answer.exchange.plan.receive[0].codecs[0].number, 98);
    assert_eq!(answer.exchange.started, []);
}

#[test]
fn a_track_ends_when_it_is_no_longer_sent() {
    for end in ["recvonly", "inactive"] {
        let mut answerer = answerer();
        let mut client = client(&[('v', Some("cam"))]);
        answerer
            .announce(publication("cam", MediaKind::Video, None))
            .unwrap();
        exchange(&mut client, &mut answerer);
        client.sections[0].direction = end;
        let answer = exchange(&mut client, &mut answerer);
        assert_eq!(answer.exchange.ended, [track("cam")]);
        assert_eq!(answer.exchange.plan.receive, []);
        assert_eq!(
            answerer.announce(publication("cam", MediaKind::Video, None)),
            Ok(None)
        );
    }
}

#[test]
fn another_msid_is_another_track() {
    let mut answerer = answerer();
    let mut client = client(&[('v', Some("cam"))]);
    answerer
        .announce(publication("cam", MediaKind::Video, None))
        .unwrap();
    exchange(&mut client, &mut answerer);
    client.sections[0].track = Some("screen".to_owned());
    answerer
        .announce(publication("screen", MediaKind::Video, Some("video/VP9")))
        .unwrap();
    let answer = exchange(&mut client, &mut answerer);
    assert_eq!(answer.exchange.ended, [track("cam")]);
    assert_eq!(answer.exchange.started[0].track, track("screen"));
    assert_eq!(
        answer.exchange.started[0].format,
        Format::Vp9 { profile: 0 }
    );
}

#[test]
fn a_track_published_again_is_the_one_announced_last() {
    let mut answerer = answerer();
    let mut client = client(&[('v', Some("cam"))]);
    answerer
        .announce(publication("cam", MediaKind::Video, None))
        .unwrap();
    exchange(&mut client, &mut answerer);
    let again = Publication {
        track: track("again"),
        ..publication("cam", MediaKind::Video, None)
    };
    answerer.announce(again).unwrap();
    client.sections[0].direction = "inactive";
    client.add(MediaKind::Video, "sendonly", Some("cam"));
    let answer = exchange(&mut client, &mut answerer);
    assert_eq!(answer.exchange.ended, [track("cam")]);
    assert_eq!(answer.exchange.started[0].track, track("again"));
}

/// Firefox.
#[test]
fn without_names_the_order_counts() {
    let mut answerer = answerer();
    let made_up = [('v', Some("{1}")), ('a', Some("{2}")), ('v', Some("{3}"))];
    let mut client = client(&made_up);
    for (name, kind) in [("mic", MediaKind::Audio), ("cam", MediaKind::Video)] {
        answerer.announce(publication(name, kind, None)).unwrap();
    }
    let answer = exchange(&mut client, &mut answerer);
    let started: Vec<_> = answer
        .exchange
        .started
        .iter()
        .map(|s| (&*s.mid, &s.track))
        .collect();
    assert_eq!(started, [("0", &track("cam")), ("1", &track("mic"))]);
    let screen = publication("screen", MediaKind::Video, None);
    assert_eq!(answerer.announce(screen).unwrap().unwrap().mid, "2");

    answerer.withdraw(&track("screen"));
    let next = publication("next", MediaKind::Video, None);
    assert_eq!(
        answerer.announce(next),
        Ok(None),
        "does not take what was withdrawn"
    );
    let answer = exchange(&mut client, &mut answerer);
    assert_eq!(
        (answer.exchange.started, answer.exchange.ended),
        (vec![], vec![])
    );
}

#[test]
fn with_names_only_names_count() {
    let mut answerer = answerer();
    answerer
        .announce(publication("cam", MediaKind::Video, None))
        .unwrap();
    let mut client = client(&[('v', Some("cam")), ('v', Some("screen"))]);
    answerer
        .announce(publication("other", MediaKind::Video, None))
        .unwrap();
    let answer = exchange(&mut client, &mut answerer);
    assert_eq!(answer.exchange.plan.receive.len(), 1);
}

/// libwebrtc, when a track is added that an ended section still names.
#[test]
fn a_taken_name_does_not_count() {
    let mut answerer = answerer();
    answerer
        .announce(publication("cam", MediaKind::Video, None))
        .unwrap();
    let mut client = client(&[('v', Some("cam"))]);
    exchange(&mut client, &mut answerer);
    client.sections[0].direction = "inactive";
    exchange(&mut client, &mut answerer);
    let again = Publication {
        track: track("again"),
        ..publication("cam", MediaKind::Video, None)
    };
    client.add(MediaKind::Video, "sendonly", Some("made-up"));

    let mut early = answerer.clone();
    early.announce(again.clone()).unwrap();
    let answer = exchange(&mut client.clone(), &mut early);
    assert_eq!(answer.exchange.started[0].mid, "1");

    exchange(&mut client, &mut answerer);
    assert_eq!(answerer.announce(again).unwrap().unwrap().mid, "1");
}

#[test]
fn known_ssrcs_are_planned() {
    let mut answerer = answerer();
    answerer
        .announce(publication("cam", MediaKind::Video, None))
        .unwrap();
    let ssrcs = "a=msid:- cam\r\na=ssrc-group:FID 7 8\r\na=ssrc:7 cname:x\r\na=ssrc:8 cname:x\r\n";
    let offer = client(&[('v', Some("cam"))])
        .offer()
        .replace("a=msid:- cam\r\n", ssrcs);
    let plan = answer(&mut answerer, &offer).exchange.plan;
    let expected = ReceiveEncoding {
        rid: None,
        ssrc: Some(7),
        repair_ssrc: Some(8),
    };
    assert_eq!(plan.receive[0].encodings, [expected]);
}

#[test]
fn extensions_are_accepted_on_placeholders() {
    let mut answerer = answerer();
    let answer = answer(&mut answerer, &client(&[('v', None), ('a', None)]).offer());
    let (video, audio) = (sections(&answer.sdp)[0], sections(&answer.sdp)[1]);
    let ids = |section| -> Vec<&str> {
        lines(section, "a=extmap:")
            .iter()
            .map(|line| line.split(' ').next().unwrap())
            .collect()
    };
    assert_eq!(
        (direction(video), ids(video)),
        ("inactive", vec!["3", "4", "10", "11"])
    );
    assert_eq!((direction(audio), ids(audio)), ("inactive", vec!["1", "4"]));
}

/// It would come again under the number it had, but not as it was.
#[test]
fn video_without_retransmission_stream_is_not_asked_for_again() {
    // What libwebrtc marks goes by the extensions of the answer, whatever feedback there is.
    let (number, time) = ("transport-wide-cc", "abs-send-time");
    let feedback = "a=rtcp-fb:96 transport-cc\r\n";
    for (is_repaired, left_out, nack) in [
        (true, vec![], true),
        (false, vec![], false),
        (false, vec![feedback, time], false),
        (false, vec![feedback, number], false),
        (false, vec![feedback, number, time], true),
    ] {
        let mut answerer = answerer();
        let camera = publication("cam", MediaKind::Video, None);
        answerer.announce(camera).unwrap();
        let mut offer = client(&[('v', Some("cam"))]).offer();
        if !is_repaired {
            offer = offer.replace("rtx/90000", "unknown/90000");
        }
        for text in &left_out {
            let nothing = if *text == feedback { "" } else { "unknown" };
            offer = offer.replace(text, nothing);
        }
        let answer = answer(&mut answerer, &offer);
        let receive = &answer.exchange.plan.receive[0];
        let outcome = (receive.codecs[0].repair.is_some(), receive.feedback.nack);
        assert_eq!(outcome, (is_repaired, nack), "without {left_out:?}");
    }
}

#[test]
fn directions_of_extensions_are_turned_round() {
    let mut answerer = answerer();
    answerer
        .announce(publication("cam", MediaKind::Video, None))
        .unwrap();
    let offer = client(&[('v', Some("cam"))]).offer();
    let offer = offer.replace("a=extmap:10 ", "a=extmap:10/sendonly ");
    let offer = offer.replace("a=extmap:11 ", "a=extmap:11/recvonly ");
    let offer = offer.replace("a=extmap:4 ", "a=extmap:4/sendrecv ");
    let answer = answer(&mut answerer, &offer);
    let section = sections(&answer.sdp)[0];
    assert!(section.contains("a=extmap:10/recvonly urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"));
    assert!(section.contains("a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid"));
    assert!(section.contains("a=extmap:11/sendonly "));
    let extensions = answer.exchange.plan.receive[0].extensions;
    assert_eq!(
        (extensions.rid, extensions.repaired_rid, extensions.mid),
        (Some(10), None, Some(4))
    );
}

#[test]
fn without_transport_wide_feedback_the_client_is_told_an_estimate() {
    for missing in [
        "a=rtcp-fb:96 transport-cc\r\n",
        "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n",
    ] {
        let mut answerer = answerer();
        answerer
            .announce(publication("cam", MediaKind::Video, None))
            .unwrap();
        let offer = client(&[('v', Some("cam"))]).offer().replace(missing, "");
        let receive = &answer(&mut answerer, &offer).exchange.plan.receive[0];
        assert_eq!(receive.extensions.absolute_send_time, Some(2));
        assert_eq!(receive.extensions.transport_sequence, None);
        assert!(receive.feedback.estimated_maximum_bitrate);
        assert!(!receive.feedback.transport_wide);
    }
}

#[test]
fn no_estimate_is_promised_of_what_does_not_say_when_it_was_sent() {
    const SEND_TIME: &str =
        "a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\r\n";
    for (from, to) in [
        (SEND_TIME, ""),
        // It is sent to the client only.
        ("a=extmap:2 ", "a=extmap:2/recvonly "),
    ] {
        let mut answerer = answerer();
        answerer
            .announce(publication("cam", MediaKind::Video, None))
            .unwrap();
        let offer = client(&[('v', Some("cam"))]).offer();
        assert!(offer.contains(from));
        let offer = offer.replace("a=rtcp-fb:96 transport-cc\r\n", "");
        let answer = answer(&mut answerer, &offer.replace(from, to));
        let receive = &answer.exchange.plan.receive[0];
        assert!(!receive.feedback.estimated_maximum_bitrate);
        assert!(!answer.sdp.contains("goog-remb"), "{}", answer.sdp);
    }
}
