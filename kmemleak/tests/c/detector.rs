//! A detector for the program `caller.c`, whose variables are the roots. Built by `caller.rs`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use kmemleak::elf::Image;
use kmemleak::{Detector, IrqState, Platform, Root, RootCursor};

static TICKS: AtomicU64 = AtomicU64::new(0);

struct Program;

// SAFETY: the program's segments stay mapped; it has one thread, and no handlers of signals; it tells only of blocks that exist.
unsafe impl Platform for Program {
    fn now_us(&self) -> u64 {
        TICKS.fetch_add(1, Relaxed)
    }

    fn irq_save(&self) -> IrqState {
        IrqState(0)
    }

    fn irq_restore(&self, _: IrqState) {}

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        IMAGE.next_root(cursor)
    }

    fn readable(&self, _: usize, _: usize) -> bool {
        true
    }
}

// SAFETY: the host's linkers load the headers, and nothing unmaps them.
static IMAGE: Image = unsafe { Image::running() };

/// Its records lie in memory that the program lends it.
static KMEMLEAK: Detector<Program> = Detector::new(Program);

kmemleak::export_c_api!(KMEMLEAK);
