//! How the addresses of a client are proved to be its own: by the handshake, or by our checks, which
//! are made where the handshake says nothing (any more).

use std::time::Instant;

use rand::{CryptoRng, Rng};

use super::credentials::Generation;
use super::stun::{self, Message, Request, Success, TRANSACTION_LENGTH};
use super::{DropReason, Event, IceAgent, Path, drop_reason};

/// Bytes of a transaction that name who asked; the others cannot be guessed.
const NAME_LENGTH: usize = 4;

/// One that is to come or goes on.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    /// Where the client's last datagram of it came from.
    from: Option<Path>,
    cookie: Cookie,
}

/// What proves a path in the handshake: who returns it got what was sent there.
#[derive(Debug, Default)]
enum Cookie {
    /// Not sent yet.
    #[default]
    Unsent,
    /// All that was sent went over one path.
    SentTo(Path),
    /// Over several: no telling which one brought it to the client.
    Scattered,
    Returned,
}

/// Our checks.
impl IceAgent {
    /// Who asked what a Binding response answers, by the name given to [`Self::poll_transmit`]. Nothing
    /// about the datagram is verified.
    pub fn asker(datagram: &[u8]) -> Option<u32> {
        let name = stun::answered(datagram)?.first_chunk::<NAME_LENGTH>()?;
        Some(u32::from_be_bytes(*name))
    }

    /// Takes what answers a check of ours, and came in over `path`. The answer to the client's own, if
    /// that had to wait for this one, is to go there.
    pub fn handle_answer(
        &mut self,
        datagram: &[u8],
        path: Path,
    ) -> Result<Option<Message>, DropReason> {
        let success = Success::parse(datagram).map_err(drop_reason)?;
        let known = self.paths.iter().find(|known| known.path == path);
        let known = known.ok_or(DropReason::NotAnAnswer)?;
        let Some(probation) = &known.probation else {
            // Of several answers the first one counted.
            return Ok(None);
        };
        let is_asked = probation.transaction.as_ref();
        is_asked
            .filter(|transaction| success.answers(transaction))
            .ok_or(DropReason::NotAnAnswer)?;
        let generation = generation(&self.current, self.former.as_deref(), probation.generation);
        generation
            .and_then(|generation| generation.remote.as_ref())
            .filter(|remote| success.is_signed_by(&remote.key()))
            .ok_or(DropReason::NotAnAnswer)?;
        Ok(self.prove(path))
    }

    /// The next check of ours, and where to. `name` is what an answer names us by ([`Self::asker`]).
    pub fn poll_transmit(
        &mut self,
        name: u32,
        rng: &mut (impl Rng + CryptoRng),
    ) -> Option<(Path, Message)> {
        for known in &mut self.paths {
            let Some(probation) = known.probation.as_mut().filter(|it| it.is_due) else {
                continue;
            };
            probation.is_due = false;
            let generation =
                generation(&self.current, self.former.as_deref(), probation.generation);
            let Some((local, remote)) =
                generation.and_then(|it| Some((&it.local, it.remote.as_ref()?)))
            else {
                continue;
            };
            let transaction = probation
                .transaction
                .get_or_insert_with(|| transaction(name, rng));
            let username = remote.username(local);
            if let Some(check) = Message::check(transaction, &username, rng.random(), &remote.key())
            {
                return Some((known.path, check));
            }
        }
        None
    }

    /// The answer to a check over a path, unless our own has to go before it. A client that is at home
    /// elsewhere has to show where it is before anything changes, and a new one's join waits for nothing.
    pub(super) fn answer(
        &mut self,
        index: usize,
        generation: u64,
        request: &Request<'_>,
        reply: Message,
        is_taken: bool,
        now: Instant,
    ) -> Option<Message> {
        let Some(probation) = &mut self.paths[index].probation else {
            return Some(reply);
        };
        probation.is_taken = is_taken;
        probation.receive(request.len());
        probation.set_generation(generation);
        let was_asked = probation.was_asked();
        let is_asked = self.wants_proof(index);
        let is_first = is_asked && !was_asked;
        let goes_first = is_first && self.ask(index, now);
        let probation = self.paths[index].probation.as_mut()?;
        let keeps_back = is_asked && !goes_first;
        let reserve = if keeps_back { probation.reserve() } else { 0 };
        // Who is answered begins a handshake, which would be taken for the other's.
        let is_paid = !is_taken && probation.spend_beside(reserve, reply.bytes().len());
        probation.owed = (!is_paid).then_some(reply);
        if is_asked && !goes_first {
            self.ask(index, now);
        }
        is_paid.then_some(reply)
    }

