//! A session that begins here: its task, and its place among those that this process serves.

use std::sync::Arc;

use pipemesh_proto::ids::{NodeId, SessionId};
use tokio::sync::mpsc;
use tracing::{Instrument, Span};

use crate::auth::Grants;
use crate::context::Context;
use crate::metrics::SessionEnd;
use crate::nodes::NodeStream;
use crate::rooms::{Claim, RoomView};
use crate::session::Session;
use crate::session::driver::{Driver, INPUTS, Input, Parts};
use crate::sessions::Handle;

pub(super) struct Started {
    pub(super) session: Session,
    pub(super) session_id: SessionId,
    pub(super) node_id: NodeId,
    /// `None`: the node has lost it.
    pub(super) node: Option<NodeStream>,
    pub(super) grants: Grants,
    pub(super) view: Arc<RoomView>,
    pub(super) claim: Claim,
}

impl Started {
    pub(super) fn run(self, context: &Arc<Context>) -> (Handle, Span) {
        let (sender, inputs) = mpsc::channel(INPUTS);
        let handle = Handle {
            id: self.session.id().clone(),
            room_id: self.claim.room_id.clone(),
            claimed_at: self.claim.sequence,
            inputs: sender,
            farewell: Arc::default(),
        };
        let (room, identity) = (self.grants.room.clone(), self.grants.identity.clone());
        let span = tracing::info_span!(
            "session",
            %room,
            participant = %identity,
            node = %self.node_id,
        );
        let rescued = self.claim.clone();
        let driver = Driver::new(Parts {
            context: Arc::clone(context),
            session: self.session,
            id: self.session_id,
            node_id: self.node_id,
            grants: self.grants,
            inputs,
            farewell: Arc::clone(&handle.farewell),
            view: self.view,
            node: self.node,
            claim: self.claim,
        });
        context.sessions.insert(&room, &identity, handle.clone());
        if context.stop.is_cancelled() {
            // Everybody else was told when it began to stop.
            let _ = handle.inputs.try_send(Input::Stop);
        }
        context.metrics.sessions.inc();
        let running = tokio::spawn(driver.run().instrument(span.clone()));
        let (ending, farewell) = (Arc::clone(context), Arc::clone(&handle.farewell));
        let ended = async move {
            let outcome = running.await;
            ending.metrics.sessions.dec();
            let Err(fault) = outcome else { return };
            // One participant is lost; nobody else notices but that they left.
            tracing::error!(%fault, "a session ended by a fault");
            ending.metrics.panics.inc();
            ending.metrics.session_ended(SessionEnd::Panicked);
            ending.sessions.remove(&room, &identity, &farewell);
            ending.rooms.vacate(rescued).await;
        };
        context.tasks.spawn(ended.instrument(span.clone()));
        (handle, span)
    }
}
