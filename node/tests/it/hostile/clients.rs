//! Clients with keys: what they send in the clear is dropped, what they seal is read, and malformed or
//! false as it may be it costs nobody else anything.

use pipemesh_proto::node::ConnectionLayout;
use rand::rngs::StdRng;

use super::{BATCH, Before, DATAGRAMS, MAX_LEFT_IN_ALL, Tally, WARM_UP, hostile_wire};
use crate::support::call::Call;
use crate::support::control::{layers, participant};
use crate::support::node::TestNode;
use crate::support::publisher::Publisher;
use crate::support::sdp::{Reports, Sent};
use crate::support::subscriber::Subscriber;
use crate::support::wire::Wire;
use crate::support::{garbage, random};

/// Who mean harm: Mallory publishes, Eve watches her and reports on it.
struct Villains {
    mallory: Publisher,
    eve: Subscriber,
    watched: Sent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stun,
    RtpInTheClear,
    SealedRtp,
    RtcpInTheClear,
    /// What it says is false.
    SealedRtcp,
    /// It does not even say it properly.
    BrokenRtcp,
}

const KINDS: [Kind; 6] = [
    Kind::Stun,
    Kind::RtpInTheClear,
    Kind::SealedRtp,
    Kind::RtcpInTheClear,
    Kind::SealedRtcp,
    Kind::BrokenRtcp,
];

impl Kind {
    /// What it moves, and whether all of it does; some of the rest may mean something.
    fn tally(self) -> (Tally, bool) {
        match self {
            Self::RtpInTheClear | Self::RtcpInTheClear => (Tally::Dropped, true),
            Self::BrokenRtcp => (Tally::BrokenRtcp, true),
            Self::Stun | Self::SealedRtp | Self::SealedRtcp => (Tally::Dropped, false),
        }
    }
}

impl Villains {
    fn send(&self, kind: Kind, random: &mut StdRng) {
        let published: Vec<u32> = [0, 1]
            .into_iter()
            .flat_map(|encoding| [Publisher::ssrc(encoding), Publisher::repair_ssrc(encoding)])
            .collect();
        let watched: Vec<u32> = [Some(self.watched.ssrc), self.watched.repair_ssrc]
            .into_iter()
            .flatten()
            .collect();
        let (mallory, eve) = (&self.mallory.wire, &self.eve.wire);
        match kind {
            Kind::Stun => mallory.send_raw(garbage::stun(self.mallory.remote(), random)),
            Kind::RtpInTheClear => mallory.send_raw(garbage::rtp(&published, random)),
            Kind::SealedRtp => mallory.send_sealed(garbage::rtp(&published, random)),
            Kind::RtcpInTheClear => mallory.send_raw(garbage::rtcp(&published, random)),
            Kind::SealedRtcp => eve.send_sealed_rtcp(garbage::compound(&watched, random)),
            Kind::BrokenRtcp => eve.send_sealed_rtcp(garbage::broken_rtcp(&watched, random)),
        }
    }

    async fn attack(&self, kind: Kind, datagrams: usize, call: &mut Call, random: &mut StdRng) {
        for _ in 0..datagrams / BATCH {
            (0..BATCH).for_each(|_| self.send(kind, random));
            self.mallory.wire.flush().await;
            self.eve.wire.flush().await;
            call.goes_on_and_on().await;
            self.mallory.wire.received().forget();
            self.eve.wire.received().forget();
        }
    }
}

/// Packets that were dropped sealed as they came.
fn unopened(node: &TestNode) -> f64 {
    let reasons = ["unauthenticated", "no_keys"].into_iter();
    reasons.map(|it| Tally::DroppedAs(it).of(node)).sum()
}

#[tokio::test]
async fn clients_that_mean_harm_hurt_nobody() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut call = Call::begin(&signaling, "call", &mut random).await;
    let wire = hostile_wire().await;
    let mut mallory =
        Publisher::join_over(wire, &signaling, "room", "mallory", &["q"], &mut random).await;
    // Her reports on every packet are read, and move what she is sent.
    let open = participant("eve", "room", ConnectionLayout::Dual);
    let mut eve =
        Subscriber::join_as(Wire::reporting(Reports::Arrivals).await, &signaling, open).await;
    let watched = eve.subscribe("TR_mallory", layers(0)).await;
    mallory.send_frames(true);
    eve.frame(watched.ssrc, 0, 0).await;
    node.until_metric("pipemesh_estimated_connections", &[], |n| n == 1.0)
        .await;
    let villains = Villains {
        mallory,
        eve,
        watched,
    };
    let mut before = None;
    for datagrams in [WARM_UP, DATAGRAMS] {
        before = Some(Before::note(&node, 4.0).await);
        for kind in KINDS {
            let (tally, is_exact) = kind.tally();
            let already = tally.settled(&node, &mut call).await;
            let already_unopened = unopened(&node);
            villains
                .attack(kind, datagrams, &mut call, &mut random)
                .await;
            if is_exact {
                tally.has_grown(&node, already, datagrams).await;
            }
            let counted = tally.settled(&node, &mut call).await - already;
            eprintln!("{kind:?}: {counted} counted");
            // What is sealed is opened, but for what is cut so short or changes its header's form.
            if matches!(kind, Kind::SealedRtp | Kind::SealedRtcp | Kind::BrokenRtcp) {
                let unopened = unopened(&node) - already_unopened;
                assert!(unopened < datagrams as f64 / 4.0, "{kind:?}: {unopened}");
            }
            assert!(!villains.eve.wire.received().closed, "{kind:?}");
            assert!(!villains.mallory.wire.received().closed, "{kind:?}");
        }
    }
    before.expect("it was noted").check(&node, MAX_LEFT_IN_ALL);
    call.check();
    node.stop().await;
}
