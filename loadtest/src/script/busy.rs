//! Whether a script waits for something that we do for it: an iteration is over when its function is,
//! and nothing of this is left.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

#[derive(Default)]
pub(super) struct Busy {
    count: Cell<usize>,
    idle: Notify,
}

/// Counts as long as it lives.
pub(super) struct Working(Rc<Busy>);

impl Busy {
    pub(super) fn begin(self: &Rc<Self>) -> Working {
        self.count.set(self.count.get() + 1);
        Working(Rc::clone(self))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.count.get() == 0
    }

    /// Something ended since the last look; there may be more.
    pub(super) async fn changed(&self) {
        self.idle.notified().await;
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        self.0.idle.notify_one();
    }
}
