//! Streams over a real loopback interface: what the egress hands over comes out whole and in order.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use pipemesh_node_media::poll::{Poller, Token};
use pipemesh_node_media::tcp::{
    Change, End, FIRST_STREAM, FrameBatch, Stream, Streams, connect, listen,
};
use pipemesh_node_media::udp::{Destination, Egress, EgressOptions, Run};

const PATIENCE: Duration = Duration::from_secs(10);

/// A stream of ours and its peer.
fn pair(streams: &mut Streams) -> (Destination, TcpStream) {
    let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.set_nodelay(true).unwrap();
    let until = Instant::now() + PATIENCE;
    let (socket, addr) = loop {
        match listener.accept() {
            Ok(accepted) => break accepted,
            Err(_) => assert!(Instant::now() < until, "nobody came"),
        }
    };
    let socket = streams.insert(Stream::new(socket.into(), addr).unwrap());
    (Destination { socket, addr }, peer)
}

fn read_frame(peer: &mut TcpStream) -> Vec<u8> {
    let mut header = [0; 2];
    peer.read_exact(&mut header).unwrap();
    let mut datagram = vec![0; usize::from(u16::from_be_bytes(header))];
    peer.read_exact(&mut datagram).unwrap();
    datagram
}

#[test]
fn runs_come_out_as_frames() {
    let mut streams = Streams::default();
    let (to, mut peer) = pair(&mut streams);
    let (other, mut other_peer) = pair(&mut streams);
    let mut egress = Egress::new(EgressOptions {
        sockets: 1,
        chunks: 4,
        max_segments: 16,
    });
    let mut runs = [Run::default(), Run::default()];
    let lens = [1, 1500, 700, 700, 1200, 3];
    for (number, len) in lens.into_iter().enumerate() {
        for (run, to) in runs.iter_mut().zip([to, other]) {
            let mut slot = egress.reserve(run, to, len).unwrap();
            slot.fill(number as u8);
            slot.commit(len);
        }
    }
    egress.flush_streams(&mut streams);
    streams.flush();
    for (number, len) in lens.into_iter().enumerate() {
        assert_eq!(read_frame(&mut peer), vec![number as u8; len]);
        assert_eq!(read_frame(&mut other_peer), vec![number as u8; len]);
    }
    assert!(!egress.is_exhausted(), "chunks come back");
    let stats = *streams.stats();
    assert_eq!((stats.sent, stats.syscalls), (12, 2));

    // To nobody, or to who had the number before.
    streams.push(
        Destination {
            socket: FIRST_STREAM + 9,
            ..to
        },
        b"x",
    );
    streams.push(
        Destination {
            addr: other.addr,
            ..to
        },
        b"x",
    );
    assert_eq!(streams.stats().gone, 2);
}

#[test]
fn who_does_not_read_blocks_only_himself() {
    let mut streams = Streams::default();
    let (to, mut peer) = pair(&mut streams);
    let mut poller = Poller::new().unwrap();
    let token = Token(to.socket);
    poller
        .register(streams.get(to.socket).unwrap(), token)
        .unwrap();
    let mut number = 0_u32;
    while streams.stats().overflowed == 0 {
        let mut datagram = [0; 1200];
        datagram[..4].copy_from_slice(&number.to_be_bytes());
        streams.push(to, &datagram);
        streams.flush();
        number += 1;
    }
    assert_eq!(streams.poll_change(), Some((to.socket, Change::Blocked)));
    assert_eq!(streams.poll_change(), None);
    let accepted = streams.stats().sent;
    assert_eq!(accepted, u64::from(number) - 1);
    // What is small still finds room.
    streams.push(to, &[7; 100]);
    assert_eq!(streams.stats().sent, accepted + 1);

    poller
        .watch_writable(streams.get(to.socket).unwrap(), token, true)
        .unwrap();
    let reader = std::thread::spawn(move || {
        for expected in 0..number - 1 {
            let frame = read_frame(&mut peer);
            assert_eq!(
                (frame.len(), &frame[..4]),
                (1200, &expected.to_be_bytes()[..])
            );
        }
        assert_eq!(read_frame(&mut peer), [7; 100]);
        peer
    });
    let until = Instant::now() + PATIENCE;
    while streams.poll_change() != Some((to.socket, Change::Unblocked)) {
        assert!(Instant::now() < until, "it stays blocked");
        for ready in poller.wait(Some(PATIENCE)).unwrap() {
            assert!(ready.writable);
            streams.writable(ready.token.0);
        }
        streams.flush();
    }
    reader.join().unwrap();
}

#[test]
fn ends_are_told() {
    let mut streams = Streams::default();
    let mut batch = FrameBatch::new();
    let (to, mut peer) = pair(&mut streams);
    peer.write_all(&[0, 2, 1, 2, 0, 1, 9, 0]).unwrap();
    let until = Instant::now() + PATIENCE;
    let mut received = Vec::new();
    while received.len() < 2 {
        assert!(Instant::now() < until);
        streams.receive(to.socket, &mut batch);
        received.extend(batch.datagrams().map(|datagram| datagram.to_vec()));
    }
    assert_eq!(received, [vec![1, 2], vec![9]]);
    drop(peer);
    let mut end = None;
    while end.is_none() {
        assert!(Instant::now() < until);
        streams.receive(to.socket, &mut batch);
        end = streams.poll_change();
    }
    assert_eq!(end, Some((to.socket, Change::Ended(End::Closed))));

    // One that we end says first what it has to say.
    let (to, mut peer) = pair(&mut streams);
    streams.push(to, b"goodbye");
    streams.finish(to.socket);
    streams.flush();
    let ended = Change::Ended(End::Finished);
    assert_eq!(streams.poll_change(), Some((to.socket, ended)));
    streams.remove(to.socket);
    assert_eq!(read_frame(&mut peer), b"goodbye");
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);

    // One that cannot be reached, and one that is refused.
    let nobody = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let local = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    match connect(local, address).and_then(|fd| Stream::new(fd, address)) {
        // The kernel knows already.
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
        Ok(stream) => {
            let socket = streams.insert(stream);
            let to = Destination {
                socket,
                addr: address,
            };
            let mut end = None;
            while end.is_none() {
                assert!(Instant::now() < until);
                streams.push(to, b"hello");
                streams.flush();
                end = streams.poll_change();
            }
            assert_eq!(end, Some((socket, Change::Ended(End::Broken))));
        }
    }
}
