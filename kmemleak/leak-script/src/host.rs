//! Scripts on the host: an emulated machine and a detector of its own for each.
//!
//! The machine has about as much memory as the kernel's machine: a script that takes too much fails on both, and does not
//! exhaust the host.

extern crate std;

use alloc::boxed::Box;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use kmemleak::{Detector, TaskState};
use kmemleak_emulated::{
    Allocator as EmulatedAllocator, Emulated, Freeze, Machine as Emulation, PARKED_TASK,
    Place as EmulatedPlace,
};

use crate::failure::Failure;
use crate::machine::{Checks, Machine, Supply};
use crate::parse::{Only, Script};
use crate::statement::{Allocator, Place};

/// Bytes of memory that blocks may take.
const MEMORY: usize = 256 << 20;

/// The line that was begun last, of any script.
static LINE: AtomicUsize = AtomicUsize::new(0);

/// The line that was begun last, where one script runs at a time; 0 before its first one. For the report of a panic.
pub fn line() -> usize {
    LINE.load(Ordering::Relaxed)
}

/// What became of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All its expectations hold.
    Passed,
    /// It is not for this machine.
    Skipped,
    /// Something is wrong.
    Failed(Failure),
}

/// Runs the text of a script on a machine of `cpus` CPUs.
pub fn run(text: &str, cpus: u32) -> Outcome {
    run_with(text, cpus, Checks::Stopped)
}

/// Runs the text of a script on a machine of `cpus` CPUs, whose checks are of this kind.
pub fn run_with(text: &str, cpus: u32, checks: Checks) -> Outcome {
    LINE.store(0, Ordering::Relaxed);
    let script = match Script::parse(text) {
        Ok(script) => script,
        Err(failure) => return Outcome::Failed(failure),
    };
    if script.only == Some(Only::Qemu) || script.cpus > cpus {
        return Outcome::Skipped;
    }
    let machine = Emulation::builder().cpus(cpus).build();
    // No bootstrap pool: all metadata is the machine's to give or to refuse.
    let detector: Box<Detector<_>> = Box::new(Detector::new(Emulated::of(&machine)));
    if checks == Checks::Frozen {
        machine.image.set_freeze(Freeze::Works);
    }
    let mut host = Host {
        machine,
        taken: 0,
        checks,
    };
    match crate::run(&script, &mut host, &*detector) {
        Ok(()) => Outcome::Passed,
        Err(failure) => Outcome::Failed(failure),
    }
}

struct Host {
    machine: Arc<Emulation>,
    /// Bytes of live blocks, with all their copies.
    taken: usize,
    checks: Checks,
}

impl Host {
    /// What a block takes of the memory; `None` if that is more than can be.
    fn bytes(&self, from: Allocator, size: usize) -> Option<usize> {
        match from {
            Allocator::Percpu => size.checked_mul(self.machine.cpus() as usize),
            _ => Some(size),
        }
    }
}

impl Machine for Host {
    fn checks(&self) -> Checks {
        self.checks
    }

    fn alloc(&mut self, from: Allocator, size: usize, align: usize) -> Option<usize> {
        let taken = self.taken.checked_add(self.bytes(from, size)?)?;
        if taken > MEMORY {
            return None;
        }
        let emulated = match from {
            Allocator::Slab => EmulatedAllocator::Slab,
            Allocator::Pages => EmulatedAllocator::Pages,
            Allocator::Vmalloc => EmulatedAllocator::Vmalloc,
            Allocator::Percpu => EmulatedAllocator::PerCpu,
        };
        let start = self.machine.try_alloc(emulated, size, align)?;
        self.taken = taken;
        Some(start)
    }

    fn free(&mut self, from: Allocator, start: usize, size: usize) {
        self.taken -= self.bytes(from, size).unwrap_or(0);
        self.machine.free(start);
    }

    fn free_part(&mut self, start: usize, _size: usize, offset: usize, len: usize) {
        self.taken -= len;
        self.machine.free_part(start, offset, len);
    }

    fn percpu_copy(&self, handle: usize, cpu: u32) -> usize {
        self.machine.percpu_copy(handle, cpu).unwrap_or(0)
    }

    fn cpus(&self) -> u32 {
        self.machine.cpus()
    }

    fn address(&self, place: Place) -> usize {
        self.machine.address(match place {
            Place::Data(word) => EmulatedPlace::Data(word),
            Place::Bss(word) => EmulatedPlace::Bss(word),
            Place::PerCpu(cpu, word) => EmulatedPlace::PerCpu(cpu, word),
            Place::Page(frame) => EmulatedPlace::Page(frame),
            Place::Stack(word) => EmulatedPlace::Stack(word),
            Place::Dead(word) => EmulatedPlace::Dead(word),
            Place::Register(word) => EmulatedPlace::Register(word),
            Place::Region(region, word) => EmulatedPlace::Region(region, word),
        })
    }

    unsafe fn write(&mut self, address: usize, word: usize) {
        self.machine.write(address, word);
    }

    unsafe fn read(&self, address: usize) -> usize {
        self.machine.read(address)
    }

    fn begin_line(&mut self, line: usize) {
        LINE.store(line, Ordering::Relaxed);
    }

    fn call_from(&mut self, site: &str) {
        self.machine.call_from(&[site]);
    }

    fn advance_us(&mut self, us: u64) {
        self.machine.advance_us(us);
    }

    fn parked_task(&self) -> u32 {
        PARKED_TASK
    }

    fn name_tasks(&mut self, tasks: &[TaskState], lists: &[Range<usize>]) {
        self.machine.tasks.forget();
        (tasks.iter()).for_each(|task| self.machine.tasks.name(*task));
        (lists.iter()).for_each(|list| self.machine.tasks.name_list(list.clone()));
    }

    fn supply(&mut self, supply: Supply) {
        self.machine.set_metadata_budget(match supply {
            Supply::Given => usize::MAX,
            Supply::Refused => 0,
        });
    }
}
