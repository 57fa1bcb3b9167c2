//! Signaling's end of the control channel, as short as can be: one request at a time.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pipemesh_proto::node::node_client::NodeClient;
use pipemesh_proto::node::session_event::Event;
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{OfferCreated, SessionEvent, SessionRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

pub(crate) type Client = NodeClient<Channel>;

/// How long anything may take: what takes longer never comes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects as signaling does.
pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<Client> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(1))
        .keep_alive_timeout(Duration::from_secs(1))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(64 << 20);
    Ok(NodeClient::new(endpoint.connect().await?))
}

/// The stream of one session.
pub(crate) struct Stream {
    requests: mpsc::Sender<SessionRequest>,
    events: Streaming<SessionEvent>,
    /// Came while something else was waited for.
    offer: Option<OfferCreated>,
    last_id: u64,
}

impl Stream {
    /// Begins a stream and waits for the answer to its first request.
    pub(crate) async fn begin(
        mut client: Client,
        first: Request,
    ) -> anyhow::Result<(Self, SessionEvent)> {
        let (requests, stream) = mpsc::channel(16);
        let first = SessionRequest {
            request_id: 1,
            request: Some(first),
        };
        requests.try_send(first).context("the channel is new")?;
        let begun = client.session(ReceiverStream::new(stream)).await?;
        let mut stream = Self {
            requests,
            events: begun.into_inner(),
            offer: None,
            last_id: 1,
        };
        let answer = stream.answer(1).await?;
        Ok((stream, answer))
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask(&mut self, request: Request) -> anyhow::Result<SessionEvent> {
        self.last_id += 1;
        let request = SessionRequest {
            request_id: self.last_id,
            request: Some(request),
        };
        let sent = self.requests.send(request).await;
        sent.context("the stream has ended")?;
        self.answer(self.last_id).await
    }

    /// The last offer of the node that nobody has asked for yet, or the next.
    pub(crate) async fn next_offer(&mut self) -> anyhow::Result<OfferCreated> {
        loop {
            if let Some(offer) = self.offer.take() {
                return Ok(offer);
            }
            let event = self.event().await?;
            self.note(event);
        }
    }

    async fn answer(&mut self, request_id: u64) -> anyhow::Result<SessionEvent> {
        loop {
            let event = self.event().await?;
            if event.request_id == request_id {
                let refused = matches!(event.event, Some(Event::Refused(_)));
                ensure!(!refused, "refused: {event:?}");
                return Ok(event);
            }
            self.note(event);
        }
    }

    fn note(&mut self, event: SessionEvent) {
        if let Some(Event::OfferCreated(offer)) = event.event {
            self.offer = Some(offer);
        }
    }

    async fn event(&mut self) -> anyhow::Result<SessionEvent> {
        let next = tokio::time::timeout(PATIENCE, self.events.message());
        let event = next.await.context("waited in vain")??;
        event.context("the stream ended early")
    }
}
