//! Runs and batches over the kernel's loopback interface.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use pipemesh_node_media::poll::{Poller, Token};
use pipemesh_node_media::udp::{
    Destination, Egress, EgressOptions, FlushReport, MAX_DATAGRAM_LEN, MAX_SEGMENTS, Options,
    ReceiveBatch, Run, UdpSocket,
};
use proptest::prelude::*;

const LOOPBACKS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

const OPTIONS: Options = Options {
    receive_buffer: 4 << 20,
    send_buffer: 4 << 20,
};

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(10);

fn bind(ip: IpAddr) -> UdpSocket {
    UdpSocket::bind(SocketAddr::new(ip, 0), OPTIONS).unwrap()
}

fn egress(sockets: usize, max_segments: usize) -> Egress {
    Egress::new(EgressOptions {
        sockets,
        chunks: 8,
        max_segments,
    })
}

/// Receives `count` datagrams and returns them with their sources, in order.
fn receive(
    socket: &UdpSocket,
    batch: &mut ReceiveBatch,
    count: usize,
) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut poller = Poller::new().unwrap();
    poller.register(socket, Token(0)).unwrap();
    let start = Instant::now();
    let mut received = Vec::new();
    while received.len() < count {
        assert!(
            start.elapsed() < DEADLINE,
            "{} of {count} arrived",
            received.len()
        );
        if socket.receive(batch).unwrap() == 0 {
            poller.wait(Some(DEADLINE)).unwrap();
        }
        received.extend(
            batch
                .datagrams()
                .map(|(source, bytes)| (source, bytes.to_vec())),
        );
    }
    received
}

fn assert_silent(socket: &UdpSocket, batch: &mut ReceiveBatch) {
    assert_eq!(socket.receive(batch).unwrap(), 0);
    assert_eq!(batch.datagrams().count(), 0);
}

/// Queues a datagram, flushing if the pool is exhausted.
fn push(
    egress: &mut Egress,
    sockets: &[UdpSocket],
    run: &mut Run,
    to: Destination,
    datagram: &[u8],
) {
    if egress.reserve(run, to, datagram.len()).is_none() {
        assert_eq!(egress.flush(sockets), FlushReport::default());
    }
    let mut slot = egress
        .reserve(run, to, datagram.len())
        .expect("loopback takes everything");
    slot.copy_from_slice(datagram);
    slot.commit(datagram.len());
}

/// `len` bytes that tell which datagram this is.
fn numbered(number: u32, len: usize) -> Vec<u8> {
    number.to_be_bytes().into_iter().cycle().take(len).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever lengths are mixed and however runs interleave, each destination gets its datagrams
    /// whole and in order, with GSO and without.
    #[test]
    fn runs_arrive_whole_and_in_order(
        ip in prop::sample::select(&LOOPBACKS[..]),
        max_segments in prop::sample::select(&[1, 2, 10, MAX_SEGMENTS][..]),
        datagrams in prop::collection::vec(
            (
                0..10_usize,
                prop_oneof![Just(1_200_usize), Just(100), 4..=MAX_DATAGRAM_LEN],
                0..30_u8,
            ),
            1..200,
        ),
    ) {
        let sockets = [bind(ip)];
        let receivers: Vec<_> = (0..10).map(|_| bind(ip)).collect();
        let mut runs: [Run; 10] = Default::default();
        let mut egress = egress(1, max_segments);
        let mut expected: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
        for (number, (to, len, flush)) in (0..).zip(datagrams) {
            let datagram = numbered(number, len);
            let destination = Destination { socket: 0, addr: receivers[to].local_addr() };
            push(&mut egress, &sockets, &mut runs[to], destination, &datagram);
            expected.entry(to).or_default().push(datagram);
            if flush == 0 {
                prop_assert_eq!(egress.flush(&sockets), FlushReport::default());
            }
        }
        prop_assert_eq!(egress.flush(&sockets), FlushReport::default());

        let mut batch = ReceiveBatch::new();
        let mut count = 0;
        for (to, expected) in &expected {
            let received = receive(&receivers[*to], &mut batch, expected.len());
            prop_assert!(received.iter().all(|(source, _)| *source == sockets[0].local_addr()));
            let received: Vec<_> = received.into_iter().map(|(_, datagram)| datagram).collect();
            prop_assert_eq!(&received, expected);
            assert_silent(&receivers[*to], &mut batch);
            count += expected.len() as u64;
        }
        prop_assert_eq!(egress.stats().datagrams, count);
        prop_assert_eq!(batch.stats().datagrams, count);
        prop_assert_eq!(batch.stats().bytes, egress.stats().bytes);
        prop_assert_eq!(egress.stats().dropped.total() + batch.stats().truncated, 0);
        if max_segments == 1 {
            prop_assert_eq!(egress.stats().messages, count);
        }
    }
}

