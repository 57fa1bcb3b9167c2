//! A participant's stream to its node.

use std::sync::Arc;
use std::time::Duration;

use pipemesh_proto::ids::{NodeId, SessionId};
use pipemesh_proto::node::session_event::Event;
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{
    Attach, Close, CloseReason, Code, SessionEvent, SessionRequest, Snapshot,
};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::Nodes;
use super::link::says_that_it_is_gone;
use super::silence::Signs;

/// Requests on their way to the transport. Full: the session waits, and takes nothing more from its
/// client meanwhile.
const REQUESTS: usize = 64;

/// Time for a stream to stand and for its first answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// Attempts to restore a stream while the node may live, and the pause between them.
const ATTACH_ATTEMPTS: u32 = 4;
const ATTACH_PAUSE: Duration = Duration::from_millis(150);

/// Time for one of them.
const ATTACH_LIMIT: Duration = Duration::from_secs(1);

/// The number of the attach request: the session's own numbers are far below.
const ATTACH_ID: u64 = u64::MAX;

pub(crate) struct NodeStream {
    requests: mpsc::Sender<SessionRequest>,
    events: Streaming<SessionEvent>,
    /// Of the node.
    losses: watch::Receiver<u64>,
    signs: Arc<Signs>,
}

/// A stream that was restored, and what the node has.
pub(crate) struct Attached {
    pub(crate) stream: NodeStream,
    pub(crate) snapshot: Snapshot,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The node is not in the registry, or must not be talked to.
    #[error("the node is not known")]
    Unknown,
    #[error("the node did not answer in time")]
    Timeout,
    #[error("the node's stream failed")]
    Status(#[source] Box<Status>),
    #[error("the node ended the stream")]
    Ended,
    #[error("the node is silent")]
    Silent,
    /// The node answered; what it knows is this.
    #[error("the node refused: {code:?} {message}")]
    Refused { code: Code, message: String },
}

impl StreamError {
    /// Whether it is about the node rather than the session.
    pub(crate) fn is_of_node(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }

    /// Whether somebody else holds the session by a later claim.
    pub(crate) fn is_taken_over(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: Code::TakenOver,
                ..
            }
        )
    }
}

impl NodeStream {
    /// # Errors
    /// When the stream broke, or the node is lost: on a stream, that would be noticed later.
    pub(crate) async fn event(&mut self) -> Result<SessionEvent, StreamError> {
        tokio::select! {
            biased;
            event = self.events.message() => match event {
                Ok(Some(event)) => {
                    self.signs.note(Instant::now());
                    Ok(event)
                }
                Ok(None) => Err(StreamError::Ended),
                Err(status) => Err(StreamError::Status(Box::new(status))),
            },
            Ok(()) = self.losses.changed() => Err(StreamError::Silent),
        }
    }

    pub(crate) fn requests(&self) -> &mpsc::Sender<SessionRequest> {
        &self.requests
    }

    /// Ends the session on the node and waits until it has ended, at most `limit`.
    pub(crate) async fn close(mut self, id: u64, reason: CloseReason, limit: Duration) {
        let close = SessionRequest {
            request_id: id,
            request: Some(Request::Close(Close {
                reason: reason.into(),
            })),
        };
        let closed = async {
            if self.requests.send(close).await.is_err() {
                return;
            }
            while let Ok(event) = self.event().await {
                if matches!(event.event, Some(Event::Closed(_))) {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(limit, closed).await;
    }
}

impl Nodes {
    /// Opens a stream with these requests, which are sent without waiting for answers, and waits
    /// for the first event.
    pub(crate) async fn open(
        &self,
        node: &NodeId,
        first: Vec<SessionRequest>,
    ) -> Result<(NodeStream, SessionEvent), StreamError> {
        self.open_stream(node, first, ANSWER_LIMIT).await
    }

    /// Restores the stream of a session that may live on, and is held by the claim of this number.
    pub(crate) async fn attach(
        &self,
        node: &NodeId,
        session: &SessionId,
        claim: u64,
    ) -> Result<Attached, StreamError> {
        let attach = SessionRequest {
            request_id: ATTACH_ID,
            request: Some(Request::Attach(Attach {
                session_id: session.to_string(),
                claim,
            })),
        };
        let mut attempt = 0;
        let (stream, event) = loop {
            attempt += 1;
            let opened = self.open_stream(node, vec![attach.clone()], ATTACH_LIMIT);
            let opened = tokio::select! {
                opened = opened => opened,
                () = self.is_lost(node) => Err(StreamError::Silent),
            };
            match opened {
                Ok(opened) => break opened,
                // Who does not answer was silent before: more of that makes people wait in vain.
                Err(error @ (StreamError::Timeout | StreamError::Silent)) => return Err(error),
                Err(error) if says_that_it_is_gone(&error) => return Err(error),
                Err(error) if attempt == ATTACH_ATTEMPTS || !error.is_of_node() => {
                    return Err(error);
                }
                Err(_) => tokio::time::sleep(ATTACH_PAUSE).await,
            }
        };
        match event.event {
            Some(Event::Snapshot(snapshot)) => Ok(Attached { stream, snapshot }),
            Some(Event::Refused(refused)) => Err(StreamError::Refused {
                code: refused.code(),
                message: refused.message,
            }),
            _ => Err(StreamError::Ended),
        }
    }

    /// Ends a session that another process or task may hold, and waits until it has ended: what it
    /// published is free then. Who has claimed it after `claim` keeps it.
    pub(crate) async fn retire(
        &self,
        node: &NodeId,
        session: &SessionId,
        claim: u64,
        limit: Duration,
    ) {
        let retire = async {
            if let Ok(attached) = self.attach(node, session, claim).await {
                let stream = attached.stream;
                stream.close(1, CloseReason::Replaced, limit).await;
            }
        };
        let _ = tokio::time::timeout(limit, retire).await;
    }

    /// Waits until the node is lost.
    async fn is_lost(&self, node: &NodeId) {
        let losses = self.link(node).map(|link| link.losses());
        if let Some(mut losses) = losses
            && losses.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    async fn open_stream(
        &self,
        node: &NodeId,
        first: Vec<SessionRequest>,
        limit: Duration,
    ) -> Result<(NodeStream, SessionEvent), StreamError> {
        let link = self.link(node).ok_or(StreamError::Unknown)?;
        let mut client = link.client().map_err(|_| StreamError::Unknown)?;
        let (losses, signs) = (link.losses(), link.signs());
        let (requests, outgoing) = mpsc::channel(REQUESTS.max(first.len()));
        for request in first {
            requests.try_send(request).map_err(|_| StreamError::Ended)?;
        }
        let open = async {
            let events = client.session(ReceiverStream::new(outgoing)).await;
            let events = events.map_err(|status| StreamError::Status(Box::new(status)))?;
            let mut stream = NodeStream {
                requests,
                events: events.into_inner(),
                losses,
                signs,
            };
            let event = stream.event().await?;
            Ok((stream, event))
        };
        tokio::time::timeout(limit, open)
            .await
            .map_err(|_| StreamError::Timeout)?
    }
}
