//! Ten thousand malformed datagrams of each kind, from strangers and from clients that mean harm: no
//! panic, nothing that grows, all of it counted, and a call beside it that does not notice.

use std::net::{IpAddr, Ipv4Addr};

use pipemesh_node_media::srtp::Profile;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::net::UdpSocket;

use crate::support::call::Call;
use crate::support::control::layers;
use crate::support::node::TestNode;
use crate::support::publisher::Publisher;
use crate::support::sdp::Remote;
use crate::support::subscriber::Subscriber;
use crate::support::wire::Wire;
use crate::support::{garbage, random, sctp};

const DATAGRAMS: usize = 10_000;
/// Between two frames of the call. Together they fit the receive buffer of the node's socket.
const BATCH: usize = 50;
/// What the whole test may take more at its end, its own records included.
const MAX_GROWTH: u64 = 64 << 20;

const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));

/// What must not change.
struct Before {
    sessions: f64,
    tracks: f64,
    subscriptions: f64,
    memory: u64,
}

impl Before {
    async fn note(node: &TestNode, sessions: f64) -> Self {
        let sessions = node
            .until_metric("pipemesh_sessions", &[], |n| n == sessions)
            .await;
        Self {
            sessions,
            tracks: node.metric("pipemesh_tracks", &[]),
            subscriptions: node.metric("pipemesh_subscriptions", &[]),
            memory: resident(),
        }
    }

    fn check(&self, node: &TestNode) {
        assert_eq!(node.metric("pipemesh_sessions", &[]), self.sessions);
        assert_eq!(node.metric("pipemesh_tracks", &[]), self.tracks);
        let subscriptions = node.metric("pipemesh_subscriptions", &[]);
        assert_eq!(subscriptions, self.subscriptions);
        assert_eq!(node.metric("pipemesh_session_panics_total", &[]), 0.0);
        let grown = resident().saturating_sub(self.memory);
        assert!(grown < MAX_GROWTH, "{grown} bytes more");
    }
}

/// Memory of this process, node included, in bytes.
fn resident() -> u64 {
    const PAGE: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * PAGE
}

fn dropped(node: &TestNode) -> f64 {
    node.metric("pipemesh_packets_dropped_total", &[])
}

/// Waits until so many more have been counted.
async fn counted(node: &TestNode, before: f64, more: usize) {
    let enough = before + more as f64;
    node.until_metric("pipemesh_packets_dropped_total", &[], |n| n >= enough)
        .await;
}

/// Sends what a stranger makes; answers the bytes sent and the bytes and number of answers.
async fn flood(
    call: &mut Call,
    target: &Remote,
    mut make: impl FnMut() -> Vec<u8>,
) -> (usize, usize, usize) {
    let socket = UdpSocket::bind((STRANGER, 0)).await.unwrap();
    let (mut sent, mut returned, mut answers) = (0, 0, 0);
    let mut buffer = [0; 2048];
    for _ in 0..DATAGRAMS / BATCH {
        for _ in 0..BATCH {
            let datagram = make();
            sent += datagram.len();
            socket
                .send_to(&datagram, target.candidates[0])
                .await
                .unwrap();
        }
        call.goes_on().await;
        while let Ok((len, _)) = socket.try_recv_from(&mut buffer) {
            returned += len;
            answers += 1;
            assert!(returned <= sent, "{returned} bytes for {sent}");
        }
    }
    (sent, returned, answers)
}

#[tokio::test]
async fn strangers_are_told_nothing_and_hurt_nobody() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut call = Call::begin(&signaling, "call", &mut random).await;
    // Its address and names are known to the stranger, as they are to everybody on the way.
    let known = call.ann.remote().clone();
    let nobody = Remote {
        ufrag: "nobodynobody".to_owned(),
        ..known.clone()
    };
    let before = Before::note(&node, 2.0).await;
    let ssrcs = [Publisher::ssrc(0), call.stream.ssrc];
    type Make<'a> = Box<dyn FnMut() -> Vec<u8> + 'a>;
    let seeds: [u64; 5] = random.random();
    let rng = |number: usize| -> StdRng { rand::SeedableRng::seed_from_u64(seeds[number]) };
    let (mut r0, mut r1, mut r2, mut r3, mut r4) = (rng(0), rng(1), rng(2), rng(3), rng(4));
    let kinds: [(&str, bool, Make<'_>); 5] = [
        (
            "STUN for nobody",
            true,
            Box::new(|| garbage::stun(&nobody, &mut r0)),
        ),
        (
            "STUN for somebody",
            false,
            Box::new(|| garbage::stun(&known, &mut r1)),
        ),
        ("DTLS", true, Box::new(|| garbage::dtls(&mut r2))),
        ("RTP", true, Box::new(|| garbage::rtp(&ssrcs, &mut r3))),
        ("RTCP", true, Box::new(|| garbage::rtcp(&ssrcs, &mut r4))),
    ];
    for (kind, is_silent, make) in kinds {
        let before = dropped(&node);
        let (sent, returned, answers) = flood(&mut call, &known, make).await;
        if is_silent {
            assert_eq!(returned, 0, "{kind}");
        }
        eprintln!("{kind}: {sent} bytes in, {returned} out in {answers} answers");
        counted(&node, before, DATAGRAMS - answers).await;
    }
    before.check(&node);
    call.check();
    node.stop().await;
}

