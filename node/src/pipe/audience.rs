//! Which other nodes take which tracks from this one, and whom of them it has sent on. Pure.

use std::collections::BTreeMap;

use pipemesh_proto::ids::TrackId;
use pipemesh_topology::relay_path::Role;

/// A node at the other end of a pipe, under its number for the track.
pub(super) type Taker = (u16, u32);

#[derive(Debug)]
struct Taken {
    role: Role,
    is_sent_on: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Audience(BTreeMap<TrackId, BTreeMap<Taker, Taken>>);

impl Audience {
    pub(super) fn add(&mut self, track: &TrackId, taker: Taker, role: Role) {
        let takers = self.0.entry(track.clone()).or_default();
        let is_sent_on = false;
        takers.insert(taker, Taken { role, is_sent_on });
    }

    pub(super) fn remove(&mut self, track: &TrackId, taker: Taker) {
        if let Some(takers) = self.0.get_mut(track) {
            takers.remove(&taker);
            if takers.is_empty() {
                self.0.remove(track);
            }
        }
    }

    /// A pipe is no more.
    pub(super) fn end_pipe(&mut self, number: u16) {
        self.0.retain(|_, takers| {
            takers.retain(|(pipe, _), _| *pipe != number);
            !takers.is_empty()
        });
    }

    /// Those who take a track as leaves and were not sent on.
    pub(super) fn leaves(&self, track: &TrackId) -> Vec<Taker> {
        let takers = self.0.get(track).into_iter().flatten();
        let leaves = takers.filter(|(_, taken)| taken.role == Role::Leaf && !taken.is_sent_on);
        leaves.map(|(taker, _)| *taker).collect()
    }

    /// How many take it as branches.
    pub(super) fn branches(&self, track: &TrackId) -> usize {
        let takers = self.0.get(track).into_iter().flatten();
        let branches = takers.filter(|(_, taken)| taken.role == Role::Branch);
        branches.count()
    }

    pub(super) fn send_on(&mut self, track: &TrackId, taker: Taker) {
        let takers = self.0.get_mut(track);
        if let Some(taken) = takers.and_then(|takers| takers.get_mut(&taker)) {
            taken.is_sent_on = true;
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_sent_on_does_not_count() {
        let (track, mut audience) = ("TR_a".parse().unwrap(), Audience::default());
        for (taker, role) in [
            ((64, 1), Role::Leaf),
            ((64, 2), Role::Leaf),
            ((65, 1), Role::Branch),
            ((65, 2), Role::Twig),
        ] {
            audience.add(&track, taker, role);
        }
        assert_eq!(audience.leaves(&track), [(64, 1), (64, 2)]);
        assert_eq!(audience.branches(&track), 1);
        audience.send_on(&track, (64, 1));
        assert_eq!(audience.leaves(&track), [(64, 2)]);
        // Who asks again is counted again.
        audience.remove(&track, (64, 1));
        audience.add(&track, (64, 1), Role::Leaf);
        assert_eq!(audience.leaves(&track), [(64, 1), (64, 2)]);
        audience.end_pipe(65);
        assert_eq!(audience.branches(&track), 0);
        for number in [1, 2] {
            audience.remove(&track, (64, number));
        }
        assert!(audience.is_empty());
    }
}
