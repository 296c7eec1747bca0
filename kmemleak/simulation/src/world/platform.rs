//! The world as the detector's platform.

use std::fmt::{self, Write};
use std::ops::ControlFlow;
use std::ptr::NonNull;

use super::{MOST_UNKNOWN, PERCPU, PHYSICAL, ROOT_WORDS, SECTION, STACKS, World, stopping, with};
use crate::owned::{Kind, READABLE};
use crate::schedule::{Fault, has, me, moment, wait};
use crate::{
    Comm, Context, ForeignWords, ImageLost, IrqState, Level, MAX_FRAMES, Platform, Progress, Root,
    RootCursor, RootKind, StopError, StoppedCpu, Words,
};

/// The world of this thread.
#[derive(Clone, Copy, Debug)]
pub struct Kernel;

// SAFETY: words are read by a look into a map; metadata pages are allocations of their own; with interrupts off no other task runs on a
// CPU; a stop waits until all tasks have joined, and none of them is inside of a callback with interrupts off then.
unsafe impl Platform for Kernel {
    fn now_us(&self) -> u64 {
        with(|world| world.now_us)
    }

    fn irq_save(&self) -> IrqState {
        with(|world| {
            let off = &mut world.tasks[me()].irqs_off;
            *off += 1;
            IrqState(*off - 1)
        })
    }

    fn irq_restore(&self, state: IrqState) {
        let on = with(|world| {
            let off = &mut world.tasks[me()].irqs_off;
            assert_eq!(
                *off,
                state.0 + 1,
                "interrupts are put back in reverse order"
            );
            *off = state.0;
            *off == 0
        });
        if on {
            moment();
        }
    }

    fn roots_begin(&self) {
        with(|world| {
            world.assert_may_wait("beginning a walk over roots");
            world.begin_roots();
        });
    }

    fn roots_end(&self) {
        if std::thread::panicking() {
            // From a guard: the run fails for another reason.
            return;
        }
        with(|world| {
            world.assert_may_wait("ending a walk over roots");
            world.end_roots();
        });
    }

    fn stays_readable(&self, start: usize, _: usize) -> bool {
        with(|world| world.setting.stacks.stays(start))
    }

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        let (cpus, tasks) = with(|world| (world.setting.cpus as usize, world.setting.tasks));
        let at = cursor.index;
        cursor.index += 1;
        let (kind, start) = match at {
            0 => (RootKind::Section, SECTION),
            _ if at <= cpus => (RootKind::PerCpu(at as u32 - 1), PERCPU + (at - 1) * 4096),
            _ if at <= cpus + tasks => {
                let task = at - 1 - cpus;
                (RootKind::Stack(task as u32 + 1), STACKS + task * 4096)
            }
            _ => {
                let first = 1 + cpus + tasks;
                let (place, start) = with(|world| world.setting.stacks.named_from(at - first))?;
                cursor.index = first + place + 1;
                (RootKind::Stack((tasks + place) as u32 + 1), start)
            }
        };
        let len = ROOT_WORDS * 8;
        Some(Root { kind, start, len })
    }

    fn context(&self) -> Context {
        with(|world| {
            let task = world.tasks[me()];
            Context {
                task: me() as u32 + 1,
                cpu: task.cpu.expect("it runs on a CPU"),
                level: match task.interrupted {
                    true => Level::Interrupt,
                    false => Level::Task,
                },
            }
        })
    }

    fn comm(&self) -> Comm {
        let mut name = String::from("task");
        let _ = write!(name, "{}", me());
        Comm::new(&name)
    }

    fn call_stack(&self, frames: &mut [usize; MAX_FRAMES]) -> usize {
        with(|world| {
            frames[0] = world.oracle.site(me());
            1
        })
    }

    fn metadata_alloc(&self) -> Option<NonNull<u8>> {
        with(World::take_page)
    }

    unsafe fn metadata_free(&self, page: NonNull<u8>) {
        with(|world| {
            world.assert_may_wait("giving metadata back");
            world.metadata.give_back(page);
        });
    }

    fn cpus(&self) -> u32 {
        with(|world| world.setting.cpus)
    }

    fn percpu_copy(&self, handle: usize, cpu: u32) -> usize {
        with(|world| {
            let block = world.percpu.get(&handle);
            block.map_or(0, |&(first, distance)| first + cpu as usize * distance)
        })
    }

    fn phys_to_virt(&self, start: usize, len: usize) -> Option<usize> {
        let dark = with(|world| world.is_dark(start, len, Kind::Phys));
        (start.checked_add(len)? <= 1 << 24 && !dark).then_some(PHYSICAL + start)
    }

    fn readable(&self, start: usize, len: usize) -> bool {
        // Large blocks are not mapped. All else is, as long as it is there; of what is gone nobody may ask.
        with(|world| {
            if world.is_dark(start, len, Kind::Plain) && !has(Fault::WhatIsUnmappedIsVouchedFor) {
                return false;
            }
            let Some((first, last)) = world.memory.mapped(start) else {
                world.unknown += 1;
                assert!(world.unknown < MOST_UNKNOWN, "a pass does not end");
                return true;
            };
            last - first < READABLE
        })
    }

    fn spin(&self) {
        wait();
    }

    fn stop_world(&self, work: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        stopping::stop_world(work, &|_| ())
    }

    fn freeze(&self, at_stop: &(dyn Fn(StoppedCpu) + Sync)) -> Result<u64, StopError> {
        stopping::stop_world(at_stop, &|world| world.memory.freeze())?;
        Ok(1)
    }

    fn thaw(&self) {
        with(|world| {
            world.assert_may_wait("thawing");
            world.memory.thaw();
        });
    }

    unsafe fn read_frozen(&self, address: usize, words: &mut [usize]) -> Result<(), ImageLost> {
        moment();
        with(|world| {
            if world.setting.failures.lose_image() {
                world.log.lost_images += 1;
                words.fill(0);
                return match has(Fault::LostImagesAreMadeUp) {
                    true => Ok(()),
                    false => Err(ImageLost),
                };
            }
            for (index, word) in words.iter_mut().enumerate() {
                let address = address + index * 8;
                world.assert_mapped(address);
                *word = world.memory.read_frozen(address);
            }
            Ok(())
        })
    }

    fn relax(&self) -> ControlFlow<()> {
        with(|world| world.assert_may_wait("waiting"));
        wait();
        ControlFlow::Continue(())
    }

    fn checkpoint(&self, _: Progress) -> ControlFlow<()> {
        with(|world| {
            if !world.setting.failures.end_here() {
                return ControlFlow::Continue(());
            }
            world.asked_to_end = true;
            match has(Fault::NobodyEndsAPass) {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })
    }

    fn words(&self) -> Words<'_> {
        Words::Foreign(self)
    }

    fn symbol(&self, address: usize, out: &mut dyn Write) -> fmt::Result {
        write!(out, "site{address:x}")
    }
}

// SAFETY: reads, and no more.
unsafe impl ForeignWords for Kernel {
    unsafe fn read(&self, address: usize) -> usize {
        moment();
        with(|world| {
            world.assert_mapped(address);
            world.memory.read(address)
        })
    }
}
