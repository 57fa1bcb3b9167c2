//! AES-GCM forgives no second packet under one nonce. A client that does everything that draws numbers,
//! in any order, never sees one twice: neither by its own account nor by its replay protection. Every
//! packet counts that is sent to it, under whatever SSRC and for whatever reason. Audio that is sent again
//! comes as the very datagram that it was, and is no second packet.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pipemesh_node_core::rtp::{Header, SequenceUnwrapper};
use pipemesh_node_media::srtp::OpenError;
use pipemesh_proto::node::session_event::Event;
use pipemesh_proto::node::session_request::Request;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::time::MissedTickBehavior;

use crate::support::camera::RIDS;
use crate::support::control::{layers, subscription};
use crate::support::node::TestNode;
use crate::support::publisher::Publisher;
use crate::support::random;
use crate::support::sdp::{self, Reports, Sent};
use crate::support::subscriber::{Subscriber, sent};
use crate::support::wire::{Outgoing, Received, Wire};

const TRACK: &str = "TR_ann";
/// The SSRC of her voice.
const VOICE: u32 = 0x3000;
const ROUNDS: u32 = 400;
/// Between two, where it matters.
const FRAME: Duration = Duration::from_millis(5);
/// At last one in so many is a key frame: whoever is turned back and forth goes on with it.
const KEY_FRAMES: u32 = 20;

/// Of every packet, where the line matters: three hundred thousand bytes a second of each encoding.
const SIZE: usize = 900;
/// Which the line carries, from one moment to the next.
const RATES: [u64; 4] = [60_000, 300_000, 3_000_000, 30_000_000];
/// A line whose packets are counted changes only so often: it is found to be thin at once, and to be wide only
/// after some time.
const SHARE_OF_CHANGES: f64 = 0.2;
/// At last it is thin and wide in turn: thin for so long, and wide until a whole turn is over.
const THIN: Duration = Duration::from_secs(2);
const TURN: Duration = Duration::from_secs(9);
/// How many turns there are time for.
const TURNS: u32 = 4;

#[tokio::test]
async fn no_number_is_used_twice_under_one_key() {
    let node = TestNode::start().await;
    do_everything(&node, Reports::None).await;
    node.stop().await;
}

/// Packets wait for bandwidth, are taken back, give up their numbers for others, and are filled up with
/// padding where there is more than they need.
#[tokio::test]
async fn no_number_is_used_twice_on_a_line_that_changes() {
    let node = TestNode::start().await;
    do_everything(&node, Reports::Estimates).await;
    node.stop().await;
}

/// … and every packet of whatever stream gets a number more, in the order of sending.
#[tokio::test]
async fn no_number_is_used_twice_for_a_client_that_tells_what_arrived() {
    let node = TestNode::start().await;
    do_everything(&node, Reports::Arrivals).await;
    node.stop().await;
}

/// Ann's voice.
struct Voice {
    track: String,
    mid: String,
    said: u32,
}

impl Voice {
    fn speak(&mut self, ann: &Publisher) {
        self.said += 1;
        ann.wire.send(Outgoing {
            ssrc: VOICE,
            index: self.said.into(),
            payload_type: sdp::OPUS,
            timestamp: 960 * self.said,
            extensions: vec![(sdp::extension::MID, self.mid.clone().into_bytes())],
            payload: self.said.to_be_bytes().repeat(20),
            ..Outgoing::default()
        });
    }
}

/// Asks for packets of a stream: lost ones, old ones, and some that were never sent.
fn ask(bob: &Subscriber, ssrc: u32, random: &mut StdRng) {
    let numbers: Vec<u16> = {
        let received = bob.wire.received();
        let known = received.rtp.iter().rev();
        let known = known.filter(|packet| packet.ssrc == ssrc).take(40);
        known.map(|packet| packet.index as u16).collect()
    };
    let mut lost: Vec<u16> = numbers.choose_multiple(random, 8).copied().collect();
    lost.push(random.random());
    lost.sort_unstable();
    bob.wire.send_rtcp(|writer| {
        writer.nack(1, ssrc, &lost);
    });
}

