//! AES-GCM as RFC 7714 uses it: one immutable key, a nonce from salt, SSRC and index.

#![allow(unsafe_code, reason = "aws-lc's AEAD interface is C")]

use std::ptr::{self, NonNull};

use aws_lc_sys::{
    EVP_AEAD, EVP_AEAD_CTX, EVP_AEAD_CTX_free, EVP_AEAD_CTX_new, EVP_AEAD_CTX_open_gather,
    EVP_AEAD_CTX_seal_scatter, EVP_aead_aes_128_gcm, EVP_aead_aes_256_gcm,
};

use super::PacketId;
use crate::prefetch::prefetch;

/// The tag is never shortened (RFC 7714 section 13.2).
pub(super) const TAG_LEN: usize = 16;

const NONCE_LEN: usize = 12;

/// Of AES.
const BLOCK_LEN: usize = 16;

/// One session key with its key schedule and hash tables, and the salt that goes with it.
pub(super) struct Gcm {
    /// Made by `EVP_AEAD_CTX_new`, never changed, freed (and wiped) on drop.
    context: NonNull<EVP_AEAD_CTX>,
    /// The 96-bit session salt as a number.
    salt: u128,
}

// SAFETY: the context is reachable from this value only, and is not tied to a thread.
unsafe impl Send for Gcm {}

impl Gcm {
    /// `key` has 16 or 32 bytes.
    pub(super) fn new(key: &[u8], salt: &[u8; NONCE_LEN]) -> Self {
        // SAFETY: returns a pointer to a static description, without preconditions.
        let aead: *const EVP_AEAD = match key.len() {
            16 => unsafe { EVP_aead_aes_128_gcm() },
            32 => unsafe { EVP_aead_aes_256_gcm() },
            len => unreachable!("no GCM profile has a key of {len} bytes"),
        };
        // SAFETY: `aead` is static, and `key` points to as many readable bytes as are claimed.
        let context = unsafe { EVP_AEAD_CTX_new(aead, key.as_ptr(), key.len(), TAG_LEN) };
        let mut number = [0; 16];
        number[4..].copy_from_slice(salt);
        Self {
            context: NonNull::new(context).expect("the key has the length its AEAD asks for"),
            salt: u128::from_be_bytes(number),
        }
    }

    /// Asks for the key schedule and the tables, to be there when they are needed.
    #[inline]
    pub(super) fn prefetch(&self) {
        // SAFETY: `context` lives as long as `self`, and is never changed.
        prefetch(unsafe { self.context.as_ref() });
    }

    /// Seals `body[..patched]` in place and `rest` behind it, then appends the tag. Returns how
    /// many bytes of `body` are used.
    ///
    /// Panics if `body` is too short.
    pub(super) fn seal(
        &self,
        id: PacketId,
        clear: &[u8],
        body: &mut [u8],
        patched: usize,
        rest: &[u8],
    ) -> usize {
        let sealed = patched + rest.len();
        let body = &mut body[..sealed + TAG_LEN];
        // Two parts cost hardly more than one where the first ends with a block.
        let fill = (patched.next_multiple_of(BLOCK_LEN) - patched).min(rest.len());
        let (head, rest) = rest.split_at(fill);
        body[patched..patched + fill].copy_from_slice(head);
        let patched = patched + fill;
        let nonce = self.nonce(id);
        let out = body.as_mut_ptr();
        // aws-lc takes its input in two parts. The first may lie where its output goes; the second
        // must not, and comes out in front of the tag.
        let (first, first_len, second, second_len) = if patched == 0 {
            (rest.as_ptr(), rest.len(), ptr::null(), 0)
        } else {
            (out.cast_const(), patched, rest.as_ptr(), rest.len())
        };
        let mut behind_len = 0;
        // SAFETY: `context` lives as long as `self`. `first` is either `rest`, which cannot overlap
        // the exclusively borrowed `body`, or exactly `out`; `second` is `rest`. At `out` there is
        // room for `first_len`, and behind that for `second_len` and the tag, since `body` was cut
        // to that sum. `nonce` and `clear` are read for their lengths.
        let ok = unsafe {
            EVP_AEAD_CTX_seal_scatter(
                self.context.as_ptr(),
                out,
                out.add(first_len),
                &raw mut behind_len,
                second_len + TAG_LEN,
                nonce.as_ptr(),
                NONCE_LEN,
                first,
                first_len,
                second,
                second_len,
                clear.as_ptr(),
                clear.len(),
            )
        };
        assert_eq!(ok, 1, "GCM seals any input of less than 64 GB");
        body.len()
    }

    /// Opens `body`, ciphertext and tag, in place. Returns the length of the plaintext, or `None` if
    /// the packet is not authentic; `body` is then wiped.
    pub(super) fn open(&self, id: PacketId, clear: &[u8], body: &mut [u8]) -> Option<usize> {
        let len = body.len().checked_sub(TAG_LEN)?;
        let (text, tag) = body.split_at_mut(len);
        let text = text.as_mut_ptr();
        let nonce = self.nonce(id);
        // SAFETY: `context` lives as long as `self`. Input and output are the same `len` bytes,
        // which aws-lc allows; tag, nonce and clear bytes are other slices, read for their lengths.
        let ok = unsafe {
            EVP_AEAD_CTX_open_gather(
                self.context.as_ptr(),
                text,
                nonce.as_ptr(),
                NONCE_LEN,
                text.cast_const(),
                len,
                tag.as_ptr(),
                TAG_LEN,
                clear.as_ptr(),
                clear.len(),
            )
        };
        (ok == 1).then_some(len)
    }

    /// RFC 7714 sections 8.1 and 9.1: two zero bytes, the SSRC, and the index in 48 bits, xored with
    /// the salt. The 31-bit SRTCP index has the same place.
    fn nonce(&self, PacketId { ssrc, index }: PacketId) -> [u8; NONCE_LEN] {
        let number = self.salt ^ (u128::from(ssrc) << 48) ^ u128::from(index);
        let bytes = number.to_be_bytes();
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&bytes[4..]);
        nonce
    }
}

impl Drop for Gcm {
    fn drop(&mut self) {
        // SAFETY: made by `EVP_AEAD_CTX_new`, freed once. aws-lc wipes what it frees.
        unsafe { EVP_AEAD_CTX_free(self.context.as_ptr()) }
    }
}
