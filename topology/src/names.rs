//! Names that people choose: of rooms, and of themselves in a room.
//!
//! Unlike ids they may hold any characters, so they are never part of a path, a key or a metric
//! without being escaped.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest name accepted, in bytes.
pub const MAX_NAME_LEN: usize = 256;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    #[error("is empty")]
    Empty,
    #[error("has {0} bytes, at most {MAX_NAME_LEN} are allowed")]
    TooLong(usize),
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                match text.len() {
                    0 => Err(InvalidName::Empty),
                    1..=MAX_NAME_LEN => Ok(Self(text.into())),
                    len => Err(InvalidName::TooLong(len)),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    )*};
}

names! {
    /// What a room is called. Outlives the room: the next room of that name is another one.
    RoomName;
    /// Who somebody is, unique in a room.
    Identity;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let check = |text: &str, expected: Result<(), InvalidName>| {
            assert_eq!(text.parse::<RoomName>().map(|_| ()), expected, "{text:?}");
        };
        check("Küche | 1", Ok(()));
        check("", Err(InvalidName::Empty));
        check(&"x".repeat(256), Ok(()));
        check(&"x".repeat(257), Err(InvalidName::TooLong(257)));
    }
}
