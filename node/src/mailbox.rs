//! A bounded queue towards one task that takes no memory while it is empty.
//!
//! tokio's channels keep a block of 32 messages each, which is most of what a session at rest would
//! take. What goes through here are changes of state, a few in a session's life: a lock held for one
//! push or pop is cheap enough. Knows nothing of what it carries.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// `bound` messages may wait.
pub(crate) fn channel<T>(bound: usize) -> (Sender<T>, Receiver<T>) {
    let state = State {
        queue: VecDeque::new(),
        reader: None,
        senders: 1,
        is_read: true,
    };
    let shared = Arc::new(Shared {
        bound,
        state: Mutex::new(state),
    });
    let sender = Sender {
        shared: Arc::clone(&shared),
    };
    (sender, Receiver { shared })
}

#[derive(Debug)]
pub(crate) struct Sender<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

/// The queue is full, or nobody reads it any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused<T>(pub(crate) T);

#[derive(Debug)]
struct Shared<T> {
    bound: usize,
    // Held for one push or pop.
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    /// Waits for the next message.
    reader: Option<Waker>,
    senders: usize,
    is_read: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing that runs under the lock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Sender<T> {
    pub(crate) fn try_send(&self, message: T) -> Result<(), Refused<T>> {
        self.push(message, self.shared.bound)
    }

    /// Sends whether the queue is full or not: for senders that are few, and wait for what comes of it.
    pub(crate) fn send_anyway(&self, message: T) -> Result<(), Refused<T>> {
        self.push(message, usize::MAX)
    }

    fn push(&self, message: T, bound: usize) -> Result<(), Refused<T>> {
        let mut state = self.shared.lock();
        if !state.is_read || state.queue.len() >= bound {
            return Err(Refused(message));
        }
        state.queue.push_back(message);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.lock().senders += 1;
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.senders -= 1;
        let reader = match state.senders {
            0 => state.reader.take(),
            _ => None,
        };
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// The next message; `None` once nobody is left who could send one.
    pub(crate) async fn recv(&mut self) -> Option<T> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    pub(crate) fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.shared.lock();
        if let Some(message) = state.queue.pop_front() {
            if state.queue.is_empty() {
                state.queue = VecDeque::new();
            }
            return Poll::Ready(Some(message));
        }
        if state.senders == 0 {
            return Poll::Ready(None);
        }
        let waits = |reader: &Waker| reader.will_wake(context.waker());
        if !state.reader.as_ref().is_some_and(waits) {
            state.reader = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl<T> Receiver<T> {
    pub(crate) fn try_recv(&mut self) -> Option<T> {
        match self.poll_recv(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(message) => message,
            Poll::Pending => None,
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_read = false;
        let unread = std::mem::take(&mut state.queue);
        drop(state);
        drop(unread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_in_order_and_the_bound_holds() {
        let (sender, mut receiver) = channel(2);
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.try_send(2), Ok(()));
        assert_eq!(sender.try_send(3), Err(Refused(3)));
        assert_eq!(sender.send_anyway(4), Ok(()));
        let read = std::iter::from_fn(|| receiver.try_recv());
        assert_eq!(read.collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(sender.shared.lock().queue.capacity(), 0, "nothing is kept");
        assert_eq!(sender.try_send(5), Ok(()));
    }

    #[test]
    fn each_end_learns_that_the_other_is_gone() {
        let (sender, receiver) = channel(2);
        let other = sender.clone();
        drop(receiver);
        assert_eq!(other.try_send(1), Err(Refused(1)));
        assert_eq!(sender.send_anyway(1), Err(Refused(1)));

        let (sender, mut receiver) = channel(2);
        let other = sender.clone();
        drop(sender);
        assert_eq!(other.try_send(1), Ok(()));
        drop(other);
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(receiver.poll_recv(&mut context), Poll::Ready(Some(1)));
        assert_eq!(receiver.poll_recv(&mut context), Poll::Ready(None));
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken_by_a_message_and_by_the_end() {
        let (sender, mut receiver) = channel(2);
        let reader = tokio::spawn(async move { (receiver.recv().await, receiver.recv().await) });
        tokio::task::yield_now().await;
        sender.try_send(7).unwrap();
        tokio::task::yield_now().await;
        drop(sender);
        assert_eq!(reader.await.unwrap(), (Some(7), None));
    }
}
