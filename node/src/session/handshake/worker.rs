//! One handshake thread: its handshakes, their deadlines, and the outputs that found no room.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use super::{
    Arc, AtomicUsize, Bytes, Certificate, ConnectionKey, Counters, DtlsServer, DtlsTransport,
    HandshakeError, Input, Ordering, Outlet, Output, Receiver, TrySendError,
};
use crate::session::dtls::Event;

/// From start to finish. Longer than any join waits; a browser repeats its hello about ten times
/// within it.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long a full outlet is left alone.
const RETRY_AFTER: Duration = Duration::from_millis(5);

pub(super) struct Worker {
    certificate: Arc<Certificate>,
    outlets: Arc<[Outlet]>,
    counters: Arc<Counters>,
    /// `in_flight` and `backlog` together; what bounds them.
    load: Arc<AtomicUsize>,
    in_flight: HashMap<ConnectionKey, InFlight>,
    /// Outcomes that found their outlet full.
    backlog: VecDeque<(usize, Output)>,
    retry_at: Option<Instant>,
}

struct InFlight {
    association: Box<dyn DtlsTransport>,
    shard: usize,
    deadline: Instant,
}

impl Worker {
    pub(super) fn new(
        certificate: Arc<Certificate>,
        outlets: Arc<[Outlet]>,
        counters: Arc<Counters>,
        load: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            certificate,
            outlets,
            counters,
            load,
            in_flight: HashMap::new(),
            backlog: VecDeque::new(),
            retry_at: None,
        }
    }

    pub(super) fn run(mut self, inputs: &Receiver<Input>) {
        loop {
            let deadline = self.poll_timeout();
            let input = match deadline {
                Some(deadline) => inputs.recv_deadline(deadline),
                None => inputs.recv().map_err(RecvTimeoutError::from),
            };
            let now = Instant::now();
            match input {
                Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(input) => self.handle_input(input, now),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if deadline.is_some_and(|deadline| deadline <= now) {
                self.handle_timeout(now);
            }
        }
    }

    pub(super) fn handle_input(&mut self, input: Input, now: Instant) {
        match input {
            Input::Start { connection, shard } => self.start(connection, shard, now),
            Input::Datagram {
                connection,
                shard,
                datagram,
            } => match self.in_flight.get_mut(&connection) {
                Some(handshake) => {
                    if !handshake.association.handle_datagram(&datagram, now) {
                        self.counters.ignored.fetch_add(1, Ordering::Relaxed);
                    }
                    self.advance(connection, now);
                }
                None => {
                    let output = Output::Datagram {
                        connection,
                        datagram,
                    };
                    self.deliver_datagram(shard, output);
                    (self.outlets[shard].wake)();
                }
            },
            Input::Cancel { connection } => {
                if self.in_flight.remove(&connection).is_some() {
                    self.unload();
                }
            }
            Input::Stop => {}
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let handshakes = self.in_flight.values().map(InFlight::next);
        handshakes.chain(self.retry_at).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.retry_at.take_if(|at| *at <= now).is_some() {
            for (shard, output) in std::mem::take(&mut self.backlog) {
                self.deliver_outcome(shard, output, now);
                (self.outlets[shard].wake)();
            }
        }
        let due = self.in_flight.iter().filter(|(_, h)| h.next() <= now);
        let due: Vec<ConnectionKey> = due.map(|(connection, _)| *connection).collect();
        for connection in due {
            let Some(handshake) = self.in_flight.get_mut(&connection) else {
                continue;
            };
            if handshake.deadline <= now {
                self.counters.timed_out.fetch_add(1, Ordering::Relaxed);
                let shard = handshake.shard;
                self.fail(connection, HandshakeError::TimedOut, now);
                (self.outlets[shard].wake)();
            } else {
                handshake.association.handle_timeout(now);
                self.advance(connection, now);
            }
        }
    }

    fn start(&mut self, connection: ConnectionKey, shard: usize, now: Instant) {
        if self.in_flight.contains_key(&connection) {
            self.unload();
            return;
        }
        let association = Box::new(DtlsServer::new(self.certificate.clone()));
        let handshake = InFlight {
            association,
            shard,
            deadline: now + DEADLINE,
        };
        self.in_flight.insert(connection, handshake);
    }

    /// Passes on what an association has to send and to say.
    fn advance(&mut self, connection: ConnectionKey, now: Instant) {
        let Some(handshake) = self.in_flight.get_mut(&connection) else {
            return;
        };
        let shard = handshake.shard;
        let event = handshake.association.poll_event();
        let transmits = std::iter::from_fn(|| handshake.association.poll_transmit());
        let transmits = transmits.collect::<Vec<Bytes>>();
        // Once for all there is to fetch.
        let wakes = !transmits.is_empty() || event.is_some();
        for datagram in transmits {
            let output = Output::Transmit {
                connection,
                datagram,
            };
            self.deliver_datagram(shard, output);
        }
        match event {
            None => {}
            Some(Event::Connected(connected)) => {
                // What came behind it stays in the association, for the shard to poll.
                if let Some(handshake) = self.in_flight.remove(&connection) {
                    self.counters.finished.fetch_add(1, Ordering::Relaxed);
                    let association = handshake.association;
                    let output = Output::Finished {
                        connection,
                        association,
                        connected,
                    };
                    self.deliver_outcome(shard, output, now);
                }
            }
            Some(Event::Failed(failure)) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                self.fail(connection, HandshakeError::Dtls(failure), now);
            }
            Some(Event::Closed | Event::ApplicationData(_)) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                self.fail(connection, HandshakeError::Closed, now);
            }
        }
        if wakes {
            (self.outlets[shard].wake)();
        }
    }

    fn fail(&mut self, connection: ConnectionKey, error: HandshakeError, now: Instant) {
        if let Some(handshake) = self.in_flight.remove(&connection) {
            let output = Output::Failed { connection, error };
            self.deliver_outcome(handshake.shard, output, now);
        }
    }

    /// Delivers what may be lost. The shard is to be woken afterwards.
    fn deliver_datagram(&self, shard: usize, output: Output) {
        if self.outlets[shard].outputs.try_send(output).is_err() {
            self.counters
                .outputs_dropped
                .fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Delivers what must arrive, later if need be. The shard is to be woken afterwards.
    fn deliver_outcome(&mut self, shard: usize, output: Output, now: Instant) {
        let outlet = &self.outlets[shard];
        match outlet.outputs.try_send(output) {
            Ok(()) => self.unload(),
            Err(TrySendError::Full(output)) => {
                self.backlog.push_back((shard, output));
                self.retry_at = Some(now + RETRY_AFTER);
            }
            // The shard is gone, and its connections with it.
            Err(TrySendError::Disconnected(_)) => self.unload(),
        }
    }

    fn unload(&self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

impl InFlight {
    fn next(&self) -> Instant {
        let retransmission = self.association.poll_timeout();
        retransmission.map_or(self.deadline, |at| at.min(self.deadline))
    }
}
