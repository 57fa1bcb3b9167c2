//! The timers of one virtual user: `setTimeout` and `setInterval`, and how to stop them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

#[derive(Default)]
pub(super) struct Timers {
    last: Cell<u32>,
    /// Told when it is to stop.
    running: RefCell<BTreeMap<u32, Rc<Notify>>>,
}

impl Timers {
    pub(super) fn start(&self) -> u32 {
        self.last.set(self.last.get() + 1);
        let id = self.last.get();
        self.running.borrow_mut().insert(id, Rc::default());
        id
    }

    pub(super) fn stop(&self, id: u32) {
        if let Some(stopped) = self.running.borrow_mut().remove(&id) {
            stopped.notify_one();
        }
    }

    /// False: it was stopped.
    pub(super) async fn wait(&self, id: u32, milliseconds: f64) -> bool {
        let Some(stopped) = self.running.borrow().get(&id).cloned() else {
            return false;
        };
        tokio::select! {
            () = tokio::time::sleep(span(milliseconds)) => true,
            () = stopped.notified() => false,
        }
    }
}

/// A year is as good as for ever, and nothing overflows.
pub(super) fn span(milliseconds: f64) -> Duration {
    const YEAR: f64 = 365.0 * 24.0 * 60.0 * 60.0;
    let seconds = milliseconds / 1_000.0;
    Duration::from_secs_f64(if seconds > 0.0 {
        seconds.min(YEAR)
    } else {
        0.0
    })
}
