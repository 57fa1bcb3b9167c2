//! What pipes have done so far, for metrics and whoever looks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pipemesh_node_core::pipe::schedule::{Class, Reason};
use pipemesh_proto::ids::NodeId;

use super::exchange;
use super::sender::Sender;
use super::traffic::Rates;

/// Of one link, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct LinkStats {
    pub(crate) is_connected: bool,
    /// … and the other node has said something of late.
    pub(crate) is_heard: bool,
    /// How often it has been.
    pub(crate) connections: u64,
    pub(crate) round_trip: Duration,
    /// What packets take from there, since they left; `None`: not known yet.
    pub(crate) latency: Option<Duration>,
    /// Bytes that may be on their way.
    pub(crate) window: u64,
    /// Part of what is sent there that is lost at present.
    pub(crate) loss: f64,
    /// QUIC packets that were lost on their way there.
    pub(crate) lost: u64,
    pub(crate) rates: Rates,
    pub(crate) taken: usize,
    pub(crate) given: usize,
    pub(crate) unsent: Unsent,
    pub(crate) exchanged: exchange::Stats,
}

/// Packets of media that did not leave, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Unsent {
    pub(crate) unconnected: u64,
    pub(crate) too_long: u64,
    pub(crate) by_schedule: [u64; Reason::COUNT],
}

impl Unsent {
    pub(super) fn add(&mut self, sender: &Sender) {
        self.too_long += sender.too_long;
        for (sum, reason) in self.by_schedule.iter_mut().zip(Reason::ALL) {
            let dropped = Class::ALL.map(|class| sender.stats().dropped(class, reason).packets);
            *sum += dropped.iter().sum::<u64>();
        }
    }
}

/// Why a connection did not come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// The other node is not who it should be, or not of this cluster, or says so of this one.
    NotAdmitted,
    /// No version that both speak.
    Version,
    /// What it said made no sense, or it said nothing.
    Protocol,
    /// It cannot be reached.
    Unreachable,
}

impl Refusal {
    pub(crate) const ALL: [Self; 4] = [
        Self::NotAdmitted,
        Self::Version,
        Self::Protocol,
        Self::Unreachable,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::NotAdmitted => "not_admitted",
            Self::Version => "version",
            Self::Protocol => "protocol",
            Self::Unreachable => "unreachable",
        }
    }
}

/// Written by links and whoever calls, read by whoever asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct PipeStats(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    links: BTreeMap<NodeId, LinkStats>,
    refusals: BTreeMap<Refusal, u64>,
}

impl PipeStats {
    pub(super) fn set(&self, node: &NodeId, stats: LinkStats) {
        let mut known = self.lock();
        match known.links.get_mut(node) {
            Some(last) => *last = stats,
            None => drop(known.links.insert(node.clone(), stats)),
        }
    }

    pub(super) fn forget(&self, node: &NodeId) {
        self.lock().links.remove(node);
    }

    pub(super) fn count(&self, refusal: Refusal) {
        *self.lock().refusals.entry(refusal).or_default() += 1;
    }

    pub(crate) fn links(&self) -> Vec<(NodeId, LinkStats)> {
        let known = self.lock();
        let links = known.links.iter();
        links.map(|(node, stats)| (node.clone(), *stats)).collect()
    }

    pub(crate) fn refusals(&self, refusal: Refusal) -> u64 {
        self.lock().refusals.get(&refusal).copied().unwrap_or(0)
    }

    // Held for one look-up or change.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
