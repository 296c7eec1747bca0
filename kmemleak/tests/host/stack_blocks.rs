//! Stacks while other code runs, on a kernel whose stacks do not stay readable; and blocks on the stack of the code that asks.

use std::hint::black_box;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use kmemleak::{
    AllocOptions, Detector, IrqState, Platform, Root, RootCursor, RootKind, StopError, StoppedCpu,
};

use crate::lab::pool;
use crate::one_cpu::metadata_page;
use crate::own_stack::{STACK, listed, on_thread, plant};
use crate::snapshots::snapshot;

const WORDS: usize = 64;

/// A kernel with one CPU, whose stack is a part of a thread's; its world can't be stopped.
struct Kernel {
    stack: Range<usize>,
    /// The stack of another task: these words.
    other: &'static [AtomicUsize; WORDS],
    /// Where physical memory and the copies of per-CPU blocks lie.
    elsewhere: usize,
}

// SAFETY: metadata pages are never given back; the stacks are a thread's own and a box's that stays. No interrupts.
unsafe impl Platform for Kernel {
    fn now_us(&self) -> u64 {
        1
    }

    fn irq_save(&self) -> IrqState {
        IrqState(0)
    }

    fn irq_restore(&self, _: IrqState) {}

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        cursor.index += 1;
        (cursor.index == 1).then(|| Root {
            kind: RootKind::Stack(5),
            start: self.other.as_ptr().expose_provenance(),
            len: size_of_val(self.other),
        })
    }

    fn stack_bounds(&self) -> Option<Range<usize>> {
        Some(self.stack.clone())
    }

    fn stop_world(&self, _: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        Err(StopError::Unsupported)
    }

    fn readable(&self, _: usize, _: usize) -> bool {
        true
    }

    fn stays_readable(&self, _: usize, _: usize) -> bool {
        false
    }

    fn metadata_alloc(&self) -> Option<NonNull<u8>> {
        metadata_page()
    }

    fn phys_to_virt(&self, _: usize, _: usize) -> Option<usize> {
        Some(self.elsewhere)
    }

    fn percpu_copy(&self, _: usize, _: u32) -> usize {
        self.elsewhere
    }
}

/// Runs `test` on a thread whose stack is known.
fn on_known_stack(test: fn(&Detector<Kernel>)) {
    on_thread(move |end| on_stack(end, test));
}

#[inline(never)]
fn on_stack(end: usize, test: fn(&Detector<Kernel>)) {
    let elsewhere = Box::leak(Box::new([0_usize; WORDS]));
    let kernel = Kernel {
        stack: end - STACK..end,
        other: Box::leak(Box::new([const { AtomicUsize::new(0) }; WORDS])),
        elsewhere: elsewhere.as_mut_ptr().expose_provenance(),
    };
    let detector = Detector::new(kernel).with_pool(pool::<128>());
    test(&detector);
}

#[inline(never)]
fn point(word: &AtomicUsize, hidden: usize) {
    word.store(!hidden, Relaxed);
}

/// Leaves no address in frames that have returned.
#[inline(never)]
fn wipe() {
    black_box(&mut [0_usize; 8192]);
}

/// The stack of the code that asks stays as long as that runs.
#[test]
fn the_callers_stack_is_read_whether_or_not_stacks_stay() {
    on_known_stack(|detector| {
        let held = plant(detector);
        wipe();
        assert!(listed(detector, held));
        let mut local = black_box(!held);
        black_box(&mut local);
        assert!(!listed(detector, held), "a word of the caller's frame");
        black_box(&mut local);
    });
}

/// Its task may end and its memory be unmapped while it is read, unless a block that is tracked holds it.
#[test]
fn a_stack_that_does_not_stay_is_read_if_a_block_holds_it() {
    on_known_stack(|detector| {
        let held = plant(detector);
        let other = detector.platform().other;
        point(&other[9], held);
        wipe();
        assert!(listed(detector, held), "nobody vouches for the stack");
        let start = other.as_ptr().addr();
        detector.alloc(start, size_of_val(other), AllocOptions::new());
        assert!(!listed(detector, held), "its free waits for the pass");
    });
}

/// What only has a number of the stack's is none of the blocks that hold it.
#[test]
fn a_snapshot_shows_the_blocks_that_hold_the_stack() {
    on_known_stack(|detector| {
        let bottom = detector.platform().stack.start;
        let (block, handle, physical) = (bottom + 8192, bottom + 16384, bottom + 24576);
        detector.alloc(block, 64, AllocOptions::new());
        detector.alloc_percpu(handle, 64);
        detector.alloc_phys(physical, 64);
        let held = snapshot(detector).held;
        let of_stack = held.iter().filter(|(_, name)| name.contains("stack"));
        let of_stack: Vec<usize> = of_stack.map(|(start, _)| *start).collect();
        assert_eq!(of_stack, [block], "{held:x?}");
    });
}
