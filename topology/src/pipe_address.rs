//! Where other nodes reach a node's pipes, and by which key they know it there.

use std::fmt;

/// Longest text of all addresses. Consul takes no more of a value.
const MAX_TEXT: usize = 512;

const SEPARATOR: char = ',';

/// What a node says of its pipes. Texts are what a registry holds: addresses are separated by commas, the key
/// is in hexadecimal.
#[derive(Clone, PartialEq, Eq)]
pub struct PipeAddress {
    addresses: Vec<String>,
    key: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPipeAddress {
    #[error("no address of the node's pipes is given")]
    NoAddress,
    #[error("the pipes' address {0:?} is not host:port")]
    Address(String),
    #[error("the addresses of the node's pipes have {0} bytes, at most {MAX_TEXT} are allowed")]
    TooLong(usize),
    #[error("the hash of the pipes' key is not 64 hexadecimal digits")]
    Key,
}

impl PipeAddress {
    /// `addresses`: `host:port` of each way to the same pipes, the best first. `key`: SHA-256 of the public key
    /// (SPKI) that is shown there.
    ///
    /// # Errors
    /// When there is no address, or too many, or one that nobody could go to.
    pub fn new(
        addresses: impl IntoIterator<Item = String>,
        key: [u8; 32],
    ) -> Result<Self, InvalidPipeAddress> {
        let addresses: Vec<String> = addresses.into_iter().collect();
        if addresses.is_empty() {
            return Err(InvalidPipeAddress::NoAddress);
        }
        if let Some(bad) = addresses.iter().find(|address| !is_host_and_port(address)) {
            return Err(InvalidPipeAddress::Address(bad.clone()));
        }
        let address = Self { addresses, key };
        match address.addresses_text().len() {
            len if len > MAX_TEXT => Err(InvalidPipeAddress::TooLong(len)),
            _ => Ok(address),
        }
    }

    /// # Errors
    /// When these are not what [`Self::addresses_text`] and [`Self::key_text`] say.
    pub fn parse(addresses: &str, key: &str) -> Result<Self, InvalidPipeAddress> {
        let key = unhex(key).ok_or(InvalidPipeAddress::Key)?;
        Self::new(addresses.split(SEPARATOR).map(str::to_owned), key)
    }

    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.addresses.iter().map(String::as_str)
    }

    #[must_use]
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    #[must_use]
    pub fn addresses_text(&self) -> String {
        self.addresses.join(&SEPARATOR.to_string())
    }

    #[must_use]
    pub fn key_text(&self) -> String {
        let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
        let bytes = self.key.iter();
        bytes
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
            .collect()
    }
}

impl fmt::Debug for PipeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.addresses_text(), self.key_text())
    }
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let has_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = |host: &str| {
        !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b",[]".contains(&byte))
    };
    // An IPv6 address without brackets could end anywhere.
    has_port && bare.map_or(!host.contains(':') && is_host(host), is_host)
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let value = digit(pair[0])? << 4 | digit(pair[1])?;
        *byte = u8::try_from(value).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "00ff10a0000102030405060708090a0b0c0d0e0f1011121314151617deadbeef";

    #[test]
    fn they_are_read_as_they_are_written() {
        for addresses in [
            "10.0.0.5:7902",
            "node-a.example:1,[2001:db8::1]:65535",
            "[::1]:7902,127.0.0.1:7902,node:7902",
        ] {
            let address = PipeAddress::parse(addresses, KEY).unwrap();
            assert_eq!(address.addresses_text(), addresses);
            assert!(address.addresses().eq(addresses.split(',')));
            assert_eq!(address.key_text(), KEY);
            assert_eq!(address.key()[..4], [0, 0xff, 0x10, 0xa0]);
        }
        let shouted = PipeAddress::parse("a:1", &KEY.to_uppercase()).unwrap();
        assert_eq!(shouted.key_text(), KEY);
    }

    #[test]
    fn what_nobody_could_go_to_is_refused() {
        for addresses in [
            "", "a", ":1", "a:", "a:0", "a:65536", "a:http", "a:1,", ",a:1", "a:1, b:1",
            "::1:7902", "[]:1", "[a:1", "ä:1", "a b:1",
        ] {
            let parsed = PipeAddress::parse(addresses, KEY);
            assert!(
                matches!(parsed, Err(InvalidPipeAddress::Address(_))),
                "{addresses:?} {parsed:?}"
            );
        }
        let none = PipeAddress::new([], [0; 32]);
        assert_eq!(none, Err(InvalidPipeAddress::NoAddress));
        let many = |count| PipeAddress::new((0..count).map(|_| "a.b:7902".to_owned()), [0; 32]);
        assert!(many(57).is_ok());
        assert_eq!(many(58), Err(InvalidPipeAddress::TooLong(521)));
    }

    #[test]
    fn a_key_has_64_digits() {
        for key in [
            "",
            "0",
            &KEY[1..],
            &format!("{KEY}0"),
            &KEY.replace('f', "g"),
            &KEY.replace("00", "+0"),
        ] {
            let parsed = PipeAddress::parse("a:1", key);
            assert_eq!(parsed, Err(InvalidPipeAddress::Key), "{key:?}");
        }
    }
}
