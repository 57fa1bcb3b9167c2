//! How long the negotiation of a connection takes: `cargo run --release --example sdp_speed`.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::time::{Duration, Instant};

use pipemesh_node::session::ice::Credentials;
use pipemesh_node::session::sdp::{
    Answerer, Format, LocalTransport, MediaKind, Msid, Offerer, Outgoing, Publication,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// The first offer of a browser on a single connection: three sections of each kind, and data.
const FIRST: &str = include_str!("../tests/golden/sdp/chromium_sdk/first.offer.sdp");
/// A publisher's offer of the dual layout: microphone, camera in three encodings, and data.
const PUBLISHER: &str =
    include_str!("../tests/golden/sdp/chromium_publisher/2_simulcast.offer.sdp");

const RUNS: usize = 20_000;
const TRACKS: usize = 10;

fn main() {
    let mut rng = StdRng::seed_from_u64(1);
    let first = Answerer::new(transport(), &mut rng);
    report(
        "single connection, first offer",
        || (first.clone(), FIRST),
        answer,
    );

    let mut publisher = Answerer::new(transport(), &mut rng);
    for (client_track, kind) in [("pmic", MediaKind::Audio), ("pcam", MediaKind::Video)] {
        let track = format!("TR_{client_track}").parse().expect("a track id");
        let publication = Publication {
            track,
            client_track: client_track.to_owned(),
            kind,
            codecs: Vec::new(),
            rids: Vec::new(),
            stereo: false,
            dtx: true,
            red: true,
        };
        publisher
            .announce(publication)
            .expect("there is room for two");
    }
    report(
        "dual layout, publisher's offer",
        || (publisher.clone(), PUBLISHER),
        answer,
    );

    let mut subscriber = Offerer::new(transport(), &mut rng);
    for number in 0..TRACKS {
        let name = format!("TR_{number}");
        let format = if number % 2 == 0 {
            Format::Opus { stereo: false }
        } else {
            Format::Vp8
        };
        let outgoing = Outgoing {
            track: name.parse().expect("a track id"),
            format,
            msid: Msid::new("PA_somebody", &name).expect("visible characters"),
            red: true,
        };
        subscriber
            .add_outgoing(outgoing, &mut rng)
            .expect("there is room for ten");
    }
    report(
        "dual layout, subscriber's offer of ten tracks",
        || (subscriber.clone(), ""),
        |case| case.0.poll_offer().expect("the first is due").sdp.len(),
    );
}

fn answer((answerer, offer): &mut (Answerer, &str)) -> usize {
    let fresh = || -> Credentials { unreachable!("the first offer restarts nothing") };
    answerer
        .handle_offer(offer, fresh)
        .expect("recorded from a browser")
        .sdp
        .len()
}

fn report<C>(name: &str, set_up: impl Fn() -> C, run: impl Fn(&mut C) -> usize) {
    let mut times: Vec<Duration> = Vec::with_capacity(RUNS);
    let mut bytes = 0;
    for _ in 0..RUNS {
        let mut case = set_up();
        let begun = Instant::now();
        bytes = run(&mut case);
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let (p50, p99) = (times[RUNS / 2], times[RUNS / 100 * 99]);
    println!("{name}: p50 {p50:.1?}, p99 {p99:.1?}, {bytes} B written");
}

fn transport() -> LocalTransport {
    LocalTransport {
        credentials: Credentials {
            ufrag: "node".to_owned(),
            password: "p".repeat(24),
        },
        fingerprint: [0x5a; 32],
        candidates: vec!["192.0.2.1:7000".parse().expect("an address")],
        tcp_candidates: ["192.0.2.1:7001".parse().expect("an address")].into(),
        max_message_size: 262_144,
    }
}
