//! Which signaling processes may hold a session. Each holds it by a claim on the participant, and numbers of
//! claims grow: one that has lost the session without noticing (it was frozen, or cut off) shows a lower
//! number than who has it now.
//!
//! Knows nothing of who keeps the numbers, or how.

use pipemesh_proto::node::Code;

use super::Refusal;

/// The highest claim that anybody has shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fence {
    highest: u64,
}

impl Fence {
    pub(crate) fn new(claim: u64) -> Self {
        Self { highest: claim }
    }

    /// Lets in who shows this claim, and nobody with a lower one from now on. 0: a process of a version that
    /// knows of no claims.
    pub(super) fn pass(&mut self, claim: u64) -> Result<(), Refusal> {
        if claim != 0 && claim < self.highest {
            let message = format!(
                "it was taken over by claim {}, this is {claim}",
                self.highest
            );
            return Err(Refusal::new(Code::TakenOver, message));
        }
        self.highest = self.highest.max(claim);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these claims get in, one after the other.
    fn let_in(opened: u64, claims: &[u64]) -> Vec<bool> {
        let mut fence = Fence::new(opened);
        claims
            .iter()
            .map(|claim| fence.pass(*claim).is_ok())
            .collect()
    }

    #[test]
    fn a_claim_holds_until_there_is_a_later_one() {
        assert_eq!(
            let_in(5, &[5, 5, 7, 5, 6, 7, 8, 7]),
            [true, true, true, false, false, true, true, false]
        );
        // Brought back after the store has lost it: behind all that anybody has seen.
        assert_eq!(let_in(5, &[(1 << 32) + 2, 7]), [true, false]);
    }

    #[test]
    fn who_knows_of_no_claims_gets_in_and_opens_the_way_for_nobody() {
        assert_eq!(let_in(0, &[0, 3, 0]), [true, true, true]);
        assert_eq!(let_in(5, &[0, 4, 0, 5]), [true, false, true, true]);
    }

    #[test]
    fn a_refusal_says_why() {
        let refusal = Fence::new(7).pass(5).unwrap_err();
        assert_eq!(refusal.code, Code::TakenOver);
        assert_eq!(refusal.message, "it was taken over by claim 7, this is 5");
    }
}
