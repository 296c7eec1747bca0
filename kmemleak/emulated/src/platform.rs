//! The machine as the detector sees it.

use std::fmt;
use std::ops::{ControlFlow, Range};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use kmemleak::{
    Comm, Context, Counted, ImageLost, IrqState, MAX_FRAMES, Platform, Progress, Root, RootCursor,
    StackWalk, StopError, StoppedCpu, TaskState,
};

use crate::call_stack::{self, CallStacks};
use crate::cpus;
use crate::image::EachMemory;
use crate::machine::Machine;

/// A machine, as a [`Platform`] for a detector.
#[derive(Clone, Debug)]
pub struct Emulated(Arc<Machine>);

impl Emulated {
    /// This machine.
    pub fn of(machine: &Arc<Machine>) -> Self {
        Self(Arc::clone(machine))
    }
}

// SAFETY: roots are memory of the machine, which lives as long as this does; metadata pages are allocations of their
// own, nobody else's until they come back; there are no interrupts, and each host thread has a CPU for itself;
// a stop waits for all threads that hold running guards, and others promise by the guards' rule to touch nothing.
unsafe impl Platform for Emulated {
    #[inline]
    fn now_us(&self) -> u64 {
        self.0.time.now_us()
    }

    #[inline]
    fn irq_save(&self) -> IrqState {
        IrqState(cpus::irq_save())
    }

    #[inline]
    fn irq_restore(&self, state: IrqState) {
        cpus::irq_restore(state.0);
    }

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        let root = self.0.root(cursor.index)?;
        cursor.index += 1;
        Some(root)
    }

    fn next_task(&self, cursor: &mut RootCursor) -> Option<TaskState> {
        let task = self.0.tasks.task(cursor.index)?;
        cursor.index += 1;
        Some(task)
    }

    fn next_task_list(&self, cursor: &mut RootCursor) -> Option<Range<usize>> {
        let list = self.0.tasks.list(cursor.index)?;
        cursor.index += 1;
        Some(list)
    }

    #[inline]
    fn context(&self) -> Context {
        cpus::current()
    }

    fn comm(&self) -> Comm {
        cpus::comm()
    }

    #[inline(always)]
    fn stack_walk(&self) -> Option<StackWalk> {
        match self.0.call_stacks {
            CallStacks::Walked => Some(StackWalk {
                frame_pointer: call_stack::frame_pointer(),
                stack: call_stack::bounds(),
                skip: 0..0,
            }),
            CallStacks::Given => None,
        }
    }

    /// Physical addresses are the host's.
    fn phys_to_virt(&self, start: usize, _len: usize) -> Option<usize> {
        Some(start)
    }

    #[inline]
    fn call_stack(&self, frames: &mut [usize; MAX_FRAMES]) -> usize {
        let given = self.0.given.lock().expect("nobody panics under it");
        let count = given.len().min(MAX_FRAMES);
        frames[..count].copy_from_slice(&given[..count]);
        count
    }

    fn metadata_alloc(&self) -> Option<NonNull<u8>> {
        let page = self.0.metadata.alloc()?;
        NonNull::new(std::ptr::with_exposed_provenance_mut(page))
    }

    unsafe fn metadata_free(&self, page: NonNull<u8>) {
        cpus::assert_may_wait("giving metadata back");
        self.0.metadata.free(page.addr().get());
    }

    fn stop_world(&self, work: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        self.0.before_stop();
        self.0.cpus.stop_world(work)
    }

    fn freeze(&self, at_stop: &(dyn Fn(StoppedCpu) + Sync)) -> Result<u64, StopError> {
        let each_memory: &EachMemory<'_> = &|look| self.0.each_memory(look);
        self.0.image.freeze(&self.0.cpus, each_memory, at_stop)
    }

    fn thaw(&self) {
        cpus::assert_may_wait("thawing");
        self.0.image.thaw();
    }

    unsafe fn read_frozen(&self, address: usize, words: &mut [usize]) -> Result<(), ImageLost> {
        self.0.image.read_frozen(address, words)
    }

    fn relax(&self) -> ControlFlow<()> {
        cpus::assert_may_wait("waiting");
        self.0.relax();
        if self.0.asked_to_stop.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn checkpoint(&self, _: Progress) -> ControlFlow<()> {
        self.0.advance_us(self.0.checkpoints.us_each());
        self.0.checkpoints.pass()
    }

    fn spin(&self) {
        std::thread::yield_now();
    }

    fn cpus(&self) -> u32 {
        self.0.cpus.count()
    }

    /// Zero for a block that has been freed: nothing can be read there, and no object lies there.
    fn percpu_copy(&self, handle: usize, cpu: u32) -> usize {
        self.0.percpu_copy(handle, cpu).unwrap_or(0)
    }

    fn symbol(&self, address: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        self.0.name();
        match self.0.labels.name(address) {
            Some(name) => out.write_str(&name),
            None => write!(out, "{address:#018x}"),
        }
    }

    /// A label may be written as a function with generic arguments.
    fn instances(&self, address: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        self.symbol(address, out)
    }

    /// Of `emulated::Word<AT, BIAS>` and `emulated::Half<AT, BIAS>`.
    fn counted(&self, name: &str) -> Option<Counted> {
        let (kind, of) = name.strip_prefix("emulated::")?.split_once('<')?;
        let (at, bias) = of.strip_suffix('>')?.split_once(", ")?;
        let (at, bias) = (at.parse().ok()?, bias.parse().ok()?);
        match kind {
            "Word" => Some(Counted::word(at).bias(bias)),
            "Half" => Some(Counted::half(at).bias(bias)),
            _ => None,
        }
    }

    /// What scripts call the place; all else that may be a root is a region.
    fn name_root(&self, root: Root, address: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        self.0.name();
        match self.0.place_at(address) {
            Some(place) => write!(out, "{place}"),
            None => write!(
                out,
                "region {:#x}+{:#x}",
                root.start,
                address.wrapping_sub(root.start)
            ),
        }
    }

    fn readable(&self, start: usize, len: usize) -> bool {
        self.0.readable(start, len)
    }

    fn stays_readable(&self, start: usize, len: usize) -> bool {
        self.0.readable(start, len)
    }

    #[cfg(miri)]
    fn words(&self) -> kmemleak::Words<'_> {
        kmemleak::Words::Foreign(self)
    }
}

