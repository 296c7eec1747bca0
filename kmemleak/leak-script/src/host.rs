//! Scripts on the host: an emulated machine and a detector of its own for each.

extern crate std;

use alloc::boxed::Box;
use std::sync::Arc;

use kmemleak::Detector;
use kmemleak_emulated::{Emulated, Machine as Emulation, Place as EmulatedPlace};

use crate::failure::Failure;
use crate::machine::{Machine, Supply};
use crate::parse::{Only, Script};
use crate::statement::{Allocator, Place};

/// Bytes of a page: the largest alignment of a slab's block.
const PAGE: usize = 4096;

/// What became of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All that it expects is so.
    Passed,
    /// It is not for this machine.
    Skipped,
    /// Something is wrong.
    Failed(Failure),
}

/// Runs the text of a script on a machine of `cpus` CPUs.
pub fn run(text: &str, cpus: u32) -> Outcome {
    let script = match Script::parse(text) {
        Ok(script) => script,
        Err(failure) => return Outcome::Failed(failure),
    };
    if script.only == Some(Only::Qemu) || script.cpus > cpus {
        return Outcome::Skipped;
    }
    let machine = Emulation::builder().cpus(cpus).build();
    // No bootstrap pool: all metadata is the machine's to give or to refuse.
    let detector: Box<Detector<_, 0>> = Box::new(Detector::new(Emulated::of(&machine)));
    match crate::run(&script, &mut Host(machine), &*detector) {
        Ok(()) => Outcome::Passed,
        Err(failure) => Outcome::Failed(failure),
    }
}

struct Host(Arc<Emulation>);

impl Machine for Host {
    fn alloc(&mut self, from: Allocator, size: usize, align: usize) -> Option<usize> {
        let start = match from {
            Allocator::Slab | Allocator::Percpu if align > PAGE => return None,
            Allocator::Slab => self.0.slab_aligned(size, align),
            Allocator::Pages => self.0.pages(size),
            Allocator::Vmalloc => self.0.vmalloc(size),
            Allocator::Percpu => self.0.percpu_aligned(size, align),
        };
        if start.is_multiple_of(align) {
            return Some(start);
        }
        self.0.free(start);
        None
    }

    fn free(&mut self, _from: Allocator, start: usize, _size: usize) {
        self.0.free(start);
    }

    fn free_part(&mut self, start: usize, _size: usize, offset: usize, len: usize) {
        self.0.free_part(start, offset, len);
    }

    fn percpu_copy(&self, handle: usize, cpu: u32) -> usize {
        self.0.percpu_copy(handle, cpu).unwrap_or(0)
    }

    fn cpus(&self) -> u32 {
        self.0.cpus()
    }

    fn address(&self, place: Place) -> usize {
        self.0.address(match place {
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

    fn write(&mut self, address: usize, word: usize) {
        self.0.write(address, word);
    }

    fn read(&self, address: usize) -> usize {
        self.0.read(address)
    }

    fn call_from(&mut self, site: &str) {
        self.0.call_from(&[site]);
    }

    fn advance_us(&mut self, us: u64) {
        self.0.advance_us(us);
    }

    fn supply(&mut self, supply: Supply) {
        self.0.set_metadata_budget(match supply {
            Supply::Given => usize::MAX,
            Supply::Refused => 0,
        });
    }
}