/// What has hardly happened so far, of that packets wait, are filled up, are sent again and are taken back.
fn missing(node: &TestNode, bob: &Subscriber) -> Vec<(&'static str, f64)> {
    let (sent, kind) = ("pipemesh_rtp_packets_sent_total", "kind");
    let metrics: [(&'static str, &[(&str, &str)]); 4] = [
        ("pipemesh_rtp_packets_delayed_total", &[]),
        (sent, &[(kind, "padding")]),
        (sent, &[(kind, "retransmitted")]),
        ("pipemesh_packets_dropped_total", &[("reason", "congested")]),
    ];
    let happened = metrics.map(|(name, labels)| {
        let case = labels.first().map_or("delayed", |(_, value)| *value);
        // What was sent again as it was is no other packet.
        let same = match case {
            "retransmitted" => bob.wire.received().refused.len() as f64,
            _ => 0.0,
        };
        (case, node.metric(name, labels) - same)
    });
    happened
        .into_iter()
        .filter(|(_, times)| *times <= 10.0)
        .collect()
}

/// `reports`: of a client whose line changes, on which much is sent.
async fn do_everything(node: &TestNode, reports: Reports) {
    let limited = reports != Reports::None;
    let mut random = random();
    let signaling = node.signaling().await;
    let mut ann = Publisher::join(&signaling, "room", "ann", &RIDS, &mut random).await;
    let wire = Wire::reporting(reports).await;
    let mut bob = Subscriber::join_over(wire, &signaling, "room", "bob").await;
    if limited {
        ann.fill(SIZE);
    }
    change_line(&bob, reports, RATES[RATES.len() - 1]);
    let mut frames = tokio::time::interval(FRAME);
    // A camera that was held up sends no faster afterwards.
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Follows along, so that the test knows how far the node is.
    let mut eve = Subscriber::join(&signaling, "room", "eve").await;
    let steady = eve.subscribe(TRACK, layers(1)).await;
    let mut stream: Option<Sent> = None;
    let (track, mid) = ann.add_microphone().await;
    let mut voice = Voice {
        track,
        mid,
        said: 0,
    };
    let mut heard = bob.subscribe(&voice.track, layers(0)).await;
    // Somebody who waits for one goes on only with it.
    let mut needs_key_frame = true;
    for round in 0..ROUNDS {
        if limited {
            frames.tick().await;
        }
        ann.send_frames(std::mem::take(&mut needs_key_frame) || random.random_ratio(1, 3));
        eve.frame(steady.ssrc, 0, round).await;
        voice.speak(&ann);
        match random.random_range(0..32) {
            0 => {
                bob.unsubscribe(&voice.track).await;
                heard = bob.subscribe(&voice.track, layers(0)).await;
            }
            1..16 => ask(&bob, heard.ssrc, &mut random),
            _ => {}
        }
        let wish = layers(random.random_range(1..=RIDS.len() as u32));
        match (stream, random.random_range(0..16)) {
            (None, _) => stream = Some(bob.subscribe(TRACK, wish).await),
            (Some(_), 0) => {
                bob.unsubscribe(TRACK).await;
                stream = None;
            }
            (Some(_), 1) => {
                // Away and back before the client hears of it.
                bob.session.unsubscribe(TRACK).await;
                bob.session.subscribe(TRACK, wish).await;
                let offer = bob.negotiate().await;
                stream = Some(sent(&offer, TRACK));
            }
            (Some(_), 2..=4) => {
                let change = Request::Subscribe(subscription(TRACK, wish));
                let answer = bob.session.request(change).await;
                assert!(matches!(answer, Event::Done(_)), "{answer:?}");
            }
            (Some(Sent { ssrc, .. }), 5..=7) => ask(&bob, ssrc, &mut random),
            (Some(Sent { ssrc, .. }), 8) => bob.wire.send_rtcp(|writer| {
                writer.picture_loss(1, ssrc);
            }),
            (Some(_), 9) => bob.change_port().await,
            (Some(_), 10) => bob.restart_ice().await,
            (Some(_), 11) => {
                for muted in [true, false] {
                    ann.session.mute(TRACK, muted).await;
                    signaling.settle("room").await;
                }
                needs_key_frame = true;
            }
            (Some(_), 12) => {
                ann.change_ssrcs();
                needs_key_frame = true;
            }
            (Some(_), 13..) if limited => {
                let rate = *RATES.choose(&mut random).unwrap();
                if reports == Reports::Estimates || random.random_bool(SHARE_OF_CHANGES) {
                    change_line(&bob, reports, rate);
                }
            }
            (Some(_), _) => {}
        }
    }
    if limited {
        let wish = layers(RIDS.len() as u32);
        let stream = match stream {
            Some(stream) => stream,
            None => bob.subscribe(TRACK, wish).await,
        };
        let change = Request::Subscribe(subscription(TRACK, wish));
        let answer = bob.session.request(change).await;
        assert!(matches!(answer, Event::Done(_)), "{answer:?}");
        let begun = Instant::now();
        let mut thin = None;
        for round in ROUNDS.. {
            let elapsed = begun.elapsed();
            let missing = missing(node, &bob);
            if elapsed > THIN && missing.is_empty() {
                break;
            }
            assert!(elapsed < TURN * TURNS, "hardly happened: {missing:?}");
            let now_thin = elapsed.as_millis() % TURN.as_millis() < THIN.as_millis();
            if thin.replace(now_thin) != Some(now_thin) {
                change_line(&bob, reports, RATES[if now_thin { 1 } else { 3 }]);
            }
            frames.tick().await;
            ann.send_frames(round % KEY_FRAMES == 0);
            eve.frame(steady.ssrc, 0, round).await;
            if let Some(last) = bob.recorded(stream.ssrc).last() {
                bob.wire.send_rtcp(|writer| {
                    writer.nack(1, stream.ssrc, &[last.index as u16]);
                });
            }
        }
    }
    let received = bob.wire.received();
    let streams = check(&received);
    // It was worth the trouble.
    let packets = received.rtp.len();
    let least = ROUNDS as usize / if limited { 4 } else { 2 };
    assert!(packets > least, "{packets} packets");
    assert!(streams > 10, "{streams} streams");
    assert!(received.refused.len() > 20, "audio is sent again");
    if reports == Reports::Arrivals {
        check_numbers(&received);
    }
    check(&ann.wire.received());
    check(&eve.wire.received());
}

fn change_line(bob: &Subscriber, reports: Reports, rate: u64) {
    match reports {
        Reports::None => {}
        Reports::Estimates => bob.wire.send_rtcp(|writer| {
            writer.estimated_maximum_bitrate(1, std::iter::empty(), rate);
        }),
        Reports::Arrivals => bob.wire.set_line(rate),
    }
}

/// Checks the numbers of everything that came; answers how many streams it was.
fn check(received: &Received) -> usize {
    let mut used = BTreeSet::new();
    for packet in &received.rtp {
        assert!(used.insert((packet.ssrc, packet.index)), "{packet:?}");
    }
    let mut reported = BTreeSet::new();
    for packet in &received.rtcp {
        assert!(reported.insert((packet.ssrc, packet.index)), "{packet:?}");
    }
    // What was sent twice under one number would be among these: nothing but what had come already.
    for (error, datagram) in &received.refused {
        assert_eq!(*error, OpenError::Replayed);
        let ssrc = Header::parse(datagram).unwrap().ssrc;
        let of_stream = received.rtp.iter().filter(|packet| packet.ssrc == ssrc);
        let mut same = of_stream.filter(|packet| packet.datagram == *datagram);
        let first = same.next().expect("another packet under the same number");
        assert_eq!(
            first.payload_type,
            sdp::OPUS,
            "only audio is sent again as it was"
        );
    }
    let streams: BTreeSet<u32> = used.iter().map(|(ssrc, _)| *ssrc).collect();
    streams.len()
}

/// Checks the transport-wide numbers, which count all that a connection is sent.
fn check_numbers(received: &Received) {
    let mut unwrapper = SequenceUnwrapper::default();
    let mut numbers = BTreeSet::new();
    for packet in &received.rtp {
        let number = packet.number.unwrap_or_else(|| panic!("none: {packet:?}"));
        assert!(numbers.insert(unwrapper.unwrap(number)), "{packet:?}");
    }
    let (first, last) = (numbers.first().unwrap(), numbers.last().unwrap());
    // What went to a port that was left behind is not seen; that is a part only.
    let sent = last - first + 1;
    let seen = numbers.len() as u64;
    assert!(seen * 2 > sent, "{seen} of {sent}");
}
