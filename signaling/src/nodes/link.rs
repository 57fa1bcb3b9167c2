//! The connection to one node, and its reports.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pipemesh_proto::auth::{ClusterKey, ShowBearer};
use pipemesh_proto::node::node_client::NodeClient;
use pipemesh_proto::node::{NodeReport, WatchRequest};
use pipemesh_proto::{CONTRACT_VERSION, CONTRACT_VERSION_MIN};
use pipemesh_topology::NodeRecord;
use rand::Rng;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

use super::silence::{CONNECT_LIMIT, Next, REPORT_LIMIT, Signs, Silence, Why};

/// A silent host is noticed after twice this. Shorter: busy hosts are taken for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Pause before a node that was lost is tried again, growing from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(2);

/// Snapshots of large sessions must fit.
const MAX_MESSAGE: usize = 16 << 20;

/// Bytes a node may send ahead of what is read, per session and in all. Sessions share one
/// connection: a small sum would let one that is slow stop the others.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;

/// How to talk to nodes.
#[derive(Clone, Default)]
pub struct Control {
    /// Both sides show certificates.
    pub tls: Option<ClientTlsConfig>,
    /// This side shows a bearer.
    pub key: Option<ClusterKey>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The TLS configuration would print its key.
        f.debug_struct("Control")
            .field("tls", &self.tls.is_some())
            .field("key", &self.key)
            .finish()
    }
}

pub(super) type Client = NodeClient<InterceptedService<Channel, ShowBearer>>;

#[derive(Debug)]
pub(super) struct Link {
    address: String,
    boot_id: u64,
    client: Result<Client, Unusable>,
    /// Counts how often it was lost: silent, or not to be reached, and when it was asked once more.
    losses: watch::Sender<u64>,
    signs: Arc<Signs>,
}

/// Why a node cannot be talked to, whatever it does.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Unusable {
    #[error("{0:?} is not an address with a port")]
    Address(String),
    #[error("the TLS configuration cannot be used: {0}")]
    Tls(String),
    #[error(
        "{0} is not on this machine; without mutual TLS or a cluster secret only this machine is \
         talked to"
    )]
    NotLocal(String),
}

impl Link {
    pub(super) fn new(record: &NodeRecord, control: &Control) -> Self {
        let address = record.grpc_address.clone();
        Self {
            client: client(&address, control),
            boot_id: record.boot_id,
            address,
            losses: watch::Sender::new(0),
            signs: Arc::new(Signs::new(Instant::now())),
        }
    }

    pub(super) fn is_to(&self, record: &NodeRecord) -> bool {
        self.address == record.grpc_address && self.boot_id == record.boot_id
    }

    /// # Errors
    /// When the node cannot be talked to at all.
    pub(super) fn client(&self) -> Result<Client, Unusable> {
        self.client.clone()
    }

    /// Changes when the node is lost.
    pub(super) fn losses(&self) -> watch::Receiver<u64> {
        self.losses.subscribe()
    }

    /// Where streams of the node note that it lives.
    pub(super) fn signs(&self) -> Arc<Signs> {
        Arc::clone(&self.signs)
    }

    /// Hears the node's reports for ever; `None`: it was lost.
    pub(super) async fn watch(&self, mut report: impl FnMut(Option<NodeReport>)) {
        let client = match &self.client {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(address = self.address, %error, "a node cannot be used");
                report(None);
                return;
            }
        };
        let mut silence = Silence::new(Instant::now());
        let (mut pause, mut complained, mut first) = (RETRY_FIRST, false, REPORT_LIMIT);
        loop {
            silence.handle_asked(Instant::now());
            let outcome = hear(client.clone(), first, |next| {
                (pause, complained) = (RETRY_FIRST, false);
                let limit = silence.handle_report(interval_of(&next), Instant::now());
                report(Some(next));
                limit
            });
            let status = outcome.await;
            let why = match status.code() {
                Code::DeadlineExceeded => Why::Late,
                _ if says_that_it_is_gone(&status) => Why::Gone,
                _ => Why::Broken,
            };
            let next = silence.handle_end(why, self.signs.last(), Instant::now());
            let (Next::Ask(limit) | Next::Retry(limit) | Next::GiveUp(limit)) = next;
            first = limit;
            if let Next::Ask(_) = next {
                continue;
            }
            report(None);
            if let Next::GiveUp(_) = next {
                self.losses.send_modify(|losses| *losses += 1);
            }
            if !std::mem::replace(&mut complained, true) {
                let reason = status.message();
                tracing::warn!(
                    address = self.address,
                    reason,
                    "a node's reports are not heard"
                );
            }
            // Not all signaling processes at once.
            let spread = rand::rng().random_range(0.5..1.5);
            tokio::time::sleep(pause.mul_f64(spread)).await;
            pause = (pause * 2).min(RETRY_LAST);
        }
    }
}

