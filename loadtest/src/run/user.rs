//! One virtual user: loads its script, runs iterations as it is told, and tells how they ended.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::executor::Slot;
use crate::observe::millis;
use crate::script::{CallError, Context, Iteration, Runtime, Severity, Shared, Vu};

/// What a virtual user is told.
pub(super) enum Order {
    /// Boxed: there is room for many orders, and there are few.
    Begin(Box<Begin>),
    /// The iteration is to end at once. Its flag is raised before this is sent.
    Interrupt,
}

/// An iteration to run.
#[derive(Clone)]
pub(super) struct Begin {
    pub(super) scenario: usize,
    pub(super) slot: Slot,
    pub(super) context: Arc<Context>,
    /// In the scenario, over all processes.
    pub(super) number: u64,
    /// In the scenario, in this one.
    pub(super) number_here: u64,
    pub(super) intended: Duration,
    /// What `setup` answered: JSON.
    pub(super) data: Option<Arc<str>>,
}

/// What a virtual user tells.
#[derive(Debug)]
pub(super) enum Event {
    /// Its script is loaded.
    Ready,
    /// Its script cannot be loaded.
    Broken(String),
    Ended {
        scenario: usize,
        slot: Slot,
        interrupted: bool,
    },
}

/// The way to a virtual user.
pub(super) struct Handle {
    orders: mpsc::UnboundedSender<Order>,
    interrupted: Arc<AtomicBool>,
}

/// A virtual user that is to be put on a thread.
pub(super) struct User {
    pub(super) shared: Arc<Shared>,
    pub(super) id: u64,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) interrupted: Arc<AtomicBool>,
    /// An iteration that is over sooner waits.
    pub(super) min_iteration: Duration,
}

impl Handle {
    pub(super) fn begin(&self, begin: Begin) {
        let _ = self.orders.send(Order::Begin(Box::new(begin)));
    }

    /// A script that runs looks at the flag, one that waits gets the order.
    pub(super) fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
        let _ = self.orders.send(Order::Interrupt);
    }
}

impl User {
    pub(super) fn new(
        shared: &Arc<Shared>,
        id: u64,
        events: mpsc::UnboundedSender<Event>,
        min_iteration: Duration,
    ) -> (Handle, Self) {
        // As many orders as iterations, and those one after the other.
        let (sender, orders) = mpsc::unbounded_channel();
        let interrupted = Arc::new(AtomicBool::new(false));
        let handle = Handle {
            orders: sender,
            interrupted: Arc::clone(&interrupted),
        };
        let user = Self {
            shared: Arc::clone(shared),
            id,
            orders,
            events,
            interrupted,
            min_iteration,
        };
        (handle, user)
    }

    /// Until nobody gives orders any more.
    pub(super) async fn live(mut self) {
        let mut counts = Counts::default();
        let (mut runtime, event) = match self.load().await {
            Ok(runtime) => (Some(runtime), Event::Ready),
            // Whoever gives it iterations all the same waits for their ends.
            Err(text) => (None, Event::Broken(text)),
        };
        let _ = self.events.send(event);
        while let Some(order) = self.orders.recv().await {
            // An interruption of what has ended by itself meanwhile.
            let Order::Begin(begin) = order else { continue };
            self.interrupted.store(false, Ordering::Relaxed);
            let used = match runtime.take() {
                Some(used) => Ok(used),
                None => self.load().await,
            };
            let iteration = counts.next(&begin);
            // Told when it is dropped, whatever happens: somebody waits for it.
            let mut ending = Ending {
                events: self.events.clone(),
                scenario: begin.scenario,
                slot: begin.slot,
                interrupted: true,
            };
            match used {
                Ok(used) => {
                    (ending.interrupted, runtime) = self.iterate(used, &begin, iteration).await;
                }
                Err(text) => self.shared.say(Severity::Error, text, None),
            }
        }
    }

    async fn load(&self) -> Result<Runtime, String> {
        let loaded = Runtime::load(&self.shared, self.id, Arc::clone(&self.interrupted)).await;
        loaded.map_err(|error| error.to_string())
    }

    /// Whether it was interrupted, and the runtime if it can be used again: not if something in it
    /// would go on in the next iteration, nor if its variables hold all the memory that there is.
    async fn iterate(
        &mut self,
        runtime: Runtime,
        begin: &Begin,
        iteration: Iteration,
    ) -> (bool, Option<Runtime>) {
        let vu: Rc<Vu> = Rc::clone(runtime.vu());
        vu.begin(&begin.context, iteration);
        let began = Instant::now();
        let data = begin.data.as_deref();
        let outcome = tokio::select! {
            outcome = runtime.call(&begin.context.exec, data) => outcome,
            () = interruption(&mut self.orders) => Err(CallError::Interrupted),
        };
        let took = began.elapsed();
        vu.leave_rooms().await;
        let meters = &self.shared.meters;
        let tags = vu.tag_set(None);
        let mut kept = Some(runtime).filter(Runtime::is_idle);
        let interrupted = match outcome {
            Err(CallError::Interrupted) => true,
            Ok(_) => false,
            Err(error) => {
                if error == CallError::OutOfMemory {
                    kept = None;
                }
                self.shared.say(Severity::Error, error.to_string(), None);
                false
            }
        };
        if interrupted {
            return (true, None);
        }
        vu.measure(meters.iterations, 1.0, 1.0, tags);
        vu.measure(meters.iteration_duration, millis(took), 1.0, tags);
        let left = self.min_iteration.saturating_sub(took);
        if !left.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                () = interruption(&mut self.orders) => return (true, None),
            }
        }
        (false, kept)
    }
}

/// An iteration that has begun.
struct Ending {
    events: mpsc::UnboundedSender<Event>,
    scenario: usize,
    slot: Slot,
    interrupted: bool,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Ended {
            scenario: self.scenario,
            slot: self.slot,
            interrupted: self.interrupted,
        });
    }
}

async fn interruption(orders: &mut mpsc::UnboundedReceiver<Order>) {
    // Nobody gives an iteration to who runs one.
    let _ = orders.recv().await;
}

/// How many iterations a virtual user has run.
#[derive(Default)]
struct Counts {
    all: u64,
    by_scenario: std::collections::BTreeMap<usize, u64>,
}

impl Counts {
    fn next(&mut self, begin: &Begin) -> Iteration {
        let here = self.by_scenario.entry(begin.scenario).or_default();
        let iteration = Iteration {
            of_vu: self.all,
            of_vu_in_scenario: *here,
            of_scenario: begin.number,
            of_scenario_here: begin.number_here,
            intended: begin.intended,
        };
        self.all += 1;
        *here += 1;
        iteration
    }
}
