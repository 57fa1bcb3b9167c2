//! Which packets of a source were seen: index estimation, the replay window, and the table of
//! sources. Pure; trusts that only authenticated packets are recorded.

use std::collections::VecDeque;

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

/// Sources that are remembered by their highest index alone, after their windows went to others.
/// Clients that publish anew for hours use SSRCs by the hundred; one that comes back after so many
/// others is taken for a new one.
const RESTING: usize = 1024;

/// The windows of all sources of one connection.
///
/// A connection has few sources at a time and packets come in bursts of one, so this is a linear table
/// that looks at the last hit first. When it is full, a source that has been silent gives its window up
/// and *rests*: should it come back, all up to its highest index counts as seen.
#[derive(Debug)]
pub(super) struct Sources<const WORDS: usize> {
    /// Beside `windows` and not in it: a search reads one or two cache lines.
    ssrcs: Vec<u32>,
    windows: Vec<ReplayWindow<WORDS>>,
    /// Whether a source was looked for since `hand` last passed it.
    used: Vec<bool>,
    last_hit: usize,
    /// Whose turn it is to rest, unless it was used (the clock algorithm of page caches).
    hand: usize,
    limit: usize,
    /// SSRC and highest index, the longest at rest first.
    resting: VecDeque<(u32, u64)>,
}

/// What is known of a source.
#[derive(Debug)]
pub(super) enum Found<'a, const WORDS: usize> {
    Live(&'a mut ReplayWindow<WORDS>),
    Resting(ReplayWindow<WORDS>),
    New,
}

impl<const WORDS: usize> Found<'_, WORDS> {
    pub(super) fn window(&self) -> Option<&ReplayWindow<WORDS>> {
        match self {
            Self::Live(window) => Some(window),
            Self::Resting(window) => Some(window),
            Self::New => None,
        }
    }
}

impl<const WORDS: usize> Sources<WORDS> {
    /// Windows for `limit` sources, which is more than none.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            ssrcs: Vec::new(),
            windows: Vec::new(),
            used: Vec::new(),
            last_hit: 0,
            hand: 0,
            limit,
            resting: VecDeque::new(),
        }
    }

    /// Windows for `limit` sources, or for as many as before if those were more.
    pub(super) fn allow(&mut self, limit: usize) {
        self.limit = self.limit.max(limit);
    }

    pub(super) fn find(&mut self, ssrc: u32) -> Found<'_, WORDS> {
        if self.ssrcs.get(self.last_hit) != Some(&ssrc) {
            match self.ssrcs.iter().position(|known| *known == ssrc) {
                Some(at) => self.last_hit = at,
                None => {
                    let resting = self.resting.iter().find(|(known, _)| *known == ssrc);
                    return resting.map_or(Found::New, |(_, highest)| {
                        Found::Resting(ReplayWindow::closed_up_to(*highest))
                    });
                }
            }
        }
        self.used[self.last_hit] = true;
        Found::Live(&mut self.windows[self.last_hit])
    }

    /// Adds a source that [`find`](Self::find) did not find live.
    pub(super) fn insert(&mut self, ssrc: u32, window: ReplayWindow<WORDS>) {
        debug_assert!(!self.ssrcs.contains(&ssrc), "{ssrc} is live");
        self.resting.retain(|(known, _)| *known != ssrc);
        if self.ssrcs.len() < self.limit {
            self.last_hit = self.ssrcs.len();
            self.ssrcs.push(ssrc);
            self.windows.push(window);
            self.used.push(true);
            return;
        }
        while std::mem::replace(&mut self.used[self.hand], false) {
            self.hand = (self.hand + 1) % self.limit;
        }
        if self.resting.len() == RESTING {
            self.resting.pop_front();
        }
        let former = std::mem::replace(&mut self.windows[self.hand], window);
        let ssrc = std::mem::replace(&mut self.ssrcs[self.hand], ssrc);
        self.resting.push_back((ssrc, former.highest));
        self.used[self.hand] = true;
        self.last_hit = self.hand;
        self.hand = (self.hand + 1) % self.limit;
    }

    /// Every source with its highest index.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u64)> {
        let live = self.ssrcs.iter().zip(&self.windows);
        let live = live.map(|(ssrc, window)| (*ssrc, window.highest));
        self.resting.iter().copied().chain(live)
    }
}

#[cfg(test)]
mod tests;
