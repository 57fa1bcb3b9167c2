//! Which nodes live: each registers itself, everybody watches.

pub mod consul;
pub mod memory;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pipemesh_proto::ids::NodeId;
use tokio::sync::watch;

use crate::snapshot::{NodeRecord, Snapshot};

/// A registry takes a node for dead that has not been updated for about three times as long.
pub const HEARTBEAT: Duration = Duration::from_secs(3);

/// Each node is the only writer of its own record.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Adds the record, or takes it over from an earlier boot of the same node.
    async fn register(&self, node: NodeRecord) -> Result<(), RegistryError>;

    /// Replaces the record of the same boot, and says that it lives: due every [`HEARTBEAT`], also
    /// when nothing differs.
    async fn update(&self, node: NodeRecord) -> Result<(), RegistryError>;

    /// Removes the record of this boot.
    async fn deregister(&self, node: &NodeId, boot_id: u64) -> Result<(), RegistryError>;

    /// The nodes as last known. While the registry cannot be reached the value stays as it was.
    fn watch(&self) -> watch::Receiver<Arc<Snapshot>>;
}

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry has no record of the node: it has to register again.
    #[error("node {0} is not registered")]
    NotRegistered(NodeId),
    /// Another process took the node's id over. Whoever is told this must not serve any longer.
    #[error("node {0} was taken over by another process")]
    TakenOver(NodeId),
    #[error("the registry cannot be used")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}
