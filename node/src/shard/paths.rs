//! Which connection an address belongs to. Asked for every datagram, so the answer to the last question
//! is at hand, and hashing is a few multiplications under a random key: addresses are chosen by clients.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::session::ice::Path;

/// Authenticated addresses and the connections (by index) that they belong to.
#[derive(Default)]
pub(super) struct Paths {
    map: HashMap<Path, usize, RandomState>,
    /// Packets of a frame come together.
    last: Option<(Path, usize)>,
    /// Whose datagram is known to come next.
    next: Option<(Path, usize)>,
}

impl Paths {
    #[inline]
    pub(super) fn find(&mut self, path: Path) -> Option<usize> {
        if let Some((last, index)) = self.last
            && last == path
        {
            return Some(index);
        }
        let index = match self.next {
            Some((next, index)) if next == path => index,
            Some(_) | None => self.map.get(&path).copied()?,
        };
        self.last = Some((path, index));
        Some(index)
    }

    /// A datagram comes over this path behind the one that is about to be handled. Answers whose it is, unless
    /// they are at hand.
    #[inline]
    pub(super) fn expect(&mut self, path: Path) -> Option<usize> {
        // Who was expected so far is whose turn it is.
        if let Some(due) = self.next.take() {
            self.last = Some(due);
        }
        if self.last.is_some_and(|(last, _)| last == path) {
            return None;
        }
        let index = self.map.get(&path).copied()?;
        self.next = Some((path, index));
        Some(index)
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn insert(&mut self, path: Path, index: usize) {
        (self.last, self.next) = (None, None);
        self.map.insert(path, index);
    }

    /// Forgets a path if it is still this connection's.
    pub(super) fn remove(&mut self, path: Path, index: usize) {
        (self.last, self.next) = (None, None);
        if self.map.get(&path) == Some(&index) {
            self.map.remove(&path);
        }
    }

    pub(super) fn remove_all_of(&mut self, index: usize) {
        (self.last, self.next) = (None, None);
        self.map.retain(|_, owner| *owner != index);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;

    fn path(port: u16) -> Path {
        Path {
            socket: 0,
            remote: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        }
    }

    #[test]
    fn what_is_remembered_is_never_stale() {
        let mut paths = Paths::default();
        paths.insert(path(1), 10);
        assert_eq!(paths.find(path(1)), Some(10));
        paths.insert(path(1), 11);
        assert_eq!(paths.find(path(1)), Some(11));
        paths.remove(path(1), 10);
        assert_eq!(paths.find(path(1)), Some(11), "it is another's by now");
        paths.remove(path(1), 11);
        assert_eq!(paths.find(path(1)), None);
        paths.insert(path(2), 12);
        assert_eq!(paths.find(path(2)), Some(12));
        paths.remove_all_of(12);
        assert_eq!(paths.find(path(2)), None);
    }

    #[test]
    fn whoever_was_expected_the_one_who_comes_is_found() {
        let mut paths = Paths::default();
        for port in 1..4 {
            paths.insert(path(port), port.into());
        }
        // As a batch is handled: the next one is announced, then the one before is asked for.
        for (next, now) in [(2, 1), (3, 2), (1, 3), (1, 1), (9, 1), (2, 9), (2, 2)] {
            let is_at_hand = next == now;
            let known = (1..4).contains(&next) && !is_at_hand;
            let expected = known.then_some(usize::from(next));
            assert_eq!(paths.expect(path(next)), expected, "{next} behind {now}");
            let found = (1..4).contains(&now).then_some(usize::from(now));
            assert_eq!(paths.find(path(now)), found, "{now}");
        }
        assert_eq!(paths.expect(path(3)), Some(3));
        assert_eq!(paths.find(path(3)), Some(3), "nothing came between");
        assert_eq!(paths.expect(path(1)), Some(1));
        paths.insert(path(1), 10);
        assert_eq!(paths.find(path(1)), Some(10));
        assert_eq!(paths.expect(path(2)), Some(2));
        paths.remove_all_of(2);
        assert_eq!(paths.find(path(2)), None);
    }
}
