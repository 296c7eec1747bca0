//! A block that begins below the stack of the code that checks, and goes on in it.

use std::hint::black_box;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use kmemleak::{
    AllocOptions, Detector, IrqState, Platform, Root, RootCursor, StopError, StoppedCpu,
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

#[test]
fn it_is_in_use() {
    let thread = std::thread::Builder::new().stack_size(4 * STACK);
    let thread = thread.spawn(|| {
        let top = 0_usize;
        let end = core::ptr::from_ref(black_box(&top)).expose_provenance();
        let kernel = Kernel {
            stack: end - STACK..end,
            stops: AtomicBool::new(true),
        };
        let detector = Detector::new(kernel).with_pool(pool::<64>());
        // The addresses of the blocks are on this stack.
        detector
            .command("stack=off", &mut String::new())
            .expect("text");
        let start = end - STACK - BELOW;
        detector.alloc(start, BELOW + STACK / 2, AllocOptions::new());
        // This one holds nothing of the stack.
        let beside = start - BELOW;
        detector.alloc(beside, BELOW, AllocOptions::new());
        for stops in [true, false] {
            detector.platform().stops.store(stops, Ordering::Relaxed);
            detector.check().expect("on");
            let mut starts = Vec::new();
            detector
                .for_each_unreferenced(&mut |object| starts.push(object.start))
                .expect("on");
            assert_eq!(starts, [beside]);
        }
    });
    thread.expect("threads").join().expect("passes");
}
