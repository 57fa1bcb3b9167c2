//! Which packets of a source were seen: index estimation, the replay window, and the table of
//! sources. Pure; trusts that only authenticated packets are recorded.

use super::OpenError;

/// A sliding window over packet indices (RFC 3711 section 3.3.2), `64 * WORDS` packets wide.
#[derive(Debug, Clone)]
pub(super) struct ReplayWindow<const WORDS: usize> {
    highest: u64,
    /// Bit `i % width` says whether index `i` was seen, for the `width` indices up to `highest`.
    seen: [u64; WORDS],
}

impl<const WORDS: usize> ReplayWindow<WORDS> {
    const WIDTH: u64 = 64 * WORDS as u64;

    /// A window in which `first` was seen, and nothing before it.
    pub(super) fn starting_at(first: u64) -> Self {
        let mut window = Self {
            highest: first,
            seen: [0; WORDS],
        };
        window.set(first);
        window
    }

    /// A window in which everything up to `highest` counts as seen: what remains when only the
    /// highest index is known.
    pub(super) fn closed_up_to(highest: u64) -> Self {
        Self {
            highest,
            seen: [u64::MAX; WORDS],
        }
    }

    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether a packet with this index must be refused: it was seen, or is too old to know.
    pub(super) fn refuses(&self, index: u64) -> bool {
        match self.highest.checked_sub(index) {
            None => false,
            Some(age) if age >= Self::WIDTH => true,
            Some(_) => self.seen[Self::word(index)] & Self::bit(index) != 0,
        }
    }

    /// Records a packet that was not [refused](Self::refuses).
    pub(super) fn record(&mut self, index: u64) {
        if index > self.highest {
            if index - self.highest >= Self::WIDTH {
                self.seen = [0; WORDS];
            } else {
                for skipped in self.highest + 1..index {
                    self.seen[Self::word(skipped)] &= !Self::bit(skipped);
                }
            }
            self.highest = index;
        }
        self.set(index);
    }

    fn set(&mut self, index: u64) {
        self.seen[Self::word(index)] |= Self::bit(index);
    }

    fn word(index: u64) -> usize {
        (index % Self::WIDTH / 64) as usize
    }

    fn bit(index: u64) -> u64 {
        1 << (index % 64)
    }
}

/// The 48-bit index of a packet of which only the sequence number is on the wire, given the highest
/// index so far: the nearest one, as RFC 3711 section 3.3.1 and its appendix A say.
///
/// There is nothing before rollover counter 0: a sequence number that would be is taken for a leap
/// ahead. Senders that want no doubt begin below 2^15.
pub(super) fn estimate_index(highest: u64, seq: u16) -> u64 {
    const HALF: u16 = 1 << 15;
    const MAX_ROC: u64 = u32::MAX as u64;
    let roc = highest >> 16;
    let last = highest as u16;
    let roc = if last < HALF {
        if seq > last && seq - last > HALF {
            roc.saturating_sub(1)
        } else {
            roc
        }
    } else if last - HALF > seq {
        (roc + 1).min(MAX_ROC)
    } else {
        roc
    };
    roc << 16 | u64::from(seq)
}

/// The windows of all sources of one connection.
///
/// A connection has few sources and packets come in bursts of one, so this is a linear table that
/// looks at the last hit first.
#[derive(Debug)]
pub(super) struct Sources<const WORDS: usize> {
    /// Beside `windows` and not in it: a search reads one or two cache lines.
    ssrcs: Vec<u32>,
    windows: Vec<ReplayWindow<WORDS>>,
    last_hit: usize,
    limit: usize,
}

impl<const WORDS: usize> Sources<WORDS> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            ssrcs: Vec::new(),
            windows: Vec::new(),
            last_hit: 0,
            limit,
        }
    }

    /// The window of a source, `None` if it is new, or an error if there is no room for a new one.
    pub(super) fn find(
        &mut self,
        ssrc: u32,
    ) -> Result<Option<&mut ReplayWindow<WORDS>>, OpenError> {
        if self.ssrcs.get(self.last_hit) != Some(&ssrc) {
            match self.ssrcs.iter().position(|known| *known == ssrc) {
                Some(at) => self.last_hit = at,
                None if self.is_full() => return Err(OpenError::TooManySources),
                None => return Ok(None),
            }
        }
        Ok(Some(&mut self.windows[self.last_hit]))
    }

    /// Adds a source that [`find`](Self::find) did not find.
    pub(super) fn insert(&mut self, ssrc: u32, window: ReplayWindow<WORDS>) {
        debug_assert!(!self.is_full() && !self.ssrcs.contains(&ssrc));
        self.last_hit = self.ssrcs.len();
        self.ssrcs.push(ssrc);
        self.windows.push(window);
    }

    pub(super) fn remove(&mut self, ssrc: u32) {
        if let Some(at) = self.ssrcs.iter().position(|known| *known == ssrc) {
            self.ssrcs.swap_remove(at);
            self.windows.swap_remove(at);
        }
    }

    fn is_full(&self) -> bool {
        self.ssrcs.len() >= self.limit
    }

    /// Every source with its highest index.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u64)> {
        self.ssrcs
            .iter()
            .zip(&self.windows)
            .map(|(ssrc, window)| (*ssrc, window.highest))
    }
}

#[cfg(test)]
mod tests;
