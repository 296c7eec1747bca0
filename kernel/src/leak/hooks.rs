//! The allocators' hooks: each tells the detector of a block.
//!
//! A block is told of when it is out of all free lists, and taken back before it can be handed out again, with no allocator lock
//! held. The hooks for frees ask for a block that its allocator has [taken back](TakenBack): of one that it might refuse yet
//! nobody can tell them. They are inlined into their callers also where nothing is optimised: a frame of their own would be the
//! innermost one of each call stack.
//!
//! They know the detector, and nothing of what [stands behind it](super::platform).

use kmemleak::{AllocOptions, BootstrapPool, Detector};

use super::player;

/// This kernel.
#[derive(Debug)]
pub struct KernelPlatform;

/// Metadata for what is allocated before the buddy allocator stands.
static POOL: BootstrapPool<16> = BootstrapPool::new();

/// The detector. In a section of its own, which is no root.
#[unsafe(link_section = ".detector")]
pub static KMEMLEAK: Detector<KernelPlatform> = Detector::new(KernelPlatform)
    .with_pool(&POOL)
    .with_suppressions(SUPPRESSIONS);

/// Leaks that this kernel has, knows and does not mend: patterns of function names (the last segments of a path, or all of it),
/// `PATTERN` or `PATTERN:max=N`, each with its reason. There are none, and one more wants a better reason than that somebody is
/// in a hurry. For a leak that is somebody's own there are the command `suppress` and the boot parameter.
const SUPPRESSIONS: &[&str] = &[];

/// A block that its allocator has taken from its user: what lets the detector forget it.
pub trait TakenBack {
    /// Where it begins.
    fn address(&self) -> usize;
}

/// A block was handed out; `size` in bytes. Any context but an NMI.
#[inline(always)]
pub fn alloc(start: usize, size: usize) {
    if !player::is_untold() {
        KMEMLEAK.alloc(start, size, AllocOptions::new());
    }
}

/// A block was given back. Any context but an NMI.
#[inline(always)]
pub fn free(block: &impl TakenBack) {
    if !player::is_untold() {
        KMEMLEAK.free(block.address());
    }
}

/// A part of a block was given back, of `len` bytes. Any context but an NMI.
#[inline(always)]
pub fn free_part(part: &impl TakenBack, len: usize) {
    if !player::is_untold() {
        KMEMLEAK.free_part(part.address(), len);
    }
}

/// An allocator has refused a free. Any context but an NMI.
#[inline(always)]
pub fn refused_free(address: usize) {
    if !player::is_untold() {
        KMEMLEAK.refused_free(address);
    }
}

/// A dynamic per-CPU block was handed out; `size` in bytes of one copy. Any context but an NMI.
#[inline(always)]
pub fn alloc_percpu(handle: usize, size: usize) {
    if !player::is_untold() {
        KMEMLEAK.alloc_percpu(handle, size);
    }
}

/// A dynamic per-CPU block was given back. Any context but an NMI.
#[inline(always)]
pub fn free_percpu(block: &impl TakenBack) {
    if !player::is_untold() {
        KMEMLEAK.free_percpu(block.address());
    }
}

/// The block is reported when lost, but not scanned. Any context but an NMI.
#[inline]
pub fn no_scan(start: usize) {
    if !player::is_untold() {
        KMEMLEAK.no_scan(start);
    }
}
