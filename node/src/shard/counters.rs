//! What a shard has done and how busy it is, where other threads can read it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pipemesh_node_core::drops::DropReason;
use pipemesh_node_media::udp::{Drops as SendDrops, ReceiveStats};
use pipemesh_node_media::{alloc, thread};

use super::Shard;

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
    /// Datagrams that the kernel did not take, by [`SendDrops::by_reason`].
    pub(crate) send_drops: [AtomicU64; SendDrops::REASONS.len()],
    /// What it took from the network and we did not fetch in time.
    pub(crate) kernel_drops: AtomicU64,
    pub(crate) truncated_drops: AtomicU64,
    pub(crate) empty_drops: AtomicU64,
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
    pub(crate) panics: AtomicU64,
    /// Packets to and from other shards.
    pub(crate) relayed_out: AtomicU64,
    pub(crate) relayed_in: AtomicU64,
    pub(crate) relay_messages: AtomicU64,
    pub(crate) relay_messages_dropped: AtomicU64,
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
    pub(crate) drops: Reasons,
    pub(crate) data_drops: Reasons,
    pub(crate) rtcp_drops: Reasons,
}

/// Counters by [`DropReason`].
pub(crate) type Reasons = [AtomicU64; DropReason::ALL.len()];

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

impl Shard {
    pub(super) fn publish_counters(
        &self,
        received: &ReceiveStats,
        busy: &Busy,
        since_start: Duration,
    ) {
        let counters = &self.counters;
        let (tracks, subscriptions, _) = self.router.len();
        let sent = self.wire.stats();
        let streams = self.wire.streams.stats();
        let neighbours = self.neighbours.stats;
        let shaped = self.wire.estimates();
        let kernel_drops = self
            .wire
            .sockets()
            .iter()
            .filter_map(|socket| socket.kernel_drops().ok());
        let values = [
            (&counters.sessions, self.sessions.len() as u64),
            (&counters.rooms, self.rooms.len() as u64),
            (&counters.tracks, tracks as u64),
            (&counters.subscriptions, subscriptions as u64),
            (&counters.paths, self.paths.len() as u64),
            (&counters.packets_received, received.datagrams),
            (&counters.bytes_received, received.bytes),
            (&counters.packets_forwarded, self.wire.forwarded),
            (&counters.packets_repaired, self.wire.repaired),
            (&counters.packets_delayed, self.wire.paced.delayed),
            (&counters.padding_sent, self.wire.paced.padding),
            (&counters.shaped_connections, shaped.0),
            (&counters.estimated_bits, shaped.1),
            (&counters.datagrams_sent, sent.datagrams),
            (&counters.bytes_sent, sent.bytes),
            (&counters.send_messages, sent.messages),
            (&counters.send_syscalls, sent.syscalls),
            (&counters.kernel_drops, kernel_drops.map(u64::from).sum()),
            (&counters.truncated_drops, received.truncated),
            (&counters.empty_drops, received.empty),
            (&counters.streams, self.streams.len() as u64),
            (&counters.stream_received, streams.received),
            (&counters.stream_bytes_received, streams.bytes_received),
            (&counters.stream_sent, streams.sent),
            (&counters.stream_bytes_sent, streams.bytes_sent),
            (&counters.stream_overflows, streams.overflowed),
            (&counters.stream_gone, streams.gone),
            (&counters.relayed_out, neighbours.packets_out),
            (&counters.relayed_in, neighbours.packets_in),
            (&counters.relay_messages, neighbours.messages_out),
            (
                &counters.relay_messages_dropped,
                neighbours.messages_dropped,
            ),
            (
                &counters.relay_waiting,
                self.neighbours.waiting_bytes() as u64,
            ),
            (&counters.remote_tracks, self.remote.len() as u64),
            (&counters.cache_bytes, self.router.cache_memory() as u64),
            (&counters.allocations, alloc::allocations()),
            (
                &counters.cpu_nanoseconds,
                thread::cpu_time().as_nanos() as u64,
            ),
            (&counters.busy_permille, busy.permille),
            (&counters.beat_milliseconds, since_start.as_millis() as u64),
        ];
        for (counter, value) in values {
            Counters::set(counter, value);
        }
        let mut drops = self.drops;
        drops.add(DropReason::QueueFull, neighbours.refused as usize);
        for reason in DropReason::ALL {
            let place = reason as usize;
            let dropped = drops.get(reason) + self.wire.drops().get(reason);
            Counters::set(&counters.drops[place], dropped);
            Counters::set(&counters.data_drops[place], self.data_drops.get(reason));
            Counters::set(&counters.rtcp_drops[place], self.rtcp_drops.get(reason));
        }
        for (counter, (_, dropped)) in counters.send_drops.iter().zip(sent.dropped.by_reason()) {
            Counters::set(counter, dropped);
        }
    }
}

/// How much of its time the thread works.
pub(super) struct Busy {
    since: Instant,
    cpu: Duration,
    permille: u64,
}

impl Busy {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            cpu: thread::cpu_time(),
            permille: 0,
        }
    }

    pub(super) fn update(&mut self, now: Instant) {
        const WINDOW: Duration = Duration::from_secs(1);
        let elapsed = now.duration_since(self.since);
        if elapsed < WINDOW {
            return;
        }
        let cpu = thread::cpu_time();
        let worked = cpu.saturating_sub(self.cpu);
        self.permille = (worked.as_micros() * 1000 / elapsed.as_micros().max(1)) as u64;
        (self.since, self.cpu) = (now, cpu);
    }
}
