//! Where other nodes' pipes are, as the registry says.

use std::net::SocketAddr;
use std::sync::Arc;

use pipemesh_proto::ids::NodeId;
use pipemesh_topology::Snapshot;
use tokio::sync::watch;

use super::connection::Failed;
use super::tls::KeyHash;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Peers(watch::Receiver<Arc<Snapshot>>);

/// A node that has pipes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    /// `host:port`, the best first.
    pub(super) addresses: Vec<String>,
    pub(super) key: KeyHash,
}

impl Peers {
    pub(super) fn new(nodes: watch::Receiver<Arc<Snapshot>>) -> Self {
        Self(nodes)
    }

    pub(super) fn find(&self, node: &NodeId) -> Option<Peer> {
        let nodes = self.0.borrow();
        let pipe = nodes.node(node)?.pipe.as_ref()?;
        Some(Peer {
            addresses: pipe.addresses().map(str::to_owned).collect(),
            key: *pipe.key(),
        })
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.borrow())
    }

    /// Waits for the registry to say something new; for ever if it is gone.
    pub(super) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.0.mark_unchanged();
    }
}

/// The first address of a name.
pub(super) async fn resolve(address: &str) -> Result<SocketAddr, Failed> {
    let failed = |source| Failed::Address(address.to_owned(), source);
    let found = tokio::net::lookup_host(address).await;
    let mut found = found.map_err(|error| failed(Some(error)))?;
    found.next().ok_or_else(|| failed(None))
}
