//! The pool with real threads, and its worker in virtual time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::*;
use crate::session::dtls::tests::certificate;
use crate::session::dtls::tests::client::{Client, PROFILES};

/// Nothing here takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(20);

fn outlet(capacity: usize) -> (Outlet, Receiver<Output>, Arc<AtomicU64>) {
    let (outputs, receiver) = bounded(capacity);
    let wakes = Arc::new(AtomicU64::new(0));
    let counted = wakes.clone();
    let wake = Box::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    (Outlet { outputs, wake }, receiver, wakes)
}

fn pool(threads: usize, outlets: Vec<Outlet>) -> HandshakePool {
    HandshakePool::start(NonZeroUsize::new(threads).unwrap(), certificate(), outlets).unwrap()
}

/// Sends what the client has to send.
fn flush(client: &mut Client, connection: ConnectionKey, handshakes: &Handshakes) {
    while let Some(datagram) = client.poll_transmit() {
        handshakes.handle_datagram(connection, datagram);
    }
}

/// Both ends of a handshake that is complete, and what ours says of it.
type Ends = (Client, Box<dyn DtlsTransport>, Box<Connected>);

/// Runs one shard with its clients until each has finished or failed.
fn run_shard(
    handshakes: &Handshakes,
    outputs: &Receiver<Output>,
    connections: impl Iterator<Item = u64>,
) -> HashMap<ConnectionKey, Ends> {
    let mut clients = HashMap::new();
    let mut finished = HashMap::new();
    for connection in connections.map(ConnectionKey) {
        let mut client = Client::new(&PROFILES, Instant::now());
        handshakes.start(connection).unwrap();
        flush(&mut client, connection, handshakes);
        clients.insert(connection, client);
    }
    let end = Instant::now() + PATIENCE;
    while !clients.is_empty() {
        let output = outputs.recv_deadline(end).expect("handshakes complete");
        match output {
            Output::Transmit {
                connection,
                datagram,
            } => {
                let client = clients.get_mut(&connection).unwrap();
                client.handle_datagram(&datagram, Instant::now());
                flush(client, connection, handshakes);
            }
            Output::Finished {
                connection,
                association,
                connected,
            } => {
                let client = clients.remove(&connection).unwrap();
                finished.insert(connection, (client, association, connected));
            }
            Output::Failed { connection, error } => panic!("{connection:?}: {error}"),
            Output::Datagram { .. } => {}
        }
    }
    finished
}

#[test]
fn a_hundred_handshakes_at_once() {
    let (outlets, receivers): (Vec<_>, Vec<_>) = (0..2)
        .map(|_| outlet(4_096))
        .map(|(outlet, receiver, wakes)| (outlet, (receiver, wakes)))
        .unzip();
    let pool = pool(2, outlets);
    std::thread::scope(|scope| {
        for (shard, (outputs, wakes)) in receivers.into_iter().enumerate() {
            let handshakes = pool.handle(shard);
            scope.spawn(move || {
                let connections = (0..50).map(|n| n * 2 + shard as u64 * 101);
                let finished = run_shard(&handshakes, &outputs, connections);
                assert_eq!(finished.len(), 50);
                for (mut client, mut association, connected) in finished.into_values() {
                    assert!(client.connected);
                    let key = connected.keys.client().key;
                    assert_eq!(client.keying_material(key.len()), key);
                    // The association works on the thread it has moved to.
                    let now = Instant::now();
                    association.write(b"moved", now).unwrap();
                    client.handle_datagram(&association.poll_transmit().unwrap(), now);
                    assert_eq!(client.received, ["moved"]);
                }
                // For each of our three flights; those of the last may be a moment behind.
                assert!(wakes.load(Ordering::Relaxed) >= 3 * 50 - 2);
            });
        }
    });
    assert_eq!(pool.counters().finished.load(Ordering::Relaxed), 100);
    assert_eq!(pool.counters().outputs_dropped.load(Ordering::Relaxed), 0);
    assert!(
        pool.inlets
            .iter()
            .all(|inlet| inlet.load.load(Ordering::Relaxed) == 0)
    );
}

#[test]
fn late_datagrams_are_handed_back() {
    let (outlet, outputs, _) = outlet(64);
    let pool = pool(1, vec![outlet]);
    let handshakes = pool.handle(0);
    let connection = ConnectionKey(7);
    run_shard(&handshakes, &outputs, std::iter::once(7));
    handshakes.handle_datagram(connection, Bytes::from_static(b"late"));
    let output = outputs.recv_timeout(PATIENCE).unwrap();
    assert!(
        matches!(&output, Output::Datagram { connection: c, datagram } if *c == connection && &datagram[..] == b"late"),
        "{output:?}"
    );
}

#[test]
fn a_cancelled_handshake_is_forgotten() {
    let (outlet, outputs, _) = outlet(64);
    let pool = pool(1, vec![outlet]);
    let handshakes = pool.handle(0);
    let connection = ConnectionKey(1);
    let mut client = Client::new(&PROFILES, Instant::now());
    handshakes.start(connection).unwrap();
    handshakes.cancel(connection);
    flush(&mut client, connection, &handshakes);
    let output = outputs.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(output, Output::Datagram { .. }), "{output:?}");
    assert_eq!(pool.inlets[0].load.load(Ordering::Relaxed), 0);
}

