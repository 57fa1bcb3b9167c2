//! What is counted. Labels come from fixed sets of words; no room, participant or track is one.

use std::time::Duration;

use pipemesh_topology::geo::Clue;
use pipemesh_topology::placement::Reason;
use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Joins take milliseconds when all is well; a client gives up after five seconds.
const JOIN_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) connections: IntGauge,
    pub(crate) sessions: IntGauge,
    pub(crate) nodes_up: IntGauge,
    messages: IntCounterVec,
    joins: IntCounterVec,
    join_duration: Histogram,
    auth_failures: IntCounterVec,
    routes: IntCounterVec,
    placements: IntCounterVec,
    sockets_closed: IntCounterVec,
    sessions_ended: IntCounterVec,
    drain_moves: IntCounterVec,
    pub(crate) panics: IntCounter,
    pub(crate) connections_refused: IntCounter,
    pub(crate) orphans_removed: IntCounter,
    pub(crate) leases_lost: IntCounter,
    webhooks: IntCounterVec,
    pub(crate) webhook_retries: IntCounter,
}

/// Which way a message went.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    In,
    Out,
}

/// How a join ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum JoinResult {
    Joined,
    Resumed,
    /// A resume of somebody whom another process has served until then.
    TakenOver,
    /// A resume of somebody who is not known.
    Unknown,
    Refused,
    /// The address has joined too often.
    Limited,
    NoNode,
    /// No region can take them that their token allows.
    NotAllowed,
    RoomFull,
    StoreUnavailable,
}

/// Why a socket was closed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SocketEnd {
    Client,
    Session,
    Malformed,
    TooSlow,
    Silent,
    Broken,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SessionEnd {
    Left,
    Replaced,
    Moved,
    /// By another process, to which the client came back.
    TakenOver,
    Panicked,
}

/// What became of an event that a webhook was to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WebhookEnd {
    Delivered,
    /// With a status that says that it never will be taken.
    Refused,
    GivenUp,
    QueueFull,
}

/// What became of a room that was to be moved from a node that drains.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DrainMove {
    Moved,
    /// It was gone already: ended, or moved by another process.
    NotThere,
    NoNode,
    StoreUnavailable,
}

