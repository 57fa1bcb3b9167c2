use super::*;
use crate::session::sdp::testing::{
    accept, credentials, direction, lines, outgoing, port, reject, rng, sections, transport,
};

fn offerer() -> Offerer {
    Offerer::new(transport(), &mut rng())
}

fn track(name: &str) -> TrackId {
    format!("TR_{name}").parse().unwrap()
}

fn add(offerer: &mut Offerer, name: &str, mime_type: &str) {
    offerer
        .add_outgoing(outgoing(name, mime_type, ""), &mut rand::rng())
        .unwrap();
}

/// The next exchange, with a client that accepts everything.
fn exchange(offerer: &mut Offerer) -> (Offer, Exchange) {
    let offer = offerer.poll_offer().expect("an offer is due");
    let exchange = offerer
        .handle_answer(offer.id, &accept(&offer.sdp, 0))
        .unwrap()
        .unwrap();
    (offer, exchange)
}

fn directions(offer: &Offer) -> Vec<&'static str> {
    sections(&offer.sdp)
        .iter()
        .skip(1)
        .map(|section| direction(section))
        .collect()
}

#[test]
fn the_first_offer_has_data_alone() {
    let mut offerer = offerer();
    let (offer, exchange) = exchange(&mut offerer);
    assert!(
        offer
            .sdp
            .contains("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n")
    );
    assert!(offer.sdp.contains("a=setup:actpass\r\n") && offer.sdp.contains("a=ice-lite\r\n"));
    assert_eq!(exchange.plan.data.unwrap().max_message_size, 262_144);
    assert_eq!(offerer.poll_offer(), None);
}

#[test]
fn every_track_has_a_section() {
    let mut offerer = offerer();
    add(&mut offerer, "voice", "audio/red");
    add(&mut offerer, "face", "video/VP8");
    let (offer, exchange) = exchange(&mut offerer);
    assert_eq!(directions(&offer), ["sendonly", "sendonly"]);
    assert_eq!(offer.mid_to_track, exchange.mid_to_track);
    let [voice, face] = exchange.plan.send.as_slice() else {
        panic!()
    };
    let numbers: Vec<u8> = voice.codecs.iter().map(|codec| codec.number).collect();
    assert_eq!((numbers, voice.feedback.nack), (vec![63, 111], true));
    let offered = lines(sections(&offer.sdp)[1], "a=rtcp-fb:111 nack");
    assert_eq!(offered.len(), 1, "{offered:?}");
    assert_eq!(
        (
            face.codecs.len(),
            face.codecs[0].number,
            face.codecs[0].repair
        ),
        (1, 96, Some(97))
    );
    assert_eq!(face.extensions.dependency_descriptor, Some(2));
    assert_eq!(face.extensions.transport_sequence, Some(3));
    assert_eq!(face.extensions.absolute_send_time, None);
    assert!(face.feedback.transport_wide && voice.feedback.transport_wide);
    assert!(face.feedback.nack && face.feedback.picture_loss && face.feedback.full_intra_request);
    let section = sections(&offer.sdp)[2];
    assert!(section.contains("a=msid:PA_bob TR_face\r\n"));
    assert_eq!(lines(section, "a=ssrc-group:FID ").len(), 1);
}

#[test]
fn the_first_video_section_lists_all_codecs() {
    let mut offerer = offerer();
    add(&mut offerer, "slides", "video/AV1");
    add(&mut offerer, "face", "video/VP9");
    let offer = offerer.poll_offer().unwrap();
    let numbers = |index: usize| sections(&offer.sdp)[index].lines().next().unwrap();
    assert_eq!(
        numbers(1),
        "m=video 9 UDP/TLS/RTP/SAVPF 45 46 96 97 102 103 98 99"
    );
    assert_eq!(numbers(2), "m=video 9 UDP/TLS/RTP/SAVPF 98 99");
}

