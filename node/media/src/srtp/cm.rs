//! AES counter mode with HMAC-SHA1 (RFC 3711 sections 4.1.1 and 4.2.1), for clients without GCM.

#![allow(unsafe_code, reason = "aws-lc's AES interface is C")]

use std::ffi::c_uint;

use aws_lc_sys::{AES_KEY, AES_ctr128_encrypt, AES_set_encrypt_key, CRYPTO_memcmp};

use super::PacketId;
use super::hmac::HmacSha1;
use super::secret::cleanse;

/// HMAC-SHA1-80: the first ten bytes of the MAC.
pub(super) const TAG_LEN: usize = 10;

/// One session's cipher key, authentication key and salt.
pub(super) struct Cm {
    cipher: AesCtr,
    auth: HmacSha1,
    /// The 112-bit session salt, times 2^16.
    salt: u128,
}

impl Cm {
    pub(super) fn new(key: &[u8], auth_key: &[u8], salt: &[u8; 14]) -> Self {
        let mut number = [0; 16];
        number[..14].copy_from_slice(salt);
        Self {
            cipher: AesCtr::new(key),
            auth: HmacSha1::new(auth_key),
            salt: u128::from_be_bytes(number),
        }
    }

    /// The keystream for one packet. RFC 3711 section 4.1.1: salt, SSRC and index, each shifted to
    /// its place and xored; the low 16 bits count blocks.
    pub(super) fn keystream(&self, PacketId { ssrc, index }: PacketId) -> Keystream<'_> {
        let start = self.salt ^ (u128::from(ssrc) << 64) ^ (u128::from(index) << 16);
        self.cipher.keystream(start)
    }

    /// The tag of `message` followed by `suffix`.
    pub(super) fn tag(&self, message: &[u8], suffix: &[u8]) -> [u8; TAG_LEN] {
        let mac = self.auth.mac(message, suffix);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&mac[..TAG_LEN]);
        tag
    }

    /// Whether `tag` is that of `message` followed by `suffix`, in a time that does not tell where
    /// it differs.
    pub(super) fn verify(&self, message: &[u8], suffix: &[u8], tag: &[u8; TAG_LEN]) -> bool {
        let expected = self.tag(message, suffix);
        // SAFETY: both arrays have `TAG_LEN` bytes.
        unsafe { CRYPTO_memcmp(expected.as_ptr().cast(), tag.as_ptr().cast(), TAG_LEN) == 0 }
    }
}

/// An expanded AES key. Also the pseudo-random function of the key derivation.
pub(super) struct AesCtr(AES_KEY);

impl AesCtr {
    /// `key` has 16 or 32 bytes.
    pub(super) fn new(key: &[u8]) -> Self {
        let mut cipher = Self(AES_KEY {
            rd_key: [0; 60],
            rounds: 0,
        });
        let bits = 8 * key.len() as c_uint;
        // SAFETY: `key` is readable for `bits` bits, the schedule is an exclusively borrowed struct.
        let failed = unsafe { AES_set_encrypt_key(key.as_ptr(), bits, &raw mut cipher.0) };
        assert_eq!(failed, 0, "no profile has a key of {bits} bits");
        cipher
    }

    pub(super) fn keystream(&self, start: u128) -> Keystream<'_> {
        Keystream {
            key: &self.0,
            counter: start.to_be_bytes(),
            block: [0; 16],
            used: 0,
        }
    }
}

impl Drop for AesCtr {
    fn drop(&mut self) {
        cleanse(&mut self.0);
    }
}

/// A keystream that is used up from left to right.
pub(super) struct Keystream<'a> {
    key: &'a AES_KEY,
    counter: [u8; 16],
    /// The last block of the stream, of which `used` bytes are spent (0: none is left over).
    block: [u8; 16],
    used: c_uint,
}

impl Keystream<'_> {
    pub(super) fn apply_in_place(&mut self, bytes: &mut [u8]) {
        let out = bytes.as_mut_ptr();
        // SAFETY: input and output are the same exclusively borrowed bytes, which the cipher allows.
        unsafe { self.apply_raw(out, out, bytes.len()) }
    }

    /// Writes `input` xor keystream over the beginning of `out`.
    ///
    /// Panics if `out` is shorter than `input`.
    pub(super) fn apply(&mut self, input: &[u8], out: &mut [u8]) {
        let out = &mut out[..input.len()];
        // SAFETY: two slices of the same length that cannot overlap, one being borrowed exclusively.
        unsafe { self.apply_raw(input.as_ptr(), out.as_mut_ptr(), input.len()) }
    }

    /// # Safety
    ///
    /// `input` is readable and `out` writable for `len` bytes; they are equal or do not overlap.
    unsafe fn apply_raw(&mut self, input: *const u8, out: *mut u8, len: usize) {
        // SAFETY: the caller vouches for `input` and `out`. The key is expanded, counter and block
        // are 16 bytes each, and `used`, which starts at 0, is kept below 16 by the cipher.
        unsafe {
            AES_ctr128_encrypt(
                input,
                out,
                len,
                self.key,
                self.counter.as_mut_ptr(),
                self.block.as_mut_ptr(),
                &raw mut self.used,
            );
        }
    }
}