#[test]
fn a_failure_is_reported_once() {
    let (outlet, outputs, _) = outlet(64);
    let pool = pool(1, vec![outlet]);
    let handshakes = pool.handle(0);
    let connection = ConnectionKey(1);
    let mut client = Client::new(&[], Instant::now());
    handshakes.start(connection).unwrap();
    flush(&mut client, connection, &handshakes);
    let error = loop {
        match outputs.recv_timeout(PATIENCE).unwrap() {
            Output::Failed { error, .. } => break error,
            Output::Transmit { datagram, .. } => {
                client.handle_datagram(&datagram, Instant::now());
                flush(&mut client, connection, &handshakes);
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(error, HandshakeError::Dtls(Failure::NoSrtpProfile));
    drop(pool);
    assert!(
        !outputs
            .iter()
            .any(|output| matches!(output, Output::Failed { .. }))
    );
}

#[test]
fn handshakes_in_flight_are_bounded() {
    let (outlet, _outputs, _) = outlet(64);
    let pool = pool(1, vec![outlet]);
    let handshakes = pool.handle(0);
    let mut refused = 0;
    let mut connection = 0;
    while refused == 0 {
        assert!(connection <= MAX_IN_FLIGHT as u64 + INPUT_QUEUE as u64);
        // A full queue says the same; only the bound itself is of interest here.
        let _ = handshakes.start(ConnectionKey(connection));
        connection += 1;
        refused = pool.counters().refused.load(Ordering::Relaxed);
        while pool.inlets[0].inputs.len() > INPUT_QUEUE / 2 {
            std::thread::yield_now();
        }
    }
    assert_eq!(connection, MAX_IN_FLIGHT as u64 + 1);
    handshakes.cancel(ConnectionKey(0));
    let end = Instant::now() + PATIENCE;
    while handshakes.start(ConnectionKey(connection)) == Err(Overloaded) {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
}

#[test]
fn stopping_waits_for_the_threads_and_handles_outlive_it() {
    let (outlet, outputs, _) = outlet(64);
    let pool = pool(2, vec![outlet]);
    let handshakes = pool.handle(0);
    handshakes.start(ConnectionKey(1)).unwrap();
    drop(pool);
    // Nobody is left to send.
    assert!(outputs.recv_timeout(PATIENCE).is_err());
    assert_eq!(handshakes.start(ConnectionKey(2)), Err(Overloaded));
    handshakes.handle_datagram(ConnectionKey(1), Bytes::new());
    handshakes.cancel(ConnectionKey(1));
}

/// A worker without its thread.
fn worker(outlet: Outlet) -> (Worker, Arc<Counters>, Arc<AtomicUsize>) {
    let counters = Arc::new(Counters::default());
    let load = Arc::new(AtomicUsize::new(0));
    let worker = Worker::new(
        certificate(),
        vec![outlet].into(),
        counters.clone(),
        load.clone(),
    );
    (worker, counters, load)
}

fn start(worker: &mut Worker, load: &AtomicUsize, connection: ConnectionKey, now: Instant) {
    load.fetch_add(1, Ordering::Relaxed);
    let input = Input::Start {
        connection,
        shard: 0,
    };
    worker.handle_input(input, now);
}

#[test]
fn a_handshake_has_thirty_seconds() {
    let (outlet, outputs, _) = outlet(64);
    let (mut worker, counters, load) = worker(outlet);
    let begin = Instant::now();
    assert_eq!(worker.poll_timeout(), None);
    start(&mut worker, &load, ConnectionKey(3), begin);
    let deadline = worker.poll_timeout().unwrap();
    assert_eq!(deadline, begin + Duration::from_secs(30));
    worker.handle_timeout(deadline - Duration::from_nanos(1));
    assert!(outputs.is_empty());
    worker.handle_timeout(deadline);
    let output = outputs.try_recv().unwrap();
    assert!(
        matches!(
            output,
            Output::Failed {
                connection: ConnectionKey(3),
                error: HandshakeError::TimedOut
            }
        ),
        "{output:?}"
    );
    assert_eq!(worker.poll_timeout(), None);
    assert_eq!(counters.timed_out.load(Ordering::Relaxed), 1);
    assert_eq!(load.load(Ordering::Relaxed), 0);
}

#[test]
fn a_full_outlet_costs_datagrams_but_no_outcome() {
    let (outlet, outputs, _) = outlet(1);
    let (mut worker, counters, load) = worker(outlet);
    let mut now = Instant::now();
    let connection = ConnectionKey(1);
    let mut client = Client::new(&PROFILES, now);
    start(&mut worker, &load, connection, now);
    // The outlet has room for one output: the next is fetched only after more have come.
    for _ in 0..20 {
        while let Some(datagram) = client.poll_transmit() {
            let input = Input::Datagram {
                connection,
                shard: 0,
                datagram,
            };
            worker.handle_input(input, now);
        }
        match outputs.try_recv() {
            Ok(Output::Transmit { datagram, .. }) => client.handle_datagram(&datagram, now),
            Ok(Output::Finished { .. }) => {
                assert_eq!(load.load(Ordering::Relaxed), 0);
                assert_eq!(worker.poll_timeout(), None);
                return;
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => {
                let timeouts = [worker.poll_timeout(), client.poll_timeout()];
                now = timeouts.into_iter().flatten().min().unwrap().max(now);
                client.handle_timeout(now);
                worker.handle_timeout(now);
            }
        }
    }
    panic!(
        "no outcome; {} outputs dropped",
        counters.outputs_dropped.load(Ordering::Relaxed)
    );
}
