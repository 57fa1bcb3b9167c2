use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::time::Instant;

use super::*;

/// Longer than any wait here should take, shorter than the test runner's patience.
const DEADLINE: Duration = Duration::from_secs(10);

/// Waits until something is ready.
fn wait_for(poller: &mut Poller) -> Vec<Ready> {
    let start = Instant::now();
    loop {
        let ready = poller.wait(Some(DEADLINE)).unwrap().to_vec();
        if !ready.is_empty() {
            return ready;
        }
        assert!(start.elapsed() < DEADLINE, "nothing became ready");
    }
}

/// What is ready now.
fn ready_now(poller: &mut Poller) -> Vec<Ready> {
    poller.wait(Some(Duration::ZERO)).unwrap().to_vec()
}

fn is(token: u32, readable: bool, writable: bool) -> Ready {
    Ready {
        token: Token(token),
        readable,
        writable,
    }
}

#[test]
fn sockets_become_readable_and_stay_so_until_read() {
    let mut poller = Poller::new().unwrap();
    let first = UdpSocket::bind("127.0.0.1:0").unwrap();
    let second = UdpSocket::bind("[::1]:0").unwrap();
    poller.register(&first, Token(1)).unwrap();
    poller.register(&second, Token(2)).unwrap();
    assert_eq!(ready_now(&mut poller), []);

    second.send_to(b"x", second.local_addr().unwrap()).unwrap();
    assert_eq!(wait_for(&mut poller), [is(2, true, false)]);
    assert_eq!(ready_now(&mut poller), [is(2, true, false)]);
    second.recv(&mut [0; 8]).unwrap();
    assert_eq!(ready_now(&mut poller), []);

    second.send_to(b"x", second.local_addr().unwrap()).unwrap();
    poller.deregister(&second).unwrap();
    assert_eq!(ready_now(&mut poller), []);
    assert!(poller.deregister(&second).is_err());
    assert!(poller.register(&first, Token(1)).is_err());
}

#[test]
fn what_comes_is_told_once_if_that_is_enough() {
    let mut poller = Poller::new().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    poller.register_edge(&socket, Token(3)).unwrap();
    for _ in 0..2 {
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        assert_eq!(wait_for(&mut poller), [is(3, true, false)]);
        // Still unread, and told no more until there is more.
        assert_eq!(ready_now(&mut poller), []);
    }
    assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
    assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
}

#[test]
fn writable_is_told_while_it_is_asked_for() {
    let mut poller = Poller::new().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    poller.register(&socket, Token(u32::MAX)).unwrap();
    assert_eq!(ready_now(&mut poller), []);
    poller
        .watch_writable(&socket, Token(u32::MAX), true)
        .unwrap();
    assert_eq!(ready_now(&mut poller), [is(u32::MAX, false, true)]);
    poller
        .watch_writable(&socket, Token(u32::MAX), false)
        .unwrap();
    assert_eq!(ready_now(&mut poller), []);
}

#[test]
fn the_end_of_a_stream_is_readable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let mut poller = Poller::new().unwrap();
    poller.register(&server, Token(7)).unwrap();

    client.write_all(b"ab").unwrap();
    assert_eq!(wait_for(&mut poller), [is(7, true, false)]);
    server.read_exact(&mut [0; 2]).unwrap();
    drop(client);
    assert!(wait_for(&mut poller)[0].readable);
    assert_eq!(server.read(&mut [0; 2]).unwrap(), 0);
}

#[test]
fn short_timeouts_are_kept() {
    let mut poller = Poller::new().unwrap();
    let timeout = Duration::from_micros(300);
    let shortest = (0..20)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(poller.wait(Some(timeout)).unwrap(), []);
            start.elapsed()
        })
        .min()
        .unwrap();
    assert!(shortest >= timeout, "{shortest:?} is too early");
    // Whole milliseconds would take one at least. The shortest of many is not the scheduler's.
    assert!(
        shortest < Duration::from_micros(900),
        "{shortest:?} is too late"
    );
}

#[test]
fn wakes_a_waiting_thread_and_one_that_is_about_to_wait() {
    let mut poller = Poller::new().unwrap();
    let waker = poller.waker();

    // While awake, any number of wakes: the next wait returns, the one after it would not.
    for _ in 0..3 {
        waker.wake();
    }
    assert_eq!(poller.wait(None).unwrap(), []);
    let start = Instant::now();
    let timeout = Duration::from_millis(20);
    assert_eq!(poller.wait(Some(timeout)).unwrap(), []);
    assert!(start.elapsed() >= timeout);

    let (sender, receiver) = mpsc::channel();
    let waiting = std::thread::spawn(move || {
        poller.wait(None).unwrap();
        sender.send(()).unwrap();
        poller
    });
    // Whether the thread already waits or not, one wake is enough.
    waker.wake();
    receiver
        .recv_timeout(DEADLINE)
        .expect("the waiting thread was woken");
    let mut poller = waiting.join().unwrap();
    // A write that came late may end one wait more; it is spurious, not lost.
    assert_eq!(ready_now(&mut poller), []);
}

/// Every message is seen although the consumer sleeps without a timeout whenever it has seen all.
#[test]
fn no_wake_is_lost() {
    const PRODUCERS: u32 = 2;
    const MESSAGES: u32 = 20_000;
    let mut poller = Poller::new().unwrap();
    let (sender, receiver) = mpsc::sync_channel(64);
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|_| {
            let (sender, waker) = (sender.clone(), poller.waker());
            std::thread::spawn(move || {
                for message in 0..MESSAGES {
                    sender.send(message).unwrap();
                    waker.wake();
                }
            })
        })
        .collect();
    let mut seen = 0;
    while seen < PRODUCERS * MESSAGES {
        poller.wait(None).unwrap();
        seen += receiver.try_iter().count() as u32;
    }
    for producer in producers {
        producer.join().unwrap();
    }
}
