//! One room as everybody in it sees it: a frozen state per change.
//!
//! Whoever watches gets the latest state, not every event, so nobody can lag behind. Each state
//! remembers who changed lately, so that a change need not be searched for. Where states come from is
//! in `follow`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};

use livekit_protocol::Room as RoomInfo;
use pipemesh_proto::ids::{NodeId, RoomId, SessionId};
use pipemesh_topology::store::{self, Change, NewRoom, Room, RoomEvent, RoomSnapshot};
use pipemesh_topology::{Homes, Identity, RoomName};

use super::body::RoomBody;
use super::record::Member;

/// Changes a state remembers. Who has missed more looks at everybody.
const RECENT: usize = 128;

/// Leavings a state remembers, for clients whose signaling process died before it could tell them.
const DEPARTED: usize = 64;

/// A room at one moment.
#[derive(Debug, Clone)]
pub(crate) struct RoomState {
    pub(crate) id: RoomId,
    pub(crate) homes: Homes,
    pub(crate) sequence: u64,
    /// Counts the changes that this process saw, whatever the store counts.
    pub(crate) revision: u64,
    /// Without what is counted.
    body: RoomBody,
    /// With it: counted once per state, by whoever asks first.
    counted: OnceLock<Arc<RoomInfo>>,
    /// Where it is, likewise.
    nodes: OnceLock<BTreeSet<NodeId>>,
    pub(crate) members: BTreeMap<Identity, Arc<Member>>,
    /// Those of them that the store has lost, and what it still has of them: an older record, or none. They
    /// are as they were, until they are written again.
    missing: BTreeMap<Identity, Option<Arc<Member>>>,
    /// Whom sessions of this process want changed while the store does not take it.
    unwritten: BTreeMap<Identity, Unwritten>,
    /// The last changes, oldest first, without gaps up to `revision`.
    recent: VecDeque<(u64, Option<Identity>)>,
    /// Who left lately, the last at the end.
    departed: VecDeque<Arc<Member>>,
}

/// Somebody as a session wants them to be, and as the store has them; `None`: not there.
#[derive(Debug, Clone)]
struct Unwritten {
    wanted: Wanted,
    stored: Option<Arc<Member>>,
}

#[derive(Debug, Clone)]
enum Wanted {
    As(Arc<Member>),
    /// Gone, with this session. Another one of theirs stays.
    Gone(SessionId, u64),
}

impl Unwritten {
    fn is_there(&self) -> bool {
        matches!(self.wanted, Wanted::As(_))
    }
}

/// Who changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Changes {
    Of(BTreeSet<Identity>),
    /// Too much to tell.
    Any,
}

impl RoomState {
    pub(crate) fn new(name: &RoomName, snapshot: RoomSnapshot) -> Self {
        let mut state = Self {
            id: snapshot.room.id.clone(),
            homes: snapshot.room.homes.clone(),
            sequence: snapshot.sequence,
            revision: 0,
            body: RoomBody::default(),
            counted: OnceLock::new(),
            nodes: OnceLock::new(),
            members: BTreeMap::new(),
            missing: BTreeMap::new(),
            unwritten: BTreeMap::new(),
            recent: VecDeque::new(),
            departed: VecDeque::new(),
        };
        state.set_room(&snapshot.room);
        for stored in &snapshot.members {
            match Member::decode(stored) {
                Some(member) => {
                    state
                        .members
                        .insert(member.identity.clone(), Arc::new(member));
                }
                None => tracing::warn!(room = %name, "a participant's record cannot be read"),
            }
        }
        state
    }

    fn set_room(&mut self, room: &Room) {
        self.homes = room.homes.clone();
        self.body = RoomBody::decode(&room.body);
    }

