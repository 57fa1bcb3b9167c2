//! Letters from process to process: said again until they are answered, done once.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pipemesh_proto::ids::{ProcessId, SessionId};
use pipemesh_service::Chain;
use pipemesh_topology::store::Unavailable;
use prost::Message;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::carry;
use super::wire::{Answer, Body, Letter, Order, Outcome};
use crate::context::Context;

/// How long an order may take, until whoever gave it is told that it may not be done.
pub(super) const ORDER_LIMIT: Duration = Duration::from_secs(5);

/// Pause before an order is said again that was not answered: longer than a session takes that is busy.
const AGAIN: Duration = Duration::from_millis(500);

/// How long nobody has to listen before a process is taken to hear nothing: it may be connecting again.
const DEAF: Duration = Duration::from_secs(1);

/// Letters of others that are remembered, so that what is said twice is done once: those of several
/// times the limit, at hundreds a second.
const REMEMBERED: usize = 4096;

/// Pause before a store that failed is listened to again.
const RETRY: Duration = Duration::from_millis(200);

#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The process is gone, or of a version that takes no orders.
    #[error("nobody listens at the process that serves the participant")]
    NobodyListens,
    #[error("the process that serves the participant did not answer in time")]
    TimedOut,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

#[derive(Default)]
pub(crate) struct Post {
    /// Whoever waits for an answer. Held for a map access, as is the other.
    waiting: Mutex<HashMap<String, oneshot::Sender<Answer>>>,
    handled: Mutex<Handled>,
}

/// Letters that have come, oldest first, and the answers to those that were answered.
#[derive(Default)]
struct Handled {
    order: VecDeque<String>,
    answers: HashMap<String, Option<Answer>>,
}

/// What to do about a letter.
#[derive(Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives for as long as a letter is handled"
)]
enum Known {
    New,
    /// It is being done.
    Begun,
    Answered(Answer),
}

impl Handled {
    fn begin(&mut self, id: &str) -> Known {
        if let Some(known) = self.answers.get(id) {
            return known.clone().map_or(Known::Begun, Known::Answered);
        }
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
        }
        self.order.push_back(id.to_owned());
        self.answers.insert(id.to_owned(), None);
        Known::New
    }

    fn answered(&mut self, id: &str, answer: &Answer) {
        if let Some(known) = self.answers.get_mut(id) {
            *known = Some(answer.clone());
        }
    }
}

/// Forgets who does not wait any more.
struct Waiting<'a> {
    post: &'a Post,
    id: &'a str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.post.waiting).remove(self.id);
    }
}

impl Post {
    /// Has an order carried out by the process that serves those people.
    pub(crate) async fn ask(
        &self,
        context: &Arc<Context>,
        process: &ProcessId,
        order: Order,
    ) -> Result<Answer, AskError> {
        let (me, store) = (context.rooms.process(), context.rooms.store());
        if process == me {
            let carried = carry::out(context, order);
            return timeout(ORDER_LIMIT, carried)
                .await
                .map_err(|_| AskError::TimedOut);
        }
        let id = SessionId::random().to_string();
        let (answer, mut answered) = oneshot::channel();
        lock(&self.waiting).insert(id.clone(), answer);
        let _waiting = Waiting {
            post: self,
            id: &id,
        };
        let letter = letter(&id, me, Body::Order(order));
        let begun = Instant::now();
        let mut heard = false;
        loop {
            heard |= store.tell(process, letter.clone()).await?;
            if let Ok(Ok(answer)) = timeout(AGAIN, &mut answered).await {
                return Ok(answer);
            }
            if !heard && begun.elapsed() >= DEAF {
                return Err(AskError::NobodyListens);
            }
            if begun.elapsed() >= ORDER_LIMIT {
                return Err(AskError::TimedOut);
            }
        }
    }

    /// Takes what others say to this process, for as long as it lives.
    pub(crate) async fn serve(context: &Arc<Context>) -> Infallible {
        let (me, store) = (context.rooms.process(), context.rooms.store());
        // At first the store is not there yet.
        let mut complained = true;
        loop {
            match store.listen(me).await {
                Ok(mut letters) => {
                    complained = false;
                    while let Some(letter) = letters.next().await {
                        take(context, &letter);
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut complained, true) {
                        let error = Chain(&error).to_string();
                        tracing::warn!(error, "orders of other processes are not heard");
                    }
                }
            }
            sleep(RETRY).await;
        }
    }
}

fn take(context: &Arc<Context>, letter: &Bytes) {
    let Ok(letter) = Letter::decode(letter.clone()) else {
        return tracing::warn!("a letter of another process cannot be read");
    };
    let (id, post) = (letter.id, &context.post);
    let order = match letter.body {
        Some(Body::Answer(answer)) => {
            if let Some(waiting) = lock(&post.waiting).remove(&id) {
                // Fails when it was given up in this moment.
                let _ = waiting.send(answer);
            }
            return;
        }
        Some(Body::Order(order)) => Some(order),
        // A letter of a later version: whoever waits is told.
        None => None,
    };
    let Ok(from) = letter.from.parse::<ProcessId>() else {
        return;
    };
    let known = lock(&post.handled).begin(&id);
    let context = Arc::clone(context);
    match (known, order) {
        (Known::Begun, _) => {}
        (Known::Answered(answer), _) => {
            let tasks = context.tasks.clone();
            tasks.spawn(async move { reply(&context, &from, &id, answer).await });
        }
        (Known::New, order) => {
            let tasks = context.tasks.clone();
            tasks.spawn(async move {
                let carried = async {
                    match order {
                        Some(order) => carry::out(&context, order).await,
                        None => Answer::of(Outcome::Unimplemented),
                    }
                };
                // Later nobody waits for it.
                let Ok(answer) = timeout(ORDER_LIMIT, carried).await else {
                    return;
                };
                lock(&context.post.handled).answered(&id, &answer);
                reply(&context, &from, &id, answer).await;
            });
        }
    }
}

async fn reply(context: &Context, to: &ProcessId, id: &str, answer: Answer) {
    let rooms = &context.rooms;
    let letter = letter(id, rooms.process(), Body::Answer(answer));
    // The order is said again, and answered again.
    let _ = rooms.store().tell(to, letter).await;
}

fn letter(id: &str, from: &ProcessId, body: Body) -> Bytes {
    let letter = Letter {
        id: id.to_owned(),
        from: from.to_string(),
        body: Some(body),
    };
    letter.encode_to_vec().into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_twice_is_done_once() {
        let mut handled = Handled::default();
        assert_eq!(handled.begin("a"), Known::New);
        assert_eq!(handled.begin("a"), Known::Begun);
        let done = Answer::of(Outcome::Done);
        handled.answered("a", &done);
        assert_eq!(handled.begin("a"), Known::Answered(done));
        assert_eq!(handled.begin("b"), Known::New);
    }

    #[test]
    fn letters_are_forgotten_in_the_order_in_which_they_came() {
        let mut handled = Handled::default();
        for i in 0..=REMEMBERED {
            assert_eq!(handled.begin(&i.to_string()), Known::New);
        }
        assert_eq!(handled.answers.len(), REMEMBERED);
        assert_eq!(handled.begin("1"), Known::Begun);
        assert_eq!(handled.begin("0"), Known::New);
    }
}
