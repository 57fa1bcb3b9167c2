//! Who may write which participant's record, and how that outlives a store that is away.
//!
//! While the store cannot be reached, what sessions of this process want written is remembered in the
//! room's view: whoever is in the room here sees it at once, others when the store is back. Somebody can
//! even come into a room that is known.

use std::sync::Arc;

use bytes::Bytes;
use livekit_protocol::RoomEndReason;
use pipemesh_proto::ids::{RoomId, SessionId};
use pipemesh_service::Chain;
use pipemesh_topology::store::{
    PutMember, PutOutcome, RemoveOutcome, Unavailable, WhenEmpty, life, next_life,
};
use pipemesh_topology::{Identity, RoomName, store};
use prost::Message;

use super::record::{Member, MemberRecord};
use super::{OpenRoom, REMOVE_RETRY, Rooms};

/// Attempts to write a record: one that failed may have been done all the same, what the store has lost
/// is brought back first, and what was replaced from memory may have changed or gone.
const WRITE_ATTEMPTS: u32 = 4;

/// The right to write a participant's record.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) room: RoomName,
    pub(crate) room_id: RoomId,
    pub(crate) identity: Identity,
    session: String,
    /// Whoever takes the session over has another one.
    holding: u64,
    /// As a node is told: which of the claims on the identity this is. The version of the record as the store
    /// has first had the claim; while it has not, of what the claim replaces, 0 if that is nobody.
    number: u64,
    /// The version of the record as last written; 0 if there is none.
    version: u64,
    /// Where in the room's events the claim was made or last written: what is older does not know of
    /// it.
    pub(crate) sequence: u64,
    basis: Basis,
    /// What the store has last taken, of whoever it was: webhooks know of it.
    told: Option<Arc<Member>>,
}

/// What a claim rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Basis {
    Store,
    /// The store was away: it will be told, unless it has somebody else by then than whom the claim
    /// replaced.
    Memory {
        replaces: Option<(SessionId, u64)>,
    },
}

impl Claim {
    fn holder(&self) -> (&str, u64) {
        (&self.session, self.holding)
    }

    /// Grows from one claim of the identity to the next: of two processes that hold a session, the node
    /// believes the one with the higher number.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether the store has yet to be told.
    pub(crate) fn rests_on_memory(&self) -> bool {
        self.basis != Basis::Store
    }

    /// Whether this is what the claim's session wrote, since it is held by this claim.
    fn is_on(&self, stored: &store::Member) -> bool {
        let is_own = |member: Member| member.is_held_by(self.holder());
        stored.identity == self.identity && Member::decode(stored).is_some_and(is_own)
    }

    /// Whether this is what the claim's session wrote since it is held by another process.
    fn is_taken_over(&self, stored: &store::Member) -> bool {
        let is_other = |member: Member| {
            member.session.as_str() == self.session && member.holding != self.holding
        };
        Member::decode(stored).is_some_and(is_other)
    }

