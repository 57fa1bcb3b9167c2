//! Key bytes that do not outlive their use.

#![allow(
    unsafe_code,
    reason = "the compiler may drop a plain write to memory that dies; aws-lc's wipe it may not"
)]

use aws_lc_sys::{AES_KEY, OPENSSL_cleanse, SHA_CTX};

/// Bytes that are wiped when dropped. Deliberately without `Debug`, `Clone` and `Copy`.
pub(super) struct Secret<const N: usize>(pub(super) [u8; N]);

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        cleanse(&mut self.0);
    }
}

/// A type for which all-zero bytes are a valid value and that owns nothing.
///
/// # Safety
///
/// Both must hold of every implementor.
pub(super) unsafe trait Plain {}

// SAFETY: an array of integers.
unsafe impl<const N: usize> Plain for [u8; N] {}
// SAFETY: a C struct of integers and arrays of integers.
unsafe impl Plain for AES_KEY {}
// SAFETY: a C struct of integers and arrays of integers.
unsafe impl Plain for SHA_CTX {}

/// Overwrites `value` with zeros, also when nothing reads it afterwards.
pub(super) fn cleanse<T: Plain>(value: &mut T) {
    // SAFETY: the pointer and the length are those of one exclusively borrowed value, which stays
    // valid when it becomes all zeros.
    unsafe { OPENSSL_cleanse(std::ptr::from_mut(value).cast(), size_of::<T>()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleansing_leaves_zeros() {
        let mut bytes = [7u8; 33];
        cleanse(&mut bytes);
        assert_eq!(bytes, [0; 33]);
    }
}
