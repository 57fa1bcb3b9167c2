//! What Prometheus is told of pipes. The label `peer` is a node's id, of which there are as many as machines.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts};

use pipemesh_node_core::pipe::schedule::Reason;

use super::stats::{LinkStats, PipeStats, Refusal};

/// Read from live state at each scrape.
pub(crate) struct PipeMetrics {
    stats: PipeStats,
    up: IntGaugeVec,
    connections: IntCounterVec,
    round_trip: GaugeVec,
    latency: GaugeVec,
    window: IntGaugeVec,
    loss: GaugeVec,
    lost: IntCounterVec,
    tracks: IntGaugeVec,
    packets: IntCounterVec,
    dropped: IntCounterVec,
    refused: IntCounterVec,
}

type Read = fn(&LinkStats) -> u64;

/// Why a packet went no further.
const DROPS: &[(&str, Read)] = &[
    ("unconnected", |stats| stats.unsent.unconnected),
    ("too_long", |stats| stats.unsent.too_long),
    ("unknown", |stats| stats.exchanged.unknown),
    ("queue_full", |stats| stats.exchanged.refused),
    ("malformed", |stats| stats.exchanged.malformed),
    ("congested", |stats| stats.exchanged.data_dropped),
];

impl PipeMetrics {
    pub(crate) fn new(
        stats: PipeStats,
        constant: impl Fn(&str, &str) -> Opts,
    ) -> Result<Self, prometheus::Error> {
        let gauge = |name, help, labels: &[&str]| IntGaugeVec::new(constant(name, help), labels);
        let counter =
            |name, help, labels: &[&str]| IntCounterVec::new(constant(name, help), labels);
        Ok(Self {
            stats,
            up: gauge(
                "pipemesh_pipe_up",
                "1 while the pipe to a node is connected. One that nobody needs is not spoken of.",
                &["peer"],
            )?,
            connections: counter(
                "pipemesh_pipe_connections_total",
                "How often the pipe to a node was connected.",
                &["peer"],
            )?,
            round_trip: GaugeVec::new(
                constant(
                    "pipemesh_pipe_rtt_seconds",
                    "Round trip to a node and back.",
                ),
                &["peer"],
            )?,
            latency: GaugeVec::new(
                constant(
                    "pipemesh_pipe_latency_seconds",
                    "What packets take from a node to this one, waiting there included.",
                ),
                &["peer"],
            )?,
            window: gauge(
                "pipemesh_pipe_congestion_window_bytes",
                "Bytes that may be on their way to a node.",
                &["peer"],
            )?,
            loss: GaugeVec::new(
                constant(
                    "pipemesh_pipe_loss_ratio",
                    "Part of what is sent to a node that is lost at present.",
                ),
                &["peer"],
            )?,
            lost: counter(
                "pipemesh_pipe_datagrams_lost_total",
                "UDP datagrams that were lost on their way to a node.",
                &["peer"],
            )?,
            tracks: gauge(
                "pipemesh_pipe_tracks",
                "Tracks that are taken from a node (in) and given to it (out).",
                &["peer", "direction"],
            )?,
            packets: counter(
                "pipemesh_pipe_packets_total",
                "Packets of media from a node and to it.",
                &["peer", "direction"],
            )?,
            dropped: counter(
                "pipemesh_pipe_packets_dropped_total",
                "Packets of pipes, and data packets, that went no further.",
                &["peer", "reason"],
            )?,
            refused: counter(
                "pipemesh_pipe_refused_total",
                "Connections between this node and another that did not come about.",
                &["reason"],
            )?,
        })
    }

    pub(crate) fn families(&self) -> [&dyn Collector; 11] {
        [
            &self.up,
            &self.connections,
            &self.round_trip,
            &self.latency,
            &self.window,
            &self.loss,
            &self.lost,
            &self.tracks,
            &self.packets,
            &self.dropped,
            &self.refused,
        ]
    }
}

impl Collector for PipeMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let families = self.families().into_iter();
        families.flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Whoever is no peer any more is not spoken of.
        self.up.reset();
        self.connections.reset();
        self.round_trip.reset();
        self.latency.reset();
        self.window.reset();
        self.loss.reset();
        self.lost.reset();
        self.tracks.reset();
        self.packets.reset();
        self.dropped.reset();
        self.refused.reset();
        for (node, stats) in self.stats.links() {
            let peer = node.as_str();
            let labels = &[peer][..];
            self.up
                .with_label_values(labels)
                .set(stats.is_connected.into());
            (self.connections.with_label_values(labels)).inc_by(stats.connections);
            let round_trip = stats.round_trip.as_secs_f64();
            self.round_trip.with_label_values(labels).set(round_trip);
            if let Some(latency) = stats.latency {
                let latency = latency.as_secs_f64();
                self.latency.with_label_values(labels).set(latency);
            }
            let window = stats.window.try_into().unwrap_or(i64::MAX);
            self.window.with_label_values(labels).set(window);
            self.loss.with_label_values(labels).set(stats.loss);
            self.lost.with_label_values(labels).inc_by(stats.lost);
            let exchanged = &stats.exchanged;
            for (direction, tracks, packets) in [
                ("in", stats.taken, exchanged.packets_in),
                ("out", stats.given, exchanged.packets_out),
            ] {
                let labels = &[peer, direction][..];
                self.tracks.with_label_values(labels).set(tracks as i64);
                self.packets.with_label_values(labels).inc_by(packets);
            }
            for (reason, dropped) in Reason::ALL.iter().zip(stats.unsent.by_schedule) {
                let labels = &[peer, reason.label()][..];
                self.dropped.with_label_values(labels).inc_by(dropped);
            }
            for (reason, read) in DROPS {
                let labels = &[peer, *reason][..];
                self.dropped.with_label_values(labels).inc_by(read(&stats));
            }
        }
        for refusal in Refusal::ALL {
            let refused = self.stats.refusals(refusal);
            self.refused
                .with_label_values(&[refusal.label()])
                .inc_by(refused);
        }
        let families = self.families().into_iter();
        families.flat_map(Collector::collect).collect()
    }
}
