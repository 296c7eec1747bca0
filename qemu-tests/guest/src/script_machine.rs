//! The kernel as leak scripts see it: its allocators, and words in each kind of root.
//!
//! Blocks come from the allocators through their usual entries, whose hooks are silent for the task that plays
//! ([`kernel::scripted`]): the interpreter tells the detector itself.
//!
//! The words are in variables of the test kernel; in the descriptors of four frames, taken for that; on the stack of
//! a task that is parked permanently, in what the switch to another task has saved of its registers, and below its stack
//! pointer; and, for regions, in a page that is no root otherwise.

use alloc::alloc::{alloc_zeroed, dealloc};
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use kernel::leak::KMEMLEAK;
use kernel::leak::tasks::{NamesTasks, name_futures};
use kernel::mm::buddy::{self, Tracking};
use kernel::mm::{PAGE, frame, percpu as dynamic_percpu, vmalloc};
use kernel::sync::{LocalIrqDisabled, SpinLock};
use kernel::task::{self, State, Task, TaskId, scheduler};
use kernel::{percpu, scripted};
use kmemleak::TaskState;
use leak_script::{Allocator, Checks, Machine, Place, Supply};

/// Words of each section, of each CPU's area, of the stack and of a region.
const WORDS: usize = 64;
/// Page frames, registers and regions.
const FEW: usize = 4;
const WORD: usize = size_of::<usize>();

type Words = [AtomicUsize; WORDS];

/// Zeroes would go to `.bss` by themselves.
#[unsafe(link_section = ".data.scripts")]
static IN_DATA: Words = [const { AtomicUsize::new(0) }; WORDS];
static IN_BSS: Words = [const { AtomicUsize::new(0) }; WORDS];

percpu! {
    static IN_PERCPU: Words = [const { AtomicUsize::new(0) }; WORDS];
}

/// A block that a script has.
struct Block {
    from: Allocator,
    start: usize,
    size: usize,
    align: usize,
}

impl Block {
    fn layout(&self) -> Layout {
        Layout::from_size_align(self.size, self.align).expect("a block was given for it")
    }

    /// Gives it back to its allocator. The detector doesn't know it any more.
    fn give_back(self) {
        let start = ptr::with_exposed_provenance_mut::<u8>(self.start);
        match self.from {
            // SAFETY: it was given for this layout, and is given back once.
            Allocator::Slab => unsafe { dealloc(start, self.layout()) },
            Allocator::Pages => give_back_pages(self.start, self.size / PAGE),
            Allocator::Vmalloc => vmalloc::vfree(start),
            Allocator::Percpu => dynamic_percpu::free_percpu(self.start),
        }
    }
}

fn give_back_pages(start: usize, pages: usize) {
    if let Some(part) = NonNull::new(ptr::with_exposed_provenance_mut(start)) {
        buddy::free_part(part, pages, Tracking::Tracked);
    }
}

/// The word at an address.
///
/// # Safety
///
/// It lies outside all objects, or in a live block: mapped, aligned, and nobody else's, as long as the result is used.
unsafe fn atomic(address: usize) -> &'static AtomicUsize {
    // SAFETY: the caller's promise.
    unsafe { AtomicUsize::from_ptr(ptr::with_exposed_provenance_mut(address)) }
}

/// The kernel.
pub struct KernelMachine {
    blocks: Vec<Block>,
    /// Where the script's blocks began, live or not.
    starts: Vec<usize>,
    frames: [usize; FEW],
    parked: Parked,
    regions: usize,
    /// What the statement `check` asks for.
    pub checks: Checks,
}

impl KernelMachine {
    /// Takes what it needs, permanently. By a task that does not play: the parked task is to be an ordinary one.
    pub fn new() -> Self {
        let page = || buddy::alloc(0, Tracking::Untracked).expect("memory for a page");
        let frames = [(); FEW].map(|()| {
            let frame = frame::frame_of(page().addr().get());
            frame.expect("each page has a frame").word_address()
        });
        const { assert!(FEW * WORDS * WORD <= PAGE) };
        Self {
            blocks: Vec::new(),
            starts: Vec::new(),
            frames,
            parked: Parked::new(),
            regions: page().addr().get(),
            checks: Checks::Stopped,
        }
    }

