//! What Prometheus is told of a node, read from live state at each scrape. Labels are shards, reasons
//! and results; never rooms, participants or tracks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pipemesh_node_core::drops::DropReason;
use pipemesh_node_media::udp::Drops as SendDrops;
use pipemesh_proto::node::NodeState;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts};
use tokio::sync::watch;

use crate::door;
use crate::session::handshake;
use crate::shard::{Counters, Reasons, ShardHandle};
use crate::status::Status;

/// How long control requests take: from the fastest answer to a stall.
const REQUEST_BUCKETS: &[f64] = &[
    0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0,
];

type Read = fn(&Counters) -> u64;
type ReadReasons = fn(&Counters) -> &Reasons;

/// A counter that shards keep: one series per value of its own label.
struct Counted {
    name: &'static str,
    help: &'static str,
    /// Beside `shard`; none where there is one series.
    label: Option<&'static str>,
    series: &'static [(&'static str, Read)],
}

impl Counted {
    const fn new(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        series: &'static [(&'static str, Read)],
    ) -> Self {
        Self {
            name,
            help,
            label: Some(label),
            series,
        }
    }
}

const COUNTERS: &[Counted] = &[
    Counted::new(
        "pipemesh_udp_datagrams_total",
        "Datagrams of media ports.",
        "direction",
        &[
            ("in", |c| Counters::get(&c.packets_received)),
            ("out", |c| Counters::get(&c.datagrams_sent)),
        ],
    ),
    Counted::new(
        "pipemesh_udp_bytes_total",
        "Bytes of datagrams of media ports.",
        "direction",
        &[
            ("in", |c| Counters::get(&c.bytes_received)),
            ("out", |c| Counters::get(&c.bytes_sent)),
        ],
    ),
    Counted::new(
        "pipemesh_udp_send_calls_total",
        "What sending datagrams took.",
        "unit",
        &[
            ("message", |c| Counters::get(&c.send_messages)),
            ("system_call", |c| Counters::get(&c.send_syscalls)),
        ],
    ),
    Counted::new(
        "pipemesh_udp_receive_drops_total",
        "Datagrams that arrived and were not read: the kernel had no more room for them, or they hold nothing.",
        "reason",
        &[
            ("queue_full", |c| Counters::get(&c.kernel_drops)),
            ("truncated", |c| Counters::get(&c.truncated_drops)),
            ("empty", |c| Counters::get(&c.empty_drops)),
        ],
    ),
    Counted::new(
        "pipemesh_tcp_datagrams_total",
        "Datagrams over TCP connections.",
        "direction",
        &[
            ("in", |c| Counters::get(&c.stream_received)),
            ("out", |c| Counters::get(&c.stream_sent)),
        ],
    ),
    Counted::new(
        "pipemesh_tcp_bytes_total",
        "Bytes of datagrams over TCP connections.",
        "direction",
        &[
            ("in", |c| Counters::get(&c.stream_bytes_received)),
            ("out", |c| Counters::get(&c.stream_bytes_sent)),
        ],
    ),
    Counted::new(
        "pipemesh_tcp_drops_total",
        "Datagrams that TCP connections did not take.",
        "reason",
        &[
            ("queue_full", |c| Counters::get(&c.stream_overflows)),
            ("closed", |c| Counters::get(&c.stream_gone)),
        ],
    ),
    Counted::new(
        "pipemesh_rtp_packets_sent_total",
        "RTP packets sent to subscribers.",
        "kind",
        &[
            ("forwarded", |c| Counters::get(&c.packets_forwarded)),
            ("retransmitted", |c| Counters::get(&c.packets_repaired)),
            ("padding", |c| Counters::get(&c.padding_sent)),
        ],
    ),
    Counted {
        name: "pipemesh_rtp_packets_delayed_total",
        help: "RTP packets that had to wait for a subscriber's bandwidth.",
        label: None,
        series: &[("", |c| Counters::get(&c.packets_delayed))],
    },
    Counted::new(
        "pipemesh_subscription_changes_total",
        "Subscriptions that bandwidth did not suffice for, or did again.",
        "change",
        &[
            ("paused", |c| Counters::get(&c.subscriptions_paused)),
            ("resumed", |c| Counters::get(&c.subscriptions_resumed)),
        ],
    ),
    Counted::new(
        "pipemesh_rtcp_requests_total",
        "Packets and key frames asked for.",
        "kind",
        &[
            ("nack_in", |c| Counters::get(&c.nacks_received)),
            ("nack_out", |c| Counters::get(&c.nacks_sent)),
            ("key_frame_out", |c| Counters::get(&c.key_frame_requests)),
        ],
    ),
    Counted {
        name: "pipemesh_data_packets_total",
        help: "Data packets of clients that were accepted.",
        label: None,
        series: &[("", |c| Counters::get(&c.data_packets))],
    },
    Counted::new(
        "pipemesh_shard_packets_total",
        "RTP packets of rooms that lie on several shards, between those; what there was no room for is \
         in pipemesh_packets_dropped_total.",
        "direction",
        &[
            ("in", |c| Counters::get(&c.relayed_in)),
            ("out", |c| Counters::get(&c.relayed_out)),
        ],
    ),
    Counted::new(
        "pipemesh_shard_messages_total",
        "Messages to other shards; dropped: those that a busy shard will be told again.",
        "result",
        &[
            ("sent", |c| Counters::get(&c.relay_messages)),
            ("dropped", |c| Counters::get(&c.relay_messages_dropped)),
        ],
    ),
    Counted {
        name: "pipemesh_shard_allocations_total",
        help: "Allocations of memory by media threads; packets cause none.",
        label: None,
        series: &[("", |c| Counters::get(&c.allocations))],
    },
    Counted {
        name: "pipemesh_session_panics_total",
        help: "Sessions ended by a bug.",
        label: None,
        series: &[("", |c| Counters::get(&c.panics))],
    },
];

