//! Calls other nodes, and knows who calls whom.

use std::sync::Arc;
use std::time::Instant;

use pipemesh_proto::ids::NodeId;

use super::connection::{self, Established, Failed, Introduction};
use super::narrow::Narrow;
use super::peers::Peers;
use super::tls::Tls;
use super::transport::MTU;

/// See the module.
#[derive(Clone)]
pub(super) struct Caller(Arc<Parts>);

struct Parts {
    endpoint: quinn::Endpoint,
    tls: Tls,
    own: Introduction,
    peers: Peers,
    narrow: Narrow,
}

impl Caller {
    pub(super) fn new(
        endpoint: quinn::Endpoint,
        tls: Tls,
        own: Introduction,
        peers: Peers,
    ) -> Self {
        Self(Arc::new(Parts {
            endpoint,
            tls,
            own,
            peers,
            narrow: Narrow::default(),
        }))
    }

    /// Whether it is this node's turn to call: of two, the one with the smaller id does.
    pub(super) fn is_first(&self, node: &NodeId) -> bool {
        self.0.own.node < *node
    }

    pub(super) async fn call(&self, node: &NodeId) -> Result<Established, Failed> {
        let Parts {
            endpoint,
            tls,
            own,
            peers,
            narrow,
        } = &*self.0;
        let calling = connection::dial(endpoint, tls, own, peers, narrow, node);
        in_time(calling).await
    }

    pub(super) async fn hear(&self, incoming: quinn::Incoming) -> Result<Established, Failed> {
        let Parts {
            tls,
            own,
            peers,
            narrow,
            ..
        } = &*self.0;
        in_time(connection::accept(incoming, tls, own, peers, narrow)).await
    }

    /// Full datagrams get lost on the way to this connection's other end; `false`: that was known.
    pub(super) fn note_narrow(&self, connection: &quinn::Connection) -> bool {
        self.0.narrow.add(connection.remote_address().ip())
    }

    /// Whether a connection began with shorter datagrams than a new one would, and longer ones have been found
    /// to get through.
    pub(super) fn is_bettered(&self, established: &Established) -> bool {
        let connection = &established.connection;
        let address = connection.remote_address().ip();
        established.floor < MTU
            && self.0.narrow.path(address, Instant::now()).mtu > established.floor
            && connection.stats().path.current_mtu >= MTU
    }

    /// What gets through to this connection's other end, as far as is known.
    pub(super) fn learn_mtu(&self, connection: &quinn::Connection) {
        let mtu = connection.stats().path.current_mtu;
        (self.0.narrow).learn(connection.remote_address().ip(), mtu);
    }
}

/// Whoever takes longer holds a place that others wait for.
async fn in_time(
    meeting: impl Future<Output = Result<Established, Failed>>,
) -> Result<Established, Failed> {
    let met = tokio::time::timeout(connection::MEETING_WITHIN, meeting).await;
    met.unwrap_or(Err(Failed::Silent))
}
