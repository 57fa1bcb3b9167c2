//! Ten thousand malformed datagrams of each kind, from strangers and from clients that mean harm: no
//! panic, nothing that grows, all of it counted, and a call beside it that does not notice.

mod clients;
mod dtls;
mod sctp;
mod strangers;

use std::net::{IpAddr, Ipv4Addr};

use pipemesh_node_media::srtp::Profile;

use crate::support::call::Call;
use crate::support::node::TestNode;
use crate::support::until;
use crate::support::wire::Wire;

const DATAGRAMS: usize = 10_000;
/// Of each kind, before memory is measured: what is made when it is first needed is there, and what is
/// bounded, as caches are, is full.
const WARM_UP: usize = 2_500;
/// Between two frames of the call. Together they fit the receive buffer of the node's socket.
const BATCH: usize = 50;
/// What one kind may leave behind, in bytes: 40 for each datagram, less than whatever could be kept of one.
const MAX_LEFT: usize = 40 * DATAGRAMS;
/// … and several kinds together: a cache of packets, which holds 1 MiB, may be fuller than it was.
const MAX_LEFT_IN_ALL: usize = 2 << 20;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));

const HANDSHAKE_DROPPED: &str = "pipemesh_dtls_handshake_datagrams_dropped_total";

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

    /// So many bytes may have been left behind.
    fn check(&self, node: &TestNode, most: usize) {
        let grown = resident().saturating_sub(self.memory);
        eprintln!("{grown} bytes more than before");
        assert_eq!(node.metric("pipemesh_sessions", &[]), self.sessions);
        assert_eq!(node.metric("pipemesh_tracks", &[]), self.tracks);
        let subscriptions = node.metric("pipemesh_subscriptions", &[]);
        assert_eq!(subscriptions, self.subscriptions);
        assert_eq!(node.metric("pipemesh_session_panics_total", &[]), 0.0);
        assert!(grown < most as u64, "{grown} bytes more");
    }
}

/// Memory of this process, node included, in bytes.
fn resident() -> u64 {
    const PAGE: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * PAGE
}

/// What a node counts of the datagrams it has no use for.
#[derive(Debug, Clone, Copy)]
enum Tally {
    /// All it dropped. What waited for a subscriber's bandwidth in vain was not dropped when it came.
    Dropped,
    /// … for this reason.
    DroppedAs(&'static str),
    /// RTCP that cannot be read to its end.
    BrokenRtcp,
}

impl Tally {
    fn of(self, node: &TestNode) -> f64 {
        const DROPPED: &str = "pipemesh_packets_dropped_total";
        const IGNORED: &str = "pipemesh_rtcp_ignored_total";
        match self {
            Self::Dropped => {
                node.metric(DROPPED, &[]) - node.metric(DROPPED, &[("reason", "congested")])
            }
            Self::DroppedAs(reason) => node.metric(DROPPED, &[("reason", reason)]),
            Self::BrokenRtcp => node.metric(IGNORED, &[("reason", "malformed")]),
        }
    }

    /// … when all that has come until now is counted. Shards publish what they count now and then.
    async fn settled(self, node: &TestNode, call: &mut Call) -> f64 {
        const RECEIVED: &str = "pipemesh_udp_datagrams_total";
        // What is published first may be of before; what comes after that is not.
        for _ in 0..2 {
            let received = node.metric(RECEIVED, &[("direction", "in")]);
            call.goes_on_and_on().await;
            node.until_metric(RECEIVED, &[("direction", "in")], |n| n > received)
                .await;
        }
        self.of(node)
    }

    /// Waits until so many more have been counted; not one beyond that may be.
    async fn has_grown(self, node: &TestNode, before: f64, more: usize) {
        let expected = before + more as f64;
        let look = || Some(self.of(node)).filter(|counted| *counted >= expected);
        let counted = until("all of it is counted", look).await;
        assert_eq!(counted, expected, "{self:?}");
    }
}

async fn hostile_wire() -> Wire {
    Wire::with(CLIENT, Profile::AeadAes128Gcm).await
}