/// What went nowhere, by [`DropReason`]: name, help, and where it is counted.
const DROPS: &[(&str, &str, ReadReasons)] = &[
    (
        "pipemesh_packets_dropped_total",
        "Packets that went nowhere.",
        |c| &c.drops,
    ),
    (
        "pipemesh_data_dropped_total",
        "Messages of data channels that went nowhere.",
        |c| &c.data_drops,
    ),
    (
        "pipemesh_rtcp_ignored_total",
        "What clients' RTCP asked for or said in vain: packets, key frames, reports on bandwidth, and \
         packets that cannot be read to their end.",
        |c| &c.rtcp_drops,
    ),
];

/// The same for what goes up and down.
const GAUGES: &[(&str, &str, Read, f64)] = &[
    (
        "pipemesh_rooms",
        "Rooms on the node.",
        |c| Counters::get(&c.rooms),
        1.0,
    ),
    (
        "pipemesh_sessions",
        "Participants' sessions.",
        |c| Counters::get(&c.sessions),
        1.0,
    ),
    (
        "pipemesh_tracks",
        "Published tracks.",
        |c| Counters::get(&c.tracks),
        1.0,
    ),
    (
        "pipemesh_subscriptions",
        "Subscriptions being served.",
        |c| Counters::get(&c.subscriptions),
        1.0,
    ),
    (
        "pipemesh_remote_tracks",
        "Tracks taken from other shards.",
        |c| Counters::get(&c.remote_tracks),
        1.0,
    ),
    (
        "pipemesh_shard_ring_bytes",
        "Packets that wait in the fullest ring from another shard.",
        |c| Counters::get(&c.relay_waiting),
        1.0,
    ),
    (
        "pipemesh_tcp_connections",
        "TCP connections of clients.",
        |c| Counters::get(&c.streams),
        1.0,
    ),
    (
        "pipemesh_paths",
        "Addresses of clients that are served.",
        |c| Counters::get(&c.paths),
        1.0,
    ),
    (
        "pipemesh_estimated_connections",
        "Connections to subscribers whose bandwidth is estimated.",
        |c| Counters::get(&c.shaped_connections),
        1.0,
    ),
    (
        "pipemesh_estimated_bits_per_second",
        "Bandwidth estimated, of all of them together.",
        |c| Counters::get(&c.estimated_bits),
        1.0,
    ),
    (
        "pipemesh_packet_cache_bytes",
        "Memory of packet caches.",
        |c| Counters::get(&c.cache_bytes),
        1.0,
    ),
    (
        "pipemesh_shard_busy_ratio",
        "Share of its time a shard works.",
        |c| Counters::get(&c.busy_permille),
        1e-3,
    ),
];

