//! What carries a client's datagrams: a UDP socket, or a TCP connection with a length before each
//! (RFC 4571).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

pub(crate) enum Way {
    Udp(UdpSocket),
    /// Connects when it is known where to.
    TcpLater,
    Tcp(Framed),
}

impl Way {
    pub(super) async fn connect(&mut self, tcp: Option<&SocketAddr>) {
        if let Self::TcpLater = self {
            let to = tcp.expect("the node offers TCP");
            *self = Self::Tcp(Framed::connect(*to).await.unwrap());
        }
    }

    /// The next datagram. May be called off at any time. `None`: nothing more comes.
    pub(super) async fn receive(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Udp(socket) => {
                let mut buffer = vec![0; 2048];
                loop {
                    // A port that nobody listens on any more is reported here; it means nothing.
                    if let Ok((len, _)) = socket.recv_from(&mut buffer).await {
                        buffer.truncate(len);
                        return Some(buffer);
                    }
                }
            }
            Self::TcpLater => std::future::pending().await,
            Self::Tcp(framed) => framed.receive().await,
        }
    }

    pub(super) async fn send(&mut self, datagram: &[u8], to: SocketAddr) {
        // What an earlier datagram met may be reported now, or that the connection is over.
        match self {
            Self::Udp(socket) => drop(socket.send_to(datagram, to).await),
            Self::TcpLater => {}
            Self::Tcp(framed) => drop(framed.send(datagram).await),
        }
    }
}

/// A TCP connection, cut into datagrams.
pub(crate) struct Framed {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    received: VecDeque<Vec<u8>>,
}

impl Framed {
    pub(crate) async fn connect(to: SocketAddr) -> io::Result<Self> {
        Ok(Self::over(TcpStream::connect(to).await?))
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
            received: VecDeque::new(),
        }
    }

    /// The next datagram. `None`: the node has hung up.
    pub(crate) async fn receive(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(datagram) = self.received.pop_front() {
                return Some(datagram);
            }
            if self.stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
            while let Some((header, rest)) = self.buffer.split_first_chunk::<2>() {
                let len = usize::from(u16::from_be_bytes(*header));
                assert!((1..=1500).contains(&len), "a frame of {len} bytes");
                let Some(datagram) = rest.get(..len) else {
                    break;
                };
                self.received.push_back(datagram.to_vec());
                self.buffer.drain(..2 + len);
            }
        }
    }

    pub(crate) async fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.stream.write_all(&frame(datagram)).await
    }
}

pub(crate) fn frame(datagram: &[u8]) -> Vec<u8> {
    [&(datagram.len() as u16).to_be_bytes()[..], datagram].concat()
}
