//! A node's record as Consul keeps it: a service with a heartbeat and a gRPC check.
//!
//! Pure: records in and JSON out, JSON in and records out. Only fields that Consul 1.8 knows: it
//! refuses all others.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use pipemesh_proto::CONTRACT_VERSION;
use pipemesh_proto::ids::NodeId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::pipe_address::PipeAddress;
use crate::snapshot::{NodeRecord, NodeState};

/// Who feeds the heartbeat is alive. Three may get lost.
const HEARTBEAT_WITHIN: &str = "10s";
const PROBE_EVERY: &str = "2s";
const PROBE_WITHIN: &str = "1s";
/// One late answer of a busy node is no death. Signaling notices a real one by itself, and sooner.
const FAILURES_BEFORE_CRITICAL: u32 = 2;
/// The shortest that Consul takes. Nobody waits for it: what is critical is gone at once.
const FORGOTTEN_AFTER: &str = "1m";

const PIPE_ADDRESSES: &str = "pipe_addrs";
const PIPE_KEY: &str = "pipe_key";

/// Which of several processes with one node id holds it: the greatest.
///
/// The generation is a time in ms, or one more than that of the process before if that is later:
/// clocks that differ do not keep a node from being taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    pub(super) generation: u64,
    pub(super) boot_id: u64,
}

/// The ids of a node's service and checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) service: String,
    /// These name the boot: those of an earlier one are unknown once the record is taken over.
    pub(super) heartbeat: String,
    pub(super) probe: String,
}

impl Ids {
    pub(super) fn new(service: &ServiceName, node: &NodeId, boot_id: u64) -> Self {
        Self::of(&format!("{service}-{node}"), boot_id)
    }

    fn of(service: &str, boot_id: u64) -> Self {
        Self {
            service: service.to_owned(),
            heartbeat: format!("{service}:ttl:{boot_id}"),
            probe: format!("{service}:grpc:{boot_id}"),
        }
    }
}

/// What all nodes of a mesh are called in Consul, whose DNS answers to it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceName(String);

/// Why a text is not a service's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not 1 to 63 characters of a-z, 0-9 and -, the first and last not -")]
pub struct InvalidServiceName(String);

impl Default for ServiceName {
    fn default() -> Self {
        Self("pipemesh-node".to_owned())
    }
}

impl FromStr for ServiceName {
    type Err = InvalidServiceName;

    fn from_str(text: &str) -> Result<Self, InvalidServiceName> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let valid = (1..=63).contains(&text.len())
            && text.bytes().all(allowed)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidServiceName(text.to_owned()))
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Passing,
    Warning,
    Critical,
}

/// How the checks of a new record stand until they are fed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Initial {
    pub(super) heartbeat: Status,
    pub(super) probe: Status,
}

/// What an agent is told to register.
pub(super) fn registration(
    service: &ServiceName,
    node: &NodeRecord,
    generation: u64,
    tls: bool,
    initial: Initial,
) -> Result<Value, BadAddress> {
    let ids = Ids::new(service, &node.id, node.boot_id);
    let (host, port) = split(&node.grpc_address)?;
    let release = env!("CARGO_PKG_VERSION");
    let mut meta = json!({
        "node_id": node.id.as_str(),
        "region": node.region.as_str(),
        "boot_id": node.boot_id.to_string(),
        "generation": generation.to_string(),
        "weight": node.weight.to_string(),
        "version": release,
        "contract": CONTRACT_VERSION.to_string(),
    });
    if let Some(pipe) = &node.pipe {
        meta[PIPE_ADDRESSES] = pipe.addresses_text().into();
        meta[PIPE_KEY] = pipe.key_text().into();
    }
    Ok(json!({
        "ID": ids.service,
        "Name": service.to_string(),
        "Address": host,
        "Port": port,
        "Tags": [format!("region={}", node.region), format!("v{release}")],
        "Meta": meta,
        "Checks": [
            {
                "CheckID": ids.heartbeat,
                "Name": "heartbeat",
                "TTL": HEARTBEAT_WITHIN,
                "Status": initial.heartbeat,
                "DeregisterCriticalServiceAfter": FORGOTTEN_AFTER,
            },
            {
                "CheckID": ids.probe,
                "Name": "gRPC health",
                "GRPC": node.grpc_address,
                "GRPCUseTLS": tls,
                "Interval": PROBE_EVERY,
                "Timeout": PROBE_WITHIN,
                "FailuresBeforeCritical": FAILURES_BEFORE_CRITICAL,
                "Status": initial.probe,
                "DeregisterCriticalServiceAfter": FORGOTTEN_AFTER,
            },
        ],
    }))
}

