//! The pool that runs DTLS handshakes, some 0.3 ms of CPU each, away from the shards.
//!
//! A shard starts a handshake and forwards its datagrams; it gets back datagrams to send and at
//! the end the finished association, which from then on is its own. The workers know neither
//! sockets nor sessions. All queues are bounded: a datagram that finds one full is dropped and
//! counted, since either side repeats its flight.

mod worker;

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use thiserror::Error;

use crate::session::dtls::{Certificate, Connected, DtlsServer, DtlsTransport, Failure};
use worker::Worker;

/// Inputs that wait for one worker. At 0.1 ms per datagram a full queue is 100 ms of work: what
/// waited longer would be overtaken by its own repetition.
const INPUT_QUEUE: usize = 1_024;

/// Handshakes of one worker, and outcomes that wait to be fetched. Each takes some 30 KB while an
/// honest client fills it, three times that while a hostile one does.
const MAX_IN_FLIGHT: usize = 1_024;

/// Names a connection on its node, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey(pub u64);

/// What a shard gets back.
#[derive(Debug)]
pub enum Output {
    Transmit {
        connection: ConnectionKey,
        datagram: Bytes,
    },
    Finished {
        connection: ConnectionKey,
        association: Box<dyn DtlsTransport>,
        connected: Box<Connected>,
    },
    Failed {
        connection: ConnectionKey,
        error: HandshakeError,
    },
    /// Came in for a connection that is not in the pool: it belongs to the association that
    /// `Finished` brought, or to nobody.
    Datagram {
        connection: ConnectionKey,
        datagram: Bytes,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HandshakeError {
    #[error("the handshake failed: {0:?}")]
    Dtls(Failure),
    #[error("the client closed during the handshake")]
    Closed,
    #[error("the handshake took too long")]
    TimedOut,
}

/// Where a shard's outputs go.
pub struct Outlet {
    /// Bounded; how much is up to the shard.
    pub outputs: Sender<Output>,
    /// Called after outputs; wakes the shard from its wait.
    pub wake: Box<dyn Fn() + Send + Sync>,
}

/// The pool's counters; never reset.
#[derive(Debug, Default)]
pub struct Counters {
    pub finished: AtomicU64,
    pub failed: AtomicU64,
    pub timed_out: AtomicU64,
    /// Handshakes that were not begun because too many were in flight.
    pub refused: AtomicU64,
    /// Datagrams in which there was nothing for the handshake.
    pub ignored: AtomicU64,
    /// Inputs that found a worker's queue full.
    pub inputs_dropped: AtomicU64,
    /// Datagrams that found a shard's queue full.
    pub outputs_dropped: AtomicU64,
}

enum Input {
    Start {
        connection: ConnectionKey,
        shard: usize,
    },
    Datagram {
        connection: ConnectionKey,
        shard: usize,
        datagram: Bytes,
    },
    Cancel {
        connection: ConnectionKey,
    },
    Stop,
}

/// The near end of a worker.
#[derive(Clone)]
struct Inlet {
    inputs: Sender<Input>,
    /// Handshakes in flight and outcomes not delivered: raised here, lowered by the worker.
    load: Arc<AtomicUsize>,
}

pub struct HandshakePool {
    shards: usize,
    workers: Vec<JoinHandle<()>>,
    inlets: Vec<Inlet>,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for HandshakePool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandshakePool").finish_non_exhaustive()
    }
}

impl HandshakePool {
    /// Starts the workers. `outlets` has one entry per shard.
    pub fn start(
        threads: NonZeroUsize,
        certificate: Arc<Certificate>,
        outlets: Vec<Outlet>,
    ) -> io::Result<Self> {
        let counters = Arc::new(Counters::default());
        let outlets: Arc<[Outlet]> = outlets.into();
        // If a thread cannot be started, dropping the pool stops those before it.
        let mut pool = Self {
            shards: outlets.len(),
            workers: Vec::new(),
            inlets: Vec::new(),
            counters: counters.clone(),
        };
        for index in 0..threads.get() {
            let (inputs, receiver) = bounded(INPUT_QUEUE);
            let load = Arc::new(AtomicUsize::new(0));
            let worker = Worker::new(
                certificate.clone(),
                outlets.clone(),
                counters.clone(),
                load.clone(),
            );
            let thread = std::thread::Builder::new().name(format!("handshake-{index}"));
            pool.workers
                .push(thread.spawn(move || worker.run(&receiver))?);
            pool.inlets.push(Inlet { inputs, load });
        }
        Ok(pool)
    }

    /// The pool as shard `shard` uses it.
    pub fn handle(&self, shard: usize) -> Handshakes {
        assert!(shard < self.shards, "a shard without an outlet");
        Handshakes {
            shard,
            inlets: self.inlets.clone(),
            counters: self.counters.clone(),
        }
    }

    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// A thread is gone, which only a bug explains.
    pub fn has_ended(&self) -> bool {
        self.workers.iter().any(JoinHandle::is_finished)
    }
}

impl Drop for HandshakePool {
    /// Stops the workers after what they have queued, and waits for them. Handshakes in flight end
    /// without a word: their clients hear of the connection's end by other ways.
    fn drop(&mut self) {
        for inlet in &self.inlets {
            // A worker that is gone already has nothing to be told.
            let _ = inlet.inputs.send(Input::Stop);
        }
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                tracing::error!("a handshake worker panicked");
            }
        }
    }
}

/// One shard's end of the pool.
pub struct Handshakes {
    shard: usize,
    inlets: Vec<Inlet>,
    counters: Arc<Counters>,
}

/// The pool has more to do than it can. Start again with the client's next datagram.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("the handshake pool is overloaded")]
pub struct Overloaded;

impl Handshakes {
    /// Of no pool, for a shard to which nobody connects.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self {
            shard: 0,
            inlets: Vec::new(),
            counters: Arc::default(),
        }
    }

    /// Begins a handshake; it ends with `Finished` or `Failed`, once.
    pub fn start(&self, connection: ConnectionKey) -> Result<(), Overloaded> {
        let load = &self.inlet(connection).load;
        if load.fetch_add(1, Ordering::Relaxed) >= MAX_IN_FLIGHT {
            load.fetch_sub(1, Ordering::Relaxed);
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Overloaded);
        }
        let shard = self.shard;
        let started = self.push(connection, Input::Start { connection, shard });
        if started.is_err() {
            load.fetch_sub(1, Ordering::Relaxed);
        }
        started
    }

    /// Forwards a datagram whose first byte is 20 to 63.
    pub fn handle_datagram(&self, connection: ConnectionKey, datagram: Bytes) {
        let shard = self.shard;
        let input = Input::Datagram {
            connection,
            shard,
            datagram,
        };
        // The client repeats what is dropped here.
        let _ = self.push(connection, input);
    }

    /// Forgets a handshake. Outputs that are on their way still arrive; if the pool is overloaded
    /// the handshake runs on until its deadline.
    pub fn cancel(&self, connection: ConnectionKey) {
        let _ = self.push(connection, Input::Cancel { connection });
    }

    fn push(&self, connection: ConnectionKey, input: Input) -> Result<(), Overloaded> {
        match self.inlet(connection).inputs.try_send(input) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.counters.inputs_dropped.fetch_add(1, Ordering::Relaxed);
                Err(Overloaded)
            }
        }
    }

    fn inlet(&self, connection: ConnectionKey) -> &Inlet {
        let index = connection.0 % self.inlets.len() as u64;
        &self.inlets[index as usize]
    }
}

#[cfg(test)]
mod tests;
