//! Typed ids. Two ids of different things cannot be confused, and an id that came from outside has
//! been checked.
//!
//! The prefixes `RM_`, `PA_` and `TR_` are part of LiveKit's client protocol: its SDKs look at them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rand::Rng;

/// Longest id accepted from outside, in bytes.
pub const MAX_ID_LEN: usize = 64;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    #[error("is empty")]
    Empty,
    #[error("has {0} bytes, at most {MAX_ID_LEN} are allowed")]
    TooLong(usize),
    #[error("has the character {0:?}; letters, digits, '_' and '-' are allowed")]
    Character(char),
    #[error("does not start with {0:?}")]
    Prefix(&'static str),
}

fn check(text: &str, prefix: &'static str) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    if text.len() > MAX_ID_LEN {
        return Err(InvalidId::TooLong(text.len()));
    }
    if let Some(c) = text
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-'))
    {
        return Err(InvalidId::Character(c));
    }
    if !text.starts_with(prefix) {
        return Err(InvalidId::Prefix(prefix));
    }
    Ok(())
}

/// Twelve random characters: 71 bits, so that a billion ids collide with a chance below 0.1 %.
fn random(prefix: &str) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rng = rand::rng();
    let tail = (0..12).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]));
    prefix.chars().chain(tail).collect()
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// A new id that nobody else has.
            pub fn random() -> Self {
                Self(random($prefix).into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check(text, $prefix)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

ids! {
    /// A room's life: a room that ends and is opened again under its name has another id.
    RoomId "RM_";
    /// A participant, for as long as others see them as the same person in the room.
    ParticipantId "PA_";
    /// A published track.
    TrackId "TR_";
    /// A participant's session on a node.
    SessionId "";
    /// A node, stable over its restarts.
    NodeId "";
    /// A signaling process, from its start to its end.
    ProcessId "";
    /// Where nodes run, e.g. `eu-west`.
    Region "";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_from_outside_are_checked() {
        fn check<T: FromStr<Err = InvalidId>>(text: &str, expected: Option<InvalidId>) {
            assert_eq!(text.parse::<T>().err(), expected, "{text:?}");
        }
        check::<TrackId>("TR_abc", None);
        check::<TrackId>("", Some(InvalidId::Empty));
        check::<TrackId>("PA_abc", Some(InvalidId::Prefix("TR_")));
        check::<Region>("eu-west", None);
        check::<Region>("eu west", Some(InvalidId::Character(' ')));
        check::<Region>("länd", Some(InvalidId::Character('ä')));
        check::<NodeId>(&"x".repeat(65), Some(InvalidId::TooLong(65)));
    }

    #[test]
    fn random_ids_are_valid_and_differ() {
        let ids: std::collections::BTreeSet<_> = (0..1000).map(|_| RoomId::random()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            assert_eq!(id.as_str().parse::<RoomId>(), Ok(id));
        }
    }
}
