//! The gRPC server: streams of signaling become inputs of sessions. The one place where an error
//! becomes a `Status`.

mod stream;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt};
use pipemesh_proto::node::node_server::{Node, NodeServer};
use pipemesh_proto::node::session_event::Event as Told;
use pipemesh_proto::node::session_request::Request as Asked;
use pipemesh_proto::node::{
    Code, DrainRequest, InspectPipesRequest, InspectPipesResponse, InspectRoomRequest,
    InspectRoomResponse, ListRoomsRequest, ListRoomsResponse, NodeReport, Refused, SessionEvent,
    SessionRequest, UndrainRequest, WatchRequest,
};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::{Request, Response, Status, Streaming};

use crate::mailbox;
use crate::session::Refusal;
use crate::session::driver::{Attachment, Input, STREAM};
use crate::sessions::Sessions;
use crate::status;
pub(crate) use stream::Requests;

/// The method that a session's stream is opened with.
const SESSION: &str = "/pipemesh.node.v1.Node/Session";

/// Serves the contract.
pub(crate) struct Control {
    sessions: Arc<Sessions>,
    status: Arc<status::Status>,
    /// Ends the streams that would go on for ever.
    closing: CancellationToken,
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
        }
    }

    /// Answers a session's stream, once its first request has come.
    async fn stream(&self, body: Body) -> Result<http::Response<Body>, Status> {
        let mut requests = Requests::new(body);
        let Some(first) = requests.message().await? else {
            return Err(Status::invalid_argument(
                "the stream ended before its first request",
            ));
        };
        if first.request_id == 0 {
            return Err(Status::invalid_argument("request_id is 0"));
        }
        let (events, stream) = mailbox::channel(STREAM);
        let request_id = first.request_id;
        if let Err(refusal) = self.begin(first, requests, events.clone()) {
            // The answer ends the stream: its only sender goes with it.
            refuse(&events, request_id, refusal);
        }
        Ok(stream::respond(stream))
    }

    /// Opens or finds the session that a stream is for.
    fn begin(
        &self,
        first: SessionRequest,
        requests: Requests,
        events: mailbox::Sender<SessionEvent>,
    ) -> Result<(), Refusal> {
        let attachment = Attachment { events, requests };
        let request_id = first.request_id;
        match first.request {
            Some(Asked::Open(open)) => self.sessions.open(request_id, open, attachment),
            Some(Asked::Attach(attach)) => {
                let inbox = self.sessions.find(&attach.session_id)?;
                let attach = Input::Attach {
                    request_id,
                    claim: attach.claim,
                    attachment: Box::new(attachment),
                };
                // A session that ends at this moment takes the stream with it.
                let _ = inbox.send_anyway(attach);
                Ok(())
            }
            _ => Err(Refusal::new(
                Code::InvalidArgument,
                "the first request of a stream is open or attach",
            )),
        }
    }
}

/// The contract's service: streams of sessions are framed here, everything else by tonic.
#[derive(Clone)]
pub(crate) struct Front {
    control: Arc<Control>,
    rest: NodeServer<Control>,
}

impl Front {
    pub(crate) fn new(control: Control) -> Self {
        let control = Arc::new(control);
        let rest = NodeServer::from_arc(Arc::clone(&control));
        Self { control, rest }
    }
}

impl NamedService for Front {
    const NAME: &'static str = <NodeServer<Control> as NamedService>::NAME;
}

impl Service<http::Request<Body>> for Front {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != SESSION {
            return self.rest.call(request);
        }
        let control = Arc::clone(&self.control);
        let body = request.into_body();
        Box::pin(async move {
            let response = control.stream(body).await;
            Ok(response.unwrap_or_else(Status::into_http))
        })
    }
}

type EventStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Node for Control {
    type SessionStream = EventStream<SessionEvent>;

    /// Not reached: see [`Front`].
    async fn session(
        &self,
        _: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        Err(Status::unimplemented(
            "sessions have a framing of their own",
        ))
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
        let report = self.status.set_draining(false);
        if self.status.is_draining() {
            tracing::info!("asked to serve again, but the process ends");
        } else {
            tracing::info!("serving again on request");
        }
        Ok(Response::new(report))
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
        let sessions = self.sessions.inspect(&request.into_inner()).await;
        let sessions = sessions.map_err(|refusal| Status::invalid_argument(refusal.message))?;
        Ok(Response::new(InspectRoomResponse { sessions }))
    }

    async fn inspect_pipes(
        &self,
        request: Request<InspectPipesRequest>,
    ) -> Result<Response<InspectPipesResponse>, Status> {
        let inspected = self.sessions.inspect_pipes(&request.into_inner()).await;
        let inspected = inspected.map_err(|refusal| Status::invalid_argument(refusal.message))?;
        Ok(Response::new(inspected))
    }
}

/// Answers the first request of a stream, in vain.
pub(crate) fn refuse(events: &mailbox::Sender<SessionEvent>, request_id: u64, refusal: Refusal) {
    let refused = Refused {
        code: refusal.code.into(),
        message: refusal.message,
    };
    let event = SessionEvent {
        request_id,
        event: Some(Told::Refused(refused)),
    };
    // Nobody listens any more.
    let _ = events.try_send(event);
}