    /// A script begins: all words are 0.
    pub fn begin(&mut self) {
        scripted::begin();
        let places: [fn(usize) -> Place; 6] = [
            Place::Data,
            Place::Bss,
            Place::Page,
            Place::Stack,
            Place::Dead,
            Place::Register,
        ];
        for word in 0..WORDS {
            places.iter().for_each(|place| self.clear(place(word)));
            (0..self.cpus()).for_each(|cpu| self.clear(Place::PerCpu(cpu, word)));
            (0..FEW).for_each(|region| self.clear(Place::Region(region, word)));
        }
    }

    fn clear(&mut self, place: Place) {
        let address = self.address(place);
        if address != 0 {
            // SAFETY: a place.
            unsafe { self.write(address, 0) };
        }
    }

    /// A script has ended, in whatever way: its blocks are freed.
    pub fn end(&mut self) {
        self.supply(Supply::Given);
        self.call_from("the end of a script");
        for block in core::mem::take(&mut self.blocks) {
            match block.from {
                Allocator::Percpu => KMEMLEAK.free_percpu(block.start),
                _ => KMEMLEAK.free(block.start),
            }
            block.give_back();
        }
        self.starts.clear();
    }

    fn take(&mut self, from: Allocator, start: usize) -> Option<Block> {
        let is_it = |block: &Block| block.from == from && block.start == start;
        let index = self.blocks.iter().position(is_it)?;
        Some(self.blocks.swap_remove(index))
    }
}

impl Machine for KernelMachine {
    fn checks(&self) -> Checks {
        self.checks
    }

    fn alloc(&mut self, from: Allocator, size: usize, align: usize) -> Option<usize> {
        let layout = Layout::from_size_align(size, align).ok()?;
        let start = match from {
            // SAFETY: the size is not zero, which no script can say.
            Allocator::Slab => unsafe { alloc_zeroed(layout) }.expose_provenance(),
            Allocator::Pages => {
                let order = buddy::order_of(size.max(align));
                let start = buddy::alloc(order, Tracking::Tracked)?;
                // SAFETY: a block of that many pages, and ours.
                unsafe { start.write_bytes(0, PAGE << order) };
                let start = start.addr().get();
                give_back_pages(start + size, (1 << order) - size / PAGE);
                start
            }
            Allocator::Vmalloc => {
                let kind = vmalloc::Kind::Data;
                vmalloc::vmalloc_aligned(size, align.max(PAGE), kind)?
                    .addr()
                    .get()
            }
            Allocator::Percpu => dynamic_percpu::alloc_percpu(size, align)?,
        };
        if start == 0 {
            return None;
        }
        let block = Block {
            from,
            start,
            size,
            align,
        };
        if !start.is_multiple_of(align) {
            block.give_back();
            return None;
        }
        self.blocks.push(block);
        self.starts.push(start);
        Some(start)
    }

    fn free(&mut self, from: Allocator, start: usize, _size: usize) {
        if let Some(block) = self.take(from, start) {
            block.give_back();
        }
    }

    fn free_part(&mut self, start: usize, size: usize, offset: usize, len: usize) {
        let Some(whole) = self.take(Allocator::Pages, start) else {
            return;
        };
        give_back_pages(start + offset, len / PAGE);
        for (start, size) in [(start, offset), (start + offset + len, size - offset - len)] {
            if size != 0 {
                self.blocks.push(Block {
                    start,
                    size,
                    ..whole
                });
                self.starts.push(start);
            }
        }
    }

    fn percpu_copy(&self, handle: usize, cpu: u32) -> usize {
        dynamic_percpu::percpu_copy(handle, cpu)
    }

    fn cpus(&self) -> u32 {
        dynamic_percpu::cpus()
    }

    /// Zero where there is no such word.
    fn address(&self, place: Place) -> usize {
        let word_of = |words: &Words, word: usize| words[word].as_ptr().addr();
        match place {
            Place::Data(word) => word_of(&IN_DATA, word),
            Place::Bss(word) => word_of(&IN_BSS, word),
            Place::PerCpu(cpu, word) => word_of(IN_PERCPU.on(cpu), word),
            Place::Page(frame) => self.frames.get(frame).copied().unwrap_or(0),
            Place::Stack(word) => self.parked.live + word * WORD,
            Place::Dead(word) => self.parked.stack_pointer - (WORDS - word) * WORD,
            Place::Register(word) if word < FEW => self.parked.stack_pointer + word * WORD,
            Place::Register(_) => 0,
            Place::Region(region, word) => self.regions + (region * WORDS + word) * WORD,
        }
    }