#[test]
fn formats_that_differ_have_different_numbers() {
    let mut offerer = offerer();
    for (name, fmtp) in [("mono", ""), ("stereo", "stereo=1")] {
        offerer
            .add_outgoing(outgoing(name, "audio/opus", fmtp), &mut rng())
            .unwrap();
    }
    let (_, exchange) = exchange(&mut offerer);
    let number = |index: usize| exchange.plan.send[index].codecs[0].number;
    assert_ne!(number(0), number(1));
}

#[test]
fn one_offer_is_outstanding_at_most() {
    let mut offerer = offerer();
    let first = offerer.poll_offer().unwrap();
    add(&mut offerer, "face", "video/VP8");
    add(&mut offerer, "gone", "video/VP8");
    assert_eq!(offerer.poll_offer(), None);
    offerer.remove_outgoing(&track("gone"));
    assert_eq!(offerer.handle_answer(first.id + 1, "ignored"), Ok(None));
    offerer
        .handle_answer(first.id, &accept(&first.sdp, 0))
        .unwrap()
        .unwrap();

    let (second, exchange) = exchange(&mut offerer);
    assert_eq!((second.id, exchange.mid_to_track.len()), (2, 1));
    assert_eq!(
        offerer.handle_answer(first.id, "ignored"),
        Ok(None),
        "it was answered"
    );
    assert_eq!(offerer.poll_offer(), None);
}

/// Native clients do not know the id.
#[test]
fn an_answer_without_id_is_for_the_outstanding_offer() {
    let mut offerer = offerer();
    let offer = offerer.poll_offer().unwrap();
    assert!(
        offerer
            .handle_answer(0, &accept(&offer.sdp, 0))
            .unwrap()
            .is_some()
    );
}

#[test]
fn sending_stops_at_once_and_the_section_is_used_again() {
    let mut offerer = offerer();
    add(&mut offerer, "face", "video/VP8");
    let (offer, _) = exchange(&mut offerer);
    let mid = offer.mid_to_track.keys().next().unwrap().clone();

    assert!(offerer.remove_outgoing(&track("face")));
    assert_eq!(offerer.plan().unwrap().send, []);
    add(&mut offerer, "next", "video/VP9");
    let (offer, _) = exchange(&mut offerer);
    assert_eq!(
        directions(&offer),
        ["inactive", "sendonly"],
        "not used before it is drained"
    );

    add(&mut offerer, "third", "video/AV1");
    let (offer, exchange) = exchange(&mut offerer);
    assert_eq!(directions(&offer), ["sendonly", "sendonly"]);
    assert_eq!(offer.mid_to_track[&mid], "TR_third");
    assert_eq!(exchange.mid_to_track[&mid], "TR_third");
}

#[test]
fn a_track_removed_while_offered_is_not_sent() {
    let mut offerer = offerer();
    add(&mut offerer, "face", "video/VP8");
    let offer = offerer.poll_offer().unwrap();
    offerer.remove_outgoing(&track("face"));
    let answer = accept(&offer.sdp, 0);
    let exchange = offerer.handle_answer(offer.id, &answer).unwrap().unwrap();
    assert_eq!(
        (exchange.plan.send, exchange.mid_to_track.len()),
        (vec![], 0)
    );
    let next = offerer.poll_offer().unwrap();
    assert_eq!(directions(&next), ["inactive"]);
}

#[test]
fn a_rejected_section_is_recycled_under_a_new_mid() {
    let mut offerer = offerer();
    add(&mut offerer, "face", "video/VP8");
    let offer = offerer.poll_offer().unwrap();
    let mid = offer.mid_to_track.keys().next().unwrap();
    let answer = reject(&accept(&offer.sdp, 0), mid);
    let exchanged = offerer.handle_answer(offer.id, &answer).unwrap().unwrap();
    assert_eq!(
        (exchanged.unsupported, exchanged.plan.send),
        (vec![track("face")], vec![])
    );
    assert_eq!(offerer.poll_offer(), None, "the client knows");

    offerer.restart(credentials(1));
    let offer = offerer.poll_offer().unwrap();
    assert_eq!(port(sections(&offer.sdp)[1]), "0");
    assert!(offer.sdp.contains("a=group:BUNDLE 0\r\n"));
    let answer = reject(&accept(&offer.sdp, 1), mid);
    offerer.handle_answer(offer.id, &answer).unwrap().unwrap();

    add(&mut offerer, "voice", "audio/opus");
    let (offer, exchanged) = exchange(&mut offerer);
    assert!(sections(&offer.sdp)[1].starts_with("m=audio 9"));
    assert!(!exchanged.mid_to_track.contains_key(mid) && exchanged.mid_to_track.len() == 1);
}

