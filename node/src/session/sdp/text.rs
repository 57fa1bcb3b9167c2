//! A description as text: reading it line by line without copying, writing it line by line.
//!
//! Knows the form of SDP (RFC 8866 section 5), not the meaning of any line. `rtc::sdp`, which keeps
//! a copy of every part, takes 0.15 ms to read a browser's first offer; the whole answer takes 0.06.

use std::fmt;

use memchr::memchr;

use super::error::SdpError;

/// The largest description accepted. A browser words a video section in 5 kB, and keeps sections of
/// what it has published, so that a long session with fifty people has offers of 500 kB. The worst
/// that can be made of this much takes 50 ms to read.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// `kind=value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) number: usize,
    pub(super) kind: u8,
    pub(super) value: &'a str,
}

impl<'a> Line<'a> {
    /// Name and value of an `a=` line; a flag has an empty value.
    pub(super) fn attribute(&self) -> (&'a str, &'a str) {
        split_once(self.value, b':').unwrap_or((self.value, ""))
    }
}

/// The lines of a description, whichever way they end. Empty lines are passed over.
pub(super) fn lines(
    text: &str,
) -> Result<impl Iterator<Item = Result<Line<'_>, SdpError>>, SdpError> {
    if text.len() > MAX_BYTES {
        return Err(SdpError::Session {
            expected: "at most 2 MiB",
        });
    }
    let (mut rest, mut number) = (text, 0);
    Ok(std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = memchr(b'\n', rest.as_bytes());
            let line = &rest[..end.unwrap_or(rest.len())];
            rest = end.map_or("", |end| &rest[end + 1..]);
            number += 1;
            let line = line.strip_suffix('\r').unwrap_or(line);
            if !line.is_empty() {
                return Some(parse(number, line));
            }
        }
        None
    }))
}

/// As `str::split_once`, at a byte of ASCII. Words here are short: a plain loop finds their end before
/// the general search has begun.
pub(super) fn split_once(text: &str, at: u8) -> Option<(&str, &str)> {
    let end = text.bytes().position(|byte| byte == at)?;
    Some((&text[..end], &text[end + 1..]))
}

/// Parts of lines are echoed in answers, so a control character must not get past here: it could
/// end a line where we think it goes on.
fn parse(number: usize, line: &str) -> Result<Line<'_>, SdpError> {
    let bytes = line.as_bytes();
    // Without a way out on the first, so that it is done for many bytes at a time.
    let is_control = |byte: u8| byte < b' ' && byte != b'\t';
    if bytes
        .iter()
        .fold(false, |any, &byte| any | is_control(byte))
    {
        return Err(SdpError::Line {
            line: number,
            expected: "no control characters",
        });
    }
    match bytes {
        [kind @ b'a'..=b'z', b'=', ..] => Ok(Line {
            number,
            kind: *kind,
            value: &line[2..],
        }),
        _ => Err(SdpError::Line {
            line: number,
            expected: "a letter and '='",
        }),
    }
}

/// A description that is being written.
#[derive(Debug)]
pub(super) struct Writer(String);

impl Writer {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// One line, to which the end is added.
    pub(super) fn line(&mut self, line: fmt::Arguments<'_>) {
        self.text(line);
        self.0.push_str("\r\n");
    }

    /// A part of a line.
    pub(super) fn text(&mut self, text: fmt::Arguments<'_>) {
        fmt::Write::write_fmt(&mut self.0, text).expect("a string takes what is written to it");
    }

    /// Several lines, ends included.
    pub(super) fn block(&mut self, lines: &str) {
        self.0.push_str(lines);
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kind_and_value() {
        fn check(text: &str, expected: Result<Vec<(usize, u8, &str)>, SdpError>) {
            let lines: Result<Vec<_>, _> = lines(text).and_then(|lines| lines.collect());
            let lines =
                lines.map(|lines| lines.iter().map(|l| (l.number, l.kind, l.value)).collect());
            assert_eq!(lines, expected, "{text:?}");
        }
        let letter = |line| {
            Err(SdpError::Line {
                line,
                expected: "a letter and '='",
            })
        };
        let control = |line| {
            Err(SdpError::Line {
                line,
                expected: "no control characters",
            })
        };
        check("", Ok(vec![]));
        check("v=0\r\na=b\r\n", Ok(vec![(1, b'v', "0"), (2, b'a', "b")]));
        check("v=0\n\nx=", Ok(vec![(1, b'v', "0"), (3, b'x', "")]));
        check("v=0\r\nhello", letter(2));
        check("=", letter(1));
        check("ä=1", letter(1));
        check("a=mid:0\ra=b", control(1));
        check("a=\0", control(1));
    }

    #[test]
    fn size_is_bounded() {
        assert!(lines(&"a=x\n".repeat(MAX_BYTES / 4)).is_ok());
        assert!(lines(&"a=x\n".repeat(MAX_BYTES / 4 + 1)).is_err());
    }
}
