//! Tracks and subscriptions under keys that are not used again: a place, and how often something was put
//! into any place when this was.

use std::ops::{Index, IndexMut};

use slab::Slab;

/// A published track on this shard. Keys are not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackKey(pub(super) Slot);

/// A subscription on this shard. Keys are not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionKey(pub(super) Slot);

impl TrackKey {
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

#[derive(Debug)]
pub(super) struct Slots<T> {
    entries: Slab<Entry<T>>,
    generation: u32,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: T,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Self {
            entries: Slab::new(),
            generation: 0,
        }
    }

    pub(super) fn insert(&mut self, value: T) -> Slot {
        self.generation += 1;
        let generation = self.generation;
        let index = self.entries.insert(Entry { generation, value });
        Slot {
            index: index as u32,
            generation,
        }
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&T> {
        let entry = self.entries.get(slot.index as usize)?;
        (entry.generation == slot.generation).then_some(&entry.value)
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        let entry = self.entries.get_mut(slot.index as usize)?;
        (entry.generation == slot.generation).then_some(&mut entry.value)
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<T> {
        self.get(slot)?;
        let entry = self.entries.remove(slot.index as usize);
        Some(entry.value)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, entry)| &entry.value)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// For who has seen to it that what is there goes away with its slots.
impl<T> Index<Slot> for Slots<T> {
    type Output = T;

    #[inline]
    fn index(&self, slot: Slot) -> &T {
        &self.entries[slot.index as usize].value
    }
}

impl<T> IndexMut<Slot> for Slots<T> {
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        &mut self.entries[slot.index as usize].value
    }
}