    /// Applies the next event; `false` if it is not the next or ends the room. `keeps`: sessions whose
    /// record may have been removed by mistake.
    pub(crate) fn apply(&mut self, event: &RoomEvent, keeps: impl Fn(&SessionId) -> bool) -> bool {
        if event.room != self.id || event.sequence != self.sequence + 1 {
            return false;
        }
        let mut kept = None;
        let changed = match &event.change {
            Change::Opened(_) | Change::Ended => return false,
            Change::RoomUpdated(room) => {
                self.set_room(room);
                None
            }
            Change::MemberPut(stored) => {
                let Some(member) = Member::decode(stored) else {
                    return false;
                };
                let (identity, id) = (stored.identity.clone(), member.id.clone());
                let before = self.members.insert(identity.clone(), Arc::new(member));
                self.depart(before.filter(|before| before.id != id));
                Some(identity)
            }
            Change::MemberRemoved(identity) => {
                let there = self.members.remove(identity);
                self.depart(there.clone());
                kept = there.filter(|member| keeps(&member.session));
                Some(identity.clone())
            }
        };
        if let Some(identity) = &changed {
            self.missing.remove(identity);
            self.unwritten.remove(identity);
        }
        if let Some(member) = kept {
            self.missing.insert(member.identity.clone(), None);
            self.members.insert(member.identity.clone(), member);
        }
        self.sequence = event.sequence;
        self.change(changed);
        true
    }

    fn depart(&mut self, member: Option<Arc<Member>>) {
        let seen = member.filter(|member| member.is_visible());
        if seen.is_some() && self.departed.len() == DEPARTED {
            self.departed.pop_front();
        }
        self.departed
            .extend(seen.map(|member| Arc::new(member.remnant())));
    }

    /// Who left lately and may be back.
    pub(crate) fn departed(&self) -> impl Iterator<Item = Arc<Member>> {
        self.departed.iter().cloned()
    }

    fn change(&mut self, who: Option<Identity>) {
        self.revision += 1;
        self.counted = OnceLock::new();
        self.nodes = OnceLock::new();
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((self.revision, who));
    }

    /// What comes after `before`, which was read again. If the store has lost the room since, or its last
    /// changes, those who are not in it again yet stay as they were. Versions only grow: a lower one is
    /// what the store still has of somebody. `keeps`: as in [`RoomState::apply`].
    pub(super) fn succeed(&mut self, before: &Self, keeps: impl Fn(&SessionId) -> bool) {
        self.revision = before.revision + 1;
        if self.id != before.id {
            return;
        }
        self.departed.clone_from(&before.departed);
        for (identity, member) in &before.members {
            let there = self.members.get(identity);
            let is_there = there.is_some_and(|there| there.id == member.id);
            self.depart((!is_there).then(|| Arc::clone(member)));
        }
        let brought_back = store::life(self.sequence) > store::life(before.sequence);
        let lost = brought_back || self.sequence < before.sequence;
        for (identity, member) in &before.members {
            let there = self.members.get(identity);
            let is_behind = there.is_none_or(|there| there.version < member.version);
            let is_lost = lost || before.lacks(identity) || keeps(&member.session);
            if is_behind && is_lost {
                let left = self.members.insert(identity.clone(), Arc::clone(member));
                self.missing.insert(identity.clone(), left);
            }
        }
        for (identity, Unwritten { wanted, .. }) in &before.unwritten {
            let holds = match wanted {
                Wanted::As(_) => true,
                Wanted::Gone(left, holding) => {
                    let there = self.members.get(identity);
                    there.is_some_and(|there| there.is_held_by((left.as_str(), *holding)))
                }
            };
            if holds {
                self.want(identity, wanted.clone());
            }
        }
    }

    /// The store has no such room, and nobody said that it ended.
    pub(crate) fn lose(&mut self) {
        self.missing = self.members.keys().map(|who| (who.clone(), None)).collect();
        self.unwritten.retain(|_, unwritten| unwritten.is_there());
        self.change_any();
    }

    /// Nobody wrote them again: they are gone, or what the store has of them.
    pub(crate) fn give_up_missing(&mut self) {
        for (identity, left) in std::mem::take(&mut self.missing) {
            // Whoever is yet to be written is here, and goes on trying.
            if !self.unwritten.contains_key(&identity) {
                self.set(&identity, left);
            }
        }
        self.change_any();
    }

