//! Negotiations with recorded clients, compared with files in `node/tests/golden/sdp`.
//!
//! `*.offer.sdp` and `*.answer.sdp` are recordings of Chromium 156, Firefox 153 ESR, and the
//! JavaScript (2.23) and Python (1.2) SDKs; everything else is written by `UPDATE_EXPECT=1 cargo
//! test`. A recording holds as long as our descriptions before it mean the same to its client.

use std::fmt::Write as _;
use std::path::PathBuf;

use expect_test::expect_file;

use super::testing::{check_answer, credentials, outgoing, publication, rng, transport};
use super::*;
use crate::session::plan::{Extensions, Feedback, PayloadType};

fn path(client: &str, file: &str) -> PathBuf {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/sdp");
    PathBuf::from(golden).join(client).join(file)
}

fn recorded(client: &str, file: &str) -> String {
    let path = path(client, file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    text.replace('\n', "\r\n")
}

fn expect(client: &str, file: &str, text: &str) {
    expect_file![path(client, file)].assert_eq(&text.replace("\r\n", "\n"));
}

/// The exchange of a client's recorded offer.
fn offered(client: &str, step: &str, answerer: &mut Answerer) {
    let offer = recorded(client, &format!("{step}.offer.sdp"));
    let answer = answerer.handle_offer(&offer, || credentials(1)).unwrap();
    check_answer(&offer, &answer.sdp);
    expect(client, &format!("{step}.our_answer.sdp"), &answer.sdp);
    let outcome = describe(&answer.exchange) + &format!("restarted: {}\n", answer.restarted_ice);
    expect(client, &format!("{step}.outcome.txt"), &outcome);
}

/// The exchange of an offer of ours and a client's recorded answer.
fn answered(client: &str, step: &str, offerer: &mut Offerer) {
    let offer = offerer.poll_offer().unwrap();
    expect(client, &format!("{step}.our_offer.sdp"), &offer.sdp);
    let answer = recorded(client, &format!("{step}.answer.sdp"));
    let exchange = offerer.handle_answer(offer.id, &answer).unwrap().unwrap();
    expect(client, &format!("{step}.outcome.txt"), &describe(&exchange));
}

fn describe(exchange: &Exchange) -> String {
    let mut text = String::new();
    let plan = &exchange.plan;
    for section in &plan.receive {
        let rids: Vec<_> = section
            .encodings
            .iter()
            .map(|e| {
                format!(
                    "{} {:?} {:?}",
                    e.rid.as_deref().unwrap_or("-"),
                    e.ssrc,
                    e.repair_ssrc
                )
            })
            .collect();
        let codecs = codecs(&section.codecs);
        writeln!(
            text,
            "receive: mid {} {} as {codecs}",
            section.mid, section.track
        )
        .unwrap();
        writeln!(text, "  encodings: {}", rids.join(", ")).unwrap();
        text += &agreed(&section.extensions, &section.feedback);
    }
    for section in &plan.send {
        let (mid, track, codecs) = (&section.mid, &section.track, codecs(&section.codecs));
        writeln!(text, "send: mid {mid} {track} as {codecs}").unwrap();
        writeln!(text, "  ssrcs: {} {:?}", section.ssrc, section.repair_ssrc).unwrap();
        text += &agreed(&section.extensions, &section.feedback);
    }
    writeln!(text, "data: {:?}", plan.data).unwrap();
    writeln!(text, "mid_to_track: {:?}", exchange.mid_to_track).unwrap();
    for started in &exchange.started {
        let StartedTrack {
            track,
            mid,
            format,
            rids,
        } = started;
        writeln!(text, "started: {track} on mid {mid} as {format:?} {rids:?}").unwrap();
    }
    writeln!(text, "ended: {:?}", exchange.ended).unwrap();
    writeln!(text, "unsupported: {:?}", exchange.unsupported).unwrap();
    text
}

fn codecs(codecs: &[PayloadType]) -> String {
    let one = |PayloadType {
                   codec,
                   number,
                   repair,
               }: &PayloadType| match repair {
        Some(repair) => format!("{codec:?} {number}/{repair}"),
        None => format!("{codec:?} {number}"),
    };
    codecs.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn agreed(extensions: &Extensions, feedback: &Feedback) -> String {
    let extensions = [
        ("mid", extensions.mid),
        ("rid", extensions.rid),
        ("repaired rid", extensions.repaired_rid),
        ("audio level", extensions.audio_level),
        ("transport sequence", extensions.transport_sequence),
        ("absolute send time", extensions.absolute_send_time),
        ("absolute capture time", extensions.absolute_capture_time),
        ("dependency descriptor", extensions.dependency_descriptor),
    ];
    let extensions: Vec<String> = extensions
        .iter()
        .filter_map(|(name, id)| Some(format!("{name} {}", (*id)?)))
        .collect();
    let feedback: Vec<&str> = feedback.names().collect();
    format!(
        "  extensions: {}\n  feedback: {}\n",
        extensions.join(", "),
        feedback.join(", ")
    )
}

fn announce(answerer: &mut Answerer, name: &str, change: impl FnOnce(&mut Publication)) {
    let mut publication = publication(name, MediaKind::Video, None);
    change(&mut publication);
    answerer.announce(publication).unwrap();
}

fn simulcast(publication: &mut Publication) {
    publication.codecs = codec_of_mime_type("video/VP8").into_iter().collect();
    publication.rids = ["q", "h", "f"].map(str::to_owned).to_vec();
}

fn microphone(publication: &mut Publication) {
    publication.kind = MediaKind::Audio;
    publication.red = true;
}

/// One connection, both directions: publish and subscribe, more and fewer subscriptions, the end of
/// a publication, an ICE restart.
#[test]
fn single_connection() {
    for client in ["chromium_single", "firefox_single"] {
        let mut answerer = Answerer::new(transport(), &mut rng());
        let mut rng = rng();
        let mut add = |answerer: &mut Answerer, name: &str, mime_type: &str| {
            answerer
                .add_outgoing(outgoing(name, mime_type, ""), &mut rng)
                .unwrap();
        };
        offered(client, "1_first", &mut answerer);
        add(&mut answerer, "voice", "audio/red");
        add(&mut answerer, "face", "video/VP8");
        announce(&mut answerer, "mic", |mic| {
            microphone(mic);
            mic.dtx = true;
        });
        announce(&mut answerer, "cam", simulcast);
        offered(client, "2_publish_and_subscribe", &mut answerer);
        add(&mut answerer, "slides", "video/VP9");
        let one = SectionsNeeded { audio: 0, video: 1 };
        assert_eq!(answerer.poll_sections_needed(), Some(one));
        answerer.remove_outgoing(&"TR_face".parse().unwrap());
        offered(client, "3_one_more_one_less", &mut answerer);
        add(&mut answerer, "face2", "video/VP8");
        assert_eq!(
            answerer.poll_sections_needed(),
            Some(SectionsNeeded::default())
        );
        offered(client, "4_reused_and_unpublished", &mut answerer);
        offered(client, "5_ice_restart", &mut answerer);
    }
}

/// A publisher of the dual layout: data alone, simulcast, screen and stereo, every other codec.
#[test]
fn publisher() {
    for (client, screen) in [
        ("chromium_publisher", "video/H264"),
        ("firefox_publisher", "video/VP9"),
    ] {
        let mut answerer = Answerer::new(transport(), &mut rng());
        let codec = |publication: &mut Publication, mime_type| {
            publication.codecs = codec_of_mime_type(mime_type).into_iter().collect();
        };
        offered(client, "1_data", &mut answerer);
        announce(&mut answerer, "pmic", microphone);
        announce(&mut answerer, "pcam", simulcast);
        offered(client, "2_simulcast", &mut answerer);
        announce(&mut answerer, "pscreen", |publication| {
            codec(publication, screen)
        });
        announce(&mut answerer, "pmusic", |music| {
            music.kind = MediaKind::Audio;
            music.stereo = true;
        });
        offered(client, "3_screen_and_music", &mut answerer);
        if client.starts_with("chromium") {
            announce(&mut answerer, "pvp9", |publication| {
                codec(publication, "video/VP9")
            });
            announce(&mut answerer, "pav1", |publication| {
                codec(publication, "video/AV1")
            });
            offered(client, "4_vp9_and_av1", &mut answerer);
        }
    }
}

/// A subscriber of the dual layout, one of whose tracks it cannot decode.
#[test]
fn subscriber() {
    for client in ["chromium_subscriber", "firefox_subscriber"] {
        let mut offerer = Offerer::new(transport(), &mut rng());
        let mut rng = rng();
        let mut add = |offerer: &mut Offerer, name: &str, mime_type: &str, fmtp: &str| {
            offerer
                .add_outgoing(outgoing(name, mime_type, fmtp), &mut rng)
                .unwrap();
        };
        answered(client, "1_data", &mut offerer);
        add(&mut offerer, "voice", "audio/red", "");
        add(&mut offerer, "music", "audio/opus", "stereo=1");
        add(&mut offerer, "face", "video/VP8", "");
        add(
            &mut offerer,
            "high",
            "video/H264",
            "packetization-mode=1;profile-level-id=640034",
        );
        answered(client, "2_four_tracks", &mut offerer);
        offerer.remove_outgoing(&"TR_face".parse().unwrap());
        add(&mut offerer, "slides", "video/AV1", "");
        answered(client, "3_one_more_one_less", &mut offerer);
        add(&mut offerer, "face2", "video/VP9", "");
        answered(client, "4_reused", &mut offerer);
    }
}

/// What SDKs offer before and after they publish, a `scalabilityMode` among it; the native one lists
/// its encodings from the highest down, the lower ones paused, and its codecs without retransmissions.
#[test]
fn sdks() {
    for client in ["chromium_sdk", "native_sdk"] {
        offered(client, "first", &mut Answerer::new(transport(), &mut rng()));
    }
    let mut answerer = Answerer::new(transport(), &mut rng());
    announce(&mut answerer, "svc", |camera| {
        camera.codecs = codec_of_mime_type("video/AV1").into_iter().collect();
    });
    offered("chromium_sdk", "scalable", &mut answerer);
    let mut answerer = Answerer::new(transport(), &mut rng());
    announce(&mut answerer, "mic", microphone);
    announce(&mut answerer, "cam", |cam| {
        cam.codecs = vec![Format::Vp8.codec()]
    });
    announce(&mut answerer, "screen", |_| {});
    offered("native_sdk", "publisher", &mut answerer);
}
