//! Tracks and subscriptions under keys that are not used again: a place, and how often something was put
//! into any place when this was.

use std::ops::{Index, IndexMut};

/// A published track on this shard. Keys are not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackKey(pub(super) Slot);

/// A subscription on this shard. Keys are not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionKey(pub(super) Slot);

impl TrackKey {
    /// A track that another node keeps under a name of its own. Names none here.
    pub const ELSEWHERE: Self = Self(Slot {
        index: u32::MAX,
        generation: u32::MAX,
    });

    /// A small number that no other live track of the router has.
    pub fn index(self) -> usize {
        self.0.index as usize
    }
}

impl SubscriptionKey {
    /// A small number that no other live subscription of the router has.
    pub fn index(self) -> usize {
        self.0.index as usize
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot {
    index: u32,
    generation: u32,
}

/// Values under slots. A slab with one thing more: an entry can be named without looking at it
/// ([`Self::place`]).
#[derive(Debug)]
pub(super) struct Slots<T> {
    entries: Vec<Entry<T>>,
    /// Entries without a value, to be used again.
    vacant: Vec<u32>,
    generation: u32,
}

/// Has a value but while it is vacant.
#[derive(Debug)]
pub(super) struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            vacant: Vec::new(),
            generation: 0,
        }
    }

    pub(super) fn insert(&mut self, value: T) -> Slot {
        self.generation += 1;
        let generation = self.generation;
        let entry = Entry {
            generation,
            value: Some(value),
        };
        let vacant = self.vacant.pop();
        let index = vacant.unwrap_or(self.entries.len() as u32);
        match self.entries.get_mut(index as usize) {
            Some(place) => *place = entry,
            None => self.entries.push(entry),
        }
        Slot { index, generation }
    }

    #[inline]
    pub(super) fn get(&self, slot: Slot) -> Option<&T> {
        let entry = self.entries.get(slot.index as usize);
        entry
            .filter(|entry| entry.generation == slot.generation)?
            .value
            .as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        let entry = self.entries.get_mut(slot.index as usize);
        entry
            .filter(|entry| entry.generation == slot.generation)?
            .value
            .as_mut()
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<T> {
        let entry = self.entries.get_mut(slot.index as usize)?;
        if entry.generation != slot.generation {
            return None;
        }
        let value = entry.value.take()?;
        self.vacant.push(slot.index);
        Some(value)
    }

    /// Where a slot's value lies, found without a look at it: to be fetched before it is needed.
    #[inline]
    pub(super) fn place(&self, slot: Slot) -> Option<&Entry<T>> {
        self.entries.get(slot.index as usize)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().filter_map(|entry| entry.value.as_ref())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        let entries = (0..).zip(&self.entries);
        entries.filter_map(|(index, entry)| {
            let generation = entry.generation;
            Some((Slot { index, generation }, entry.value.as_ref()?))
        })
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.vacant.len()
    }
}

/// For who has seen to it that what is there goes away with its slots. Panics rather than to answer with
/// what took the place since.
impl<T> Index<Slot> for Slots<T> {
    type Output = T;

    #[inline]
    fn index(&self, slot: Slot) -> &T {
        self.get(slot).expect("the slot is not stale")
    }
}

impl<T> IndexMut<Slot> for Slots<T> {
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        self.get_mut(slot).expect("the slot is not stale")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_and_keys_are_not() {
        let mut slots = Slots::new();
        let (a, b) = (slots.insert('a'), slots.insert('b'));
        assert_eq!(slots.remove(a), Some('a'));
        assert_eq!(
            (slots.remove(a), slots.get(a), slots.len()),
            (None, None, 1)
        );
        let c = slots.insert('c');
        assert_eq!(c.index, a.index);
        assert_eq!(slots.get(a), None);
        assert_eq!(slots.get_mut(a), None);
        assert_eq!((slots[b], slots[c]), ('b', 'c'));
        assert_eq!(slots.values().collect::<String>(), "cb");
        assert_eq!(slots.remove(a), None, "that is another's place now");
    }

    #[test]
    #[should_panic(expected = "stale")]
    fn a_stale_key_is_not_read_as_what_took_its_place() {
        let mut slots = Slots::new();
        let a = slots.insert('a');
        slots.remove(a);
        slots.insert('b');
        let _ = slots[a];
    }

    #[test]
    #[should_panic(expected = "stale")]
    fn a_stale_key_writes_nothing() {
        let mut slots = Slots::new();
        let a = slots.insert('a');
        slots.remove(a);
        slots.insert('b');
        slots[a] = 'c';
    }
}