#[test]
fn a_client_that_does_not_receive_is_not_sent() {
    let mut offerer = offerer();
    add(&mut offerer, "face", "video/VP8");
    let offer = offerer.poll_offer().unwrap();
    let answer = accept(&offer.sdp, 0).replace("a=recvonly", "a=inactive");
    let exchanged = offerer.handle_answer(offer.id, &answer).unwrap().unwrap();
    assert_eq!(
        (exchanged.plan.send.len(), exchanged.unsupported.len()),
        (0, 0)
    );
    assert_eq!(offerer.poll_offer(), None);
    add(&mut offerer, "voice", "audio/opus");
    assert_eq!(
        exchange(&mut offerer).1.plan.send.len(),
        2,
        "it may change its mind"
    );
}

#[test]
fn a_restart_takes_the_place_of_what_is_outstanding() {
    let mut offerer = offerer();
    offerer.restart(credentials(1));
    let first = offerer.poll_offer().unwrap();
    assert_eq!(
        offerer.poll_offer(),
        None,
        "the first offer restarts nothing"
    );
    offerer.restart(credentials(2));
    let second = offerer.poll_offer().unwrap();
    assert!(first.sdp.contains("a=ice-ufrag:node1") && second.sdp.contains("a=ice-ufrag:node2"));
    assert_eq!(
        offerer.handle_answer(first.id, &accept(&first.sdp, 0)),
        Ok(None)
    );
    let answer = accept(&second.sdp, 1);
    let exchanged = offerer.handle_answer(second.id, &answer).unwrap().unwrap();
    assert_eq!(exchanged.plan.remote.ufrag, "user1");
}

#[test]
fn refusals_name_the_section() {
    fn check(change: impl Fn(String) -> String, expected: &str) {
        let mut offerer = offerer();
        add(&mut offerer, "face", "video/VP8");
        let offer = offerer.poll_offer().unwrap();
        let before = offerer.clone();
        let answer = change(accept(&offer.sdp, 0));
        let refused = offerer.handle_answer(offer.id, &answer).unwrap_err();
        assert_eq!(refused.to_string(), expected);
        assert_eq!(offerer, before, "a refused answer changes nothing");
    }
    check(
        |answer| answer.replace("a=setup:active", "a=setup:passive"),
        "m-section 0 (mid \"0\"): expected a=setup:active: the node is the DTLS server",
    );
    check(
        |answer| {
            answer
                .replace("a=mid:1", "a=mid:7")
                .replace("BUNDLE 0 1", "BUNDLE 0 7")
        },
        "m-section 1 (mid \"7\"): expected the media and mid that the offer has in this place",
    );
    check(
        |answer| answer.replace("m=video", "m=audio"),
        "m-section 1 (mid \"1\"): expected the media and mid that the offer has in this place",
    );
    check(
        |answer| {
            answer
                .split("m=video")
                .next()
                .unwrap()
                .replace("BUNDLE 0 1", "BUNDLE 0")
        },
        "session description: expected as many m-sections as in the offer",
    );
}

#[test]
fn tracks_are_bounded() {
    let mut offerer = offerer();
    for number in 0..250 {
        add(&mut offerer, &number.to_string(), "audio/opus");
    }
    let more = offerer.add_outgoing(outgoing("more", "audio/opus", ""), &mut rng());
    assert_eq!(more, Err(TrackError::Limit { limit: 250 }));
    let again = offerer.add_outgoing(outgoing("7", "audio/opus", ""), &mut rng());
    assert_eq!(again, Err(TrackError::Exists));
    let (_, exchange) = exchange(&mut offerer);
    assert_eq!(exchange.plan.send.len(), 250);
}
