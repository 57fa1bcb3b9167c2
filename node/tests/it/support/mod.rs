//! What the tests are made of: a real node in this process, signaling's end of its sessions, and
//! clients whose packets are real.
//!
//! Two clients serve two ends. [`rtc`] is the `webrtc` crate, a client like any other. [`wire`] plays
//! the transport itself, packet by packet, so that a test decides what is sent, lost, forged or held
//! back, and sees every datagram that the node sends under the keys both know. [`garbage`] is what nobody
//! who means well sends. [`camera`] and [`recording`] are the two ends of what they exchange;
//! [`publisher`], [`talker`] and [`subscriber`] are participants on wires, [`call`] a publisher and a subscriber.

pub(crate) mod call;
pub(crate) mod camera;
pub(crate) mod control;
pub(crate) mod garbage;
pub(crate) mod narrow;
pub(crate) mod node;
pub(crate) mod publisher;
pub(crate) mod recording;
pub(crate) mod rtc;
pub(crate) mod sctp;
pub(crate) mod sdp;
pub(crate) mod subscriber;
pub(crate) mod talker;
pub(crate) mod wire;

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

/// How long anything may take that the node has to do. Much longer than it ever does: on a machine
/// that is busy with other things it still means that it never happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Waits for `future`; a test fails by name instead of hanging.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain: {what}"),
    }
}

/// Waits until `look` finds something; for what nobody announces.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    const LOOK_EVERY: Duration = Duration::from_millis(5);
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    within(what, found).await
}

/// Randomness that a failing test's output says how to have again: `SEED=… cargo test …`.
pub(crate) fn random() -> StdRng {
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().expect("SEED is a number"),
        Err(_) => rand::random(),
    };
    eprintln!("SEED={seed}");
    StdRng::seed_from_u64(seed)
}
