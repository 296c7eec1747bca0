//! The allocators' hooks: each tells the detector of a block.
//!
//! The detector is told of an allocation when the block is out of all free lists, and of a free before the block can be handed
//! out again; no allocator lock is held. The hooks for frees ask for a block that its allocator has [taken back](TakenBack), so
//! a free that may still be refused is never told. The hooks are inlined also without optimisation: a frame of their own would
//! be the innermost one of each call stack.
//!
//! The hooks depend on the detector, but not on the [platform](super::platform) behind it.

use kmemleak::{AllocOptions, BootstrapPool, Detector};

use super::player;

/// This kernel.
#[derive(Debug)]
pub struct KernelPlatform;

/// Metadata for blocks that are allocated before the buddy allocator works.
static POOL: BootstrapPool<16> = BootstrapPool::new();

/// The detector. In a section of its own, which is no root.
#[unsafe(link_section = ".detector")]
pub static KMEMLEAK: Detector<KernelPlatform> = Detector::new(KernelPlatform)
    .with_pool(&POOL)
    .with_suppressions(SUPPRESSIONS);

/// Known leaks of this kernel that are not fixed: patterns of function names (the last segments of a path, or all of it),
/// `PATTERN` or `PATTERN:max=N`, each with its reason. There are none; add one only if the leak cannot be fixed. To suppress
/// a leak on one machine, use the command `suppress` or the boot parameter.
const SUPPRESSIONS: &[&str] = &[];

/// A block that its allocator has taken from its user: proof that the detector may forget it.
pub trait TakenBack {
    /// Where the block begins.
    fn address(&self) -> usize;
}

/// Tells the detector that a block of `size` bytes was allocated. Any context but an NMI.
#[inline(always)]
pub fn alloc(start: usize, size: usize) {
    if !player::is_untold() {
        KMEMLEAK.alloc(start, size, AllocOptions::new());
    }
}

/// Tells the detector that a block was freed. Any context but an NMI.
#[inline(always)]
pub fn free(block: &impl TakenBack) {
    if !player::is_untold() {
        KMEMLEAK.free(block.address());
    }
}

/// Tells the detector that a part of a block, of `len` bytes, was freed. Any context but an NMI.
#[inline(always)]
pub fn free_part(part: &impl TakenBack, len: usize) {
    if !player::is_untold() {
        KMEMLEAK.free_part(part.address(), len);
    }
}

/// Tells the detector that an allocator has refused a free. Any context but an NMI.
#[inline(always)]
pub fn refused_free(address: usize) {
    if !player::is_untold() {
        KMEMLEAK.refused_free(address);
    }
}

/// Tells the detector that a dynamic per-CPU block was allocated; `size` is that of one copy, in bytes. Any context but an NMI.
#[inline(always)]
pub fn alloc_percpu(handle: usize, size: usize) {
    if !player::is_untold() {
        KMEMLEAK.alloc_percpu(handle, size);
    }
}

/// Tells the detector that a dynamic per-CPU block was freed. Any context but an NMI.
#[inline(always)]
pub fn free_percpu(block: &impl TakenBack) {
    if !player::is_untold() {
        KMEMLEAK.free_percpu(block.address());
    }
}

/// Tells the detector not to scan a block, but to report it when it is lost. Any context but an NMI.
#[inline]
pub fn no_scan(start: usize) {
    if !player::is_untold() {
        KMEMLEAK.no_scan(start);
    }
}
