//! HMAC-SHA1 (RFC 2104) with the key's two blocks hashed once.

#![allow(unsafe_code, reason = "aws-lc's SHA-1 interface is C")]

use aws_lc_sys::{SHA_CTX, SHA1_Final, SHA1_Init, SHA1_Update};

use super::secret::{Secret, cleanse};

pub(super) const MAC_LEN: usize = 20;

/// SHA-1's block.
const BLOCK_LEN: usize = 64;

/// A key, kept as the two hash states it leads to.
pub(super) struct HmacSha1 {
    inner: SHA_CTX,
    outer: SHA_CTX,
}

impl HmacSha1 {
    /// `key` has at most 64 bytes: SRTP's has 20.
    pub(super) fn new(key: &[u8]) -> Self {
        let state_after = |pad: u8| {
            let mut block = Secret([pad; BLOCK_LEN]);
            for (byte, key) in block.0.iter_mut().zip(key) {
                *byte ^= key;
            }
            let mut state = start();
            update(&mut state, &block.0);
            state
        };
        assert!(
            key.len() <= BLOCK_LEN,
            "longer keys would have to be hashed first"
        );
        Self {
            inner: state_after(0x36),
            outer: state_after(0x5c),
        }
    }

    /// The MAC of `message` followed by `suffix`.
    pub(super) fn mac(&self, message: &[u8], suffix: &[u8]) -> [u8; MAC_LEN] {
        let mut inner = self.inner;
        update(&mut inner, message);
        update(&mut inner, suffix);
        let mut outer = self.outer;
        update(&mut outer, &finish(inner));
        finish(outer)
    }
}

impl Drop for HmacSha1 {
    fn drop(&mut self) {
        cleanse(&mut self.inner);
        cleanse(&mut self.outer);
    }
}

fn start() -> SHA_CTX {
    let mut state = SHA_CTX {
        h: [0; 5],
        Nl: 0,
        Nh: 0,
        data: [0; BLOCK_LEN],
        num: 0,
    };
    // SAFETY: writes the one exclusively borrowed struct.
    unsafe { SHA1_Init(&raw mut state) };
    state
}

fn update(state: &mut SHA_CTX, bytes: &[u8]) {
    // SAFETY: `state` was initialised by `SHA1_Init`, `bytes` is readable for its length.
    unsafe { SHA1_Update(state, bytes.as_ptr().cast(), bytes.len()) };
}

fn finish(mut state: SHA_CTX) -> [u8; MAC_LEN] {
    let mut hash = [0; MAC_LEN];
    // SAFETY: `state` was initialised by `SHA1_Init`, and the hash has the 20 bytes written.
    unsafe { SHA1_Final(hash.as_mut_ptr(), &raw mut state) };
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 2202 section 3, the cases whose key fits one block.
    #[test]
    fn rfc_2202() {
        fn check(key: &[u8], message: &[u8], expected: &str) {
            let hmac = HmacSha1::new(key);
            for split in [0, message.len() / 2, message.len()] {
                let (message, suffix) = message.split_at(split);
                assert_eq!(hex::encode(hmac.mac(message, suffix)), expected);
            }
        }
        let counting: Vec<u8> = (1..=25).collect();
        check(
            &[0x0b; 20],
            b"Hi There",
            "b617318655057264e28bc0b6fb378c8ef146be00",
        );
        check(
            b"Jefe",
            b"what do ya want for nothing?",
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
        );
        check(
            &[0xaa; 20],
            &[0xdd; 50],
            "125d7342b9ac11cd91a39af48aa17b4f63f175d3",
        );
        check(
            &counting,
            &[0xcd; 50],
            "4c9007f4026250c6bc8414f9bf50c86c2d7235da",
        );
        check(
            &[0x0c; 20],
            b"Test With Truncation",
            "4c1a03424b55e07fe7f27be1d58bb9324a9a5a04",
        );
    }
}
