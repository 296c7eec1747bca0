//! Sets of addresses that a search of memory can ask: small, quick, and not exact.

use core::ops::Range;
use core::sync::atomic::Ordering;

use crate::atomic::AtomicU64;

/// log2 of the bytes that a bit stands for.
pub(super) const SHIFT: u32 = 9;
/// Bits of a set: a few hundred places are told apart well.
pub(super) const BITS: usize = 4096;

/// A set of addresses. Those that lie in the same 512 bytes share a bit, and so do those that lie a multiple of 2 MiB apart.
///
/// Relaxed: all is added in one phase of a sweep, and asked for in later ones, with a barrier between.
pub(crate) struct AddressBits([AtomicU64; BITS / 64]);

impl AddressBits {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; BITS / 64])
    }

    /// Adds all addresses of a range that is not empty.
    pub(crate) fn add(&self, range: &Range<usize>) {
        let (first, last) = (range.start >> SHIFT, (range.end - 1) >> SHIFT);
        for bit in first..=last.min(first + (BITS - 1)) {
            self.word(bit).fetch_or(1 << (bit % 64), Ordering::Relaxed);
        }
    }

    /// False only if the address was not added.
    #[inline(always)]
    pub(crate) fn may_have(&self, address: usize) -> bool {
        let bit = address >> SHIFT;
        self.word(bit).load(Ordering::Relaxed) >> (bit % 64) & 1 != 0
    }

    #[inline(always)]
    fn word(&self, bit: usize) -> &AtomicU64 {
        &self.0[bit % BITS / 64]
    }

    /// For instructions that test a bit.
    #[inline(always)]
    #[cfg_attr(
        not(all(feature = "x86_64", target_arch = "x86_64", not(miri))),
        expect(dead_code, reason = "other code asks in Rust")
    )]
    pub(super) fn first_word(&self) -> *const AtomicU64 {
        self.0.as_ptr()
    }
}
