//! A block that begins below the stack of the code that checks, and goes on in it.

use std::hint::black_box;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use kmemleak::{
    AllocOptions, Detector, IrqState, Platform, Root, RootCursor, StopError, StoppedCpu,
    Unreferenced,
};

use crate::lab::pool;

/// Bytes of the part of a thread's stack that counts as the stack.
const STACK: usize = 1 << 20;
/// Bytes of the block below it.
const BELOW: usize = 4096;

/// A kernel that says where its stack lies.
struct Kernel {
    stack: Range<usize>,
    stops: AtomicBool,
}

// SAFETY: the stack is the thread's that uses the detector, and so is the block. There are no interrupts.
unsafe impl Platform for Kernel {
    fn now_us(&self) -> u64 {
        1
    }

    fn irq_save(&self) -> IrqState {
        IrqState(0)
    }

    fn irq_restore(&self, _: IrqState) {}

    fn next_root(&self, _: &mut RootCursor) -> Option<Root> {
        None
    }

    fn stack_bounds(&self) -> Option<Range<usize>> {
        Some(self.stack.clone())
    }

    fn stop_world(&self, work: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        if !self.stops.load(Ordering::Relaxed) {
            return Err(StopError::Unsupported);
        }
        work(StoppedCpu {
            index: 0,
            of: 1,
            initiator: true,
        });
        Ok(())
    }

    fn readable(&self, _: usize, _: usize) -> bool {
        true
    }
}

#[inline(never)]
fn detector(end: usize) -> Box<Detector<Kernel>> {
    let kernel = Kernel {
        stack: end - STACK..end,
        stops: AtomicBool::new(true),
    };
    Box::new(Detector::new(kernel).with_pool(pool::<64>()))
}

/// Does something far below its caller's frame: there lies no frame that a check reads.
#[inline(never)]
fn far_below<R>(work: impl FnOnce() -> R) -> R {
    let above = [0_usize; 2048];
    black_box(&above);
    let done = work();
    black_box(&above);
    done
}

/// A block that begins so many bytes below the stack; where it does, inverted, for the callers' frames are read.
#[inline(never)]
fn block(detector: &Detector<Kernel>, below: usize, size: usize) -> usize {
    let start = detector.platform().stack.start - below;
    detector.alloc(start, size, AllocOptions::new());
    !start
}

/// What a check lists, inverted.
#[inline(never)]
fn listed(detector: &Detector<Kernel>) -> Vec<usize> {
    detector.check().expect("on");
    let mut starts = Vec::new();
    let mut look = |object: Unreferenced| starts.push(!object.start);
    detector.for_each_unreferenced(&mut look).expect("on");
    starts
}

#[test]
fn it_is_in_use() {
    let thread = std::thread::Builder::new().stack_size(4 * STACK);
    let thread = thread.spawn(|| {
        let top = 0_usize;
        let end = core::ptr::from_ref(black_box(&top)).expose_provenance();
        let detector = far_below(|| detector(end));
        // One ends where the stack begins, and holds nothing of it.
        let beside = far_below(|| block(&detector, 2 * BELOW, BELOW));
        let partly = far_below(|| block(&detector, BELOW, BELOW + STACK / 2));
        for stops in [true, false] {
            detector.platform().stops.store(stops, Ordering::Relaxed);
            assert_eq!(listed(&detector), [beside], "and not {partly:#x}");
        }
    });
    thread.expect("threads").join().expect("passes");
}
