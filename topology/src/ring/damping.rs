//! When the nodes that the registry lists become members of the ring, and when who is not listed any
//! more ceases to be one.
//!
//! Pure, in virtual time: the ring and the list in, the ring that is wanted out. Every change of the
//! ring leads new rooms elsewhere, so nodes that come wait for each other. Who is gone leaves at once,
//! unless so many are that rather the list is wrong.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pipemesh_proto::ids::{NodeId, Region};

use super::{Member, Members};

/// How long the first who comes waits for others. Longer: fewer rings while a mesh starts. Shorter: a
/// node has its share of rooms sooner.
const BATCH: Duration = Duration::from_secs(5);

/// For this long after the registry was silent, or there was another keeper, nobody is missed: nodes
/// have not all registered again, or who follows the registry has just begun.
const SETTLE: Duration = Duration::from_secs(15);

/// Who vanishes within this time vanishes together.
const TOGETHER: Duration = Duration::from_secs(30);

/// Fewer than this many are never too many: of two nodes one is half.
const TOO_MANY: usize = 3;
/// Of those there were, in per cent: more are too many.
const TOO_LARGE_A_PART: usize = 40;

/// When too many that vanished are taken for gone after all. What a longer freeze costs is little, as
/// placement passes over who is not listed; but ids that never come back have to leave some day.
const FREEZE_AT_MOST: Duration = Duration::from_secs(600);

/// Where too many are missed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Mesh,
    Region(Region),
}

#[derive(Debug)]
struct Vanished {
    at: Instant,
    region: Region,
}

#[derive(Debug)]
struct Freeze {
    since: Instant,
    /// Since when no longer too many are missed.
    calm: Option<Instant>,
}

/// Why the ring does not follow the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frozen {
    /// The registry cannot be asked, or lists nobody.
    Silence,
    /// Too many vanished together.
    Vanished,
}

#[derive(Debug)]
pub(crate) struct Damping {
    silent: bool,
    settled_at: Instant,
    /// Since when somebody waits to become a member.
    waiting: Option<Instant>,
    /// Who is missed: members, and those who were members less than [`TOGETHER`] ago.
    vanished: BTreeMap<NodeId, Vanished>,
    freezes: BTreeMap<Scope, Freeze>,
    due: Option<Instant>,
}

