//! What this node gives numbers to: found under its number at once, for every packet.

use pipemesh_node_core::pipe::frame::Stream;

/// Values under numbers of this node's own, from 1 on. A number does not come again before all others have:
/// what is still on its way under an old one is of nobody, not of somebody else.
#[derive(Debug)]
pub(super) struct Numbered<T> {
    /// Each number has its place by its lower bits; a power of two of them, at most half of them taken.
    places: Vec<Option<(u32, T)>>,
    len: usize,
    last: u32,
}

impl<T> Numbered<T> {
    const LEAST: usize = 16;

    pub(super) fn new() -> Self {
        Self {
            places: Vec::new(),
            len: 0,
            last: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number that the value has from now on; below [`Stream::SUBSCRIPTIONS`].
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if 2 * self.len >= self.places.len() {
            self.grow();
        }
        self.len += 1;
        loop {
            self.last = (self.last + 1) % Stream::SUBSCRIPTIONS;
            let place = place(self.last, self.places.len());
            if let Some(place @ None) = self.places.get_mut(place) {
                *place = Some((self.last, value));
                return self.last;
            }
        }
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let (found, value) = self.places.get(self.place(number))?.as_ref()?;
        (*found == number).then_some(value)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let place = self.place(number);
        let (found, value) = self.places.get_mut(place)?.as_mut()?;
        (*found == number).then_some(value)
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let place = self.place(number);
        let (_, value) = self.places.get_mut(place)?.take_if(|it| it.0 == number)?;
        self.len -= 1;
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let taken = self.places.iter().flatten();
        taken.map(|(number, value)| (*number, value))
    }

    fn place(&self, number: u32) -> usize {
        place(number, self.places.len())
    }

    /// Numbers that had places of their own have so among twice as many.
    fn grow(&mut self) {
        let len = (2 * self.places.len()).max(Self::LEAST);
        let before = std::mem::take(&mut self.places);
        self.places.resize_with(len, || None);
        for (number, value) in before.into_iter().flatten() {
            self.places[place(number, len)] = Some((number, value));
        }
    }
}

fn place(number: u32, places: usize) -> usize {
    number as usize & places.wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_is_not_given_again_at_once() {
        let mut table = Numbered::new();
        assert_eq!(table.get(0), None);
        let numbers: Vec<u32> = (0..100).map(|_| table.insert(())).collect();
        assert_eq!(numbers, (1..=100).collect::<Vec<_>>());
        for number in numbers {
            assert_eq!(table.remove(number), Some(()));
            assert_eq!(table.remove(number), None);
            assert!(table.insert(()) > 100);
        }
        // … nor where another one is.
        let stays = table.insert(());
        for _ in 0..1_000 {
            let next = table.insert(());
            assert!(next != stays && table.get(stays).is_some());
            table.remove(next);
        }
    }

    #[test]
    fn numbers_begin_anew_at_their_end() {
        let mut table = Numbered::new();
        table.last = Stream::SUBSCRIPTIONS - 2;
        let numbers = [(); 3].map(|()| table.insert(()));
        assert_eq!(numbers, [Stream::SUBSCRIPTIONS - 1, 0, 1]);
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_would(steps in prop::collection::vec(any::<(bool, u8)>(), 1..400)) {
            let (mut table, mut known) = (Numbered::new(), BTreeMap::new());
            for (inserts, value) in steps {
                if inserts {
                    prop_assert_eq!(known.insert(table.insert(value), value), None);
                } else {
                    let number = u32::from(value);
                    prop_assert_eq!(table.remove(number), known.remove(&number));
                }
                prop_assert_eq!(table.len(), known.len());
                let mut all: Vec<_> = table.iter().map(|(number, value)| (number, *value)).collect();
                all.sort_unstable();
                prop_assert!(all.iter().copied().eq(known.iter().map(|(number, value)| (*number, *value))));
                for (number, value) in &known {
                    prop_assert_eq!(table.get(*number), Some(value));
                }
            }
        }
    }
}