impl Metrics {
    /// # Errors
    /// When the registry has some of it already.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        Self::handed_to(|collector| registry.register(collector))
    }

    /// `take` is given each of them.
    fn handed_to(
        take: impl Fn(Box<dyn Collector>) -> prometheus::Result<()>,
    ) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            take(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            take(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            take(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let options = HistogramOpts::new(
            "pipemesh_join_duration_seconds",
            "Time from a join's request to its answer, of joins that succeeded.",
        );
        let join_duration = Histogram::with_opts(options.buckets(JOIN_BUCKETS.to_vec()))?;
        take(Box::new(join_duration.clone()))?;
        Ok(Self {
            connections: gauge("pipemesh_signal_connections", "Open WebSockets of clients.")?,
            sessions: gauge(
                "pipemesh_signal_sessions",
                "Participants this process serves, with or without a WebSocket.",
            )?,
            nodes_up: gauge("pipemesh_signal_nodes_up", "Nodes that can be reached.")?,
            messages: counters(
                "pipemesh_signal_messages_total",
                "Messages from and to clients.",
                &["direction", "type"],
            )?,
            joins: counters(
                "pipemesh_joins_total",
                "Joins and how they ended.",
                &["result"],
            )?,
            join_duration,
            auth_failures: counters(
                "pipemesh_auth_failures_total",
                "Requests that were not let in.",
                &["reason"],
            )?,
            routes: counters(
                "pipemesh_routes_total",
                "Joins by what told the region that the participant belongs to.",
                &["by"],
            )?,
            placements: counters(
                "pipemesh_placements_total",
                "Choices of a node for a participant.",
                &["result"],
            )?,
            sockets_closed: counters(
                "pipemesh_signal_sockets_closed_total",
                "WebSockets of clients that ended.",
                &["reason"],
            )?,
            sessions_ended: counters(
                "pipemesh_signal_sessions_ended_total",
                "Participants' sessions that ended.",
                &["reason"],
            )?,
            drain_moves: counters(
                "pipemesh_signal_drain_moves_total",
                "Rooms that were to be moved from nodes that drain, by outcome.",
                &["result"],
            )?,
            panics: counter(
                "pipemesh_signal_panics_total",
                "Sessions that ended by a fault of this process.",
            )?,
            connections_refused: counter(
                "pipemesh_signal_connections_refused_total",
                "Connections closed at once because there were too many.",
            )?,
            orphans_removed: counter(
                "pipemesh_signal_orphans_removed_total",
                "Participants removed because the process that served them was gone.",
            )?,
            leases_lost: counter(
                "pipemesh_signal_leases_lost_total",
                "Times that other processes took this one to be gone, or the store had forgotten it.",
            )?,
            webhooks: counters(
                "pipemesh_signal_webhooks_total",
                "Events that webhooks were to be told, and what became of them.",
                &["result"],
            )?,
            webhook_retries: counter(
                "pipemesh_signal_webhook_retries_total",
                "Times that an event was not taken by a webhook, and said again.",
            )?,
        })
    }

    pub(crate) fn message(&self, direction: Direction, name: &str) {
        let direction = match direction {
            Direction::In => "in",
            Direction::Out => "out",
        };
        self.messages.with_label_values(&[direction, name]).inc();
    }

    pub(crate) fn join(&self, result: JoinResult) {
        let result = match result {
            JoinResult::Joined => "ok",
            JoinResult::Resumed => "resumed",
            JoinResult::Unknown => "state_mismatch",
            JoinResult::Refused => "refused",
            JoinResult::TakenOver => "taken_over",
            JoinResult::Limited => "limited",
            JoinResult::NoNode => "no_node",
            JoinResult::NotAllowed => "not_allowed",
            JoinResult::RoomFull => "room_full",
            JoinResult::StoreUnavailable => "store_unavailable",
        };
        self.joins.with_label_values(&[result]).inc();
    }

    pub(crate) fn joined_within(&self, duration: Duration) {
        self.join_duration.observe(duration.as_secs_f64());
    }

    pub(crate) fn auth_failure(&self, reason: &'static str) {
        self.auth_failures.with_label_values(&[reason]).inc();
    }

    pub(crate) fn route(&self, by: Clue) {
        self.routes.with_label_values(&[by.name()]).inc();
    }

    pub(crate) fn placement(&self, reason: Option<Reason>) {
        let result = reason.map_or("none", Reason::name);
        self.placements.with_label_values(&[result]).inc();
    }

    pub(crate) fn socket_closed(&self, end: SocketEnd) {
        let reason = match end {
            SocketEnd::Client => "client",
            SocketEnd::Session => "session",
            SocketEnd::Malformed => "malformed",
            SocketEnd::TooSlow => "too_slow",
            SocketEnd::Silent => "silent",
            SocketEnd::Broken => "broken",
        };
        self.sockets_closed.with_label_values(&[reason]).inc();
    }

    pub(crate) fn webhook(&self, end: WebhookEnd) {
        let result = match end {
            WebhookEnd::Delivered => "delivered",
            WebhookEnd::Refused => "refused",
            WebhookEnd::GivenUp => "given_up",
            WebhookEnd::QueueFull => "queue_full",
        };
        self.webhooks.with_label_values(&[result]).inc();
    }

    pub(crate) fn session_ended(&self, end: SessionEnd) {
        let reason = match end {
            SessionEnd::Left => "left",
            SessionEnd::Replaced => "replaced",
            SessionEnd::Moved => "moved",
            SessionEnd::TakenOver => "taken_over",
            SessionEnd::Panicked => "panicked",
        };
        self.sessions_ended.with_label_values(&[reason]).inc();
    }

    pub(crate) fn drain_move(&self, outcome: DrainMove) {
        let result = match outcome {
            DrainMove::Moved => "moved",
            DrainMove::NotThere => "not_there",
            DrainMove::NoNode => "no_node",
            DrainMove::StoreUnavailable => "store_unavailable",
        };
        self.drain_moves.with_label_values(&[result]).inc();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn the_reference_is_up_to_date() {
        let collectors = RefCell::new(Vec::new());
        let taken = Metrics::handed_to(|collector| {
            collectors.borrow_mut().push(collector);
            Ok(())
        });
        taken.unwrap();
        let mut page = "\
# Metrics of signaling

Served at `/metrics`. What is told of Consul is in [its page](../consul.md#health-and-metrics), of Redis and the \
ring in [theirs](../redis.md#when-redis-fails); of nodes only [they themselves](node.md) tell.

| name | labels | what |
| --- | --- | --- |
"
        .to_owned();
        let collectors = collectors.into_inner();
        for desc in collectors.iter().flat_map(|it| it.desc()) {
            let labels = desc.variable_labels.join(", ");
            writeln!(page, "| `{}` | {labels} | {} |", desc.fq_name, desc.help).unwrap();
        }
        expect_test::expect_file!["../../docs/metrics/signaling.md"].assert_eq(&page);
    }
}