// SAFETY: reads, and no more.
#[cfg(miri)]
unsafe impl kmemleak::ForeignWords for Emulated {
    unsafe fn read(&self, address: usize) -> usize {
        // SAFETY: the caller's promise.
        unsafe { crate::memory::read(address) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::{Place, WORDS};

    /// What the word at `address` is called in the root that has it.
    fn name(platform: &Emulated, address: usize) -> Option<String> {
        let mut cursor = RootCursor::default();
        let root = std::iter::from_fn(|| platform.next_root(&mut cursor))
            .find(|root| (root.start..root.start + root.len).contains(&address))?;
        let mut text = String::new();
        platform
            .name_root(root, address, &mut text)
            .expect("a string takes it");
        Some(text)
    }

    #[test]
    fn a_word_in_a_root_is_called_what_scripts_call_it() {
        let machine = Machine::new();
        let platform = Emulated::of(&machine);
        machine.add_root(machine.address(Place::Region(0, 0)), WORDS * 8);
        for (place, called) in [
            (Place::Data(1), "data 1"),
            (Place::Bss(0), "bss 0"),
            (Place::PerCpu(1, 3), "percpu 1 3"),
            (Place::Page(2), "page 2"),
            (Place::Stack(4), "stack 4"),
            (Place::Register(1), "reg 1"),
            (Place::Region(0, 5), "region 0 5"),
            (Place::Data(WORDS - 1), "data 63"),
        ] {
            let address = machine.address(place);
            assert_eq!(name(&platform, address).as_deref(), Some(called));
            assert_eq!(machine.place_at(address + 7), Some(place));
        }
        let last = machine.address(Place::Data(WORDS - 1));
        assert_eq!(machine.place_at(last + 8), None);
        for place in [Place::Dead(3), Place::Region(1, 0)] {
            let address = machine.address(place);
            assert_eq!(name(&platform, address), None, "{place} is no root");
            assert_eq!(machine.place_at(address), Some(place));
        }
    }

    #[test]
    fn a_root_that_is_no_place_is_named_by_its_start() {
        let machine = Machine::new();
        let platform = Emulated::of(&machine);
        let block = machine.slab(64);
        assert_eq!(machine.place_at(block), None);
        machine.add_root(block, 64);
        assert_eq!(
            name(&platform, block + 16),
            Some(format!("region {block:#x}+0x10"))
        );
    }

    #[test]
    fn the_functions_of_a_label_are_the_label() {
        let machine = Machine::new();
        let platform = Emulated::of(&machine);
        machine.call_from(&["probe", "open"]);
        let mut frames = [0; MAX_FRAMES];
        assert_eq!(platform.call_stack(&mut frames), 2);
        let mut text = String::new();
        platform
            .functions(frames[1], &mut text)
            .expect("a string takes it");
        assert_eq!(text, "open");
    }
}
