//! What a node says of itself: state and load, as told to signaling, metrics and health.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pipemesh_proto::ids::{NodeId, Region};
use pipemesh_proto::node::{NodeLoad, NodeReport, NodeState};
use pipemesh_proto::{CONTRACT_VERSION, CONTRACT_VERSION_MIN};
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use crate::shard::{Counters, ShardHandle};

/// How often load is reported. Longer: signaling notices later that the node is silent.
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// … when this part of what the node takes has come since the last report: until it is reported, signaling
/// takes everybody it has placed to be there, and to have stayed.
const MANY: f64 = 0.02;
/// … but no sooner after it than this.
const REPORT_AGAIN: Duration = Duration::from_millis(100);
/// A node that reaches this load takes no new rooms, until it falls below the second value. Rooms that
/// are there grow after it does; the distance keeps it from changing its mind every second.
const FULL_AT: f64 = 0.85;
const SERVES_AGAIN_BELOW: f64 = 0.70;
/// A shard whose loop has not turned for this long is wedged. It turns four times a second when idle.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// Written by the node's ticker and by drain requests.
pub(crate) struct Status {
    pub(crate) id: NodeId,
    pub(crate) region: Region,
    pub(crate) boot_id: u64,
    session_limit: u32,
    draining: AtomicBool,
    /// The process is about to end: a drain that cannot be undone.
    ending: AtomicBool,
    report: watch::Sender<NodeReport>,
    /// Those that the node has let in, a shard has them a moment later.
    sessions: AtomicU32,
    /// Of them, since the last report.
    begun: AtomicU32,
    many_begun: Notify,
    shards: Vec<ShardHandle>,
    origin: Instant,
}

/// What rates are worked out from.
#[derive(Debug, Clone, Copy)]
struct Sent {
    at: Instant,
    bytes: u64,
    packets: u64,
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Status").finish_non_exhaustive()
    }
}

impl Status {
    pub(crate) fn new(
        id: NodeId,
        region: Region,
        session_limit: u32,
        shards: Vec<ShardHandle>,
        origin: Instant,
    ) -> Self {
        let boot_id = rand::random();
        let report = NodeReport {
            node_id: id.to_string(),
            region: region.to_string(),
            boot_id,
            state: NodeState::Serving.into(),
            load: Some(NodeLoad::default()),
            version_min: CONTRACT_VERSION_MIN,
            version_max: CONTRACT_VERSION,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            report_every_ms: REPORT_EVERY.as_millis() as u32,
        };
        Self {
            id,
            region,
            boot_id,
            session_limit,
            draining: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            report: watch::Sender::new(report),
            sessions: AtomicU32::new(0),
            begun: AtomicU32::new(0),
            many_begun: Notify::new(),
            shards,
            origin,
        }
    }

    pub(crate) fn report(&self) -> NodeReport {
        self.report.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<NodeReport> {
        self.report.subscribe()
    }

    pub(crate) fn state(&self) -> NodeState {
        self.report.borrow().state()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed) || self.ending.load(Ordering::Relaxed)
    }

    /// Begins or ends a drain, and says so at once. One that precedes the end of the process goes on.
    pub(crate) fn set_draining(&self, draining: bool) -> NodeReport {
        self.draining.store(draining, Ordering::Relaxed);
        self.say_state()
    }

    /// Begins the drain that precedes the end of the process.
    pub(crate) fn begin_to_end(&self) -> NodeReport {
        self.ending.store(true, Ordering::Relaxed);
        self.say_state()
    }

    /// A session begins.
    pub(crate) fn session_begins(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        let begun = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        if f64::from(begun) >= f64::from(self.session_limit) * MANY {
            self.many_begun.notify_one();
        }
    }

    /// … and has ended.
    pub(crate) fn session_ends(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    /// Reports for as long as it is polled.
    pub(crate) async fn run(&self) -> Infallible {
        let mut sent = None;
        let mut ticks = interval(REPORT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.many_begun.notified() => {
                    let before = sent.map_or_else(now, |sent: Sent| sent.at);
                    sleep_until((before + REPORT_AGAIN).into()).await;
                    ticks.reset();
                }
            }
            sent = Some(self.update(sent, now()));
        }
    }

    fn say_state(&self) -> NodeReport {
        let draining = self.is_draining();
        self.report.send_modify(|report| {
            let ratio = report.load.map_or(0.0, |load| load.ratio);
            report.set_state(next_state(report.state(), draining, ratio));
        });
        self.report()
    }

