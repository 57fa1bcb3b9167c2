//! Which shard a session goes to. Pure; knows loads, and no rooms or sessions.
//!
//! A room stays on one shard as long as that can be: what stays there crosses nothing. When its shard is
//! saturated, those who come later go to another; nobody is moved.

/// Share of its time that a saturated shard works, in 1/1000. A room that is there already makes it work
/// more for a while, as tracks are added: the rest is for that.
const SATURATED_AT: u64 = 750;
/// … and what it falls below when it is not any more. The distance keeps rooms from being torn apart and
/// joined every second.
const FREE_BELOW: u64 = 600;
/// Shards whose work differs by less than this are equally loaded; the one with fewer sessions is better.
const STEP: u64 = 100;

/// One shard at the moment somebody comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ShardLoad {
    /// Share of its time it works, in 1/1000.
    pub(crate) busy_permille: u64,
    /// Sessions on it, those about to begin included: work lags behind them.
    pub(crate) sessions: usize,
    /// … of the room in question.
    pub(crate) of_room: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Spread {
    /// Sessions that saturate a shard whatever they do.
    limit: Option<usize>,
    saturated: Vec<bool>,
}

impl Spread {
    pub(crate) fn new(shards: usize, limit: Option<usize>) -> Self {
        Self {
            limit,
            saturated: vec![false; shards],
        }
    }

    /// The shard for the next session of a room. `home` is where the room began; none: it begins now.
    pub(crate) fn choose(&mut self, loads: &[ShardLoad], home: Option<usize>) -> usize {
        for (saturated, load) in self.saturated.iter_mut().zip(loads) {
            let bound = if *saturated { FREE_BELOW } else { SATURATED_AT };
            *saturated = load.busy_permille >= bound;
        }
        let is_saturated = |shard: usize| {
            let is_full = self.limit.is_some_and(|most| loads[shard].sessions >= most);
            self.saturated[shard] || is_full
        };
        if let Some(home) = home.filter(|home| !is_saturated(*home)) {
            return home;
        }
        // A shard that hosts the room has its tracks.
        let rank = |shard: &usize| {
            let load = &loads[*shard];
            (
                is_saturated(*shard),
                load.of_room == 0,
                load.busy_permille / STEP,
                load.sessions,
            )
        };
        (0..loads.len()).min_by_key(rank).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(busy_permille: u64, sessions: usize, of_room: usize) -> ShardLoad {
        ShardLoad {
            busy_permille,
            sessions,
            of_room,
        }
    }

    #[test]
    fn a_room_stays_at_home_until_that_is_saturated() {
        let check = |limit, home, loads: &[ShardLoad], expected| {
            let mut spread = Spread::new(loads.len(), limit);
            assert_eq!(spread.choose(loads, home), expected, "{loads:?}");
        };
        // A new room goes where there is least to do, then where fewest are.
        check(None, None, &[load(300, 1, 0), load(100, 9, 0)], 1);
        check(None, None, &[load(120, 9, 0), load(190, 1, 0)], 1);
        check(None, None, &[load(0, 1, 0), load(0, 1, 0)], 0);
        // One that is there stays, even if others have less to do.
        check(None, Some(0), &[load(740, 99, 99), load(0, 0, 0)], 0);
        check(None, Some(0), &[load(750, 99, 99), load(0, 0, 0)], 1);
        // It spills to where it is already, even if others have less to do …
        let spilled = [load(900, 99, 99), load(0, 0, 0), load(500, 50, 1)];
        check(None, Some(0), &spilled, 2);
        // … but not to one that is saturated, too.
        let spilled = [load(900, 99, 99), load(0, 0, 0), load(800, 50, 1)];
        check(None, Some(0), &spilled, 1);
        // Where all are saturated it grows where it is, as evenly as it can.
        let everywhere = [load(900, 9, 9), load(800, 0, 0), load(800, 9, 9)];
        check(None, Some(0), &everywhere, 2);
        // The limit counts whatever they do.
        check(Some(2), Some(0), &[load(0, 2, 2), load(0, 0, 0)], 1);
        check(Some(2), None, &[load(0, 2, 2), load(0, 1, 0)], 1);
    }

    #[test]
    fn a_limit_of_one_deals_a_room_out() {
        let mut spread = Spread::new(3, Some(1));
        let mut loads = [ShardLoad::default(); 3];
        let mut home = None;
        let mut chosen = Vec::new();
        for _ in 0..7 {
            let shard = spread.choose(&loads, home);
            home = home.or(Some(shard));
            loads[shard].sessions += 1;
            loads[shard].of_room += 1;
            chosen.push(shard);
        }
        assert_eq!(chosen, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn a_shard_is_free_again_well_below_where_it_was_saturated() {
        let mut spread = Spread::new(2, None);
        let mut at_home = |busy| spread.choose(&[load(busy, 5, 5), load(100, 0, 0)], Some(0)) == 0;
        let busy = [740, 760, 740, 610, 599, 700, 749, 750, 600];
        let expected = [true, false, false, false, true, true, true, false, false];
        assert_eq!(busy.map(&mut at_home), expected);
    }
}
