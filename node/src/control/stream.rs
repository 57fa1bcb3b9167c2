//! The framing of a session's gRPC stream: requests out of one body, events into the other.
//!
//! tonic's keeps a buffer in each direction, as long as the longest message that went through it, for
//! as long as the stream lives: 25 KB of a session that has exchanged an offer and is at rest. Here
//! nothing is kept between messages. Knows nothing of sessions.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::Frame;
use pipemesh_proto::node::{SessionEvent, SessionRequest};
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http;

use crate::mailbox;

/// What precedes every message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Longest request; what tonic allows unless told otherwise.
const MAX_REQUEST: usize = 4 << 20;

/// What signaling asks on one stream.
#[derive(Debug)]
pub(crate) struct Requests {
    body: Body,
    /// Came and was not taken; empty at rest.
    held: Vec<u8>,
    taken: usize,
}

impl Requests {
    pub(crate) fn new(body: Body) -> Self {
        Self {
            body,
            held: Vec::new(),
            taken: 0,
        }
    }

    /// The next request; `None` at the stream's end. Nothing is lost if this is given up while it waits.
    pub(crate) async fn message(&mut self) -> Result<Option<SessionRequest>, Status> {
        poll_fn(|context| self.poll_message(context)).await
    }

    fn poll_message(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<SessionRequest>, Status>> {
        loop {
            if let Some(request) = self.take()? {
                return Poll::Ready(Ok(Some(request)));
            }
            match ready!(http_body::Body::poll_frame(
                Pin::new(&mut self.body),
                context
            )) {
                // Copied: a slice would hold the whole connection's buffer.
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        // Pieces need not end where requests do.
                        self.held.drain(..self.taken);
                        self.taken = 0;
                        self.held.extend_from_slice(data);
                    }
                }
                Some(Err(status)) => return Poll::Ready(Err(status)),
                None if self.held.is_empty() => return Poll::Ready(Ok(None)),
                None => {
                    let status = Status::internal("the stream ended within a request");
                    return Poll::Ready(Err(status));
                }
            }
        }
    }

    /// A request that has come whole.
    fn take(&mut self) -> Result<Option<SessionRequest>, Status> {
        let rest = self.held.get(self.taken..).unwrap_or_default();
        let Some((prefix, rest)) = rest.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let [compressed, length @ ..] = *prefix;
        if compressed != 0 {
            return Err(Status::unimplemented("requests are taken uncompressed"));
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_REQUEST {
            let message = format!("a request has {length} bytes, at most {MAX_REQUEST} are taken");
            return Err(Status::out_of_range(message));
        }
        let Some(message) = rest.get(..length) else {
            return Ok(None);
        };
        let request = SessionRequest::decode(message)
            .map_err(|error| Status::internal(format!("a request cannot be read: {error}")))?;
        self.taken += PREFIX + length;
        if self.taken == self.held.len() {
            (self.held, self.taken) = (Vec::new(), 0);
        }
        Ok(Some(request))
    }
}

/// Answers a stream with events as they come, until nobody is left to send one.
pub(crate) fn respond(events: mailbox::Receiver<SessionEvent>) -> http::Response<Body> {
    let body = Events {
        events,
        has_ended: false,
    };
    let mut response = http::Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/grpc"),
    );
    response
}

/// A response's body.
struct Events {
    events: mailbox::Receiver<SessionEvent>,
    has_ended: bool,
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let frame = match ready!(self.events.poll_recv(context)) {
            Some(event) => Frame::data(framed(&event)),
            None => {
                self.has_ended = true;
                let mut trailers = http::HeaderMap::with_capacity(1);
                let ok = http::HeaderValue::from_static("0");
                trailers.insert(Status::GRPC_STATUS, ok);
                Frame::trailers(trailers)
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }
}

fn framed(event: &SessionEvent) -> Bytes {
    let length = event.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX + length);
    out.put_u8(0);
    out.put_u32(length as u32);
    event
        .encode(&mut out)
        .expect("as much room as it said it needs");
    out.freeze()
}

#[cfg(test)]
mod tests;
