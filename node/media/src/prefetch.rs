//! Asking for memory ahead of its use.
//!
//! A packet that goes to hundreds of sessions touches each one's keys and numbers once, and by the next
//! packet they have left the cache. Whose turn comes next is known, so the waiting can be done while
//! another's packet is sealed.

#![allow(unsafe_code, reason = "prefetching is an instruction")]

/// Bytes of a cache line on the machines we know.
const LINE: usize = 64;

/// Asks for a value's first `len` bytes. Does not wait, reads nothing, and is no more than a hint.
#[inline]
pub fn prefetch_head<T: ?Sized>(value: &T, len: usize) {
    let len = len.min(size_of_val(value));
    let start = std::ptr::from_ref(value).cast::<u8>();
    for offset in (0..len).step_by(LINE) {
        line(start.wrapping_add(offset));
    }
    // Values begin anywhere in a line, so their end may lie in one more.
    line(start.wrapping_add(len.saturating_sub(1)));
}

/// Asks for all of a value.
#[inline]
pub fn prefetch<T: ?Sized>(value: &T) {
    prefetch_head(value, size_of_val(value));
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn line(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: every x86-64 has SSE; prefetching dereferences nothing, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
}

#[cfg(target_arch = "aarch64")]
#[inline]
fn line(address: *const u8) {
    // SAFETY: prefetching dereferences nothing, whatever the address, and changes no register.
    unsafe {
        std::arch::asm!(
            "prfm pldl1keep, [{address}]",
            address = in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline]
fn line(_: *const u8) {}