#[derive(Debug, thiserror::Error)]
#[error("the control endpoint's address {0:?} is not host:port")]
pub(super) struct BadAddress(String);

fn split(address: &str) -> Result<(&str, u16), BadAddress> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        Some((host, port.parse::<u16>().ok()?)).filter(|(host, _)| !host.is_empty())
    });
    parts.ok_or_else(|| BadAddress(address.to_owned()))
}

fn join(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// One service as `/v1/health/service` answers it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    service: Service,
    #[serde(default)]
    checks: Option<Vec<Check>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    address: String,
    port: u16,
    #[serde(default)]
    meta: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(rename = "CheckID")]
    id: String,
    status: String,
}

/// What an answer says of the nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) living: BTreeMap<NodeId, NodeRecord>,
    /// Who holds each node id, dead ones too.
    pub(super) holders: BTreeMap<NodeId, Claim>,
    /// Services whose records say too little, or what cannot be.
    pub(super) unreadable: BTreeSet<String>,
}

impl Listing {
    pub(super) fn is_empty(&self) -> bool {
        self.holders.is_empty() && self.unreadable.is_empty()
    }

    pub(super) fn read(entries: &[Entry]) -> Self {
        let mut listing = Self::default();
        let mut newest: BTreeMap<NodeId, (Claim, Option<NodeRecord>)> = BTreeMap::new();
        for entry in entries {
            let Some((claim, record)) = entry.read() else {
                listing.unreadable.insert(entry.service.id.clone());
                continue;
            };
            let (id, claimed) = (record.id.clone(), newest.get(&record.id));
            if claimed.is_none_or(|(earlier, _)| *earlier < claim) {
                let state = entry.state(claim.boot_id);
                let record = state.map(|state| NodeRecord { state, ..record });
                newest.insert(id, (claim, record));
            }
        }
        for (id, (claim, record)) in newest {
            listing.holders.insert(id.clone(), claim);
            if let Some(record) = record {
                listing.living.insert(id, record);
            }
        }
        listing
    }
}

impl Entry {
    fn read(&self) -> Option<(Claim, NodeRecord)> {
        let meta = |name: &str| self.service.meta.as_ref()?.get(name).map(String::as_str);
        let boot_id = meta("boot_id")?.parse().ok()?;
        let claim = Claim {
            generation: meta("generation").map_or(Some(0), |text| text.parse().ok())?,
            boot_id,
        };
        let record = NodeRecord {
            id: meta("node_id")?.parse().ok()?,
            region: meta("region")?.parse().ok()?,
            grpc_address: join(&self.service.address, self.service.port),
            boot_id,
            weight: meta("weight")?.parse().ok()?,
            // One that cannot be read is a later version's: the node serves clients all the same.
            pipe: meta(PIPE_ADDRESSES)
                .zip(meta(PIPE_KEY))
                .and_then(|(addresses, key)| PipeAddress::parse(addresses, key).ok()),
            state: NodeState::Serving,
        };
        Some((claim, record))
    }

    /// `None`: gone.
    fn state(&self, boot_id: u64) -> Option<NodeState> {
        let ids = Ids::of(&self.service.id, boot_id);
        let mut state = NodeState::Serving;
        for check in self.checks.iter().flatten() {
            let is_heartbeat = check.id == ids.heartbeat;
            let is_own = is_heartbeat || check.id == ids.probe;
            let of_service = check.id.strip_prefix(&self.service.id);
            if !is_own && of_service.is_some_and(|rest| rest.starts_with(':')) {
                // Of an earlier boot.
                continue;
            }
            let decides = is_own || check.id == "serfHealth";
            match check.status.as_str() {
                "passing" => {}
                "warning" if is_heartbeat => state = state.max(NodeState::Full),
                "warning" => {}
                _ if decides => return None,
                // Maintenance, or a check that the operator has added: nobody new.
                _ => state = state.max(NodeState::Draining),
            }
        }
        Some(state)
    }
}
