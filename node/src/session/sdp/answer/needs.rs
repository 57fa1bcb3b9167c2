//! Asking a client that makes every offer for another one, once per need.

use crate::session::sdp::track::SectionsNeeded;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Offers handled so far.
    offers: u64,
    /// Asked for and not offered yet.
    outstanding: SectionsNeeded,
    /// Offers that had been handled when the client was asked last; `None` once nobody waits.
    asked_at: Option<u64>,
}

impl Needs {
    /// `added`: receiving sections the offer has that the one before had not.
    ///
    /// An offer may have been on its way when the client was asked, so the first one afterwards
    /// need not have what was asked for. The second must; if it has not, the request was lost.
    pub(super) fn handle_offer(&mut self, added: SectionsNeeded, waiting: bool) {
        self.offers += 1;
        self.outstanding.audio = self.outstanding.audio.saturating_sub(added.audio);
        self.outstanding.video = self.outstanding.video.saturating_sub(added.video);
        let lost = self
            .asked_at
            .is_some_and(|asked_at| self.offers >= asked_at + 2);
        if lost || !waiting {
            self.outstanding = SectionsNeeded::default();
            self.asked_at = None;
        }
    }

    /// `missing`: sections short of one for each track that waits. Before its first offer the
    /// client needs no asking.
    pub(super) fn poll(
        &mut self,
        missing: SectionsNeeded,
        waiting: bool,
    ) -> Option<SectionsNeeded> {
        if self.offers == 0 || !waiting {
            return None;
        }
        let needed = SectionsNeeded {
            audio: missing.audio.saturating_sub(self.outstanding.audio),
            video: missing.video.saturating_sub(self.outstanding.video),
        };
        if needed == SectionsNeeded::default() && self.asked_at.is_some() {
            return None;
        }
        self.outstanding.audio += needed.audio;
        self.outstanding.video += needed.video;
        self.asked_at = Some(self.offers);
        Some(needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: SectionsNeeded = SectionsNeeded { audio: 0, video: 0 };
    const ONE: SectionsNeeded = SectionsNeeded { audio: 1, video: 0 };
    const TWO: SectionsNeeded = SectionsNeeded { audio: 2, video: 0 };

    #[test]
    fn the_first_offer_is_not_asked_for() {
        let mut needs = Needs::default();
        assert_eq!(needs.poll(ONE, true), None);
        needs.handle_offer(NONE, true);
        assert_eq!(needs.poll(ONE, true), Some(ONE));
    }

    #[test]
    fn a_need_is_reported_once() {
        let mut needs = Needs::default();
        needs.handle_offer(NONE, false);
        assert_eq!(needs.poll(ONE, true), Some(ONE));
        assert_eq!(needs.poll(ONE, true), None);
        assert_eq!(needs.poll(TWO, true), Some(ONE), "only what is new");
        needs.handle_offer(NONE, true);
        assert_eq!(needs.poll(TWO, true), None, "that offer was on its way");
        needs.handle_offer(TWO, false);
        assert_eq!(needs.poll(NONE, false), None);
    }

    #[test]
    fn a_free_section_needs_an_offer_all_the_same() {
        let mut needs = Needs::default();
        needs.handle_offer(NONE, false);
        assert_eq!(needs.poll(NONE, true), Some(NONE));
        assert_eq!(needs.poll(NONE, true), None);
    }

    #[test]
    fn a_lost_request_is_repeated() {
        let mut needs = Needs::default();
        needs.handle_offer(NONE, false);
        assert_eq!(needs.poll(ONE, true), Some(ONE));
        needs.handle_offer(NONE, true);
        needs.handle_offer(NONE, true);
        assert_eq!(needs.poll(ONE, true), Some(ONE));
    }
}
