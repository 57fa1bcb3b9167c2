//! The registry of the embedded default: nodes and signaling share one process.

use std::sync::Arc;

use async_trait::async_trait;
use pipemesh_proto::ids::NodeId;
use tokio::sync::watch;

use super::{Registry, RegistryError};
use crate::snapshot::{NodeRecord, Snapshot};

#[derive(Debug)]
pub struct MemoryRegistry {
    snapshot: watch::Sender<Arc<Snapshot>>,
}

impl Default for MemoryRegistry {
    fn default() -> Self {
        Self {
            snapshot: watch::Sender::new(Arc::default()),
        }
    }
}

impl MemoryRegistry {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the list of nodes; watchers are woken only if it differs afterwards.
    fn change(
        &self,
        change: impl FnOnce(&mut Vec<NodeRecord>) -> Result<(), RegistryError>,
    ) -> Result<(), RegistryError> {
        let mut outcome = Ok(());
        self.snapshot.send_if_modified(|snapshot| {
            let mut nodes = snapshot.nodes().to_vec();
            outcome = change(&mut nodes);
            let next = Snapshot::new(nodes);
            let changed = outcome.is_ok() && next != **snapshot;
            if changed {
                *snapshot = Arc::new(next);
            }
            changed
        });
        outcome
    }
}

/// Where the record of this boot stands.
fn place(nodes: &[NodeRecord], id: &NodeId, boot_id: u64) -> Result<usize, RegistryError> {
    let place = nodes.iter().position(|node| node.id == *id);
    let place = place.ok_or_else(|| RegistryError::NotRegistered(id.clone()))?;
    if nodes[place].boot_id == boot_id {
        Ok(place)
    } else {
        Err(RegistryError::TakenOver(id.clone()))
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn register(&self, node: NodeRecord) -> Result<(), RegistryError> {
        self.change(|nodes| {
            nodes.push(node);
            Ok(())
        })
    }

    async fn update(&self, node: NodeRecord) -> Result<(), RegistryError> {
        self.change(|nodes| {
            let place = place(nodes, &node.id, node.boot_id)?;
            nodes[place] = node;
            Ok(())
        })
    }

    async fn deregister(&self, node: &NodeId, boot_id: u64) -> Result<(), RegistryError> {
        self.change(|nodes| {
            let place = place(nodes, node, boot_id)?;
            nodes.remove(place);
            Ok(())
        })
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PipeAddress;
    use crate::snapshot::NodeState;
    use crate::snapshot::tests::record;

    #[tokio::test]
    async fn a_watcher_sees_every_change_and_nothing_else() {
        let registry = MemoryRegistry::new();
        let mut watch = registry.watch();
        let node = record("a", "eu");
        registry.register(node.clone()).await.unwrap();
        watch.changed().await.unwrap();
        assert_eq!(
            watch.borrow_and_update().nodes(),
            std::slice::from_ref(&node)
        );

        registry.update(node.clone()).await.unwrap();
        assert!(!watch.has_changed().unwrap(), "nothing differs");

        for changed in [
            NodeRecord {
                state: NodeState::Draining,
                ..node.clone()
            },
            NodeRecord {
                pipe: PipeAddress::new(["10.0.0.5:7902".to_owned()], [7; 32]).ok(),
                ..node.clone()
            },
        ] {
            registry.update(changed.clone()).await.unwrap();
            assert!(watch.has_changed().unwrap());
            assert_eq!(watch.borrow_and_update().nodes(), [changed]);
        }

        registry.deregister(&node.id, node.boot_id).await.unwrap();
        assert_eq!(watch.borrow_and_update().nodes(), []);
    }

    #[tokio::test]
    async fn an_earlier_boot_can_no_longer_write() {
        let registry = MemoryRegistry::new();
        let old = record("a", "eu");
        let new = NodeRecord {
            boot_id: 2,
            ..old.clone()
        };
        let unknown = registry.update(old.clone()).await;
        assert!(matches!(unknown, Err(RegistryError::NotRegistered(_))));
        registry.register(old.clone()).await.unwrap();
        registry.register(new.clone()).await.unwrap();
        let update = registry.update(old.clone()).await;
        assert!(matches!(update, Err(RegistryError::TakenOver(_))));
        let deregister = registry.deregister(&old.id, old.boot_id).await;
        assert!(matches!(deregister, Err(RegistryError::TakenOver(_))));
        assert_eq!(registry.watch().borrow().nodes(), [new]);
    }
}