impl Damping {
    /// What whoever begins to keep the ring knows: nothing.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            silent: false,
            settled_at: now + SETTLE,
            waiting: None,
            vanished: BTreeMap::new(),
            freezes: BTreeMap::new(),
            due: None,
        }
    }

    /// The ring that is wanted, if it differs from what it is; as long as it is not made, the answer
    /// stays. `listed`: none while the registry is not to be believed.
    pub(crate) fn handle(
        &mut self,
        ring: &Members,
        listed: Option<&Members>,
        now: Instant,
    ) -> Option<Members> {
        self.due = None;
        let was_silent = std::mem::replace(&mut self.silent, listed.is_none());
        let Some(listed) = listed else {
            self.waiting = None;
            self.vanished.clear();
            return None;
        };
        if was_silent {
            self.settled_at = now + SETTLE;
        }
        self.note_vanished(ring, listed, now);
        self.thaw(ring, listed, now);
        self.freeze(ring, now);
        let missed = ring.iter().filter(|member| !listed.contains(&member.id));
        let leaving: BTreeSet<&NodeId> = missed
            .filter(|member| self.may_leave(member, now))
            .map(|member| &member.id)
            .collect();
        let coming = self.coming(ring, listed, now);
        if leaving.is_empty() && coming.is_empty() {
            return None;
        }
        let staying = ring.iter().filter(|member| !leaving.contains(&member.id));
        Some(Members::new(staying.chain(coming).cloned()))
    }

    /// When to look again, even if nothing changes by then.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn frozen(&self) -> Option<Frozen> {
        if self.silent {
            Some(Frozen::Silence)
        } else {
            (!self.freezes.is_empty()).then_some(Frozen::Vanished)
        }
    }

    fn note_vanished(&mut self, ring: &Members, listed: &Members, now: Instant) {
        self.vanished.retain(|id, vanished| {
            !listed.contains(id) && (ring.contains(id) || now < vanished.at + TOGETHER)
        });
        for member in ring.iter().filter(|member| !listed.contains(&member.id)) {
            let vanished = || Vanished {
                at: now,
                region: member.region.clone(),
            };
            self.vanished
                .entry(member.id.clone())
                .or_insert_with(vanished);
        }
    }

    /// Ends freezes whose reason has gone.
    fn thaw(&mut self, ring: &Members, listed: &Members, now: Instant) {
        let mut due = None;
        self.freezes.retain(|scope, freeze| {
            let members = ring.iter().filter(|member| scope.holds(&member.region));
            let missed = members.clone().filter(|it| !listed.contains(&it.id));
            let (missed, all) = (missed.count(), members.count());
            if too_many(missed, all) {
                freeze.calm = None;
            } else {
                freeze.calm.get_or_insert(now);
            }
            let end = freeze.since + FREEZE_AT_MOST;
            let end = freeze.calm.map_or(end, |calm| end.min(calm + TOGETHER));
            let lasts = missed > 0 && now < end;
            if lasts {
                due = earlier(due, Some(end));
            }
            lasts
        });
        self.look_again(due);
    }

    fn freeze(&mut self, ring: &Members, now: Instant) {
        let regions = self.vanished.values().map(|it| it.region.clone());
        let regions: BTreeSet<Region> = regions.collect();
        let scopes = regions.into_iter().map(Scope::Region);
        for scope in scopes.chain([Scope::Mesh]) {
            let there = ring.iter().filter(|member| scope.holds(&member.region));
            let vanished = self.vanished.iter();
            let vanished: Vec<(&NodeId, &Vanished)> =
                vanished.filter(|(_, it)| scope.holds(&it.region)).collect();
            let left = vanished.iter().filter(|(id, _)| !ring.contains(id));
            let together = vanished.iter().filter(|(_, it)| now < it.at + TOGETHER);
            if too_many(together.count(), there.count() + left.count())
                && !self.freezes.contains_key(&scope)
            {
                let freeze = Freeze {
                    since: now,
                    calm: None,
                };
                self.freezes.insert(scope, freeze);
                self.look_again(Some(now + FREEZE_AT_MOST));
            }
        }
    }

    fn may_leave(&mut self, member: &Member, now: Instant) -> bool {
        if now < self.settled_at {
            self.look_again(Some(self.settled_at));
            return false;
        }
        !self.freezes.keys().any(|scope| scope.holds(&member.region))
    }

    /// Who becomes a member, or another one than he was.
    fn coming<'a>(&mut self, ring: &Members, listed: &'a Members, now: Instant) -> Vec<&'a Member> {
        let differs = |member: &&Member| ring.get(&member.id) != Some(*member);
        let waiting: Vec<&Member> = listed.iter().filter(differs).collect();
        if waiting.is_empty() {
            self.waiting = None;
            return waiting;
        }
        let due = *self.waiting.get_or_insert(now) + BATCH;
        // A ring that leads nobody anywhere has nothing to lose.
        if now >= due || !ring.iter().any(|member| listed.contains(&member.id)) {
            return waiting;
        }
        self.look_again(Some(due));
        Vec::new()
    }

    fn look_again(&mut self, at: Option<Instant>) {
        self.due = earlier(self.due, at);
    }
}

impl Scope {
    fn holds(&self, region: &Region) -> bool {
        match self {
            Self::Mesh => true,
            Self::Region(own) => own == region,
        }
    }
}

fn too_many(gone: usize, of: usize) -> bool {
    gone >= TOO_MANY && gone * 100 > of * TOO_LARGE_A_PART
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}
