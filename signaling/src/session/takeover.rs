//! A session that another process has held until now, or has lost: its record and its node tell how it was.
//!
//! What only the client knows, it says when it resumes: until it has, nothing is subscribed to that was not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol::participant_info::State;
use pipemesh_proto::node::Snapshot;

use super::{CONNECT_LIMIT, Phase, Session, Socket, Spec};
use crate::rooms::RoomState;

/// Time for the client to say what it receives. All SDKs do at once.
pub(super) const SYNC_LIMIT: Duration = Duration::from_secs(2);

impl Session {
    /// Goes on with a session, to which the client is about to come back. `snapshot`: what its node has; if
    /// that is lost, the client has to join anew and others see it stay.
    pub(crate) fn take_over(
        spec: Spec,
        room: &Arc<RoomState>,
        snapshot: Option<Snapshot>,
        now: Instant,
    ) -> Self {
        let mut session = Self::idle(spec, now);
        session.phase = Phase::Open;
        session.socket = Socket::Awaited(Some(now + session.resume_grace));
        session.connected = session.info().state() == State::Active;
        session.deadlines.connect = Some(now + CONNECT_LIMIT);
        session.outbox.detach();
        session.updates.departed_before(room.departed());
        // Until what the node has is known.
        session.link.break_off();
        if let Some(snapshot) = &snapshot {
            let published = session.info().tracks.clone();
            session.publications.adopt(published, &snapshot.tracks);
            session.subscriptions.adopt(&snapshot.subscriptions);
        }
        session.handle_room(Some(room), now);
        match snapshot {
            Some(snapshot) => session.handle_snapshot(snapshot, now),
            None => session.handle_node_lost(now),
        }
        if session.phase == Phase::Open && session.info().tracks != session.publications.started() {
            session.publish_tracks();
        }
        session
    }

    /// The store has not heard that the session is held by this process.
    pub(crate) fn write_record(&mut self) {
        self.record_changed = true;
    }

    /// The client has said what it receives, or does not say it.
    pub(super) fn synced(&mut self) {
        self.deadlines.sync = None;
        if self.subscriptions.are_held() {
            self.subscriptions.release(&mut self.link, &mut self.outbox);
        }
    }
}
