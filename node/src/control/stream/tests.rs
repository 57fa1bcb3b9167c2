use std::collections::VecDeque;

use http_body::Body as _;
use pipemesh_proto::node::session_event::Event;
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{ClientOffer, Close, Done};
use tonic::Code;

use super::*;

/// A request's body that comes in these pieces.
struct Pieces(VecDeque<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

fn requests(bytes: &[u8], piece: usize) -> Requests {
    let pieces = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
    Requests::new(Body::new(Pieces(pieces)))
}

fn request(request_id: u64, sdp_len: usize) -> SessionRequest {
    let offer = ClientOffer {
        sdp: "s".repeat(sdp_len),
        ..Default::default()
    };
    SessionRequest {
        request_id,
        request: Some(Request::Offer(offer)),
    }
}

fn framed_request(request: &SessionRequest) -> Vec<u8> {
    let mut out = vec![0];
    out.extend_from_slice(&(request.encoded_len() as u32).to_be_bytes());
    request.encode(&mut out).unwrap();
    out
}

#[tokio::test]
async fn requests_are_read_however_they_are_cut_and_nothing_is_kept_between_them() {
    let close = SessionRequest {
        request_id: 3,
        request: Some(Request::Close(Close::default())),
    };
    let sent = [request(1, 9_000), request(2, 0), close];
    let bytes: Vec<u8> = sent.iter().flat_map(framed_request).collect();
    for piece in [1, 4, 5, 6, 1_000, bytes.len()] {
        let mut requests = requests(&bytes, piece);
        for expected in &sent {
            assert_eq!(requests.message().await.unwrap().as_ref(), Some(expected));
        }
        assert_eq!(requests.held.capacity(), 0, "in pieces of {piece}");
        assert_eq!(requests.message().await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_stream_whose_pieces_never_end_with_a_request_holds_no_more_than_one_of_each() {
    const PIECE: usize = 1_000;
    let bytes: Vec<u8> = (1..=500)
        .flat_map(|id| framed_request(&request(id, 700)))
        .collect();
    let longest = framed_request(&request(500, 700)).len();
    let mut requests = requests(&bytes, PIECE);
    for id in 1..=500 {
        assert_eq!(requests.message().await.unwrap().unwrap().request_id, id);
        assert!(requests.held.len() <= longest + PIECE, "{id}");
    }
}

#[tokio::test]
async fn what_is_no_request_ends_the_stream_by_name() {
    let whole = framed_request(&request(1, 100));
    let mut compressed = whole.clone();
    compressed[0] = 1;
    let mut long = whole.clone();
    long[1..5].copy_from_slice(&(MAX_REQUEST as u32 + 1).to_be_bytes());
    let garbage = [&[0, 0, 0, 0, 4][..], &[0xFF; 4]].concat();
    for (bytes, code) in [
        (&whole[..50], Code::Internal),
        (&whole[..3], Code::Internal),
        (&compressed[..], Code::Unimplemented),
        (&long[..], Code::OutOfRange),
        (&garbage[..], Code::Internal),
    ] {
        let outcome = requests(bytes, 7).message().await;
        assert_eq!(outcome.unwrap_err().code(), code);
    }
}

#[tokio::test]
async fn events_leave_one_by_one_and_the_end_says_that_all_is_well() {
    let (sender, events) = mailbox::channel(4);
    let told = |request_id| SessionEvent {
        request_id,
        event: Some(Event::Done(Done {})),
    };
    sender.try_send(told(1)).unwrap();
    sender.try_send(told(2)).unwrap();
    drop(sender);
    let response = respond(events);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let mut body = response.into_body();
    let mut next = async || poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
    for request_id in [1, 2] {
        let data = next().await.unwrap().unwrap().into_data().unwrap();
        let (prefix, message) = data.split_first_chunk::<PREFIX>().unwrap();
        assert_eq!(prefix[..], [0, 0, 0, 0, message.len() as u8]);
        assert_eq!(SessionEvent::decode(message).unwrap(), told(request_id));
    }
    let trailers = next().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert!(next().await.is_none());
}
