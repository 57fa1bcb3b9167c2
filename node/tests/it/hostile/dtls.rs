//! DTLS of a client whose address has shown its cookie: what is malformed is dropped without a word and
//! counted, and neither hinders a handshake nor ends an association (RFC 6347 section 4.1.2.7).

use pipemesh_proto::node::{ConnectionLayout, ConnectionRole, ConnectionState};

use super::{BATCH, Before, DATAGRAMS, HANDSHAKE_DROPPED, MAX_LEFT, Tally, WARM_UP, hostile_wire};
use crate::support::call::Call;
use crate::support::control::{Session, Signaling, participant};
use crate::support::node::TestNode;
use crate::support::sdp::{self, Remote, Section};
use crate::support::wire::Wire;
use crate::support::{garbage, random, sctp};

/// A client that has negotiated data channels and checked nothing yet.
pub(super) async fn unconnected(signaling: &Signaling, name: &str) -> (Session, Wire, Remote) {
    let open = participant(name, "room", ConnectionLayout::Single);
    let mut session = signaling.open(open).await;
    let wire = hostile_wire().await;
    let offer = sdp::offer(wire.local(), &[Section::Data]);
    let remote = sdp::remote(&session.offer(&offer).await.sdp);
    (session, wire, remote)
}

pub(super) async fn connected(session: &mut Session, wire: &Wire) {
    wire.connected().await;
    let (role, state) = (ConnectionRole::Publisher, ConnectionState::Connected);
    session.connection(role, state).await;
}

#[tokio::test]
async fn malformed_records_do_not_hinder_a_handshake() {
    /// Two hellos, the second with the cookie.
    const HELLOS: usize = 2;
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut call = Call::begin(&signaling, "call", &mut random).await;
    let (mut session, wire, remote) = unconnected(&signaling, "mallory").await;
    wire.hold_handshake_after(HELLOS);
    wire.connect(remote);
    wire.until("the server has shown its certificate", |received| {
        (received.flight > 500).then_some(())
    })
    .await;

    let useless = || node.metric(HANDSHAKE_DROPPED, &[("reason", "useless")]);
    let mut before = None;
    for datagrams in [WARM_UP, DATAGRAMS] {
        before = Some(Before::note(&node, 3.0).await);
        let already = useless();
        for sent in (BATCH..=datagrams).step_by(BATCH) {
            for _ in 0..BATCH {
                wire.send_raw(garbage::record(&mut random));
            }
            wire.flush().await;
            call.goes_on_and_on().await;
            // None of them finds a full queue.
            let expected = already + sent as f64;
            let reason = [("reason", "useless")];
            node.until_metric(HANDSHAKE_DROPPED, &reason, |n| n >= expected)
                .await;
        }
        assert_eq!(useless(), already + datagrams as f64);
    }
    before.expect("it was noted").check(&node, MAX_LEFT);
    wire.go_on_with_handshake();
    connected(&mut session, &wire).await;
    sctp::associate(&wire).await;
    call.check();
    node.stop().await;
}

#[tokio::test]
async fn malformed_records_do_not_end_an_association() {
    const UNAUTHENTICATED: Tally = Tally::DroppedAs("unauthenticated");
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut call = Call::begin(&signaling, "call", &mut random).await;
    let (mut session, wire, remote) = unconnected(&signaling, "mallory").await;
    wire.connect(remote);
    connected(&mut session, &wire).await;
    let association = sctp::associate(&wire).await;

    let mut before = None;
    for datagrams in [WARM_UP, DATAGRAMS] {
        before = Some(Before::note(&node, 3.0).await);
        let already = UNAUTHENTICATED.settled(&node, &mut call).await;
        for _ in 0..datagrams / BATCH {
            for _ in 0..BATCH {
                wire.send_raw(garbage::record(&mut random));
            }
            wire.flush().await;
            call.goes_on_and_on().await;
        }
        UNAUTHENTICATED.has_grown(&node, already, datagrams).await;
        // What is sealed still gets through, both ways.
        assert!(association.is_alive(&wire).await);
        assert!(!wire.received().closed);
    }
    before.expect("it was noted").check(&node, MAX_LEFT);
    call.check();
    node.stop().await;
}
