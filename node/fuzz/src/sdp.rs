//! Descriptions of clients: offers to somebody who has much to answer, and answers to our offer.

use pipemesh_node::session::ice::Credentials;
use pipemesh_node::session::sdp::{
    Answerer, Format, LocalTransport, MediaKind, Msid, Offerer, Outgoing, Publication,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

pub fn run(input: &[u8]) {
    let Some((&how, text)) = input.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let rng = &mut StdRng::seed_from_u64(1);
    if how & 1 == 0 {
        let mut answerer = Answerer::new(transport(), rng);
        for (name, kind) in [("camera", MediaKind::Video), ("mic", MediaKind::Audio)] {
            answerer
                .announce(publication(name, kind))
                .expect("few tracks");
        }
        for outgoing in [
            outgoing("face", "video/VP8"),
            outgoing("voice", "audio/red"),
        ] {
            answerer.add_outgoing(outgoing, rng).expect("few tracks");
        }
        let before = answerer.clone();
        match answerer.handle_offer(text, || credentials(1)) {
            // Every section has its answer, and what we write we can read.
            Ok(answer) => {
                let sections = |sdp: &str| sdp.matches("\nm=").count();
                assert!(sections(&answer.sdp) <= 512);
                let _ = answerer.handle_offer(text, || credentials(2));
            }
            Err(_) => assert!(answerer == before, "what is refused changes nothing"),
        }
        return;
    }
    let mut offerer = Offerer::new(transport(), rng);
    for outgoing in [
        outgoing("face", "video/VP8"),
        outgoing("voice", "audio/red"),
    ] {
        offerer.add_outgoing(outgoing, rng).expect("few tracks");
    }
    let offer = offerer.poll_offer().expect("there is something to offer");
    let before = offerer.clone();
    if offerer.handle_answer(offer.id, text).is_err() {
        assert!(offerer == before, "what is refused changes nothing");
    }
}

fn credentials(number: u32) -> Credentials {
    Credentials {
        ufrag: format!("node{number}"),
        password: format!("{number:024}"),
    }
}

fn transport() -> LocalTransport {
    LocalTransport {
        credentials: credentials(0),
        fingerprint: [0x5a; 32],
        candidates: vec![([192, 0, 2, 1], 7000).into()],
        tcp_candidates: Vec::new().into(),
        max_message_size: 262_144,
    }
}

fn publication(name: &str, kind: MediaKind) -> Publication {
    Publication {
        track: format!("TR_{name}").parse().expect("it is an id"),
        client_track: name.to_owned(),
        kind,
        codecs: Vec::new(),
        rids: Vec::new(),
        stereo: true,
        dtx: true,
        red: kind == MediaKind::Audio,
    }
}

fn outgoing(name: &str, mime_type: &str) -> Outgoing {
    let track = format!("TR_{name}");
    Outgoing {
        msid: Msid::new("PA_bob", &track).expect("it is visible"),
        track: track.parse().expect("it is an id"),
        format: Format::parse(mime_type, "").expect("it is known"),
        red: true,
    }
}
