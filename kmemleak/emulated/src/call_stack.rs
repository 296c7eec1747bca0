//! Where call stacks come from.
//!
//! Tests speak of labels: a call stack is a list of names, and [`symbol`](kmemleak::Platform::symbol) gives
//! them back. A label's "return address" is a small number, so that it can't be taken for a pointer into a
//! block. Measurements walk the host thread's stack instead, as a kernel would.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Mutex;

/// What a machine's call stacks are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallStacks {
    /// Labels, as [`Machine::call_from`](crate::Machine::call_from) gave them last.
    Given,
    /// The calling host thread's frames.
    Walked,
}

/// The address of the first label, and how far they lie apart.
const FIRST: usize = 0x1000;
const STRIDE: usize = 16;

/// Labels by number, each kept once.
pub(crate) struct Labels {
    names: Mutex<Vec<String>>,
}

impl Labels {
    pub(crate) const fn new() -> Self {
        Self {
            names: Mutex::new(Vec::new()),
        }
    }

    /// The return address that stands for this label.
    pub(crate) fn intern(&self, label: &str) -> usize {
        let mut names = self.names.lock().expect("nobody panics under it");
        let number = names.iter().position(|name| name == label);
        let number = number.unwrap_or_else(|| {
            names.push(label.into());
            names.len() - 1
        });
        FIRST + number * STRIDE
    }

    /// The label that this return address stands for.
    pub(crate) fn name(&self, address: usize) -> Option<String> {
        let offset = address.checked_sub(FIRST)?;
        let names = self.names.lock().expect("nobody panics under it");
        names
            .get(offset / STRIDE)
            .filter(|_| offset.is_multiple_of(STRIDE))
            .cloned()
    }
}

/// What the frame pointer register of the caller holds.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
pub fn frame_pointer() -> usize {
    let value;
    // SAFETY: reads a register.
    unsafe {
        std::arch::asm!("mov {}, rbp", out(reg) value, options(nomem, nostack, preserves_flags))
    };
    value
}

/// What the frame pointer register of the caller holds.
#[cfg(all(target_arch = "aarch64", not(miri)))]
#[inline(always)]
pub fn frame_pointer() -> usize {
    let value;
    // SAFETY: reads a register.
    unsafe {
        std::arch::asm!("mov {}, x29", out(reg) value, options(nomem, nostack, preserves_flags))
    };
    value
}

/// No frame pointer: it is not known how to read it here.
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub fn frame_pointer() -> usize {
    0
}

thread_local! {
    /// Start and end of this thread's stack; zeros until somebody asks.
    static BOUNDS: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// The calling thread's stack.
#[inline]
pub(crate) fn bounds() -> Range<usize> {
    let (start, end) = BOUNDS.get();
    if end != 0 {
        return start..end;
    }
    let found = ask_bounds();
    BOUNDS.set((found.start, found.end));
    found
}

/// The calling thread's stack, if somebody has asked for it before: without a call, for measurements.
#[inline]
pub fn known_stack() -> Range<usize> {
    let (start, end) = BOUNDS.get();
    start..end
}

/// Looks where the calling thread's stack lies, so that it is known.
pub fn look_for_stack() {
    bounds();
}

/// Says that the calling thread's stack ends at `address`, which lies in it: a walk sees no frame beyond. So a
/// measurement has as many frames as it means to.
pub fn end_stack_at(address: usize) {
    let found = bounds();
    BOUNDS.set((found.start, address));
}

/// The calling thread's stack, from the host's threading library; nothing where it won't tell.
#[cfg(all(target_os = "linux", not(miri)))]
#[cold]
fn ask_bounds() -> Range<usize> {
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: has no conditions.
    let thread = unsafe { libc::pthread_self() };
    // SAFETY: a thread that runs, and room for the answer.
    if unsafe { libc::pthread_getattr_np(thread, attributes.as_mut_ptr()) } != 0 {
        return 1..1;
    }
    let (mut start, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the attributes were filled in above.
    let result =
        unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut start, &raw mut size) };
    // SAFETY: filled in above, and not used any more.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    if result != 0 {
        return 1..1;
    }
    let start = start.expose_provenance();
    start..start + size
}

#[cfg(any(not(target_os = "linux"), miri))]
fn ask_bounds() -> Range<usize> {
    1..1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_interned_once_and_named_by_its_address() {
        let labels = Labels::new();
        let (probe, open) = (labels.intern("probe"), labels.intern("open"));
        assert_eq!(labels.intern("probe"), probe);
        assert_eq!(labels.name(open).as_deref(), Some("open"));
        assert_eq!(labels.name(open + 1), None);
        assert_eq!(labels.name(0), None);
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[test]
    fn the_walk_sees_the_calling_functions() {
        #[inline(never)]
        fn deeper(levels: usize, frames: &mut [usize]) -> usize {
            if levels == 0 {
                // SAFETY: the bounds are those of the stack of the thread that asks.
                return unsafe { kmemleak::frame_pointer_walk(frame_pointer(), bounds(), frames) };
            }
            let count = deeper(levels - 1, frames);
            std::hint::black_box(count)
        }
        let mut frames = [0; 16];
        let (shallow, deep) = (deeper(1, &mut frames), deeper(5, &mut frames));
        assert!(shallow >= 2 && deep == (shallow + 4).min(16));
        assert_eq!(frames[1], frames[2], "the same call, level after level");
    }
}
