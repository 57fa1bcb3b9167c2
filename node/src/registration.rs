//! Keeps the node's record in the registry: registers, says that the node lives, follows its state,
//! registers again whenever the registry has forgotten it, deregisters in the end. Losing the registry
//! stops nothing here.

use std::sync::Arc;
use std::time::Duration;

use pipemesh_proto::node::{NodeReport, NodeState as ContractState};
use pipemesh_service::Chain;
use pipemesh_topology::registry::{HEARTBEAT, RegistryError};
use pipemesh_topology::{NodeRecord, NodeState, Registry};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::node::Ended;

/// First and longest pause between attempts while the registry cannot be reached.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// A registry that comes back is to know the node within seconds, and one that is away has no work with
/// who tries.
const RETRY_AT_MOST: Duration = Duration::from_secs(2);

/// Runs until `stop`. A node that does not live (`is_alive`) is left to the registry to notice.
/// `registered`: whether the registry has the record, as far as is known.
pub(crate) async fn keep(
    registry: Arc<dyn Registry>,
    mut record: NodeRecord,
    mut reports: watch::Receiver<NodeReport>,
    is_alive: impl Fn() -> bool + Send,
    registered: watch::Sender<bool>,
    stop: CancellationToken,
) -> Result<(), Ended> {
    let mut pause = RETRY_AFTER;
    loop {
        if !is_alive() {
            tokio::select! {
                () = tokio::time::sleep(HEARTBEAT) => continue,
                () = stop.cancelled() => break,
            }
        }
        record.state = state(reports.borrow_and_update().state());
        let is_registered = *registered.borrow();
        let outcome = if is_registered {
            registry.update(record.clone()).await
        } else {
            registry.register(record.clone()).await
        };
        match outcome {
            Ok(()) => {
                if pause > RETRY_AFTER {
                    tracing::info!("the node's record is written again");
                }
                registered.send_replace(true);
                pause = RETRY_AFTER;
                if !changed(&mut reports, &record, &stop).await {
                    break;
                }
            }
            Err(RegistryError::NotRegistered(_)) if is_registered => {
                registered.send_replace(false);
            }
            Err(RegistryError::TakenOver(_)) => return Err(Ended::TakenOver),
            Err(error @ (RegistryError::NotRegistered(_) | RegistryError::Unavailable(_))) => {
                if pause == RETRY_AFTER {
                    let error = Chain(&error).to_string();
                    tracing::warn!(error, "cannot write the node's record; trying again");
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_AT_MOST),
                    () = stop.cancelled() => break,
                }
            }
        }
    }
    registered.send_replace(false);
    if let Err(error) = registry.deregister(&record.id, record.boot_id).await {
        let error = Chain(&error).to_string();
        tracing::warn!(
            error,
            "cannot remove the node's record; the registry will notice"
        );
    }
    Ok(())
}

/// Waits until the node's state differs from the record, or a heartbeat is due; `false`: it is time to
/// stop.
async fn changed(
    reports: &mut watch::Receiver<NodeReport>,
    record: &NodeRecord,
    stop: &CancellationToken,
) -> bool {
    let heartbeat = tokio::time::sleep(HEARTBEAT);
    tokio::pin!(heartbeat);
    loop {
        tokio::select! {
            outcome = reports.changed() => {
                if outcome.is_err() {
                    return false;
                }
            }
            () = &mut heartbeat => return true,
            () = stop.cancelled() => return false,
        }
        if state(reports.borrow().state()) != record.state {
            return true;
        }
    }
}

fn state(state: ContractState) -> NodeState {
    match state {
        ContractState::Draining => NodeState::Draining,
        ContractState::Full => NodeState::Full,
        ContractState::Serving | ContractState::Unspecified => NodeState::Serving,
    }
}

#[cfg(test)]
mod tests;
