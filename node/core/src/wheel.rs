//! A timer wheel: deadlines by the thousand at constant cost. Timers are not cancelled; who set one
//! decides, when it fires, whether it still means anything.
//!
//! Whoever sleeps until the next one is woken for as few of them as possible: the further off a timer is,
//! the coarser the moments at which it fires, and those of hundreds of sessions fall together.

use std::time::{Duration, Instant};

/// One slot per millisecond.
const SLOTS: usize = 4096;
const WORDS: usize = SLOTS / 64;

/// No entry.
const NONE: u32 = u32::MAX;

/// Of the time to a timer, so much it may be late, as a power of two: a sixteenth.
const LATENESS: u32 = 4;

/// Timers of millisecond resolution, or a sixteenth of the time that they were set for. One further away
/// than the wheel's four seconds waits there for several turns.
///
/// They lie in one arena, which grows to as many as were ever set at a time; slots are lists in it. Slots
/// with memory of their own would each have to grow to their own most, for hours.
#[derive(Debug)]
pub struct TimerWheel<K> {
    origin: Instant,
    /// Milliseconds since the origin that have been fired.
    now: u64,
    /// … and that have passed, as far as is known.
    passed: u64,
    entries: Vec<Entry<K>>,
    /// The first of the entries that are not in use.
    vacant: u32,
    slots: Box<[List]>,
    /// One bit per slot that is not empty.
    occupied: [u64; WORDS],
    len: usize,
}

#[derive(Debug)]
struct Entry<K> {
    /// In milliseconds since the origin.
    at: u64,
    key: K,
    next: u32,
}

/// Entries in the order in which they were set.
#[derive(Debug, Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

impl List {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
    };
}

impl<K: Copy> TimerWheel<K> {
    pub fn new(now: Instant) -> Self {
        Self {
            origin: now,
            now: 0,
            passed: 0,
            entries: Vec::new(),
            vacant: NONE,
            slots: vec![List::EMPTY; SLOTS].into(),
            occupied: [0; WORDS],
            len: 0,
        }
    }

    /// Fires `key` at `deadline`, rounded up and so never before it; at once if that has passed.
    pub fn set(&mut self, deadline: Instant, key: K) {
        let after = deadline.saturating_duration_since(self.origin);
        let at = (after.as_nanos().div_ceil(1_000_000) as u64).max(self.now + 1);
        let distance = at.saturating_sub(self.passed).max(1);
        let grain = 1 << distance.ilog2().saturating_sub(LATENESS);
        let at = at.next_multiple_of(grain);
        let entry = Entry {
            at,
            key,
            next: NONE,
        };
        let place = self.vacant;
        let place = match self.entries.get_mut(place as usize) {
            Some(vacant) => {
                self.vacant = vacant.next;
                *vacant = entry;
                place
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        };
        self.append(at as usize % SLOTS, place);
        self.len += 1;
    }

    /// Puts an entry behind the others of its slot.
    fn append(&mut self, slot: usize, place: u32) {
        let list = &mut self.slots[slot];
        match self.entries.get_mut(list.last as usize) {
            Some(last) => last.next = place,
            None => list.first = place,
        }
        list.last = place;
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    /// Tells the time to whom timers will be set before the next [`Self::advance`]: how late they may be
    /// depends on how far off they are.
    pub fn wake(&mut self, now: Instant) {
        self.passed = self.passed.max(self.millis(now));
    }

    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_millis() as u64
    }

    /// Moves the keys that are due into `fired`, earliest first, those of one millisecond in the order
    /// they were set.
    pub fn advance(&mut self, now: Instant, fired: &mut Vec<K>) {
        self.wake(now);
        let target = self.millis(now);
        if target <= self.now {
            return;
        }
        // After a long sleep every slot is visited once, no more; what was due in earlier turns then
        // fires within its slot's order.
        let first = self.now + 1;
        let last = target.min(self.now + SLOTS as u64);
        self.now = target;
        for tick in first..=last {
            let slot = tick as usize % SLOTS;
            if self.occupied[slot / 64] & 1 << (slot % 64) != 0 {
                self.empty(slot, target, fired);
            }
        }
    }

    /// Takes what is due by `target` out of a slot; later turns' entries stay, in their order.
    fn empty(&mut self, slot: usize, target: u64, fired: &mut Vec<K>) {
        let mut place = std::mem::replace(&mut self.slots[slot], List::EMPTY).first;
        self.occupied[slot / 64] &= !(1 << (slot % 64));
        while let Some(entry) = self.entries.get_mut(place as usize) {
            let next = std::mem::replace(&mut entry.next, NONE);
            if entry.at <= target {
                fired.push(entry.key);
                entry.next = std::mem::replace(&mut self.vacant, place);
                self.len -= 1;
            } else {
                self.append(slot, place);
            }
            place = next;
        }
    }

    /// When to call [`Self::advance`] next: never later than the earliest timer, at times earlier.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.len == 0 {
            return None;
        }
        let first = (self.now + 1) as usize % SLOTS;
        let distance = self.next_occupied(first)?;
        Some(self.origin + Duration::from_millis(self.now + 1 + distance as u64))
    }

    /// Timers that are set.
    pub fn pending(&self) -> usize {
        self.len
    }

    /// Slots from `first` to the next occupied one.
    fn next_occupied(&self, first: usize) -> Option<usize> {
        let masked = self.occupied[first / 64] & (u64::MAX << (first % 64));
        if masked != 0 {
            return Some(masked.trailing_zeros() as usize - first % 64);
        }
        (1..=WORDS).find_map(|step| {
            let word = (first / 64 + step) % WORDS;
            let bits = self.occupied[word];
            (bits != 0).then(|| step * 64 + bits.trailing_zeros() as usize - first % 64)
        })
    }
}

