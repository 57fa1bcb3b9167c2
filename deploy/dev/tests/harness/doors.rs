//! A front door that does not pass on which layers somebody wants.

use futures_util::{SinkExt, StreamExt};
use livekit_protocol::SignalRequest;
use livekit_protocol::signal_request::Message as Request;
use prost::Message as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{Request as Upgrade, Response};
use tokio_tungstenite::{accept_hdr_async, client_async};

/// Answers its address. `behind`: `host:port` of signaling.
pub(crate) async fn open(behind: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(pass(stream, behind.clone()));
        }
    });
    format!("ws://{address}")
}

#[allow(
    clippy::result_large_err,
    reason = "what the handshake's callback answers is its library's"
)]
async fn pass(stream: TcpStream, behind: String) {
    let mut target = String::new();
    let note = |request: &Upgrade, response: Response| {
        target = request.uri().to_string();
        Ok(response)
    };
    let mut client = accept_hdr_async(stream, note).await.unwrap();
    let upgrade = format!("ws://{behind}{target}")
        .into_client_request()
        .unwrap();
    let stream = TcpStream::connect(&behind).await.unwrap();
    let (mut server, _) = client_async(upgrade, stream).await.unwrap();
    loop {
        tokio::select! {
            message = client.next() => match message {
                Some(Ok(message)) if !wishes_layers(&message) => server.send(message).await.unwrap(),
                Some(Ok(_)) => {}
                _ => return,
            },
            message = server.next() => match message {
                Some(Ok(message)) => client.send(message).await.unwrap(),
                _ => return,
            },
        }
    }
}

fn wishes_layers(message: &Message) -> bool {
    let Message::Binary(bytes) = message else {
        return false;
    };
    let request = SignalRequest::decode(bytes.as_ref());
    let message = request.ok().and_then(|request| request.message);
    matches!(message, Some(Request::TrackSetting(_)))
}
