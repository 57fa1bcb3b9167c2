//! Orderly stop: who may still work, and what happens when a task ends that should not.
//!
//! Two steps. *Drain*: take nothing new, let go of what is there. *Close*: end. The first SIGTERM or
//! SIGINT starts the drain, the second one closes now. What a drain does is the binary's business;
//! it calls [`Stop::close`] when it is done.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::Chain;

/// The two steps, as anybody can wait for them.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    drain: CancellationToken,
    close: CancellationToken,
}

impl Stop {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the drain starts.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.drain.clone()
    }

    /// Cancelled when it is time to end, which is never before the drain has started.
    #[must_use]
    pub fn closing(&self) -> CancellationToken {
        self.close.clone()
    }

    pub fn drain(&self) {
        self.drain.cancel();
    }

    pub fn close(&self) {
        self.drain.cancel();
        self.close.cancel();
    }

    /// Turns signals into steps, until it is time to end. Takes the signals over when called, so
    /// that none is lost before the future runs.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn on_signals(&self) -> io::Result<impl Future<Output = ()> + Send + use<>> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = self.clone();
        Ok(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                    () = stop.close.cancelled() => return,
                };
                if stop.drain.is_cancelled() {
                    tracing::info!(signal = name, "stopping now");
                    stop.close();
                } else {
                    tracing::info!(signal = name, "draining; a second signal stops at once");
                    stop.drain();
                }
            }
        })
    }
}

/// How long tasks may take to end once they were told to. A task that needs longer is stuck; the
/// operator waits for it in vain.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Owns the tasks of a process. One that ends before it was told to ends the process.
#[derive(Debug)]
pub struct Supervisor {
    stop: Stop,
    tasks: JoinSet<Result<(), Failure>>,
    names: Vec<(Id, &'static str)>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A task ended that should not have.
#[derive(Debug, thiserror::Error)]
#[error("{task} ended early")]
pub struct Ended {
    pub task: &'static str,
    #[source]
    pub cause: Option<Failure>,
}

impl Supervisor {
    #[must_use]
    pub fn new(stop: Stop) -> Self {
        Self {
            stop,
            tasks: JoinSet::new(),
            names: Vec::new(),
        }
    }

    /// The task must watch [`Stop::closing`] and end with it.
    pub fn spawn<E>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) where
        E: Into<Failure>,
    {
        let handle = self
            .tasks
            .spawn(async move { task.await.map_err(Into::into) });
        self.names.push((handle.id(), name));
    }

    /// For tasks that cannot fail.
    pub fn spawn_plain(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn(name, async move {
            task.await;
            Ok::<(), Failure>(())
        });
    }

    /// Runs until all tasks have ended.
    ///
    /// # Errors
    /// The first task that ended before [`Stop::close`]; all others have been told to end by then.
    pub async fn run(mut self) -> Result<(), Ended> {
        let mut outcome = Ok(());
        let closing = self.stop.closing();
        while !closing.is_cancelled() {
            let ended = tokio::select! {
                biased;
                () = closing.cancelled() => break,
                ended = self.tasks.join_next_with_id() => ended,
            };
            let Some(ended) = ended else { break };
            let (task, cause) = self.name(ended);
            // A task that calls `close` as its last act did not end early.
            if !closing.is_cancelled() {
                outcome = Err(Ended { task, cause });
                self.stop.close();
            }
        }
        let all_ended = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                if let (task, Some(cause)) = self.name(ended) {
                    tracing::warn!(task, error = %Chain(&*cause), "failed while closing");
                }
            }
        };
        if tokio::time::timeout(CLOSE_LIMIT, all_ended).await.is_err() {
            let stuck: Vec<&str> = self.names.iter().map(|(_, name)| *name).collect();
            tracing::warn!(
                tasks = stuck.join(", "),
                "did not end in time, stopping without them"
            );
            self.tasks.shutdown().await;
        }
        outcome
    }

    fn name(
        &mut self,
        ended: Result<(Id, Result<(), Failure>), JoinError>,
    ) -> (&'static str, Option<Failure>) {
        let (id, cause) = match ended {
            Ok((id, outcome)) => (id, outcome.err()),
            Err(panic) => (panic.id(), Some(panic.into())),
        };
        let place = self.names.iter().position(|(named, _)| *named == id);
        let place = place.expect("every task gets its name when it is spawned");
        (self.names.swap_remove(place).1, cause)
    }
}
