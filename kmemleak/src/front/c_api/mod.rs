//! The detector for C code of a kernel: allocators and drivers in C call functions that [`export_c_api!`](crate::export_c_api)
//! defines. With the feature `c-api`.
//!
//! A detector is a static of the kernel, of the kernel's type; so the kernel says once, in Rust, which static C calls:
//!
//! ```
//! # use kmemleak::{Detector, IrqState, Platform, Root, RootCursor};
//! # struct Kernel;
//! # // SAFETY: it names no roots.
//! # unsafe impl Platform for Kernel {
//! #     fn now_us(&self) -> u64 { 0 }
//! #     fn irq_save(&self) -> IrqState { IrqState(0) }
//! #     fn irq_restore(&self, _: IrqState) {}
//! #     fn next_root(&self, _: &mut RootCursor) -> Option<Root> { None }
//! # }
//! static KMEMLEAK: Detector<Kernel> = Detector::new(Kernel);
//!
//! kmemleak::export_c_api!(KMEMLEAK);
//! ```
//!
//! The crate's file `include/kmemleak.h` declares the functions for C and C++, and says from which contexts each may be called:
//!
//! ```c
//! #include "kmemleak.h"
//!
//! static void write_line(void *console, const char *text, size_t len)
//! {
//!         console_write(console, text, len);
//! }
//!
//! void *pool_alloc(struct pool *pool)
//! {
//!         void *block = pool_take(pool);
//!
//!         if (block)
//!                 kmemleak_alloc(block, pool->block_size, 1);
//!         return block;
//! }
//!
//! void pool_free(struct pool *pool, void *block)
//! {
//!         kmemleak_free(block);
//!         pool_put(pool, block);
//! }
//!
//! void show_leaks(struct console *console)
//! {
//!         if (kmemleak_check(NULL) == KMEMLEAK_DONE)
//!                 kmemleak_report(write_line, console);
//! }
//! ```
//!
//! # Names
//!
//! A function `kmemleak_x` does what the method `x` of [`Detector`](crate::Detector) does. Blocks are named by pointers, physical
//! memory by numbers. C code that was written for another kernel may pass arguments that are not needed here, such as flags for the
//! allocation of metadata. A macro of that kernel leaves them out, since a name in parentheses is not a macro's:
//!
//! ```c
//! #define kmemleak_alloc(start, size, min_count, flags) \
//!         (kmemleak_alloc)(start, size, min_count)
//! ```
//!
//! A kernel that has other functions of these names does not link. It renames its own, or does not use the feature.
//!
//! # What C must keep
//!
//! The callbacks are sound for all arguments, as the methods are. Functions that are given a string, a place for an answer, or a
//! function that writes, rely on these.
//!
//! Blocks that C tells of are scanned if [`Platform::readable`] vouches for them. By default it does not, and a verdict says so.

mod export;

use core::ffi::{CStr, c_char, c_void};
use core::fmt::{self, Write};
use core::slice;

use crate::checker::claim::NotDone;
use crate::front::background::NextStep;
use crate::front::detector::Detector;
use crate::platform::Platform;
use crate::verdict::summary::Summary;

/// Whether something was done, and if not, why: `enum kmemleak_result`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CResult {
    /// `KMEMLEAK_DONE`
    Done,
    /// `KMEMLEAK_OFF`, as [`NotDone::Off`].
    Off,
    /// `KMEMLEAK_STOPPED`, as [`NotDone::Stopped`].
    Stopped,
    /// `KMEMLEAK_NESTED`, as [`NotDone::Nested`].
    Nested,
    /// `KMEMLEAK_NO_MEMORY`, as [`NotDone::NoMemory`].
    NoMemory,
    /// `KMEMLEAK_NO_MARK`, as [`NotDone::NoMark`].
    NoMark,
}

impl<T> From<Result<T, NotDone>> for CResult {
    fn from(result: Result<T, NotDone>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(NotDone::Off) => Self::Off,
            Err(NotDone::Stopped) => Self::Stopped,
            Err(NotDone::Nested) => Self::Nested,
            Err(NotDone::NoMemory) => Self::NoMemory,
            Err(NotDone::NoMark) => Self::NoMark,
        }
    }
}

/// A verdict in figures: `struct kmemleak_summary`. The fields are those of [`Summary`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CSummary {
    /// Leaks.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Suspects; none where there are leaks.
    pub suspects: u64,
    /// Their bytes.
    pub suspect_bytes: u64,
    /// Of these leaks or suspects, those that have not been reported.
    pub unreported_objects: u64,
    /// What could not be recorded for lack of memory.
    pub unrecorded: u64,
    /// Objects that were tracked.
    pub tracked: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// For how long the world was stopped, in microseconds.
    pub stopped_us: u64,
}

impl From<Summary> for CSummary {
    fn from(summary: Summary) -> Self {
        Self {
            objects: summary.objects as u64,
            bytes: summary.bytes as u64,
            suspects: summary.suspects as u64,
            suspect_bytes: summary.suspect_bytes as u64,
            unreported_objects: summary.unreported_objects as u64,
            unrecorded: summary.unrecorded,
            tracked: summary.tracked,
            took_us: summary.took_us,
            stopped_us: summary.stopped_us,
        }
    }
}

/// A function of C that writes a piece of text, or null, which drops it: `kmemleak_write_fn`. The text is not terminated.
pub type CWriteFn =
    Option<unsafe extern "C" fn(cookie: *mut c_void, text: *const c_char, len: usize)>;

/// Writes by a function of C.
#[doc(hidden)]
pub struct CWriter {
    write: CWriteFn,
    cookie: *mut c_void,
}

impl CWriter {
    /// # Safety
    ///
    /// As long as the writer is used, the function may be called with this cookie and any text.
    pub unsafe fn new(write: CWriteFn, cookie: *mut c_void) -> Self {
        Self { write, cookie }
    }
}

impl Write for CWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if let Some(write) = self.write {
            // SAFETY: as `new` demands.
            unsafe { write(self.cookie, text.as_ptr().cast(), text.len()) };
        }
        Ok(())
    }
}

/// Answers a check or scan.
///
/// # Safety
///
/// `summary` is null, or a summary can be written there.
#[doc(hidden)]
pub unsafe fn answer(verdict: Result<Summary, NotDone>, summary: *mut CSummary) -> CResult {
    if let Ok(verdict) = verdict
        && !summary.is_null()
    {
        // SAFETY: the caller's promise.
        unsafe { summary.write(verdict.into()) };
    }
    verdict.into()
}

/// Memory that a kernel lends the detector; none of it where it is null.
///
/// # Safety
///
/// `memory` is null, or `len` bytes there can be read and written to, are initialized, and nothing else ever uses them.
#[doc(hidden)]
pub unsafe fn lent(memory: *mut c_void, len: usize) -> &'static mut [u8] {
    if memory.is_null() {
        return &mut [];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts_mut(memory.cast(), len) }
}

/// A string of C, if it is UTF-8.
///
/// # Safety
///
/// `text` is null, or a terminated string that does not change for `'t`.
#[doc(hidden)]
pub unsafe fn string<'t>(text: *const c_char) -> Option<&'t str> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().ok()
}

/// In how many microseconds the background task should make its next step; `u64::MAX` if it is switched off.
#[doc(hidden)]
pub fn background_step<P: Platform>(detector: &Detector<P>, log: &mut CWriter) -> u64 {
    match detector.background_step(log) {
        NextStep::Wait { us } => us,
        NextStep::Stopped => u64::MAX,
    }
}