/// See the module.
pub(crate) struct Metrics {
    shards: Vec<ShardHandle>,
    handshakes: Arc<handshake::Counters>,
    callers: Arc<door::Counters>,
    status: Arc<Status>,
    counters: Vec<IntCounterVec>,
    gauges: Vec<GaugeVec>,
    drops: Vec<IntCounterVec>,
    send_drops: IntCounterVec,
    handshake_results: IntCounterVec,
    caller_results: IntCounterVec,
    handshake_drops: IntCounterVec,
    state: IntGaugeVec,
    load: GaugeVec,
    registered: IntGaugeVec,
    is_registered: watch::Receiver<bool>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    pub(crate) fn new(
        shards: Vec<ShardHandle>,
        handshakes: Arc<handshake::Counters>,
        callers: Arc<door::Counters>,
        status: Arc<Status>,
        is_registered: watch::Receiver<bool>,
    ) -> prometheus::Result<Self> {
        let constant = |name: &str, help: &str| constant(&status, name, help);
        let counters = COUNTERS.iter().map(|counted| {
            let labels: Vec<&str> = ["shard"].into_iter().chain(counted.label).collect();
            IntCounterVec::new(constant(counted.name, counted.help), &labels)
        });
        let gauges = GAUGES
            .iter()
            .map(|(name, help, ..)| GaugeVec::new(constant(name, help), &["shard"]));
        let drops = DROPS
            .iter()
            .map(|(name, help, _)| IntCounterVec::new(constant(name, help), &["shard", "reason"]));
        Ok(Self {
            counters: counters.collect::<Result<_, _>>()?,
            gauges: gauges.collect::<Result<_, _>>()?,
            drops: drops.collect::<Result<_, _>>()?,
            send_drops: IntCounterVec::new(
                constant(
                    "pipemesh_udp_send_drops_total",
                    "Datagrams that the kernel refused to send.",
                ),
                &["shard", "reason"],
            )?,
            handshake_results: IntCounterVec::new(
                constant("pipemesh_dtls_handshakes_total", "DTLS handshakes."),
                &["result"],
            )?,
            caller_results: IntCounterVec::new(
                constant(
                    "pipemesh_tcp_connections_total",
                    "TCP connections to the media port, by what became of them.",
                ),
                &["result"],
            )?,
            handshake_drops: IntCounterVec::new(
                constant(
                    "pipemesh_dtls_handshake_datagrams_dropped_total",
                    "Datagrams of handshakes that went nowhere.",
                ),
                &["reason"],
            )?,
            state: IntGaugeVec::new(
                constant("pipemesh_node_state", "1 for the state the node is in."),
                &["state"],
            )?,
            load: GaugeVec::new(
                constant(
                    "pipemesh_node_load_ratio",
                    "Share of the busiest bound, 1 is saturated.",
                ),
                &[],
            )?,
            registered: IntGaugeVec::new(
                constant(
                    "pipemesh_node_registered",
                    "1 if the registry has the node's record, as far as the node knows.",
                ),
                &[],
            )?,
            is_registered,
            shards,
            handshakes,
            callers,
            status,
        })
    }