    unsafe fn write(&mut self, address: usize, word: usize) {
        // SAFETY: the caller's promise.
        unsafe { atomic(address) }.store(word, Ordering::Relaxed);
    }

    unsafe fn read(&self, address: usize) -> usize {
        // SAFETY: the caller's promise.
        unsafe { atomic(address) }.load(Ordering::Relaxed)
    }

    fn call_from(&mut self, site: &str) {
        scripted::call_from(site);
    }

    fn advance_us(&mut self, us: u64) {
        scripted::advance_us(us);
    }

    fn supply(&mut self, supply: Supply) {
        scripted::refuse_metadata(supply == Supply::Refused);
    }

    fn parked_task(&self) -> u32 {
        self.parked.id
    }

    fn name_tasks(&mut self, tasks: &[TaskState], lists: &[Range<usize>]) {
        let mut named = NAMED.0.lock();
        // Their memory is the player's, so the detector hears of none of it.
        (named.tasks, named.lists) = (tasks.to_vec(), lists.to_vec());
        drop(named);
        name_futures((!tasks.is_empty()).then_some(&NAMED as &dyn NamesTasks));
    }

    /// Only blocks that began as the script's are: what the kernel itself has lost is not.
    fn is_ours(&self, address: usize) -> bool {
        self.starts.contains(&address)
    }
}

/// The tasks that a script names.
#[derive(Default)]
struct Named {
    tasks: Vec<TaskState>,
    lists: Vec<Range<usize>>,
}

struct ScriptTasks(SpinLock<Named, LocalIrqDisabled>);

static NAMED: ScriptTasks = ScriptTasks(SpinLock::new(Named {
    tasks: Vec::new(),
    lists: Vec::new(),
}));

impl NamesTasks for ScriptTasks {
    fn task(&self, number: usize) -> Option<TaskState> {
        self.0.lock().tasks.get(number).copied()
    }

    fn list(&self, number: usize) -> Option<Range<usize>> {
        self.0.lock().lists.get(number).cloned()
    }
}

/// A task that waits permanently.
///
/// Its stack is no object, so that its dead part is in none. What the switch has saved of r12 to r15 is free to be
/// written to, since no code will ever go on with what it was.
struct Parked {
    id: TaskId,
    live: usize,
    stack_pointer: usize,
}

impl Parked {
    fn new() -> Self {
        /// Words of its stack, above all that it has called.
        static LIVE: AtomicUsize = AtomicUsize::new(0);
        fn park_for_good() {
            let live: Words = [const { AtomicUsize::new(0) }; WORDS];
            LIVE.store(live.as_ptr().expose_provenance(), Ordering::Release);
            loop {
                task::park();
            }
        }

        let order = buddy::order_of(task::STACK_LEN);
        let stack = buddy::alloc(order, Tracking::Untracked).expect("memory for a stack");
        let start = stack.addr().get();
        // What others have left there is not to seem in use, in frames that are laid over it.
        // SAFETY: a block of that many pages, and ours.
        unsafe { stack.write_bytes(0, PAGE << order) };
        // Not up to the block's end, which the task would keep: the next block may begin there, and be a script's.
        let end = start + task::STACK_LEN - 16;
        // What it is started with is no object: the task would seem to retain that, besides what scripts let it hold.
        let parked = scripted::play(|| {
            // SAFETY: fresh memory, its end a multiple of 16; the task never ends.
            unsafe { scripted::spawn_apart("parked", start..end, park_for_good) }
        });
        let parked = parked.expect("memory for a task");
        while LIVE.load(Ordering::Acquire) == 0 || parked.task().state() != State::Blocked {
            task::yield_now();
        }
        // Under the scheduler's lock: a task is blocked already when its registers are being saved.
        let stack_pointer = scheduler::find_task(parked.task().id(), Task::stack_pointer);
        Self {
            id: parked.task().id(),
            live: LIVE.load(Ordering::Acquire),
            stack_pointer: stack_pointer.expect("it waits permanently"),
        }
    }
}
