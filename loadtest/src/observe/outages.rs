//! Who was away when, and why: so that a gap in what others received of him has a cause.
//!
//! Pure. Knows the participants of this process only.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What made media stand still, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// The session of who sends or receives was lost, and nobody had asked him to move.
    NodeDown,
    /// The server had.
    Migrate,
    /// It began with the first frame of a layer that was asked for.
    Layer,
    Unknown,
}

impl Cause {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NodeDown => "node_down",
            Self::Migrate => "migrate",
            Self::Layer => "layer",
            Self::Unknown => "unknown",
        }
    }
}

/// Gaps are told within seconds of their end.
const KEPT: Duration = Duration::from_secs(120);
/// Between two looks for what is long over: all rooms of a process wait for one.
const PRUNE_EVERY: Duration = Duration::from_secs(1);
/// Of one participant.
const MAX_KEPT: usize = 8;

#[derive(Debug, Clone, Copy)]
struct Outage {
    from: Instant,
    /// None: it lasts.
    until: Option<Instant>,
    cause: Cause,
}

#[derive(Debug, Default)]
pub struct Outages {
    /// By room and identity.
    kept: BTreeMap<(String, String), Vec<Outage>>,
    pruned: Option<Instant>,
}

impl Outages {
    pub(crate) fn begin(&mut self, room: &str, identity: &str, cause: Cause, at: Instant) {
        self.prune(at);
        let who = (room.to_owned(), identity.to_owned());
        let outages = self.kept.entry(who).or_default();
        if outages.len() == MAX_KEPT {
            outages.remove(0);
        }
        outages.push(Outage {
            from: at,
            until: None,
            cause,
        });
    }

    /// `cause`: as it is known afterwards.
    pub(crate) fn end(&mut self, room: &str, identity: &str, cause: Cause, at: Instant) {
        let who = (room.to_owned(), identity.to_owned());
        if let Some(outage) = self.kept.get_mut(&who).and_then(|it| it.last_mut()) {
            outage.until.get_or_insert(at);
            outage.cause = cause;
        }
    }

    /// Somebody leaves who may be away: whoever comes under his identity later is another.
    pub(crate) fn leave(&mut self, room: &str, identity: &str, at: Instant) {
        let who = (room.to_owned(), identity.to_owned());
        if let Some(outage) = self.kept.get_mut(&who).and_then(|it| it.last_mut()) {
            outage.until.get_or_insert(at);
        }
    }

    /// Why one of these was away between two moments, if any was; what is known goes before what is not.
    pub(crate) fn cause(
        &self,
        room: &str,
        identities: [&str; 2],
        from: Instant,
        until: Instant,
    ) -> Option<Cause> {
        let of = |identity: &str| self.kept.get(&(room.to_owned(), identity.to_owned()));
        let outages = identities.into_iter().filter_map(of).flatten();
        let meets = |it: &&Outage| it.from <= until && it.until.is_none_or(|end| end >= from);
        outages.filter(meets).map(|it| it.cause).min()
    }

    fn prune(&mut self, now: Instant) {
        let is_due = |last| now.saturating_duration_since(last) >= PRUNE_EVERY;
        if !self.pruned.is_none_or(is_due) {
            return;
        }
        self.pruned = Some(now);
        let is_kept = |it: &Outage| {
            it.until
                .is_none_or(|until| now.saturating_duration_since(until) < KEPT)
        };
        self.kept.retain(|_, outages| {
            outages.retain(is_kept);
            !outages.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_gap_is_caused_by_who_was_away_meanwhile() {
        let mut outages = Outages::default();
        let start = Instant::now();
        let at = |ms: u32| start + MS * ms;
        outages.begin("room", "ann", Cause::NodeDown, at(1_000));
        let ann = |outages: &Outages, from, until| {
            outages.cause("room", ["ben", "ann"], at(from), at(until))
        };
        assert_eq!(ann(&outages, 0, 999), None);
        // It lasts.
        assert_eq!(ann(&outages, 900, 9_000), Some(Cause::NodeDown));
        outages.end("room", "ann", Cause::Migrate, at(2_000));
        assert_eq!(ann(&outages, 900, 2_010), Some(Cause::Migrate));
        assert_eq!(ann(&outages, 2_001, 3_000), None);
        assert_eq!(
            outages.cause("other", ["ann", "ann"], at(1_500), at(1_600)),
            None
        );
        assert_eq!(
            outages.cause("room", ["ben", "eve"], at(1_500), at(1_600)),
            None
        );
        // What nobody can say is said by whoever can.
        outages.begin("room", "ben", Cause::Unknown, at(1_500));
        assert_eq!(ann(&outages, 1_600, 1_700), Some(Cause::Migrate));
    }

    #[test]
    fn what_is_long_over_is_forgotten() {
        let mut outages = Outages::default();
        let start = Instant::now();
        for number in 0..20 {
            let at = start + MS * number;
            outages.begin("room", "ann", Cause::NodeDown, at);
            outages.end("room", "ann", Cause::NodeDown, at);
        }
        let who = ("room".to_owned(), "ann".to_owned());
        assert_eq!(outages.kept[&who].len(), MAX_KEPT);
        outages.begin("room", "ben", Cause::NodeDown, start + 2 * KEPT);
        assert_eq!(outages.kept.len(), 1);
    }

    #[test]
    fn who_leaves_while_away_is_away_no_more() {
        let mut outages = Outages::default();
        let start = Instant::now();
        let at = |ms: u32| start + MS * ms;
        let ann = |outages: &Outages, from, until| {
            outages.cause("room", ["ann", "ann"], at(from), at(until))
        };
        outages.leave("room", "ann", start);
        outages.begin("room", "ann", Cause::NodeDown, at(1_000));
        outages.leave("room", "ann", at(2_000));
        assert_eq!(ann(&outages, 1_900, 3_000), Some(Cause::NodeDown));
        assert_eq!(ann(&outages, 2_001, 9_000), None);
        // What ended before he left stays as it was.
        outages.begin("room", "ann", Cause::Unknown, at(10_000));
        outages.end("room", "ann", Cause::Migrate, at(11_000));
        outages.leave("room", "ann", at(12_000));
        assert_eq!(ann(&outages, 10_500, 10_600), Some(Cause::Migrate));
        assert_eq!(ann(&outages, 11_001, 13_000), None);
        // Nothing is kept for ever.
        outages.begin("room", "ben", Cause::Unknown, at(12_000) + KEPT);
        assert_eq!(outages.kept.len(), 1);
    }
}
