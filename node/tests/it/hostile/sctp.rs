//! SCTP of clients that have an association and send into it what they like. A violation ends the
//! association, so they come back with another one; what is sent into a dead one does not count.

use rand::rngs::StdRng;

use super::{Before, DATAGRAMS, Tally, WARM_UP};
use crate::support::call::Call;
use crate::support::control::Signaling;
use crate::support::node::TestNode;
use crate::support::{garbage, random, sctp};

/// Sent between two proofs that the association lives.
const BATCH: usize = 10;
const REFUSED: Tally = Tally::DroppedAs("malformed");

/// Bytes. Associations come and go by the hundred, and what the allocator keeps of their memory grows for a
/// while: to 0.85 MB, after sixteen times as many packets, too.
const MAX_KEPT: usize = 1 << 20;

/// How far an attack has come.
#[derive(Debug, Default)]
struct Attack {
    /// Packets that reached an association which lived on after them.
    reached: usize,
    associations: usize,
}

impl Attack {
    /// Attacks until so many packets have reached a live association.
    async fn run(
        &mut self,
        packets: usize,
        signaling: &Signaling,
        call: &mut Call,
        random: &mut StdRng,
    ) {
        let enough = self.reached + packets;
        while self.reached < enough {
            self.associations += 1;
            let name = format!("mallory{}", self.associations);
            let (mut session, wire, remote) = super::dtls::unconnected(signaling, &name).await;
            wire.connect(remote);
            super::dtls::connected(&mut session, &wire).await;
            let association = sctp::associate(&wire).await;
            while self.reached < enough {
                for _ in 0..BATCH {
                    let header = &association.header;
                    wire.send_data(garbage::sctp(header, association.first_tsn, random));
                }
                wire.flush().await;
                call.goes_on_and_on().await;
                if !association.is_alive(&wire).await {
                    break;
                }
                self.reached += BATCH;
                wire.received().forget();
            }
            session.close().await;
        }
    }
}

#[tokio::test]
async fn hostile_data_channels_hurt_nobody() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut call = Call::begin(&signaling, "call", &mut random).await;
    let mut attack = Attack::default();
    let mut before = None;
    let mut already = 0.0;
    for packets in [WARM_UP, DATAGRAMS] {
        before = Some(Before::note(&node, 2.0).await);
        already = REFUSED.settled(&node, &mut call).await;
        attack
            .run(packets, &signaling, &mut call, &mut random)
            .await;
    }
    eprintln!("{attack:?}");
    node.until_metric("pipemesh_sessions", &[], |n| n == 2.0)
        .await;
    let refused = REFUSED.settled(&node, &mut call).await - already;
    eprintln!("{refused} were refused");
    assert!(refused > DATAGRAMS as f64 / 2.0, "{refused}");
    before.expect("it was noted").check(&node, MAX_KEPT);
    call.check();
    node.stop().await;
}