    /// Makes a check of ours due, if the client's credentials are known and what came from there pays
    /// for it. Answers whether it is.
    pub(super) fn ask(&mut self, index: usize, now: Instant) -> bool {
        let known = &mut self.paths[index];
        let Some(probation) = &mut known.probation else {
            return false;
        };
        let generation = generation(&self.current, self.former.as_deref(), probation.generation);
        let cost = generation.and_then(|generation| {
            let username = generation.remote.as_ref()?.username(&generation.local);
            Message::check_length(username.len())
        });
        match cost {
            Some(cost) => probation.ask(cost, now),
            None => {
                probation.withdraw();
                false
            }
        }
    }
}

/// The handshake.
impl IceAgent {
    /// A handshake begins, before which nothing is proven by it.
    pub fn handshake_begins(&mut self) {
        self.handshake = Some(Box::default());
    }

    /// A datagram of the client's handshake came in over a path; it pays for what goes there.
    pub fn handle_handshake(&mut self, path: Path, bytes: usize, now: Instant) {
        if let Some(handshake) = &mut self.handshake {
            handshake.from = Some(path);
        }
        let Some(index) = self.paths.iter().position(|known| known.path == path) else {
            return;
        };
        if let Some(probation) = &mut self.paths[index].probation {
            probation.receive(bytes);
            if self.wants_proof(index) {
                self.ask(index, now);
            }
        }
    }

    /// Where to send a datagram of the handshake, with so many bytes. `None`: nowhere at present.
    pub fn handshake_path(&mut self, bytes: usize) -> Option<Path> {
        let handshake = self.handshake.as_deref_mut()?;
        let path = match self.selected {
            Some(selected) => selected,
            None => {
                let from = handshake.from?;
                let known = self.paths.iter_mut().find(|known| known.path == from)?;
                let probation = known.probation.as_mut();
                if probation.is_some_and(|probation| !probation.spend(bytes)) {
                    return None;
                }
                from
            }
        };
        match handshake.cookie {
            Cookie::Unsent => handshake.cookie = Cookie::SentTo(path),
            Cookie::SentTo(sole) if sole != path => handshake.cookie = Cookie::Scattered,
            Cookie::SentTo(_) | Cookie::Scattered | Cookie::Returned => {}
        }
        Some(path)
    }

    /// The client has answered what it was sent of the handshake, which nobody could who did not get it.
    pub fn handshake_answered(&mut self) {
        let Some(handshake) = &mut self.handshake else {
            return;
        };
        if let Cookie::SentTo(path) = std::mem::replace(&mut handshake.cookie, Cookie::Returned) {
            // Whose checks had no answer begins no handshake.
            let _owed = self.prove(path);
        }
    }

    pub fn handshake_ends(&mut self) {
        self.handshake = None;
    }

    /// The client gets what is sent to this path. Answers what it is owed there.
    fn prove(&mut self, path: Path) -> Option<Message> {
        let known = self.paths.iter_mut().find(|known| known.path == path)?;
        let probation = known.probation.take()?;
        self.events.push_back(Event::PathProven(path));
        self.settle();
        self.note_alive();
        probation.owed
    }

    /// Whether the client is to be asked for the proof, because the handshake will not give it.
    pub(super) fn wants_proof(&self, index: usize) -> bool {
        let cookie = self.handshake.as_ref().map(|handshake| &handshake.cookie);
        let is_awaited = matches!(cookie, Some(Cookie::Unsent | Cookie::SentTo(_)));
        let probation = self.paths[index].probation.as_ref();
        probation.is_some_and(|it| !is_awaited || it.is_taken || it.was_asked())
    }
}

/// The credentials that were current after so many restarts.
fn generation<'a>(
    current: &'a Generation,
    former: Option<&'a Generation>,
    number: u64,
) -> Option<&'a Generation> {
    let mut known = [Some(current), former].into_iter().flatten();
    known.find(|generation| generation.number == number)
}

/// Names who asks, and cannot be guessed.
fn transaction(name: u32, rng: &mut (impl Rng + CryptoRng)) -> [u8; TRANSACTION_LENGTH] {
    let mut transaction: [u8; TRANSACTION_LENGTH] = rng.random();
    transaction[..NAME_LENGTH].copy_from_slice(&name.to_be_bytes());
    transaction
}
