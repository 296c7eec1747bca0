//! The task that [plays](crate::scripted) with the detector, as hooks and platform see it.
//!
//! Without the feature `scripted` there is no such task, and the functions here return constants.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::sync::running_task;

const ENABLED: bool = cfg!(feature = "scripted");

/// Lowest address that stands for a label: unused, and as near to the kernel's code as parts of that code are to each other.
pub const LABELS_START: usize = 0xffff_ffff_f000_0000;

/// A number that no task has.
pub const NO_TASK: u32 = u32::MAX;

/// The task that plays.
pub static PLAYER: AtomicU32 = AtomicU32::new(NO_TASK);
/// The return address that stands for the player's label; zero while it has given none.
pub static SITE: AtomicUsize = AtomicUsize::new(0);
/// The detector's clock in microseconds; zero while it is the machine's clock.
pub static CLOCK_US: AtomicU64 = AtomicU64::new(0);
/// Whether requests of the detector for memory are refused.
pub static METADATA_REFUSED: AtomicBool = AtomicBool::new(false);

/// Whether this task is the player. Any context.
pub fn is_player(task: u32) -> bool {
    ENABLED && PLAYER.load(Ordering::Relaxed) == task
}

/// Whether the running task is the player, so that hooks tell the detector nothing. Any context.
#[inline]
pub fn is_untold() -> bool {
    ENABLED && running_task().is_some_and(is_player)
}

/// The one return address of the player's call stack, if the running task is the player and has given a label. Any context.
#[inline]
pub fn call_site() -> Option<usize> {
    if !is_untold() {
        return None;
    }
    let site = SITE.load(Ordering::Relaxed);
    (site != 0).then_some(site)
}

/// The detector's clock in microseconds, if it is not the machine's. Any context.
#[inline]
pub fn clock_us() -> Option<u64> {
    if !ENABLED {
        return None;
    }
    let clock_us = CLOCK_US.load(Ordering::Relaxed);
    (clock_us != 0).then_some(clock_us)
}

/// Whether requests of the detector for memory are refused. Any context.
#[inline]
pub fn metadata_is_refused() -> bool {
    ENABLED && METADATA_REFUSED.load(Ordering::Relaxed)
}
