//! An address that has not proved yet that what is sent there arrives at the client: how much it may
//! be sent, and the check that asks for the proof.
//!
//! Whoever has a client's password can claim any address to be the client's. What such an address
//! gets is paid for, byte by byte, by what came from there.

use std::time::{Duration, Instant};

use super::stun::{Message, TRANSACTION_LENGTH};

/// Until a check of ours is made again; every further one takes twice as long. Less would ask twice on
/// paths by satellite, more makes a lost check cost a longer silence.
const ASK_AGAIN: Duration = Duration::from_millis(150);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// So many checks of ours go before answers: who moved and lost one waits for the next, and a client that is
/// answered takes its time with its own. More would keep a client waiting that never answers.
const BEFORE_ANSWERS: u32 = 4;

/// Bytes of a check of ours, of most clients.
const USUAL_CHECK: usize = 112;

/// Bytes that are kept account of: a handshake's, and more than checks need.
const MAX_CREDIT: usize = 16_384;

#[derive(Debug, Default)]
pub(super) struct Probation {
    /// The restart whose credentials the client's last check from there had.
    pub(super) generation: u64,
    /// The address was another connection's when it was checked last.
    pub(super) is_taken: bool,
    /// Bytes that came from there, less those that went there.
    credit: usize,
    /// Of our check, once it was made.
    pub(super) transaction: Option<[u8; TRANSACTION_LENGTH]>,
    asked: u32,
    /// Not before this is it made again.
    again: Option<Instant>,
    /// What it takes.
    cost: usize,
    /// It is to be sent.
    pub(super) is_due: bool,
    /// The answer to the client's check, for which there was no credit beside ours.
    pub(super) owed: Option<Message>,
}

impl Probation {
    pub(super) fn receive(&mut self, bytes: usize) {
        self.credit = (self.credit + bytes).min(MAX_CREDIT);
    }

    /// Whether so much may be sent there, which it then is.
    pub(super) fn spend(&mut self, bytes: usize) -> bool {
        self.spend_beside(0, bytes)
    }

    /// The same if so much is to be left.
    pub(super) fn spend_beside(&mut self, reserve: usize, bytes: usize) -> bool {
        let rest = self.credit.checked_sub(bytes);
        let rest = rest.filter(|rest| *rest >= reserve);
        self.credit = rest.unwrap_or(self.credit);
        rest.is_some()
    }

    /// The client checks with the credentials of a newer restart: it would not answer what was asked
    /// with the former ones.
    pub(super) fn set_generation(&mut self, generation: u64) {
        if generation > self.generation {
            self.withdraw();
            self.generation = generation;
        }
    }

    /// Nothing is asked any more, until it is asked anew.
    pub(super) fn withdraw(&mut self) {
        (self.transaction, self.asked, self.again) = (None, 0, None);
        self.is_due = false;
    }

    pub(super) fn was_asked(&self) -> bool {
        self.asked > 0
    }

    /// What is to be left for our next check when the client's is answered. A client that restarts ICE may be
    /// heard from before its new credentials are known, and with them what that takes.
    pub(super) fn reserve(&self) -> usize {
        match self.asked {
            0 => self.cost.max(USUAL_CHECK),
            1..BEFORE_ANSWERS => self.cost,
            _ => 0,
        }
    }

    /// Makes the check due, which takes so many bytes, unless it was made a moment ago or there is no
    /// credit for it. Answers whether it is.
    pub(super) fn ask(&mut self, cost: usize, now: Instant) -> bool {
        self.cost = cost;
        if self.again.is_some_and(|again| now < again) || !self.spend(cost) {
            return false;
        }
        let pause = ASK_AGAIN * 2u32.saturating_pow(self.asked.min(8));
        self.again = Some(now + pause.min(LONGEST_PAUSE));
        self.asked += 1;
        self.is_due = true;
        true
    }

    /// When to ask again, if there is credit for it by then.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.again.filter(|_| self.credit >= self.cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_paid_for() {
        let mut probation = Probation::default();
        assert!(!probation.spend(1));
        probation.receive(100);
        assert!(probation.spend(60) && probation.spend(40));
        assert!(!probation.spend(1));
        probation.receive(50);
        assert!(!probation.spend_beside(20, 31) && probation.spend_beside(20, 30));
        probation.receive(usize::MAX / 2);
        assert!(!probation.spend(MAX_CREDIT + 1) && probation.spend(MAX_CREDIT));
    }

    #[test]
    fn a_check_is_repeated_with_growing_pauses_while_there_is_credit() {
        let start = Instant::now();
        let mut probation = Probation::default();
        assert!(!probation.ask(96, start), "nothing pays for it");
        probation.receive(96 * 4);
        let asked: Vec<u128> = (0..20_000)
            .map(|millis| start + Duration::from_millis(millis))
            .filter(|now| probation.ask(96, *now))
            .map(|now| (now - start).as_millis())
            .collect();
        assert_eq!(asked, [0, 150, 450, 1050]);
        assert_eq!(probation.deadline(), None, "nothing pays for another");
        probation.receive(96 * 100);
        assert!(probation.deadline().is_some());
        let later = (20_000..40_000).map(|millis| start + Duration::from_millis(millis));
        let asked = later.filter(|now| probation.ask(96, *now)).count();
        assert!((10..12).contains(&asked), "{asked}");
    }

    #[test]
    fn after_a_restart_it_is_asked_anew() {
        let now = Instant::now();
        let mut probation = Probation::default();
        probation.receive(300);
        assert!(probation.ask(96, now));
        probation.transaction = Some([1; TRANSACTION_LENGTH]);
        probation.set_generation(0);
        assert!(probation.was_asked());
        probation.set_generation(1);
        assert!(!probation.was_asked() && probation.transaction.is_none());
        assert!(probation.ask(96, now), "what came from there still counts");
    }
}
