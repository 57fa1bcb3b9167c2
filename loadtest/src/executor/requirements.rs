//! How many VUs a test needs at once, and for how long.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::steps::Steps;
use crate::options::{Executor, Scenario};
use crate::segment::Share;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirements {
    /// The most that are in use at any moment, as long as every iteration takes all the time it
    /// may.
    pub max_vus: u64,
    /// Until the last scenario has ended, with its graceful stop.
    pub total_duration: Duration,
}

impl Requirements {
    #[must_use]
    pub fn of(scenarios: &[Scenario], share: &Share) -> Self {
        // By how much the VUs in use change, and when.
        let mut changes: BTreeMap<Duration, i64> = BTreeMap::new();
        let mut total_duration = Duration::ZERO;
        for scenario in scenarios {
            let mut before = 0;
            for (at, vus) in in_use(scenario, share) {
                let vus = i64::try_from(vus).expect("VUs are numbered by 32 bits");
                let at = scenario.start_time.saturating_add(at);
                *changes.entry(at).or_default() += vus - before;
                before = vus;
            }
            total_duration = total_duration.max(
                scenario
                    .start_time
                    .saturating_add(scenario.executor.duration())
                    .saturating_add(scenario.graceful_stop),
            );
        }
        let mut vus = 0;
        let in_use = changes.values().map(|change| {
            vus += change;
            vus
        });
        Self {
            max_vus: in_use
                .max()
                .and_then(|most| u64::try_from(most).ok())
                .unwrap_or(0),
            total_duration,
        }
    }
}

/// From each offset on, how many VUs of a scenario may be in use; in the end none.
fn in_use(scenario: &Scenario, share: &Share) -> Vec<(Duration, u64)> {
    let end = scenario.executor.duration();
    let last = end.saturating_add(scenario.graceful_stop);
    let Executor::RampingVus {
        start_vus,
        stages,
        graceful_ramp_down,
    } = &scenario.executor
    else {
        let vus = share.count(scenario.executor.max_vus());
        return vec![(Duration::ZERO, vus), (last, 0)];
    };
    let mut planned = vec![(Duration::ZERO, share.count(*start_vus))];
    for (at, vus) in Steps::new(*start_vus, stages) {
        let vus = share.count(vus);
        match planned.last_mut() {
            Some((before, planned)) if *before == at => *planned = vus,
            Some((_, planned)) if *planned == vus => {}
            _ => planned.push((at, vus)),
        }
    }
    let mut in_use = lingering(&planned, *graceful_ramp_down);
    in_use.retain(|(at, _)| *at < last);
    in_use.push((last, 0));
    in_use
}

/// What was planned at any time within the last `grace`, at the most: VUs that a ramp takes away
/// may go on for so long.
fn lingering(planned: &[(Duration, u64)], grace: Duration) -> Vec<(Duration, u64)> {
    let gone = |i: usize| match planned.get(i + 1) {
        Some((replaced, _)) => replaced.saturating_add(grace),
        None => Duration::MAX,
    };
    let mut moments: Vec<Duration> = planned.iter().map(|(at, _)| *at).collect();
    moments.extend((0..planned.len().saturating_sub(1)).map(gone));
    moments.sort_unstable();
    moments.dedup();
    let mut result = Vec::new();
    // Those that may still be the highest: each is higher than the ones behind it.
    let mut candidates: VecDeque<usize> = VecDeque::new();
    let mut next = 0;
    for moment in moments {
        while next < planned.len() && planned[next].0 <= moment {
            while candidates
                .back()
                .is_some_and(|last| planned[*last].1 <= planned[next].1)
            {
                candidates.pop_back();
            }
            candidates.push_back(next);
            next += 1;
        }
        while candidates
            .front()
            .is_some_and(|first| gone(*first) <= moment)
        {
            candidates.pop_front();
        }
        let most = candidates.front().map_or(0, |first| planned[*first].1);
        result.push((moment, most));
    }
    result
}
