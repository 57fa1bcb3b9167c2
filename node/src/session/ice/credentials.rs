//! The two halves of an ICE session's credentials (RFC 8445 section 5.3), and which of two generations a
//! check was made with while ICE restarts.

use aws_lc_rs::hmac;
use rand::{CryptoRng, Rng};

use super::stun;

/// `ice-char` of RFC 8839 section 5.4.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// 66 bits and the shard. RFC 8839 asks for 24; connections are found by this name alone, so it should
/// be unique among a shard's connections without looking.
const UFRAG_LENGTH: usize = 12;

/// 144 bits. RFC 8839 asks for 128.
const PASSWORD_LENGTH: usize = 24;

/// What SDP tells the client as `a=ice-ufrag` and `a=ice-pwd`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub ufrag: String,
    pub password: String,
}

impl Credentials {
    /// For a connection on a shard, of which there are no more than letters.
    ///
    /// The ufrag begins with the shard's letter: whoever accepts a TCP connection learns from its
    /// first check where it belongs, and need not know any ufrags.
    pub fn generate(shard: u8, rng: &mut (impl Rng + CryptoRng)) -> Self {
        let mut ufrag = String::with_capacity(UFRAG_LENGTH);
        ufrag.push(char::from(ALPHABET[usize::from(shard) % ALPHABET.len()]));
        ufrag.push_str(&ice_chars(rng, UFRAG_LENGTH - 1));
        Self {
            ufrag,
            password: ice_chars(rng, PASSWORD_LENGTH),
        }
    }

    /// The shard that a ufrag of [`Self::generate`] was made for.
    pub fn shard(ufrag: &str) -> Option<usize> {
        let letter = ufrag.as_bytes().first()?;
        ALPHABET.iter().position(|known| known == letter)
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Who reads the password can have a client's media sent to himself.
        f.debug_struct("Credentials")
            .field("ufrag", &self.ufrag)
            .finish_non_exhaustive()
    }
}

fn ice_chars(rng: &mut impl Rng, length: usize) -> String {
    (0..length)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect()
}

/// The credentials that hold from one ICE restart to the next.
pub(super) struct Generation {
    pub(super) local: Credentials,
    /// None until the client's description arrives: in a server's offer its checks come first.
    pub(super) remote: Option<Remote>,
    /// A check has been authenticated with these credentials.
    pub(super) used: bool,
    /// Counts restarts; what is nominated in a newer generation beats all of an older one.
    pub(super) number: u64,
}

impl Generation {
    pub(super) fn new(local: Credentials, number: u64) -> Self {
        Self {
            local,
            remote: None,
            used: false,
            number,
        }
    }

    pub(super) fn is_addressed_by(&self, receiver: &[u8]) -> bool {
        self.local.ufrag.as_bytes() == receiver
    }

    /// Any sender will do until the client's name is known: the password has to match anyway.
    pub(super) fn expects(&self, sender: &[u8]) -> bool {
        match &self.remote {
            Some(remote) => remote.ufrag.as_bytes() == sender,
            None => !sender.is_empty(),
        }
    }

    /// Made for each check, of which there is one in seconds: it has three quarters of a kilobyte.
    pub(super) fn key(&self) -> hmac::Key {
        stun::integrity_key(&self.local.password)
    }
}

/// The client's half.
pub(super) struct Remote {
    pub(super) ufrag: Box<str>,
    /// Kept as it is: a key made of it is larger, and needed once in a client's change of address.
    password: Box<str>,
}

impl Remote {
    pub(super) fn new(ufrag: &str, password: &str) -> Self {
        Self {
            ufrag: ufrag.into(),
            password: password.into(),
        }
    }

    /// What the client's half of a check is signed with.
    pub(super) fn key(&self) -> hmac::Key {
        stun::integrity_key(&self.password)
    }

    /// Whom a check of ours is for, and from (RFC 8445 section 7.2.2).
    pub(super) fn username(&self, local: &Credentials) -> String {
        format!("{}:{}", self.ufrag, local.ufrag)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_ufrag_says_which_shard_it_is_for() {
        let mut rng = StdRng::seed_from_u64(6544);
        for shard in 0..ALPHABET.len() {
            let Credentials { ufrag, .. } = Credentials::generate(shard as u8, &mut rng);
            assert_eq!(ufrag.len(), UFRAG_LENGTH);
            assert_eq!(Credentials::shard(&ufrag), Some(shard), "{ufrag}");
        }
        assert_eq!(Credentials::shard(""), None);
        assert_eq!(Credentials::shard("-abc"), None);
        assert_eq!(Credentials::shard("\u{e4}bc"), None);
    }
}
