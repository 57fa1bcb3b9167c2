//! The reference: the contract served by nobody who has anything to do. Each request is answered at
//! once with what the node answered to the same.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use pipemesh_proto::node::node_server::{Node, NodeServer};
use pipemesh_proto::node::{
    DrainRequest, InspectPipesRequest, InspectPipesResponse, InspectRoomRequest,
    InspectRoomResponse, ListRoomsRequest, ListRoomsResponse, NodeReport, SessionEvent,
    SessionRequest, UndrainRequest, WatchRequest,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// What the next call is answered.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    pub(crate) event: SessionEvent,
    pub(crate) report: NodeReport,
    pub(crate) rooms: ListRoomsResponse,
    pub(crate) room: InspectRoomResponse,
}

#[derive(Clone, Default)]
pub(crate) struct Echo {
    // Of the caller, who sets them, and the server, who copies them; held for one of the two.
    replies: Arc<Mutex<Replies>>,
}

impl Echo {
    pub(crate) fn replies(&self) -> MutexGuard<'_, Replies> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves as a node does: no delay, keep-alive.
    pub(crate) async fn serve(self) -> anyhow::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let incoming = TcpListenerStream::new(listener).map(|accepted| {
            accepted.inspect(|stream| {
                // Refused only by a connection that is gone already.
                let _ = stream.set_nodelay(true);
            })
        });
        let server = Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(1)))
            .http2_keepalive_timeout(Some(Duration::from_secs(2)))
            .add_service(NodeServer::new(self));
        tokio::spawn(server.serve_with_incoming(incoming));
        Ok(address)
    }
}

#[tonic::async_trait]
impl Node for Echo {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<SessionEvent, Status>> + Send>>;

    async fn session(
        &self,
        requests: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let echo = self.clone();
        let events = requests.into_inner().map(move |request| {
            let request_id = request?.request_id;
            let event = echo.replies().event.event.clone();
            Ok(SessionEvent { request_id, event })
        });
        Ok(Response::new(Box::pin(events)))
    }

    type WatchStream = tokio_stream::Empty<Result<NodeReport, Status>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<NodeReport>, Status> {
        Ok(Response::new(self.replies().report.clone()))
    }

    async fn undrain(&self, _: Request<UndrainRequest>) -> Result<Response<NodeReport>, Status> {
        Ok(Response::new(self.replies().report.clone()))
    }

    async fn list_rooms(
        &self,
        _: Request<ListRoomsRequest>,
    ) -> Result<Response<ListRoomsResponse>, Status> {
        Ok(Response::new(self.replies().rooms.clone()))
    }

    async fn inspect_room(
        &self,
        _: Request<InspectRoomRequest>,
    ) -> Result<Response<InspectRoomResponse>, Status> {
        Ok(Response::new(self.replies().room.clone()))
    }

    async fn inspect_pipes(
        &self,
        _: Request<InspectPipesRequest>,
    ) -> Result<Response<InspectPipesResponse>, Status> {
        Err(Status::unimplemented("it is not measured"))
    }
}
