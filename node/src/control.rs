//! The gRPC server: streams of signaling become inputs of sessions. The one place where an error
//! becomes a `Status`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::stream::Map;
use futures_util::{Stream, StreamExt};
use pipemesh_proto::node::node_server::Node;
use pipemesh_proto::node::session_event::Event as Told;
use pipemesh_proto::node::session_request::Request as Asked;
use pipemesh_proto::node::{
    Code, DrainRequest, InspectRoomRequest, InspectRoomResponse, ListRoomsRequest,
    ListRoomsResponse, NodeReport, Refused, SessionEvent, SessionRequest, UndrainRequest,
    WatchRequest,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::session::Refusal;
use crate::session::driver::{Attachment, EventSender, Input, STREAM};
use crate::sessions::Sessions;
use crate::status;

/// Serves the contract.
pub(crate) struct Control {
    sessions: Arc<Sessions>,
    status: Arc<status::Status>,
    /// Ends the streams that would go on for ever.
    closing: CancellationToken,
    last_attachment: AtomicU64,
}

impl Control {
    pub(crate) fn new(
        sessions: Arc<Sessions>,
        status: Arc<status::Status>,
        closing: CancellationToken,
    ) -> Self {
        Self {
            sessions,
            status,
            closing,
            last_attachment: AtomicU64::new(0),
        }
    }

    /// Opens or finds the session that a stream is for.
    fn begin(&self, first: SessionRequest, events: EventSender) -> Result<Held, Refusal> {
        let number = self.last_attachment.fetch_add(1, Ordering::Relaxed) + 1;
        let attachment = Attachment { number, events };
        let request_id = first.request_id;
        match first.request {
            Some(Asked::Open(open)) => {
                let inbox = self.sessions.open(request_id, open, attachment)?;
                Ok(Held {
                    inbox,
                    number,
                    attach: None,
                })
            }
            Some(Asked::Attach(attach)) => {
                let inbox = self.sessions.find(&attach.session_id)?;
                let attach = Some(Input::Attach {
                    request_id,
                    attachment,
                });
                Ok(Held {
                    inbox,
                    number,
                    attach,
                })
            }
            _ => Err(Refusal::new(
                Code::InvalidArgument,
                "the first request of a stream is open or attach",
            )),
        }
    }
}

/// A session as one stream holds it.
struct Held {
    inbox: mpsc::Sender<Input>,
    number: u64,
    attach: Option<Input>,
}

/// A session's events, on their way to signaling.
type Events =
    Map<ReceiverStream<Box<SessionEvent>>, fn(Box<SessionEvent>) -> Result<SessionEvent, Status>>;

type EventStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Node for Control {
    type SessionStream = Events;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut requests = request.into_inner();
        let (events, stream) = mpsc::channel(STREAM);
        let Some(first) = requests.message().await? else {
            return Err(Status::invalid_argument(
                "the stream ended before its first request",
            ));
        };
        if first.request_id == 0 {
            return Err(Status::invalid_argument("request_id is 0"));
        }
        let request_id = first.request_id;
        match self.begin(first, events.clone()) {
            Ok(held) => {
                tokio::spawn(pump(requests, held));
            }
            // The answer ends the stream: its only sender goes with it.
            Err(refusal) => refuse(&events, request_id, refusal),
        }
        let told: Events = ReceiverStream::new(stream).map(|event| Ok(*event));
        Ok(Response::new(told))
    }

    type WatchStream = EventStream<NodeReport>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let closing = self.closing.clone().cancelled_owned();
        let reports = WatchStream::new(self.status.watch())
            .map(Ok)
            .take_until(closing);
        Ok(Response::new(Box::pin(reports)))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<NodeReport>, Status> {
        tracing::info!("draining on request");
        Ok(Response::new(self.status.set_draining(true)))
    }

    async fn undrain(&self, _: Request<UndrainRequest>) -> Result<Response<NodeReport>, Status> {
        tracing::info!("serving again on request");
        Ok(Response::new(self.status.set_draining(false)))
    }

    async fn list_rooms(
        &self,
        _: Request<ListRoomsRequest>,
    ) -> Result<Response<ListRoomsResponse>, Status> {
        Ok(Response::new(ListRoomsResponse {
            rooms: self.sessions.rooms(),
        }))
    }

    async fn inspect_room(
        &self,
        request: Request<InspectRoomRequest>,
    ) -> Result<Response<InspectRoomResponse>, Status> {
        let room = request.into_inner().room_id;
        let sessions = self.sessions.inspect(&room).await;
        let sessions = sessions.map_err(|refusal| Status::invalid_argument(refusal.message))?;
        Ok(Response::new(InspectRoomResponse { sessions }))
    }
}

/// Passes a stream's requests on until it ends, or the session does. The events' end is not held here:
/// the stream ends when the session lets it go.
async fn pump(mut requests: Streaming<SessionRequest>, mut held: Held) {
    if let Some(attach) = held.attach.take()
        && held.inbox.send(attach).await.is_err()
    {
        return;
    }
    loop {
        let message = tokio::select! {
            message = requests.message() => message,
            () = held.inbox.closed() => return,
        };
        // A stream that breaks and one that ends mean the same: signaling is not there any more.
        let Ok(Some(SessionRequest {
            request_id,
            request,
        })) = message
        else {
            break;
        };
        let attachment = held.number;
        let input = match request {
            Some(request) if request_id != 0 => Input::Request {
                attachment,
                request_id,
                request,
                received: Instant::now(),
            },
            // Refused in its turn, behind the answers to what came before.
            _ => Input::Refuse {
                attachment,
                request_id,
                refusal: match request_id {
                    0 => Refusal::new(Code::InvalidArgument, "request_id is 0"),
                    _ => Refusal::new(Code::Unimplemented, "unknown request"),
                },
            },
        };
        if held.inbox.send(input).await.is_err() {
            return;
        }
    }
    // The session may have ended first.
    let _ = held
        .inbox
        .send(Input::Detached {
            attachment: held.number,
        })
        .await;
}

fn refuse(events: &EventSender, request_id: u64, refusal: Refusal) {
    let refused = Refused {
        code: refusal.code.into(),
        message: refusal.message,
    };
    let event = SessionEvent {
        request_id,
        event: Some(Told::Refused(refused)),
    };
    // A full or closed stream is given up by the session's task.
    let _ = events.try_send(Box::new(event));
}
