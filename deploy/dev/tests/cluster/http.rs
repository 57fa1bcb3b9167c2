//! One question over plain HTTP, and its answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// `None` if nobody answers.
pub(crate) async fn get(address: SocketAddr, target: &str) -> Option<Answer> {
    send("GET", address, target).await
}

/// With another method, and nothing to say.
pub(crate) async fn send(method: &str, address: SocketAddr, target: &str) -> Option<Answer> {
    // Of the version in which bodies come in one piece.
    let rest = "HTTP/1.0\r\nContent-Length: 0\r\n";
    ask(address, method, target, rest, "").await
}

/// Says something; `headers`: lines of it.
pub(crate) async fn post(
    address: SocketAddr,
    target: &str,
    headers: &str,
    body: &str,
) -> Option<Answer> {
    let length = body.len();
    let rest = format!("HTTP/1.0\r\n{headers}Content-Length: {length}\r\n");
    ask(address, "POST", target, &rest, body).await
}

/// Asks for a WebSocket, and for nothing on it.
pub(crate) async fn upgrade(address: SocketAddr, target: &str) -> Option<Answer> {
    let rest = "HTTP/1.1\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    ask(address, "GET", target, rest, "").await
}

/// `rest`: of the request, but for the host.
async fn ask(
    address: SocketAddr,
    method: &str,
    target: &str,
    rest: &str,
    body: &str,
) -> Option<Answer> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!("{method} {target} {rest}Host: {address}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        read(&String::from_utf8_lossy(&answer))
    };
    timeout(LIMIT, exchange).await.ok()?
}

fn read(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_lowercase(), value.to_owned()))
    });
    Some(Answer {
        status,
        headers: headers.collect(),
        body: body.to_owned(),
    })
}
