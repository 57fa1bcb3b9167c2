//! A client resumes whose session another process has held: that one died, ends, or the client's way to it
//! broke. The session goes on here, and its media never stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use pipemesh_proto::ids::TrackId;
use pipemesh_service::Chain;

use super::start::Started;
use super::{JoinError, MAX_CLAIMS, NODES_KNOWN, new_holding, unix_ms};
use crate::auth::{Grants, Rights};
use crate::context::Context;
use crate::livekit::join::Join;
use crate::rooms::record::{Member, MemberRecord, Presence};
use crate::rooms::{Claim, ClaimError, RoomView};
use crate::session::{Session, Spec};
use crate::sessions::Handle;

/// Goes on with the session of somebody who resumes. `None`: there is none that could be gone on with.
/// `sid`: who they say they were, if they say.
pub(crate) async fn take_over(
    context: Arc<Context>,
    grants: Grants,
    asked: Join,
    sid: String,
) -> Result<Option<Handle>, JoinError> {
    if context.stop.is_cancelled() {
        return Err(JoinError::Stopping);
    }
    context.nodes.known(NODES_KNOWN).await;
    let view = context.rooms.view(&grants.room);
    let Some((member, record, taken)) = claim(&context, &view, &grants, &sid).await? else {
        return Ok(None);
    };
    let claim = taken.claim();
    let Some(room) = view.shows(&claim.room_id, claim.sequence).await else {
        return Err(JoinError::Contended);
    };
    let attaching = context
        .nodes
        .attach(&member.node, &member.session, claim.number());
    let attached = match attaching.await {
        Ok(attached) => Some(attached),
        // By somebody who claimed it after that. Or the store has lost later claims: the next attempt counts
        // further.
        Err(error) if error.is_taken_over() => return Err(JoinError::Contended),
        Err(error) => {
            let error = Chain(&error).to_string();
            tracing::warn!(room = %grants.room, node = %member.node, error, "the node's session is lost");
            None
        }
    };
    let (stream, snapshot) = attached.map(|it| (it.stream, it.snapshot)).unzip();
    let open = snapshot
        .as_ref()
        .and_then(|snapshot| snapshot.open.as_ref());
    let rights = member.info.permission.as_ref();
    let spec = Spec {
        room_id: claim.room_id.clone(),
        identity: grants.identity.clone(),
        id: member.id.clone(),
        session: member.session.clone(),
        node: member.node.clone(),
        region: member
            .info
            .region
            .parse()
            .unwrap_or_else(|_| context.region.clone()),
        layout: open.map_or(asked.layout, |open| open.layout()),
        client: asked.client,
        rights: rights.map_or_else(|| grants.rights.clone(), Rights::of),
        auto_subscribe: asked.auto_subscribe,
        adaptive_stream: asked.adaptive_stream,
        never_pause: open.is_some_and(|open| open.never_pause),
        loudest_microphones: room.loudest_microphones(),
        record,
        claimed_at: claim.sequence,
        claim: claim.number(),
        former_tracks: BTreeMap::new(),
        add_tracks: Vec::new(),
        offer: None,
        resume_grace: context.resume_grace,
        move_interval: context.move_interval(),
        track_ids: Box::new(TrackId::random),
        unix_ms: unix_ms(SystemTime::now()),
    };
    let mut session = Session::take_over(spec, &room, snapshot, Instant::now());
    if claim.rests_on_memory() {
        session.write_record();
    }
    let started = Started {
        session,
        session_id: member.session,
        node_id: member.node,
        node: stream,
        grants,
        view,
        claim: taken.keep(),
    };
    let (handle, span) = started.run(&context);
    let from = member.process.map(|process| process.to_string());
    tracing::info!(parent: &span, sid = %handle.id, from, "taken over from another process");
    Ok(Some(handle))
}

/// Makes the session this process's own. Before its node is asked: of two processes that try, one does.
async fn claim(
    context: &Arc<Context>,
    view: &RoomView,
    grants: &Grants,
    sid: &str,
) -> Result<Option<(Member, MemberRecord, Taken)>, JoinError> {
    let rooms = &context.rooms;
    for _ in 0..MAX_CLAIMS {
        let Some((mut room, member)) = rooms.find(&grants.room, &grants.identity).await? else {
            return Ok(None);
        };
        let goes_on = matches!(member.presence, Presence::Here | Presence::Away)
            && (sid.is_empty() || member.id.as_str() == sid)
            // A version that lets nobody take over would take the session back.
            && member.holding != 0;
        if !goes_on {
            return Ok(None);
        }
        // Another one of their attempts is under way here, or they have just been lost: the next one finds out.
        if rooms.serves(&member) || view.shows(&room.id, room.sequence()).await.is_none() {
            return Err(JoinError::Contended);
        }
        let record = member.held_by(rooms.process().as_str(), new_holding());
        let identity = &grants.identity;
        let prospect = rooms.prospect(&room, identity, &member.session, record.holding);
        match rooms
            .claim(&mut room, identity, Some(&member), &record)
            .await
        {
            Ok(claim) => {
                let taken = Taken::new(context, claim);
                return Ok(Some((member, record, taken)));
            }
            // By the process that serves it still, or by somebody who joins.
            Err(ClaimError::Conflict(_)) => {}
            Err(ClaimError::Full | ClaimError::Gone) => return Ok(None),
            Err(ClaimError::Unavailable(error)) => {
                // Made or not, it is there for the next attempt.
                let_go(context, prospect);
                return Err(error.into());
            }
        }
    }
    Ok(None)
}

/// A claim on a session that does not go on here yet. Dropped, it is let go: who was in the room stays for a
/// while.
struct Taken {
    context: Arc<Context>,
    claim: Claim,
    is_kept: bool,
}

impl Taken {
    fn new(context: &Arc<Context>, claim: Claim) -> Self {
        Self {
            context: Arc::clone(context),
            claim,
            is_kept: false,
        }
    }

    fn claim(&self) -> &Claim {
        &self.claim
    }

    fn keep(mut self) -> Claim {
        self.is_kept = true;
        self.claim.clone()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.is_kept {
            let_go(&self.context, self.claim.clone());
        }
    }
}

/// Whoever it is comes again and takes the session over, or is gone.
fn let_go(context: &Arc<Context>, claim: Claim) {
    context.rooms.let_go(&claim);
    let later = Arc::clone(context);
    context.tasks.spawn(async move {
        let grace = tokio::time::sleep(later.resume_grace);
        if later.stop.run_until_cancelled(grace).await.is_some() {
            later.rooms.vacate(claim).await;
        }
    });
}