/// One message out, one message in, ten datagrams.
#[test]
fn offload_works_in_both_directions() {
    for ip in LOOPBACKS {
        let sockets = [bind(ip)];
        let receiver = bind(ip);
        assert!(sockets[0].gso() && receiver.gro());
        let mut egress = egress(1, MAX_SEGMENTS);
        let mut run = Run::default();
        let to = Destination {
            socket: 0,
            addr: receiver.local_addr(),
        };
        let sent: Vec<_> = (0..10)
            .map(|number| numbered(number, if number == 9 { 7 } else { 1_200 }))
            .collect();
        for datagram in &sent {
            push(&mut egress, &sockets, &mut run, to, datagram);
        }
        assert_eq!(egress.flush(&sockets), FlushReport::default());
        assert_eq!((egress.stats().messages, egress.stats().syscalls), (1, 1));

        let mut batch = ReceiveBatch::new();
        let received = receive(&receiver, &mut batch, 10);
        assert_eq!(
            received
                .into_iter()
                .map(|(_, datagram)| datagram)
                .collect::<Vec<_>>(),
            sent
        );
        assert_eq!(batch.stats().messages, 1);
        assert!(sockets[0].gso());
    }
}

#[test]
fn each_datagram_leaves_from_its_socket() {
    let sockets = LOOPBACKS.map(bind);
    let receivers = LOOPBACKS.map(bind);
    let mut egress = egress(2, MAX_SEGMENTS);
    let mut runs: [Run; 2] = Default::default();
    for number in 0..20_u8 {
        let which = number % 2;
        let to = Destination {
            socket: which.into(),
            addr: receivers[usize::from(which)].local_addr(),
        };
        push(
            &mut egress,
            &sockets,
            &mut runs[usize::from(which)],
            to,
            &[number; 100],
        );
    }
    assert_eq!(egress.flush(&sockets), FlushReport::default());
    assert_eq!(egress.stats().syscalls, 2);
    let mut batch = ReceiveBatch::new();
    for which in 0..2 {
        let received = receive(&receivers[which], &mut batch, 10);
        for (number, (source, datagram)) in received.into_iter().enumerate() {
            assert_eq!(source, sockets[which].local_addr());
            assert_eq!(datagram, [(2 * number + which) as u8; 100]);
        }
    }
}

/// Port 0 and an address of the wrong family are refused by the kernel; the rest goes out, and goes
/// on going out together.
#[test]
fn refused_destinations_harm_no_other() {
    for ip in LOOPBACKS {
        let sockets = [bind(ip)];
        let receiver = bind(ip);
        let other_family = if ip.is_ipv4() {
            "[::1]:9"
        } else {
            "240.0.0.1:9"
        };
        let destinations = [
            SocketAddr::new(ip, 0),
            receiver.local_addr(),
            other_family.parse().unwrap(),
        ];
        let mut egress = egress(1, MAX_SEGMENTS);
        let mut runs: [Run; 3] = Default::default();
        for number in 0..5 {
            for (addr, run) in destinations.into_iter().zip(&mut runs) {
                let to = Destination { socket: 0, addr };
                push(&mut egress, &sockets, run, to, &numbered(number, 1_200));
            }
        }
        assert_eq!(egress.flush(&sockets), FlushReport::default());
        let mut batch = ReceiveBatch::new();
        let received = receive(&receiver, &mut batch, 5);
        for (number, (_, datagram)) in (0..).zip(received) {
            assert_eq!(datagram, numbered(number, 1_200));
        }
        assert_eq!(egress.stats().datagrams, 5, "{ip}");
        assert_eq!(egress.stats().dropped.total(), 10, "{ip}");
        assert!(sockets[0].gso());
    }
}

