//! What a shard has done, where other threads can read it.

use std::sync::atomic::{AtomicU64, Ordering};

use pipemesh_node_core::drops::DropReason;

/// Written by the shard a few times a second, read by metrics and load reports.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sessions: AtomicU64,
    pub(crate) rooms: AtomicU64,
    pub(crate) tracks: AtomicU64,
    pub(crate) subscriptions: AtomicU64,
    pub(crate) paths: AtomicU64,
    pub(crate) packets_received: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) packets_forwarded: AtomicU64,
    pub(crate) packets_repaired: AtomicU64,
    /// Had to wait for bandwidth.
    pub(crate) packets_delayed: AtomicU64,
    pub(crate) padding_sent: AtomicU64,
    pub(crate) subscriptions_paused: AtomicU64,
    pub(crate) subscriptions_resumed: AtomicU64,
    /// Connections whose bandwidth is estimated, and how much that is in all.
    pub(crate) shaped_connections: AtomicU64,
    pub(crate) estimated_bits: AtomicU64,
    pub(crate) datagrams_sent: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) send_messages: AtomicU64,
    pub(crate) send_syscalls: AtomicU64,
    pub(crate) send_drops: AtomicU64,
    pub(crate) kernel_drops: AtomicU64,
    pub(crate) streams: AtomicU64,
    pub(crate) stream_received: AtomicU64,
    pub(crate) stream_bytes_received: AtomicU64,
    pub(crate) stream_sent: AtomicU64,
    pub(crate) stream_bytes_sent: AtomicU64,
    pub(crate) stream_overflows: AtomicU64,
    pub(crate) stream_gone: AtomicU64,
    pub(crate) key_frame_requests: AtomicU64,
    pub(crate) nacks_received: AtomicU64,
    pub(crate) nacks_sent: AtomicU64,
    pub(crate) data_packets: AtomicU64,
    pub(crate) data_drops: AtomicU64,
    pub(crate) panics: AtomicU64,
    /// Packets to and from other shards.
    pub(crate) relayed_out: AtomicU64,
    pub(crate) relayed_in: AtomicU64,
    pub(crate) relay_messages: AtomicU64,
    /// Bytes in the fullest ring from another shard.
    pub(crate) relay_waiting: AtomicU64,
    /// Tracks of other shards.
    pub(crate) remote_tracks: AtomicU64,
    pub(crate) cache_bytes: AtomicU64,
    /// Allocations of the thread.
    pub(crate) allocations: AtomicU64,
    /// CPU time of the thread, in nanoseconds.
    pub(crate) cpu_nanoseconds: AtomicU64,
    /// Share of the last second spent working, in 1/1000.
    pub(crate) busy_permille: AtomicU64,
    /// Milliseconds since the node started when the loop last turned: a beat.
    pub(crate) beat_milliseconds: AtomicU64,
    pub(crate) drops: [AtomicU64; DropReason::ALL.len()],
}

impl Counters {
    pub(crate) fn set(counter: &AtomicU64, value: u64) {
        counter.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    pub(crate) fn add(counter: &AtomicU64, value: u64) {
        counter.fetch_add(value, Ordering::Relaxed);
    }
}
