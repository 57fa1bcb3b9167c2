//! How QUIC is set up for media: one connection to another node, RTP in datagrams, control on a stream.

use std::sync::Arc;
use std::time::Duration;

use pipemesh_node_core::pipe::congestion::{ACK_DELAY, ACK_PACKETS, Limits};
use quinn::{AckFrequencyConfig, MtuDiscoveryConfig, TransportConfig, VarInt};

use super::congestion::{MediaCongestion, Published};

/// Left free in each datagram of media: QUIC writes datagrams before streams, and where they fill the
/// packet, control waits for seconds. The `SLACK` is what a stream moves in then.
pub(super) const SLACK: usize = 64;

/// UDP payload that every path has to carry: tunnels over Ethernet do, and RTP of 1200 bytes fits with all
/// that goes around it. Smaller packets are never taken for a sign that the path has narrowed; without
/// this floor, a few lost packets would shrink datagrams below a full RTP packet for a minute.
pub(super) const MTU: u16 = 1350;
/// Ethernet's, less the headers of IPv6 and UDP.
const LARGEST_MTU: u16 = 1452;
/// A connection that began with smaller datagrams takes lost larger ones for a sign that the path has narrowed.
/// So soon larger ones are tried again; until then packets go in two pieces.
const CLIMB_AGAIN: Duration = Duration::from_secs(5);
/// How many packets may overtake one that is not lost. Networks of parallel links reorder; at QUIC's own
/// threshold of 3, 3 ms of it stops the connection.
const REORDERING: u32 = 128;
/// A node that lives is heard this often, so that one that does not is missed soon.
const KEEP_ALIVE: Duration = Duration::from_millis(250);
const IDLE_MILLIS: u32 = 3_000;
/// What the transport may hold that has not left. The schedule fills far less of it.
pub(super) const SEND_BUFFER: usize = 128 << 10;
/// A tenth of a second at several hundred Mbit/s, should the reader sleep.
const RECEIVE_BUFFER: usize = 8 << 20;
/// The control stream is the only one.
const STREAMS: u32 = 1;
/// What the other node may say that was not read yet.
const RECEIVE_WINDOW: u32 = 4 << 20;

/// Bytes of a datagram of media.
pub(super) fn media_size(max_datagram_size: usize) -> usize {
    max_datagram_size.saturating_sub(SLACK)
}

/// What differs between connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    /// As far as is known of the other node's region. Timers of the handshake follow it, nothing else.
    pub(super) round_trip: Option<Duration>,
    /// The UDP payload that the path has to carry.
    pub(super) mtu: u16,
    pub(super) window: Limits,
}

impl Default for Path {
    fn default() -> Self {
        Self {
            round_trip: None,
            mtu: MTU,
            window: Limits::default(),
        }
    }
}

/// For one connection: what its congestion controller finds is published for it alone.
pub(super) fn transport(path: Path) -> (TransportConfig, Arc<Published>) {
    let (congestion, published) = MediaCongestion::new(path.window);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_PACKETS))
        .max_ack_delay(Some(ACK_DELAY))
        .reordering_threshold(VarInt::from_u32(REORDERING - 1));
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(LARGEST_MTU);
    if path.mtu < MTU {
        discovery.black_hole_cooldown(CLIMB_AGAIN);
    }
    let mut transport = TransportConfig::default();
    transport
        .initial_mtu(path.mtu)
        .min_mtu(path.mtu)
        .mtu_discovery_config(Some(discovery))
        .packet_threshold(REORDERING)
        .ack_frequency_config(Some(acks))
        .datagram_send_buffer_size(SEND_BUFFER)
        .datagram_receive_buffer_size(Some(RECEIVE_BUFFER))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_MILLIS).into()))
        .congestion_controller_factory(Arc::new(congestion));
    if let Some(round_trip) = path.round_trip {
        transport.initial_rtt(round_trip);
    }
    (transport, published)
}