    fn families(&self) -> impl Iterator<Item = &dyn Collector> {
        let counters = self
            .counters
            .iter()
            .map(|counter| counter as &dyn Collector);
        let gauges = self.gauges.iter().map(|gauge| gauge as &dyn Collector);
        let drops = self.drops.iter().map(|drops| drops as &dyn Collector);
        let rest: [&dyn Collector; 7] = [
            &self.send_drops,
            &self.handshake_results,
            &self.caller_results,
            &self.handshake_drops,
            &self.state,
            &self.load,
            &self.registered,
        ];
        counters.chain(gauges).chain(drops).chain(rest)
    }
}

/// With the labels that every metric of a node has.
pub(crate) fn constant(status: &Status, name: &str, help: &str) -> Opts {
    Opts::new(name, help)
        .const_label("node", status.id.as_str())
        .const_label("region", status.region.as_str())
}

impl Collector for Metrics {
    fn desc(&self) -> Vec<&Desc> {
        self.families().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (number, shard) in self.shards.iter().enumerate() {
            let shard = shard.counters();
            let number = number.to_string();
            for (counted, family) in COUNTERS.iter().zip(&self.counters) {
                for (value, read) in counted.series {
                    let value = counted.label.map(|_| *value);
                    let labels: Vec<&str> = [number.as_str()].into_iter().chain(value).collect();
                    raise(family, &labels, read(shard));
                }
            }
            for ((.., read, unit), family) in GAUGES.iter().zip(&self.gauges) {
                family
                    .with_label_values(&[&number])
                    .set(read(shard) as f64 * unit);
            }
            for ((.., counted), family) in DROPS.iter().zip(&self.drops) {
                for reason in DropReason::ALL {
                    let dropped = Counters::get(&counted(shard)[reason as usize]);
                    raise(family, &[&number, reason.label()], dropped);
                }
            }
            for (reason, dropped) in SendDrops::REASONS.iter().zip(&shard.send_drops) {
                raise(&self.send_drops, &[&number, reason], Counters::get(dropped));
            }
        }
        let results = [
            ("finished", &self.handshakes.finished),
            ("failed", &self.handshakes.failed),
            ("timed_out", &self.handshakes.timed_out),
            ("refused", &self.handshakes.refused),
        ];
        for (result, counter) in results {
            raise(
                &self.handshake_results,
                &[result],
                counter.load(Ordering::Relaxed),
            );
        }
        for (result, total) in self.callers.results() {
            raise(&self.caller_results, &[result], total);
        }
        let drops = [
            ("useless", &self.handshakes.ignored),
            ("queue_full_in", &self.handshakes.inputs_dropped),
            ("queue_full_out", &self.handshakes.outputs_dropped),
        ];
        for (reason, counter) in drops {
            let dropped = counter.load(Ordering::Relaxed);
            raise(&self.handshake_drops, &[reason], dropped);
        }
        let report = self.status.report();
        for (label, state) in [
            ("serving", NodeState::Serving),
            ("full", NodeState::Full),
            ("draining", NodeState::Draining),
        ] {
            let is_in = i64::from(report.state() == state);
            self.state.with_label_values(&[label]).set(is_in);
        }
        let load = report.load.map_or(0.0, |load| load.ratio);
        self.load.with_label_values::<&str>(&[]).set(load);
        let registered = i64::from(*self.is_registered.borrow());
        self.registered
            .with_label_values::<&str>(&[])
            .set(registered);
        self.families().flat_map(Collector::collect).collect()
    }
}