#[test]
fn datagrams_of_any_length_arrive() {
    for ip in LOOPBACKS {
        let receiver = bind(ip);
        let sender = std::net::UdpSocket::bind((ip, 0)).unwrap();
        let mut batch = ReceiveBatch::new();
        for len in [1, 1_500, 9_000, 65_507] {
            let datagram = numbered(len as u32, len);
            sender.send_to(&datagram, receiver.local_addr()).unwrap();
            let received = receive(&receiver, &mut batch, 1);
            assert_eq!(received, [(sender.local_addr().unwrap(), datagram)]);
        }
        // An empty one is nothing to anybody.
        sender.send_to(&[], receiver.local_addr()).unwrap();
        sender.send_to(b"x", receiver.local_addr()).unwrap();
        assert_eq!(receive(&receiver, &mut batch, 1).len(), 1);
        assert_silent(&receiver, &mut batch);
        assert_eq!(batch.stats().truncated, 0);
    }
}

/// More than a batch takes: nothing is lost between two.
#[test]
fn batches_follow_each_other() {
    for ip in LOOPBACKS {
        let receiver = bind(ip);
        let senders: Vec<_> = (0..5)
            .map(|_| std::net::UdpSocket::bind((ip, 0)).unwrap())
            .collect();
        let count = 3 * ReceiveBatch::CAPACITY + 1;
        for number in 0..count {
            let sender = &senders[number % senders.len()];
            sender
                .send_to(&numbered(number as u32, 50), receiver.local_addr())
                .unwrap();
        }
        let mut batch = ReceiveBatch::new();
        assert_eq!(
            receiver.receive(&mut batch).unwrap(),
            ReceiveBatch::CAPACITY
        );
        let first: Vec<_> = batch
            .datagrams()
            .map(|(source, bytes)| (source, bytes.to_vec()))
            .collect();
        let rest = receive(&receiver, &mut batch, count - first.len());
        let received = first.into_iter().chain(rest);
        for (number, (source, datagram)) in received.enumerate() {
            let sender = &senders[number % senders.len()];
            assert_eq!(source, sender.local_addr().unwrap());
            assert_eq!(datagram, numbered(number as u32, 50));
        }
    }
}

#[test]
fn the_kernel_counts_what_a_full_buffer_drops() {
    let options = Options {
        receive_buffer: 4_096,
        send_buffer: 100_000,
    };
    let receiver = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), options).unwrap();
    assert_eq!(
        (receiver.receive_buffer(), receiver.send_buffer()),
        (4_096, 100_000)
    );
    assert_eq!(receiver.kernel_drops().unwrap(), 0);
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..100 {
        sender.send_to(&[0; 1_000], receiver.local_addr()).unwrap();
    }
    let mut batch = ReceiveBatch::new();
    let start = Instant::now();
    while batch.stats().datagrams + u64::from(receiver.kernel_drops().unwrap()) < 100 {
        assert!(start.elapsed() < DEADLINE);
        receiver.receive(&mut batch).unwrap();
    }
    assert!(batch.stats().datagrams >= 1);
    assert!(receiver.kernel_drops().unwrap() >= 1);
}

#[test]
fn an_ipv6_socket_leaves_ipv4_to_another() {
    // Somebody else may have the same port for IPv4, but not time after time.
    let both = (0..10).any(|_| {
        let v6 = bind(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let error = UdpSocket::bind(v6.local_addr(), OPTIONS).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        let same_port = SocketAddr::from((Ipv4Addr::UNSPECIFIED, v6.local_addr().port()));
        UdpSocket::bind(same_port, OPTIONS).is_ok()
    });
    assert!(both);
}

/// Sockets are bound on one thread and serve on another.
#[test]
fn everything_may_move_to_its_shard() {
    fn check<T: Send>() {}
    check::<UdpSocket>();
    check::<ReceiveBatch>();
    check::<Egress>();
    check::<Run>();
    check::<Poller>();
}
