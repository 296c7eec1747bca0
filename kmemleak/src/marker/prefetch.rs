//! Asking for memory ahead of its use.

/// Asks for the cache line that `address` lies in, which need not be mapped. It has no effect except on time.
#[inline(always)]
pub(crate) fn prefetch(address: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch reads nothing that a program could see, and never faults.
    unsafe {
        core::arch::asm!(
            "prefetcht0 [{}]",
            in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: a prefetch reads nothing that a program could see, and never faults.
    unsafe {
        core::arch::asm!(
            "prfm pldl1keep, [{}]",
            in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
    let _ = address;
}