/// Brings a counter up to a total that is kept elsewhere.
fn raise(family: &IntCounterVec, labels: &[&str], total: u64) {
    let counter = family.with_label_values(labels);
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// Control requests by kind and result, as the gRPC server counts them.
#[derive(Debug, Clone)]
pub(crate) struct RequestMetrics {
    requests: IntCounterVec,
    durations: HistogramVec,
}

impl RequestMetrics {
    pub(crate) fn new(status: &Status) -> prometheus::Result<Self> {
        let options = Opts::new("pipemesh_control_requests_total", "Requests of signaling.")
            .const_label("node", status.id.as_str())
            .const_label("region", status.region.as_str());
        let durations = HistogramOpts::new(
            "pipemesh_control_request_duration_seconds",
            "From taking a request to its answer.",
        )
        .const_label("node", status.id.as_str())
        .const_label("region", status.region.as_str())
        .buckets(REQUEST_BUCKETS.to_vec());
        Ok(Self {
            requests: IntCounterVec::new(options, &["request", "result"])?,
            durations: HistogramVec::new(durations, &["request"])?,
        })
    }

    pub(crate) fn register(&self, registry: &prometheus::Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.requests.clone()))?;
        registry.register(Box::new(self.durations.clone()))
    }

    pub(crate) fn count(&self, request: &str, result: &str, took: std::time::Duration) {
        self.requests.with_label_values(&[request, result]).inc();
        self.durations
            .with_label_values(&[request])
            .observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::time::Instant;

    use super::*;
    use crate::pipe::{PipeMetrics, PipeStats};

    fn status() -> Status {
        let (id, region) = ("node-a".parse().unwrap(), "eu".parse().unwrap());
        Status::new(id, region, 1, Vec::new(), Instant::now())
    }

    fn metrics(is_registered: watch::Receiver<bool>) -> Metrics {
        let (handshakes, callers) = (Arc::default(), Arc::default());
        let status = Arc::new(status());
        Metrics::new(Vec::new(), handshakes, callers, status, is_registered).unwrap()
    }

    #[test]
    fn whether_the_node_is_registered_is_told_as_it_is() {
        let (registered, is_registered) = watch::channel(false);
        let metrics = metrics(is_registered);
        let told = || {
            let families = metrics.collect();
            let name = "pipemesh_node_registered";
            let family = families.iter().find(|it| it.name() == name).unwrap();
            family.get_metric()[0].get_gauge().get_value()
        };
        assert_eq!(told(), 0.0);
        registered.send_replace(true);
        assert_eq!(told(), 1.0);
        registered.send_replace(false);
        assert_eq!(told(), 0.0);
    }

    /// The reference: every metric, and every reason for which something is dropped.
    #[test]
    fn the_reference_is_up_to_date() {
        let requests = RequestMetrics::new(&status()).unwrap();
        let metrics = metrics(watch::channel(false).1);
        let of_requests: [&dyn Collector; 2] = [&requests.requests, &requests.durations];
        let status = status();
        let pipes = PipeMetrics::new(PipeStats::default(), |name, help| {
            constant(&status, name, help)
        });
        let pipes = pipes.unwrap();
        let families = metrics
            .families()
            .chain(of_requests)
            .chain(pipes.families());
        let mut page = "\
# A node's metrics

Served at `/metrics`. Every one has the labels `node` and `region` beside its own.

| name | labels | what |
| --- | --- | --- |
"
        .to_owned();
        for desc in families.flat_map(Collector::desc) {
            let labels = desc.variable_labels.join(", ");
            writeln!(page, "| `{}` | {labels} | {} |", desc.fq_name, desc.help).unwrap();
        }
        page += "
## Why something is dropped

The label `reason` of `pipemesh_packets_dropped_total`, `pipemesh_data_dropped_total` and \
`pipemesh_rtcp_ignored_total`. A packet of media that the node drops on its own account before it is \
sealed is not missed by those it was for: its number is used again, or never given.

| reason | meaning |
| --- | --- |
";
        for reason in DropReason::ALL {
            writeln!(page, "| `{}` | {} |", reason.label(), reason.meaning()).unwrap();
        }
        expect_test::expect_file!["../../docs/metrics/node.md"].assert_eq(&page);
    }
}
