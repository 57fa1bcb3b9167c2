//! What was sent lately under which transport-wide number, and what became of it.
//!
//! Eight bytes a packet, in a ring that only grows between packets. Knows neither rates nor why anybody
//! asks.

#![warn(clippy::indexing_slicing)]

/// A session that watches three cameras sends 100 to 300 packets a second and hears of them after a
/// round trip and a tenth of a second. Larger costs every session; smaller has to grow in many.
const SMALLEST: usize = 128;
/// 32 KB: what a client that receives 5,000 packets a second on a path of 800 ms needs.
const LARGEST: usize = 4096;
/// Sixteen lines of memory are worth asking for at a time; more make the processor wait.
const MOST_FETCHED: u64 = 128;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Fate {
    /// Nothing was sent here, or what was sent has been judged.
    #[default]
    Judged,
    /// No feedback spoke of it.
    Unknown,
    Missing,
    /// It was sent again as it was: lost at first, and its arrival says nothing of the path.
    Repeated,
    Received,
}

/// One packet.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// Microseconds since the owner's origin; wraps after 71 minutes, far longer than an entry lives.
    at: u32,
    size: u16,
    /// Which probe it belongs to, 0 for none.
    probe: u8,
    fate: Fate,
}

/// A packet that turned out to have arrived. In the order of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Acknowledged {
    pub(super) number: u64,
    /// When it was sent, in microseconds since the owner's origin.
    pub(super) sent: i64,
    pub(super) size: u16,
    pub(super) probe: u8,
}

/// Packets judged since the last call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) received: u32,
    pub(super) lost: u32,
}

#[derive(Debug)]
pub(super) struct History {
    /// Its length is a power of two.
    ring: Box<[Entry]>,
    next: u64,
    /// All before it have been judged.
    judged: u64,
    /// The number behind the highest that arrived.
    reached: u64,
    /// A packet was overwritten before feedback could speak of it.
    overrun: bool,
}

impl History {
    #[cfg(test)]
    pub(super) const RESTING_SIZE: usize = SMALLEST * size_of::<Entry>();

    pub(super) fn new() -> Self {
        Self {
            ring: vec![Entry::default(); SMALLEST].into(),
            next: 0,
            judged: 0,
            reached: 0,
            overrun: false,
        }
    }

    /// One that numbers what follows, and to which whatever was sent so far is as good as judged.
    pub(super) fn continued(&self) -> Self {
        Self {
            next: self.next,
            judged: self.next,
            reached: self.next,
            ..Self::new()
        }
    }

    /// Numbers a packet and notes it.
    pub(super) fn send(&mut self, at: u64, size: u16, probe: u8) -> u16 {
        let number = self.next;
        self.next += 1;
        let mask = self.ring.len() - 1;
        let len = self.ring.len() as u64;
        if let Some(entry) = self.ring.get_mut(number as usize & mask) {
            // What lies before the highest arrival had its chance: its feedback was lost.
            self.overrun |= entry.fate == Fate::Unknown && number >= self.reached + len;
            *entry = Entry {
                at: at as u32,
                size,
                probe,
                fate: Fate::Unknown,
            };
        }
        number as u16
    }

    /// A packet is sent again under the number it had.
    pub(super) fn repeat(&mut self, sequence: u16) {
        let number = self.extend(sequence);
        if let Some(entry) = number.and_then(|number| self.entry(number))
            && let Fate::Unknown | Fate::Missing = entry.fate
        {
            entry.fate = Fate::Repeated;
        }
    }

    /// Where the next packets will be noted, up to the ring's end: to be fetched before it is needed.
    #[inline]
    pub(super) fn next_places(&self, packets: usize) -> &[impl Sized + use<>] {
        let next = self.next as usize & (self.ring.len() - 1);
        let end = self.ring.len().min(next + packets);
        self.ring.get(next..end).unwrap_or_default()
    }

    /// Where packets are noted that feedback will speak of, the first of them, up to the ring's end.
    #[inline]
    pub(super) fn awaited_places(&self) -> &[impl Sized + use<>] {
        let awaited = self.next.saturating_sub(self.reached).min(MOST_FETCHED) as usize;
        let first = self.reached as usize & (self.ring.len() - 1);
        let end = self.ring.len().min(first + awaited);
        self.ring.get(first..end).unwrap_or_default()
    }

