//! The task that [plays](crate::scripted) with the detector, as hooks and platform see it.
//!
//! Without the feature `scripted` there is none, and what is asked here is answered when the kernel is compiled.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::sync::running_task;

const ENABLED: bool = cfg!(feature = "scripted");

/// Where labels' addresses begin: as near to the kernel's code as that is to itself, and unused.
pub const LABELS_START: usize = 0xffff_ffff_f000_0000;

/// The number of no task.
pub const NO_TASK: u32 = u32::MAX;

/// The task that plays.
pub static PLAYER: AtomicU32 = AtomicU32::new(NO_TASK);
/// The address of the player's call site; zero while it has given none.
pub static SITE: AtomicUsize = AtomicUsize::new(0);
/// The detector's clock; zero while it is the machine's.
pub static CLOCK_US: AtomicU64 = AtomicU64::new(0);
/// Whether the detector is to get no memory.
pub static METADATA_REFUSED: AtomicBool = AtomicBool::new(false);

/// Whether this task is the player. Any context.
pub fn is_player(task: u32) -> bool {
    ENABLED && PLAYER.load(Ordering::Relaxed) == task
}

/// Whether the player runs this, so that allocators' hooks say nothing. Any context.
#[inline]
pub fn is_untold() -> bool {
    ENABLED && running_task().is_some_and(is_player)
}

/// The one return address of the player's call stack, if it runs this and has given a label. Any context.
#[inline]
pub fn call_site() -> Option<usize> {
    if !is_untold() {
        return None;
    }
    let site = SITE.load(Ordering::Relaxed);
    (site != 0).then_some(site)
}

/// What the detector's clock shows, if it is not the machine's. Any context.
#[inline]
pub fn clock_us() -> Option<u64> {
    if !ENABLED {
        return None;
    }
    let clock_us = CLOCK_US.load(Ordering::Relaxed);
    (clock_us != 0).then_some(clock_us)
}

/// Whether the detector is to get no memory. Any context.
#[inline]
pub fn metadata_is_refused() -> bool {
    ENABLED && METADATA_REFUSED.load(Ordering::Relaxed)
}
