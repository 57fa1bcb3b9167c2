//! The threads that scripts run on: each virtual user stays on the one that it began on.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    beats: Vec<Arc<Beat>>,
}

/// When a thread is to wake up next, for others to see: one that does not cannot say so.
struct Beat {
    began: Instant,
    /// Microseconds since then.
    due: AtomicU64,
}

impl Beat {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            due: AtomicU64::new(BEAT.as_micros() as u64),
        }
    }

    fn due(&self) -> Instant {
        self.began + Duration::from_micros(self.due.load(Ordering::Relaxed))
    }

    fn next(&self) {
        let next = self.began.elapsed() + BEAT;
        self.due.store(next.as_micros() as u64, Ordering::Relaxed);
    }
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
            beats: Vec::new(),
        };
        for number in 0..count.max(1) {
            // One for each virtual user, once.
            let (sender, work) = mpsc::unbounded_channel();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let (late, beat) = (late.clone(), Arc::new(Beat::new()));
            threads.beats.push(Arc::clone(&beat));
            let body = move || {
                LocalSet::new().block_on(&runtime, run(work, &beat, late));
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

impl Threads {
    /// How late those are by now that should have woken up, and have not.
    pub(super) fn overdue(&self) -> Duration {
        let late = self.beats.iter().map(|beat| beat.due().elapsed());
        late.max().unwrap_or_default()
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

async fn run(mut work: mpsc::UnboundedReceiver<Work>, beat: &Beat, late: impl Fn(Duration)) {
    beat.next();
    loop {
        tokio::select! {
            made = work.recv() => match made {
                Some(make) => drop(tokio::task::spawn_local(make())),
                None => return,
            },
            () = tokio::time::sleep_until(beat.due().into()) => {
                late(beat.due().elapsed());
                beat.next();
            }
        }
    }
}