    /// The number that the next packet gets, extended.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Extends a number that feedback speaks of. `None`: it was not given lately.
    fn extend(&self, sequence: u16) -> Option<u64> {
        // Counted from the next one backwards; 0 stands for a whole cycle.
        let age = u64::from((self.next as u16).wrapping_sub(sequence));
        (1..=self.ring.len() as u64)
            .contains(&age)
            .then(|| self.next.checked_sub(age))
            .flatten()
    }

    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        let mask = self.ring.len() - 1;
        self.ring.get_mut(number as usize & mask)
    }

    /// When a packet was sent; `None` if it has not been, or not lately.
    pub(super) fn sent(&mut self, number: u64, now: u64) -> Option<i64> {
        let known = self.next.saturating_sub(self.ring.len() as u64)..self.next;
        if !known.contains(&number) {
            return None;
        }
        let age = (now as u32).wrapping_sub(self.entry(number)?.at);
        Some(now as i64 - i64::from(age))
    }

    /// Bytes from `first` on that were sent no later than `until`, and that no feedback has spoken of.
    pub(super) fn unknown(&mut self, first: u64, until: i64, now: u64) -> u64 {
        let oldest = self.next.saturating_sub(self.ring.len() as u64);
        let mut bytes = 0;
        for number in first.max(oldest)..self.next {
            let Some(entry) = self.entry(number) else {
                break;
            };
            let age = (now as u32).wrapping_sub(entry.at);
            if now as i64 - i64::from(age) > until {
                break;
            }
            if entry.fate == Fate::Unknown {
                bytes += u64::from(entry.size);
            }
        }
        bytes
    }

    /// Notes an arrival. `None`: it was known, or the packet is not. `now` is in microseconds since the
    /// owner's origin.
    #[inline]
    pub(super) fn receive(&mut self, sequence: u16, now: u64) -> Option<Acknowledged> {
        let number = self.extend(sequence)?;
        let entry = self.entry(number)?;
        match entry.fate {
            Fate::Unknown | Fate::Missing => {}
            Fate::Judged | Fate::Repeated | Fate::Received => return None,
        }
        entry.fate = Fate::Received;
        let age = (now as u32).wrapping_sub(entry.at);
        let acknowledged = Acknowledged {
            number,
            sent: now as i64 - i64::from(age),
            size: entry.size,
            probe: entry.probe,
        };
        self.reached = self.reached.max(number + 1);
        Some(acknowledged)
    }

    /// Notes that packets had not arrived when feedback was written. They may still.
    pub(super) fn miss(&mut self, first: u16, count: u16) {
        // Only what the ring holds of the run is looked at, however long it claims to be: the runs of one
        // message do not overlap, so it costs no more than the ring is long.
        let age = match (self.next as u16).wrapping_sub(first) {
            0 => 1 << 16,
            age => u64::from(age),
        };
        let oldest = age.min(self.ring.len() as u64);
        let newest = age.saturating_sub(u64::from(count));
        for age in (newest + 1..=oldest).rev() {
            let Some(number) = self.next.checked_sub(age) else {
                continue;
            };
            if let Some(entry) = self.entry(number)
                && entry.fate == Fate::Unknown
            {
                entry.fate = Fate::Missing;
            }
        }
    }

    /// Judges what was sent no later than `until` and before something that arrived: it is lost if
    /// feedback spoke of it and it has not arrived. What no feedback spoke of counts neither way: it is
    /// the feedback that was lost.
    pub(super) fn judge(&mut self, until: i64, now: u64) -> Judgement {
        let mut judgement = Judgement::default();
        let oldest = self.next.saturating_sub(self.ring.len() as u64);
        let mut number = self.judged.max(oldest);
        while number < self.reached {
            let Some(entry) = self.entry(number) else {
                break;
            };
            let age = (now as u32).wrapping_sub(entry.at);
            if now as i64 - i64::from(age) > until {
                break;
            }
            match entry.fate {
                Fate::Received => judgement.received += 1,
                Fate::Missing | Fate::Repeated => judgement.lost += 1,
                // To wait for feedback that may never come would let a single lost one stop all judgement.
                // What it says later of arrivals is believed; it is not counted here any more.
                Fate::Unknown | Fate::Judged => {
                    number += 1;
                    continue;
                }
            }
            entry.fate = Fate::Judged;
            number += 1;
        }
        self.judged = number;
        judgement
    }

    /// Grows if packets were forgotten too early, or are about to be: a queue on the way. Not on the way of
    /// packets.
    pub(super) fn make_room(&mut self) {
        let outstanding = self.next.saturating_sub(self.reached.max(self.judged));
        let is_short =
            std::mem::take(&mut self.overrun) || outstanding > self.ring.len() as u64 / 4 * 3;
        if !is_short || self.ring.len() >= LARGEST {
            return;
        }
        let mut larger = vec![Entry::default(); self.ring.len() * 2].into_boxed_slice();
        let mask = larger.len() - 1;
        let oldest = self.next.saturating_sub(self.ring.len() as u64);
        for number in oldest..self.next {
            let entry = self.entry(number).copied();
            if let (Some(entry), Some(space)) = (entry, larger.get_mut(number as usize & mask)) {
                *space = entry;
            }
        }
        self.ring = larger;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_takes_eight_bytes() {
        assert_eq!(size_of::<Entry>(), 8);
    }

    #[test]
    fn arrivals_are_known_once_and_losses_are_judged_later() {
        let mut history = History::new();
        for packet in 0..10 {
            assert_eq!(history.send(packet * 1000, 100, 0), packet as u16);
        }
        history.miss(0, 3);
        assert_eq!(history.receive(1, 20_000).map(|a| a.sent), Some(1000));
        assert_eq!(history.receive(1, 20_000), None);
        assert_eq!(history.receive(11, 20_000), None);
        assert_eq!(history.receive(6, 20_000).map(|a| a.number), Some(6));
        // 3 to 5 were not spoken of; 2 comes after all.
        assert_eq!(history.receive(2, 20_000).map(|a| a.number), Some(2));
        let judgement = |received, lost| Judgement { received, lost };
        assert_eq!(history.judge(1_500, 20_000), judgement(1, 1));
        assert_eq!(history.judge(1_500, 20_000), judgement(0, 0));
        assert_eq!(history.judge(9_000, 20_000), judgement(2, 0));
        // Once judged, it stays so.
        assert_eq!(history.receive(0, 20_000), None);
    }

    #[test]
    fn what_is_sent_again_was_lost_and_does_not_arrive() {
        let mut history = History::new();
        for packet in 0..6 {
            history.send(packet * 1000, 100, 0);
        }
        history.receive(0, 20_000);
        history.miss(1, 1);
        // One that is known to be missing, one that nothing was said of, one that had arrived, and one that
        // was never sent.
        for again in [1, 2, 0, 6] {
            history.repeat(again);
        }
        assert_eq!(history.receive(1, 80_000), None);
        assert_eq!(history.receive(2, 80_000), None);
        history.miss(1, 2);
        assert!(history.receive(5, 80_000).is_some());
        let (received, lost) = (2, 2);
        assert_eq!(history.judge(9_000, 80_000), Judgement { received, lost });
        assert_eq!(history.receive(1, 80_000), None);
    }

    #[test]
    fn what_feedback_speaks_of_too_late_counts_neither_way() {
        let mut history = History::new();
        for packet in 0..10 {
            history.send(packet * 1000, 100, 0);
        }
        // Of 2 to 5 nothing was said when the others were judged.
        for arrived in [0, 1, 6, 9] {
            history.receive(arrived, 20_000);
        }
        history.miss(7, 2);
        let judgement = |received, lost| Judgement { received, lost };
        assert_eq!(history.judge(9_000, 20_000), judgement(4, 2));
        // It was its feedback that was late: 2 and 3 had arrived, 4 and 5 had not.
        let late = history.receive(2, 30_000).map(|it| (it.number, it.size));
        assert_eq!(late, Some((2, 100)), "what arrived is known to have");
        assert!(history.receive(3, 30_000).is_some());
        history.miss(4, 2);
        assert_eq!(history.judge(9_000, 30_000), judgement(0, 0));
        // Nobody waits for it either.
        history.send(10_000, 100, 0);
        history.receive(10, 40_000);
        assert_eq!(history.judge(10_000, 40_000), judgement(1, 0));
    }

    #[test]
    fn it_grows_when_packets_are_forgotten_before_feedback() {
        let mut history = History::new();
        for packet in 0..SMALLEST as u64 / 4 * 3 {
            history.send(packet, 1, 0);
        }
        history.make_room();
        assert_eq!(history.ring.len(), SMALLEST);
        for packet in 0..3 * SMALLEST as u64 {
            history.send(packet, 1, 0);
            history.make_room();
        }
        assert!(history.ring.len() >= 4 * SMALLEST);
        assert!(history.receive((history.next() - 250) as u16, 0).is_some());
    }

    #[test]
    fn wraps_and_runs_of_any_length_are_survived() {
        let mut history = History::new();
        for packet in 0..70_000u64 {
            history.send(packet, 1, 0);
        }
        history.miss(0, u16::MAX);
        history.miss((70_000u64 - 5) as u16, 2);
        assert_eq!(
            history
                .receive((70_000u64 - 1) as u16, 80_000)
                .map(|a| a.number),
            Some(69_999)
        );
        let judgement = history.judge(80_000, 80_000);
        assert_eq!(judgement.received, 1);
        assert!(judgement.lost >= 2);
        assert!(judgement.lost < SMALLEST as u32);
    }

    #[test]
    fn runs_are_taken_for_what_they_cover() {
        // Whatever begins behind the newest packet is of the cycle before.
        for (first, count, missing) in [
            (99_u16, 1_u16, 1),
            (100, 1, 0),
            (100, u16::MAX, 99),
            (101, u16::MAX, 100),
            (90, 200, 10),
            (0, 50, 50),
            (65_535, 1, 0),
            (65_530, 16, 10),
        ] {
            let mut history = History::new();
            for packet in 0..100 {
                history.send(packet, 1, 0);
            }
            history.miss(first, count);
            let marked = (0..100).filter(|number| {
                history
                    .entry(*number)
                    .is_some_and(|entry| entry.fate == Fate::Missing)
            });
            assert_eq!(marked.count(), missing, "{count} from {first}");
        }
    }
}
