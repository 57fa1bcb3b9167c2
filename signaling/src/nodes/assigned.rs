//! Participants that were placed and that their node's report does not count yet: told to the other
//! signaling processes, and heard from them. Else each of them would fill the same node between two reports.
//!
//! What is told can be lost; the node's next report, a second later, counts everybody.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pipemesh_proto::ids::{NodeId, ProcessId};
use pipemesh_service::Chain;
use pipemesh_topology::Store;
use prost::Message;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::Nodes;

/// What is placed within this time is told at once. Longer leaves others in the dark for longer; shorter
/// costs a message for each of those who come together.
const TOGETHER: Duration = Duration::from_millis(20);

/// Pause before a store that failed is listened to again.
const RETRY: Duration = Duration::from_millis(500);

/// To whom it is told: every process listens there, beside what is said to it alone.
const EVERYBODY: &str = "everybody";

/// What was placed and not told yet.
#[derive(Debug, Default)]
pub(super) struct Untold {
    counts: Mutex<BTreeMap<NodeId, u32>>,
    some: Notify,
}

impl Untold {
    pub(super) fn add(&self, node: &NodeId) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(node.clone()).or_default() += 1;
        drop(counts);
        self.some.notify_one();
    }

    fn take(&self) -> BTreeMap<NodeId, u32> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut counts)
    }
}

/// Fields that are not known are skipped.
#[derive(Clone, PartialEq, prost::Message)]
struct Assigned {
    /// The process that placed them.
    #[prost(string, tag = "1")]
    from: String,
    /// Participants by node.
    #[prost(btree_map = "string, uint32", tag = "2")]
    counts: BTreeMap<String, u32>,
}

impl Nodes {
    /// Tells the others whom this process places, and hears whom they place, for as long as it lives.
    pub(crate) async fn share(&self, me: &ProcessId, store: &dyn Store) -> Infallible {
        let everybody = EVERYBODY.parse().expect("it is a valid id");
        tokio::select! {
            never = self.tell(me, &everybody, store) => never,
            never = self.hear(me, &everybody, store) => never,
        }
    }

    async fn tell(&self, me: &ProcessId, everybody: &ProcessId, store: &dyn Store) -> Infallible {
        loop {
            self.untold.some.notified().await;
            sleep(TOGETHER).await;
            let counts = self.untold.take();
            let counts = counts
                .iter()
                .map(|(node, count)| (node.to_string(), *count));
            let said = Assigned {
                from: me.to_string(),
                counts: counts.collect(),
            };
            if let Err(error) = store.tell(everybody, said.encode_to_vec().into()).await {
                let error = Chain(&error).to_string();
                tracing::debug!(error, "other processes were not told who was placed");
            }
        }
    }

    async fn hear(&self, me: &ProcessId, everybody: &ProcessId, store: &dyn Store) -> Infallible {
        loop {
            if let Ok(mut letters) = store.listen(everybody).await {
                while let Some(said) = letters.next().await {
                    self.heard(me, said);
                }
            }
            // That the store is away is said by whoever needs it.
            sleep(RETRY).await;
        }
    }

    fn heard(&self, me: &ProcessId, said: Bytes) {
        let Ok(Assigned { from, counts }) = Assigned::decode(said) else {
            return tracing::warn!("what another process says of its placements cannot be read");
        };
        if from == me.as_str() {
            return;
        }
        for (node, count) in counts {
            if let Ok(node) = node.parse() {
                self.count(&node, count);
            }
        }
    }
}
