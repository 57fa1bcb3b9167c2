//! Carries out an order on the sessions of this process.

use std::sync::Arc;

use futures_util::future::join_all;
use pipemesh_topology::{Identity, RoomName};
use tokio::sync::oneshot;

use super::wire::{Answer, Order, Outcome, What};
use crate::context::Context;
use crate::session::driver::Input;

/// What became of it; of an order for several people that it was said to each of them.
pub(super) async fn out(context: &Arc<Context>, order: Order) -> Answer {
    let Some(what) = order.what else {
        return Answer::of(Outcome::Unimplemented);
    };
    let Ok(room) = order.room.parse::<RoomName>() else {
        return Answer::invalid("no such room");
    };
    let all = order
        .identities
        .iter()
        .filter_map(|identity| identity.parse::<Identity>().ok())
        .map(|identity| one(context, &room, &order.room_id, identity, what.clone()));
    let mut answers = join_all(all).await;
    match (answers.len(), answers.pop()) {
        (1, Some(answer)) => answer,
        (0, _) | (_, None) => Answer::of(Outcome::NobodyHere),
        _ => Answer::of(Outcome::Done),
    }
}

async fn one(
    context: &Context,
    room: &RoomName,
    room_id: &str,
    identity: Identity,
    what: What,
) -> Answer {
    let nobody = || Answer::of(Outcome::NobodyHere);
    let handle = context.sessions.find(room, &identity, "");
    let Some(handle) = handle.filter(|handle| handle.room_id.as_str() == room_id) else {
        return nobody();
    };
    let (answer, answered) = oneshot::channel();
    let input = Input::Order(Box::new(what), answer);
    if handle.inputs.send(input).await.is_err() {
        return nobody();
    }
    // The session ended in this moment.
    answered.await.unwrap_or_else(|_| nobody())
}