    /// Whether this may be written over: what the session wrote, what it replaced from memory, and what the
    /// store has gone back to, since versions only grow.
    fn covers(&self, stored: &store::Member) -> bool {
        if stored.version < self.version {
            return true;
        }
        let replaced = match &self.basis {
            Basis::Memory { replaces } => replaces.as_ref(),
            Basis::Store => None,
        };
        let is_replaced = replaced.is_some_and(|replaced| {
            let holder = (replaced.0.as_str(), replaced.1);
            Member::decode(stored).is_some_and(|member| member.is_held_by(holder))
        });
        self.is_on(stored) || is_replaced
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    /// Somebody else wrote the record in between: this is how it is.
    #[error("the identity was claimed by somebody else")]
    Conflict(Option<Box<Member>>),
    #[error("the room has as many participants as it may have")]
    Full,
    #[error("the room has ended")]
    Gone,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The claim is gone: replaced by another session, or removed.
    #[error("the participant's record is somebody else's")]
    Lost,
    /// Another process goes on with the session.
    #[error("the session is another process's")]
    TakenOver,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Rooms {
    /// What [`Rooms::claim`] may have made when there was no answer: it can be left.
    pub(crate) fn prospect(
        &self,
        room: &OpenRoom,
        identity: &Identity,
        session: &SessionId,
        holding: u64,
    ) -> Claim {
        Claim {
            room: room.name.clone(),
            room_id: room.id.clone(),
            identity: identity.clone(),
            session: session.to_string(),
            holding,
            number: 0,
            version: 0,
            sequence: room.sequence,
            basis: Basis::Store,
            told: None,
        }
    }

    /// Takes an identity in a room. `replaces`: the record that is there. Without an answer the claim may be
    /// made all the same, and is to be left.
    pub(crate) async fn claim(
        &self,
        room: &mut OpenRoom,
        identity: &Identity,
        replaces: Option<&Member>,
        record: &MemberRecord,
    ) -> Result<Claim, ClaimError> {
        self.served.begin(&record.session, record.holding);
        let outcome = self.put_claim(room, identity, replaces, record).await;
        if !matches!(&outcome, Ok(_) | Err(ClaimError::Unavailable(_))) {
            self.served.end(&record.session, record.holding);
        }
        outcome
    }

    async fn put_claim(
        &self,
        room: &mut OpenRoom,
        identity: &Identity,
        replaces: Option<&Member>,
        record: &MemberRecord,
    ) -> Result<Claim, ClaimError> {
        let put = PutMember {
            identity: identity.clone(),
            expected: replaces.map(|member| member.version),
            body: record.encode_to_vec().into(),
            capacity: room.capacity,
        };
        let claim = |version, sequence, basis| Claim {
            room: room.name.clone(),
            room_id: room.id.clone(),
            identity: identity.clone(),
            session: record.session.clone(),
            holding: record.holding,
            number: version,
            version,
            sequence,
            basis,
            told: replaces.cloned().map(Arc::new),
        };
        let body = put.body.clone();
        let error = match self.store.put_member(&room.name, &room.id, put).await {
            Ok(PutOutcome::Done { version, sequence }) => {
                let mut claim = claim(version, sequence, Basis::Store);
                room.sequence = sequence;
                self.tell_written(&mut claim, &body);
                return Ok(claim);
            }
            Ok(PutOutcome::Conflict(member)) => {
                let member = member.as_ref().and_then(Member::decode);
                return Err(ClaimError::Conflict(member.map(Box::new)));
            }
            Ok(PutOutcome::Full) => return Err(ClaimError::Full),
            Ok(PutOutcome::NoRoom) => return Err(ClaimError::Gone),
            Err(error) => error,
        };
        let Some(view) = self.viewed(&room.name) else {
            return Err(error.into());
        };
        let replaced = replaces.map(|member| (member.session.clone(), member.holding));
        let version = replaces.map_or(0, |member| member.version);
        let claim = claim(version, room.sequence, Basis::Memory { replaces: replaced });
        let member = read(&claim, body).expect("a record that is claimed can be read");
        match view
            .followed
            .claim(&room.id, replaces, member, room.capacity)
        {
            Ok(()) => Ok(claim),
            // What is remembered says no, and what was asked may be done.
            Err(_) if error.may_be_done => Err(error.into()),
            Err(refused) => Err(refused),
        }
    }

    /// Whether somebody is served by this process, or about to be.
    pub(crate) fn serves(&self, member: &Member) -> bool {
        member.is_served_by(self.process.as_str()) && self.served.serves(member.session.as_str())
    }

    /// Replaces the record of the claim.
    pub(crate) async fn write(
        &self,
        claim: &mut Claim,
        record: &MemberRecord,
    ) -> Result<(), WriteError> {
        let body: Bytes = record.encode_to_vec().into();
        let outcome = self.put(claim, &body).await;
        if let (Err(error), Some(view)) = (&outcome, self.viewed(&claim.room)) {
            let (room, identity) = (&claim.room_id, &claim.identity);
            match error {
                WriteError::Unavailable(_) => {
                    let member = read(claim, body);
                    view.followed
                        .remember(room, identity, claim.holder(), member);
                }
                WriteError::Lost | WriteError::TakenOver => {
                    view.followed.forget(room, identity, claim.holder())
                }
            }
        }
        outcome
    }

    async fn put(&self, claim: &mut Claim, body: &Bytes) -> Result<(), WriteError> {
        let mut expected = (claim.version > 0).then_some(claim.version);
        for _ in 0..WRITE_ATTEMPTS {
            let put = PutMember {
                identity: claim.identity.clone(),
                expected,
                body: body.clone(),
                capacity: None,
            };
            let (name, id) = (&claim.room, &claim.room_id);
            expected = match self.store.put_member(name, id, put).await? {
                PutOutcome::Done { version, sequence } => {
                    (claim.version, claim.sequence) = (version, sequence);
                    if claim.rests_on_memory() {
                        claim.number = version;
                        claim.basis = Basis::Store;
                    }
                    self.tell_written(claim, body);
                    return Ok(());
                }
                PutOutcome::Conflict(Some(member)) if claim.covers(&member) => Some(member.version),
                PutOutcome::Conflict(None) if claim.basis != Basis::Store => None,
                PutOutcome::Conflict(None) | PutOutcome::NoRoom => {
                    if !self.is_brought_back(claim).await? {
                        break;
                    }
                    None
                }
                PutOutcome::Conflict(Some(member)) if claim.is_taken_over(&member) => {
                    return Err(WriteError::TakenOver);
                }
                PutOutcome::Conflict(Some(_)) | PutOutcome::Full => break,
            };
        }
        Err(WriteError::Lost)
    }

    /// Whether the room is there again after the store had lost it, and the claim's record with it, or
    /// somebody removed it by mistake. The first to ask brings it back.
    async fn is_brought_back(&self, claim: &Claim) -> Result<bool, Unavailable> {
        let known = self.known(&claim.room);
        let Some(known) = known.filter(|known| known.id == claim.room_id) else {
            return Ok(false);
        };
        let mut room = known.to_bring_back();
        room.after = room.after.max(next_life(claim.sequence));
        let opened = self.store.open_room(&claim.room, room).await?;
        if opened.created {
            tracing::info!(room = %claim.room, "a room that the store has lost is brought back");
        }
        let is_later = life(opened.sequence) > life(claim.sequence);
        let is_kept = self.served.keeps(&claim.session);
        Ok(opened.room.id == claim.room_id && (is_later || is_kept))
    }

    /// Lets go of a claim that is another process's by now, or about to be: the record stays as it is.
    pub(crate) fn let_go(&self, claim: &Claim) {
        self.served.end(&claim.session, claim.holding);
    }

    /// Removes the record of the claim; a record that is somebody else's by now stays.
    pub(crate) async fn leave(&self, claim: Claim) -> Result<(), Unavailable> {
        self.served.end(&claim.session, claim.holding);
        let outcome = self.remove_own(claim.clone()).await;
        if outcome.is_err()
            && let Some(view) = self.viewed(&claim.room)
        {
            let (room, identity) = (&claim.room_id, &claim.identity);
            view.followed.remember(room, identity, claim.holder(), None);
        }
        outcome
    }

    async fn remove_own(&self, mut claim: Claim) -> Result<(), Unavailable> {
        for _ in 0..2 {
            match self.remove(&claim, WhenEmpty::Keep).await? {
                RemoveOutcome::Done {
                    sequence,
                    empty: true,
                } => {
                    self.end_later(claim.room, claim.room_id, sequence).await;
                    return Ok(());
                }
                RemoveOutcome::Done { empty: false, .. } | RemoveOutcome::NoRoom => return Ok(()),
                RemoveOutcome::Conflict => {}
            }
            // Perhaps it is ours all the same, in a version that we did not hear of; or it was, and
            // was removed without an answer.
            let room = self.store.read_room(&claim.room).await?;
            let Some(room) = room.filter(|room| room.room.id == claim.room_id) else {
                return Ok(());
            };
            match room.members.iter().find(|member| claim.is_on(member)) {
                Some(member) => {
                    claim.version = member.version;
                    claim.told = Member::decode(member).map(Arc::new);
                }
                None => {
                    if room.members.is_empty() {
                        let (name, id) = (claim.room, claim.room_id);
                        self.end_later(name, id, room.sequence).await;
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// [`Rooms::leave`], again and again while the store cannot be reached, until the process stops.
    pub(crate) async fn vacate(&self, claim: Claim) {
        let leave = async {
            let mut complained = false;
            while let Err(error) = self.leave(claim.clone()).await {
                if !std::mem::replace(&mut complained, true) {
                    let error = Chain(&error).to_string();
                    let what = "the record of somebody who left cannot be removed yet";
                    tracing::warn!(error, "{what}");
                }
                tokio::time::sleep(REMOVE_RETRY).await;
            }
        };
        if self.stop.run_until_cancelled(leave).await.is_none() {
            tracing::warn!("the record of somebody who left stays");
        }
    }

    /// Undoes [`Rooms::open`] and [`Rooms::claim`] for somebody who did not get in.
    pub(crate) async fn undo(&self, room: &OpenRoom, claim: Claim) -> Result<(), Unavailable> {
        self.served.end(&claim.session, claim.holding);
        if room.created
            && let RemoveOutcome::Done { .. } = self.remove(&claim, WhenEmpty::End).await?
        {
            return Ok(());
        }
        self.leave(claim).await
    }

    async fn remove(&self, claim: &Claim, when: WhenEmpty) -> Result<RemoveOutcome, Unavailable> {
        let (name, id) = (&claim.room, &claim.room_id);
        let ends = (when == WhenEmpty::End).then(|| self.ends(name, id));
        let outcome = self
            .store
            .remove_member(name, id, &claim.identity, claim.version, when)
            .await?;
        if let RemoveOutcome::Done { empty, .. } = outcome {
            self.tell_changed(name, id, claim.told.as_deref(), None);
            if empty && let Some(ends) = ends {
                ends.tell(RoomEndReason::RoomEndOpenFailed);
            }
        }
        Ok(outcome)
    }

    /// The store has taken a record of the claim.
    fn tell_written(&self, claim: &mut Claim, body: &Bytes) {
        let written = read(claim, body.clone()).map(Arc::new);
        let (name, id) = (&claim.room, &claim.room_id);
        self.tell_changed(name, id, claim.told.as_deref(), written.as_deref());
        claim.told = written;
    }
}

/// A record of the claim as it will be read.
fn read(claim: &Claim, body: Bytes) -> Option<Member> {
    Member::decode(&store::Member {
        identity: claim.identity.clone(),
        version: claim.version,
        body,
    })
}