/// Returns why no more reports come. `report` answers how long the next one is waited for.
async fn hear(
    mut client: Client,
    first: Duration,
    mut report: impl FnMut(NodeReport) -> Duration,
) -> Status {
    let late = |_| Status::deadline_exceeded("no report in time");
    let watch = tokio::time::timeout(first, client.watch(WatchRequest {})).await;
    let mut reports = match watch.map_err(late).and_then(|watch| watch) {
        Ok(reports) => reports.into_inner(),
        Err(status) => return status,
    };
    let mut limit = first;
    loop {
        let next = tokio::time::timeout(limit, reports.message()).await;
        match next.map_err(late).and_then(|next| next) {
            Ok(Some(next)) if speaks_our_contract(&next) => {
                limit = report(next);
            }
            Ok(Some(_)) => return Status::failed_precondition("speaks another contract version"),
            Ok(None) => return Status::unavailable("the node ended its reports"),
            Err(status) => return status,
        }
    }
}

/// Whether an error is that nobody takes a connection: the node's process is gone, and all of its sessions
/// with it.
pub(super) fn says_that_it_is_gone(error: &(dyn Error + 'static)) -> bool {
    let mut errors = std::iter::successors(Some(error), |&error| error.source());
    errors.any(|error| {
        let error = error.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    })
}

/// How often the node reports, if it says so.
fn interval_of(report: &NodeReport) -> Option<Duration> {
    match report.report_every_ms {
        0 => None,
        every => Some(Duration::from_millis(every.into())),
    }
}

/// A node that does not say speaks the first version.
fn speaks_our_contract(report: &NodeReport) -> bool {
    let (min, max) = (report.version_min.max(1), report.version_max.max(1));
    min <= CONTRACT_VERSION && CONTRACT_VERSION_MIN <= max
}

fn client(address: &str, control: &Control) -> Result<Client, Unusable> {
    let bad_address = || Unusable::Address(address.to_owned());
    if control.tls.is_none() && control.key.is_none() && !is_local(address) {
        return Err(Unusable::NotLocal(address.to_owned()));
    }
    let scheme = if control.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let endpoint =
        Endpoint::from_shared(format!("{scheme}://{address}")).map_err(|_| bad_address())?;
    let mut endpoint = endpoint
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    if let Some(tls) = &control.tls {
        let tls = endpoint.tls_config(tls.clone());
        endpoint = tls.map_err(|error| Unusable::Tls(error.to_string()))?;
    }
    let bearer = ShowBearer(control.key.clone());
    let client = NodeClient::with_interceptor(endpoint.connect_lazy(), bearer);
    Ok(client
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE))
}

fn is_local(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|host| host.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_this_machine_is_talked_to_without_credentials() {
        let check = |address: &str, control: &Control, expected: bool| {
            assert_eq!(client(address, control).is_ok(), expected, "{address}");
        };
        let none = Control::default();
        check("127.0.0.1:7901", &none, true);
        check("[::1]:7901", &none, true);
        check("localhost:7901", &none, true);
        check("192.0.2.1:7901", &none, false);
        check("localhost.example:7901", &none, false);
        let key = ClusterKey::new(&[7; 32]).unwrap();
        let keyed = Control {
            key: Some(key),
            tls: None,
        };
        check("192.0.2.1:7901", &keyed, true);
        check("not an address", &keyed, false);
    }

    #[test]
    fn versions_overlap_or_do_not() {
        let check = |version_min, version_max, expected| {
            let report = NodeReport {
                version_min,
                version_max,
                ..Default::default()
            };
            assert_eq!(speaks_our_contract(&report), expected);
        };
        check(0, 0, true);
        check(1, 1, true);
        check(1, 9, true);
        check(2, 9, false);
    }
}