/// The one timer of somebody who has several reasons to be woken, and is woken for the earliest.
///
/// Who sets a timer for each reason, and again whenever one fires, has more of them with every earlier
/// deadline that comes up, for as long as there is one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alarm(Option<Instant>);

impl Alarm {
    /// Whether a timer has to be set: there is none that fires by then.
    pub fn set(&mut self, deadline: Instant) -> bool {
        let is_earliest = self.0.is_none_or(|set| deadline < set);
        if is_earliest {
            self.0 = Some(deadline);
        }
        is_earliest
    }

    /// A timer has fired. `false`: one that an earlier one has made superfluous.
    pub fn fire(&mut self, now: Instant) -> bool {
        self.0.take_if(|set| *set <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
        Instant::now()
    }

    proptest! {
        /// Every timer fires once, not early, and at the wake-up the wheel asked for.
        #[test]
        fn fires_each_timer_once_and_in_time(
            timers in prop::collection::vec((0u64..12_000_000, 0u64..5_000_000), 1..80),
        ) {
            let start = start();
            let mut wheel = TimerWheel::new(start);
            let mut now = start;
            let mut fired = Vec::new();
            let mut pending = std::collections::BTreeMap::new();
            for (key, (deadline, gap)) in timers.into_iter().enumerate() {
                let allowed = Duration::from_micros(deadline / 16 + 2_000);
                let deadline = now + Duration::from_micros(deadline);
                wheel.wake(now);
                wheel.set(deadline, key);
                pending.insert(key, (deadline, allowed));
                let until = now + Duration::from_micros(gap);
                while let Some(wake) = wheel.next_deadline().filter(|wake| *wake <= until) {
                    now = wake.max(now);
                    wheel.advance(now, &mut fired);
                    for key in fired.drain(..) {
                        let (deadline, allowed) = pending.remove(&key).unwrap();
                        prop_assert!(deadline <= now);
                        prop_assert!(now - deadline < allowed, "{:?} late", now - deadline);
                    }
                }
                now = until;
            }
            while let Some(wake) = wheel.next_deadline() {
                now = wake.max(now);
                wheel.advance(now, &mut fired);
                for key in fired.drain(..) {
                    prop_assert!(pending.remove(&key).is_some());
                }
            }
            prop_assert!(pending.is_empty());
        }
    }

    #[test]
    fn what_many_have_to_do_every_second_is_done_at_few_moments() {
        let start = start();
        let mut wheel = TimerWheel::new(start);
        for key in 0..1_000u64 {
            wheel.set(start + Duration::from_millis(1_000 + key % 100), key);
        }
        let (mut wakes, mut fired) = (0, Vec::new());
        while let Some(wake) = wheel.next_deadline() {
            wheel.advance(wake, &mut fired);
            wakes += 1;
        }
        assert_eq!(fired.len(), 1_000);
        assert!(wakes <= 6, "{wakes}");
    }

    #[test]
    fn the_arena_is_as_large_as_most_timers_at_a_time() {
        let start = start();
        let mut wheel = TimerWheel::new(start);
        let mut fired = Vec::new();
        for turn in 0..2_000u64 {
            let now = start + Duration::from_millis(turn * 7);
            for timer in 0..10 {
                // Some wait for several turns of the wheel.
                let after = Duration::from_millis(1 + timer * timer * 97);
                wheel.set(now + after, (turn, timer));
            }
            wheel.advance(now, &mut fired);
            fired.clear();
            assert_eq!(wheel.len, wheel.pending());
        }
        let most = wheel.entries.len();
        assert!(most < 10 * 8_000 / 7 + 100, "{most}");
        wheel.advance(start + Duration::from_secs(60), &mut fired);
        assert_eq!((wheel.len, wheel.next_deadline()), (0, None));
    }

    #[test]
    fn a_long_sleep_fires_everything_once() {
        let start = start();
        let mut wheel = TimerWheel::new(start);
        for key in 0..100u64 {
            wheel.set(start + Duration::from_millis(key * 137), key);
        }
        let mut fired = Vec::new();
        wheel.advance(start + Duration::from_secs(60), &mut fired);
        fired.sort_unstable();
        assert_eq!(fired, (0..100).collect::<Vec<_>>());
        assert_eq!(wheel.next_deadline(), None);
    }
}