    /// Reads the shards' counters and reports. Answers what the next call needs for rates.
    fn update(&self, before: Option<Sent>, now: Instant) -> Sent {
        self.begun.store(0, Ordering::Relaxed);
        let sum = |read: fn(&Counters) -> u64| -> u64 {
            self.shards.iter().map(|shard| read(shard.counters())).sum()
        };
        let sent = Sent {
            at: now,
            bytes: sum(|c| Counters::get(&c.bytes_sent)),
            packets: sum(|c| Counters::get(&c.datagrams_sent)),
        };
        let busy = sum(|c| Counters::get(&c.busy_permille)) as f64 / 1000.0;
        let busy = busy / self.shards.len().max(1) as f64;
        let sessions = self.sessions.load(Ordering::Relaxed);
        let rate = |now: u64, before: Option<u64>, since: Duration| {
            let new = now.saturating_sub(before.unwrap_or(now));
            (new as f64 / since.as_secs_f64().max(0.001)) as u64
        };
        let since = before.map_or(REPORT_EVERY, |before| now.duration_since(before.at));
        let load = NodeLoad {
            // Rooms grow over shards: what one has too much, another takes.
            ratio: busy.max(f64::from(sessions) / f64::from(self.session_limit)),
            busy_ratio: busy,
            sessions,
            rooms: sum(|c| Counters::get(&c.rooms)) as u32,
            tracks: sum(|c| Counters::get(&c.tracks)) as u32,
            subscriptions: sum(|c| Counters::get(&c.subscriptions)) as u32,
            egress_bits_per_second: rate(sent.bytes, before.map(|b| b.bytes), since) * 8,
            egress_packets_per_second: rate(sent.packets, before.map(|b| b.packets), since),
        };
        let draining = self.is_draining();
        self.report.send_modify(|report| {
            report.set_state(next_state(report.state(), draining, load.ratio));
            report.load = Some(load);
        });
        sent
    }

    /// Why this process is beyond help: a media thread that stands still.
    pub(crate) fn stuck_shards(&self) -> Vec<String> {
        let age = |shard: &ShardHandle| {
            let beat = Duration::from_millis(Counters::get(&shard.counters().beat_milliseconds));
            self.origin.elapsed().saturating_sub(beat)
        };
        let ages = self.shards.iter().map(age).enumerate();
        ages.filter(|(_, age)| *age > STUCK_AFTER)
            .map(|(number, age)| format!("shard {number} stands still since {} s", age.as_secs()))
            .collect()
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn next_state(before: NodeState, draining: bool, load: f64) -> NodeState {
    if draining {
        NodeState::Draining
    } else if load >= FULL_AT || before == NodeState::Full && load >= SERVES_AGAIN_BELOW {
        NodeState::Full
    } else {
        NodeState::Serving
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn states_follow_load_with_a_distance() {
        let check = |before, draining, load, expected| {
            assert_eq!(
                next_state(before, draining, load),
                expected,
                "{before:?} {draining} {load}"
            );
        };
        check(NodeState::Serving, false, 0.84, NodeState::Serving);
        check(NodeState::Serving, false, 0.85, NodeState::Full);
        check(NodeState::Full, false, 0.70, NodeState::Full);
        check(NodeState::Full, false, 0.69, NodeState::Serving);
        check(NodeState::Serving, true, 0.0, NodeState::Draining);
        check(NodeState::Draining, false, 0.75, NodeState::Serving);
    }

    /// Four sessions are many of two hundred.
    #[tokio::test(start_paused = true)]
    async fn many_who_come_are_reported_before_it_is_time() {
        let origin = now();
        let (id, region) = ("node-a".parse().unwrap(), "eu".parse().unwrap());
        let status = Arc::new(Status::new(id, region, 200, Vec::new(), origin));
        let mut reports = status.watch();
        let reporting = Arc::clone(&status);
        let task = tokio::spawn(async move { match reporting.run().await {} });
        let mut next = async || {
            reports.changed().await.unwrap();
            let load = reports.borrow_and_update().load.unwrap();
            (load.sessions, (now() - origin).as_millis())
        };
        assert_eq!(next().await, (0, 0));
        assert_eq!(next().await, (0, 500));
        for _ in 0..3 {
            status.session_begins();
        }
        assert_eq!(next().await, (3, 1_000));
        for _ in 0..4 {
            status.session_begins();
        }
        assert_eq!(next().await, (7, 1_100), "four are two in a hundred");
        // Come and gone they count, too.
        for _ in 0..4 {
            status.session_begins();
            status.session_ends();
        }
        assert_eq!(next().await, (7, 1_200));
        assert_eq!(next().await, (7, 1_700));
        task.abort();
    }

    #[test]
    fn a_drain_that_precedes_the_end_is_not_undone() {
        let status = Status::new(
            "node-a".parse().unwrap(),
            "eu".parse().unwrap(),
            10,
            Vec::new(),
            Instant::now(),
        );
        assert_eq!(status.set_draining(true).state(), NodeState::Draining);
        assert_eq!(status.set_draining(false).state(), NodeState::Serving);
        assert_eq!(status.begin_to_end().state(), NodeState::Draining);
        assert_eq!(status.set_draining(false).state(), NodeState::Draining);
        status.update(None, Instant::now());
        assert_eq!(status.state(), NodeState::Draining);
    }
}
