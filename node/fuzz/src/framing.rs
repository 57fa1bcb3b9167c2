//! Bytes of a TCP connection, cut anywhere: datagrams behind their lengths (RFC 4571).

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use pipemesh_node_media::tcp::{End, FrameBatch, Stream};

/// The kernel hands bytes on at once, or a little later.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn run(input: &[u8]) {
    let Ok((mut near, mut stream)) = connect() else {
        return; // The machine is out of ports, which says nothing about the reader.
    };
    let mut batch = FrameBatch::new();
    let (mut written, mut read) = (0, 0);
    let mut end = None;
    for piece in super::pieces(input).take(16) {
        if near.write_all(piece).is_err() {
            break;
        }
        written += piece.len();
        end = receive(&mut stream, &mut batch, &mut read);
        if end.is_some() {
            break;
        }
    }
    drop(near);
    let begun = Instant::now();
    while end.is_none() && begun.elapsed() < PATIENCE {
        end = receive(&mut stream, &mut batch, &mut read);
    }
    assert!(end.is_some(), "a connection that is over ends");
    assert!(read <= written, "{read} bytes of {written}");
}

fn connect() -> std::io::Result<(TcpStream, Stream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, remote) = listener.accept()?;
    far.set_nonblocking(true)?;
    Ok((near, Stream::new(far.into(), remote)?))
}

/// Reads what has come, and counts the bytes of datagrams.
fn receive(stream: &mut Stream, batch: &mut FrameBatch, read: &mut usize) -> Option<End> {
    loop {
        if let Err(end) = stream.receive(batch) {
            return Some(end);
        }
        let before = *read;
        for datagram in batch.datagrams() {
            assert!(!datagram.is_empty());
            *read += datagram.len();
        }
        if *read == before {
            return None;
        }
    }
}