    /// Shows somebody as a session of this process wants them to be, which the store does not take yet.
    pub(super) fn remember(&mut self, identity: &Identity, wanted: Option<Arc<Member>>) {
        let wanted = match (wanted, self.members.get(identity)) {
            (Some(wanted), seen) if seen != Some(&wanted) => Wanted::As(wanted),
            (None, Some(seen)) => Wanted::Gone(seen.session.clone(), seen.holding),
            _ => return,
        };
        self.want(identity, wanted);
        self.change(Some(identity.clone()));
    }

    /// Shows somebody as the store has them: the session's wish was in vain.
    pub(super) fn forget(&mut self, identity: &Identity) {
        if let Some(Unwritten { stored, .. }) = self.unwritten.remove(identity) {
            self.set(identity, stored);
            self.change(Some(identity.clone()));
        }
    }

    fn want(&mut self, identity: &Identity, wanted: Wanted) {
        let stored = match self.unwritten.remove(identity) {
            Some(unwritten) => unwritten.stored,
            None => self.members.get(identity).cloned(),
        };
        let shown = match &wanted {
            Wanted::As(member) => Some(Arc::clone(member)),
            Wanted::Gone(..) => None,
        };
        self.set(identity, shown);
        let unwritten = Unwritten { wanted, stored };
        self.unwritten.insert(identity.clone(), unwritten);
    }

    fn set(&mut self, identity: &Identity, member: Option<Arc<Member>>) {
        match member {
            Some(member) => self.members.insert(identity.clone(), member),
            None => self.members.remove(identity),
        };
    }

    fn change_any(&mut self) {
        self.revision += 1;
        self.recent.clear();
        self.counted = OnceLock::new();
        self.nodes = OnceLock::new();
    }

    pub(super) fn lacks_any(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Whether there is somebody whom the store has yet to take.
    pub(super) fn wants_any(&self) -> bool {
        self.unwritten.values().any(Unwritten::is_there)
    }

    /// Whether somebody's record is to be written again.
    pub(crate) fn lacks(&self, identity: &Identity) -> bool {
        self.missing.contains_key(identity)
    }

    /// As the store has it, but for its version, which nobody here knows.
    pub(super) fn as_stored(&self) -> Room {
        Room {
            id: self.id.clone(),
            homes: self.homes.clone(),
            version: 0,
            body: self.body.encode(),
        }
    }

    /// What the room is brought back as.
    pub(super) fn to_bring_back(&self) -> NewRoom {
        NewRoom {
            id: self.id.clone(),
            homes: self.homes.clone(),
            body: self.body.encode(),
            after: store::next_life(self.sequence),
        }
    }

    /// Who changed after `revision`, the room itself aside.
    pub(crate) fn changes_since(&self, revision: u64) -> Changes {
        let oldest = self
            .recent
            .front()
            .map_or(self.revision + 1, |(oldest, _)| *oldest);
        if revision + 1 < oldest {
            return Changes::Any;
        }
        let newer = self
            .recent
            .iter()
            .rev()
            .take_while(|(at, _)| *at > revision);
        Changes::Of(newer.filter_map(|(_, who)| who.clone()).collect())
    }

    /// Of its microphones so many are heard, the loudest; 0: all.
    pub(crate) fn loudest_microphones(&self) -> u32 {
        self.body.loudest_microphones
    }

    /// As clients are told.
    pub(crate) fn info(&self) -> Arc<RoomInfo> {
        Arc::clone(self.counted.get_or_init(|| Arc::new(self.count())))
    }

    /// The nodes it is at home on, and those that people have not left yet.
    pub(crate) fn nodes(&self) -> &BTreeSet<NodeId> {
        self.nodes.get_or_init(|| {
            let mut nodes: BTreeSet<NodeId> = self.homes.iter().cloned().collect();
            for member in self.members.values() {
                if !nodes.contains(&member.node) {
                    nodes.insert(member.node.clone());
                }
            }
            nodes
        })
    }

    fn count(&self) -> RoomInfo {
        let mut info = self.body.info.clone();
        for member in self.members.values() {
            info.active_recording |= member.is_recorder();
            if !member.is_visible() {
                continue;
            }
            info.num_participants += u32::from(!member.is_dependent());
            info.num_publishers += u32::from(member.info.is_publisher);
        }
        info
    }
}

#[cfg(test)]
pub(super) mod tests;