#[tokio::test]
async fn clients_that_mean_harm_hurt_nobody() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut call = Call::begin(&signaling, "call", &mut random).await;
    let wire = Wire::with(CLIENT, Profile::AeadAes128Gcm).await;
    let mut mallory =
        Publisher::join_over(wire, &signaling, "room", "mallory", &["q"], &mut random).await;
    let mut eve = Subscriber::join(&signaling, "room", "eve").await;
    let watched = eve.subscribe("TR_mallory", layers(0)).await;
    mallory.send_frames(true);
    eve.frame(watched.ssrc, 0, 0).await;
    let ssrcs: Vec<u32> = [0, 1]
        .into_iter()
        .flat_map(|encoding| [Publisher::ssrc(encoding), Publisher::repair_ssrc(encoding)])
        .collect();
    let watched_ssrcs: Vec<u32> = [Some(watched.ssrc), watched.repair_ssrc]
        .into_iter()
        .flatten()
        .collect();
    let before = Before::note(&node, 4.0).await;
    let remote = mallory.remote().clone();

    for kind in ["STUN", "DTLS", "RTP", "RTCP"] {
        let before = dropped(&node);
        let mut to_be_dropped = 0;
        for number in 0..DATAGRAMS {
            let in_the_clear = kind == "DTLS" || number % 2 == 0;
            match kind {
                "STUN" => mallory.wire.send_raw(garbage::stun(&remote, &mut random)),
                "DTLS" => mallory.wire.send_raw(garbage::dtls(&mut random)),
                "RTP" if in_the_clear => {
                    mallory.wire.send_raw(garbage::rtp(&ssrcs, &mut random));
                }
                "RTP" => mallory.wire.send_sealed(garbage::rtp(&ssrcs, &mut random)),
                _ if in_the_clear => {
                    mallory.wire.send_raw(garbage::rtcp(&ssrcs, &mut random));
                }
                _ => {
                    let mut packet = garbage::rtcp(&watched_ssrcs, &mut random);
                    // What SRTCP leaves in the clear.
                    packet.resize(packet.len().max(8), 0);
                    eve.wire.send_sealed_rtcp(packet);
                }
            }
            to_be_dropped += usize::from(in_the_clear && kind != "STUN");
            if number % BATCH == BATCH - 1 {
                mallory.wire.flush().await;
                eve.wire.flush().await;
                call.goes_on().await;
            }
        }
        counted(&node, before, to_be_dropped).await;
        if kind == "DTLS" {
            // Forgeries do not end an association.
            mallory.send_frames(true);
            eve.frame(watched.ssrc, 0, 1).await;
        }
        assert!(!eve.wire.received().closed, "{kind}");
    }
    before.check(&node);
    call.check();
    node.stop().await;
}

#[tokio::test]
async fn hostile_data_channels_hurt_nobody() {
    /// A violation ends the association, and with it what it can be used for.
    const PER_ASSOCIATION: usize = 200;
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut call = Call::begin(&signaling, "call", &mut random).await;
    let before = Before::note(&node, 2.0).await;
    for number in 0..DATAGRAMS / PER_ASSOCIATION {
        let wire = Wire::with(CLIENT, Profile::AeadAes128Gcm).await;
        let name = format!("mallory{number}");
        let mut mallory =
            Publisher::join_over(wire, &signaling, "room", &name, &[], &mut random).await;
        mallory.add_data().await;
        let (header, tsn) = sctp::associate(&mallory.wire).await;
        for sent in 0..PER_ASSOCIATION {
            let packet = garbage::sctp(&header, tsn, &mut random);
            mallory.wire.send_data(packet);
            if sent % BATCH == BATCH - 1 {
                mallory.wire.flush().await;
                call.goes_on().await;
            }
        }
        mallory.session.close().await;
    }
    // Counters are published now and then.
    let most = DATAGRAMS as f64 / 2.0;
    node.until_metric("pipemesh_packets_dropped_total", &[], |n| n > most)
        .await;
    node.until_metric("pipemesh_sessions", &[], |n| n == 2.0)
        .await;
    node.until_metric("pipemesh_tracks", &[], |n| n == 1.0)
        .await;
    before.check(&node);
    call.check();
    node.stop().await;
}
