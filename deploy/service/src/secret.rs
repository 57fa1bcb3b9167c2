//! Text that must not be seen: not in logs, not in errors, not in freed memory.

use std::fmt;

use zeroize::Zeroizing;

/// A secret. Has no way into a log: `Debug` and `Display` print three stars.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

/// Why a text is no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeakSecret {
    #[error("is {actual} bytes, needs at least {needed}")]
    Short { actual: usize, needed: usize },
    #[error("is an example that everybody knows; make one with: openssl rand -hex 32")]
    Known,
}

/// Parts of secrets that stand in guides and example files, ours included, in lower case.
const KNOWN: &[&str] = &[
    "changeme",
    "change-me",
    "change_me",
    "replace-me",
    "replace_me",
    "example",
    "devkey",
    "your-secret",
    "supersecret",
];

impl Secret {
    /// # Errors
    /// When it is shorter than `bytes`, a known example, or a short text repeated.
    pub fn new(text: &str, bytes: usize) -> Result<Self, WeakSecret> {
        if text.len() < bytes {
            return Err(WeakSecret::Short {
                actual: text.len(),
                needed: bytes,
            });
        }
        let lower = Zeroizing::new(text.to_lowercase());
        if KNOWN.iter().any(|known| lower.contains(known)) || repeats(text.as_bytes()) {
            return Err(WeakSecret::Known);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The only way to the text; every call is a place to look at in a review.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// `aaaa…`, `secretsecret…`: a period of at most eight bytes, at least three times.
fn repeats(text: &[u8]) -> bool {
    (1..=8).any(|period| {
        text.len() >= 3 * period && text.iter().zip(&text[period..]).all(|(a, b)| a == b)
    })
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints_itself() {
        let secret = Secret::new("0d9f3a7c5be14862", 16).unwrap();
        assert_eq!(
            format!("{secret} {secret:?} {:?}", Some(&secret)),
            "*** *** Some(***)"
        );
        assert_eq!(secret.expose(), "0d9f3a7c5be14862");
    }

    #[test]
    fn refuses_what_is_none() {
        let check = |text: &str, expected: Result<(), WeakSecret>| {
            assert_eq!(Secret::new(text, 16).map(|_| ()), expected, "{text}");
        };
        check(
            "short",
            Err(WeakSecret::Short {
                actual: 5,
                needed: 16,
            }),
        );
        check("aaaaaaaaaaaaaaaaaaaaaaaa", Err(WeakSecret::Known));
        check("secretsecretsecret", Err(WeakSecret::Known));
        check("ChangeMe-0123456789abcdef", Err(WeakSecret::Known));
        check("abcdefghabcdefghijklmnop", Ok(()));
        check("f00ba4f00ba4e1d2c3b4a596", Ok(()));
    }
}
