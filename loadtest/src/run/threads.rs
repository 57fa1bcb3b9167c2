//! The threads that scripts run on: each virtual user stays on the one that it began on.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::LocalSet;

type Task = Pin<Box<dyn Future<Output = ()>>>;
type Work = Box<dyn FnOnce() -> Task + Send>;

/// A thread is asked this often how late it is.
const BEAT: Duration = Duration::from_millis(100);

pub(super) struct Threads {
    senders: Vec<mpsc::UnboundedSender<Work>>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// `late` is told, ten times a second, how much later a thread woke up than it wanted to.
    pub(super) fn start(
        count: usize,
        late: impl Fn(Duration) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let mut threads = Self {
            senders: Vec::new(),
            handles: Vec::new(),
        };
        for number in 0..count.max(1) {
            // One for each virtual user, once.
            let (sender, work) = mpsc::unbounded_channel();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let late = late.clone();
            let body = move || {
                LocalSet::new().block_on(&runtime, run(work, late));
            };
            let builder = std::thread::Builder::new().name(format!("script-{number}"));
            threads.handles.push(builder.spawn(body)?);
            threads.senders.push(sender);
        }
        Ok(threads)
    }

    /// Makes a task on the thread that virtual users of this number are on.
    pub(super) fn spawn<F>(&self, number: u64, make: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        let sender = &self.senders[number as usize % self.senders.len()];
        let work: Work = Box::new(move || Box::pin(make()));
        // Threads end after everybody who could ask them.
        let _ = sender.send(work);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.senders.clear();
        for handle in self.handles.drain(..) {
            // A panic was reported when it happened.
            let _ = handle.join();
        }
    }
}

async fn run(mut work: mpsc::UnboundedReceiver<Work>, late: impl Fn(Duration)) {
    let mut due = Instant::now() + BEAT;
    loop {
        tokio::select! {
            made = work.recv() => match made {
                Some(make) => drop(tokio::task::spawn_local(make())),
                None => return,
            },
            () = tokio::time::sleep_until(due.into()) => {
                late(due.elapsed());
                due = Instant::now() + BEAT;
            }
        }
    }
}
