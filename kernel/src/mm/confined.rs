//! Confined code: it runs with memory of its own, and can be abandoned without ending the machine.
//!
//! Library code that allocates (the reader of debug information) cannot go on without memory: its collections panic, and a panic
//! ends the machine. So such code is run *confined*. What it allocates comes from an arena of its own. If the arena gets no
//! more memory, or the code panics because of what it reads, the code is left at once: its stack frames are dropped without
//! destructors, as those of a task that exits are, and all that it has allocated is freed with the arena. The caller gets the
//! reason, and goes on without the result.
//!
//! The arena takes pages from the buddy allocator, in chunks, untracked: its blocks are no objects and no roots, so no call site
//! has them, and no stale pointer in them hides a leak. An arena takes no chunk that would leave fewer free pages than it has.
//! When the machine ends, memory comes from the heap's reserve, and from the buddy allocator if its lock is free.
//!
//! # Invariants
//!
//! - One task at a time is inside, or the CPU that ends the machine. Handlers that interrupt it, and other tasks, are outside.
//! - While a task or that CPU is inside, `ARENA` is the arena of the value that it works on.
//! - Confined code holds no lock and no guard when it is left: the preemption count is that of its entry.
//! - What is allocated inside is freed inside, or with the arena.
//!
//! # Locks
//!
//! One over each arena. The buddy allocator's is taken under it.

use alloc::boxed::Box;
use core::alloc::Layout;
use core::ffi::c_void;
use core::fmt;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use arrayvec::ArrayVec;

use super::PAGE;
use super::buddy::{self, Tracking};
use super::heap::stage::{self, Confinement};
use crate::arch::{context, ending};
use crate::sync::{SpinLock, SpinLockGuard, preempt, running_task};

/// Why confined code has not completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Ended {
    /// The code could get no more memory.
    OutOfMemory = 1,
    /// The code panicked.
    Panicked,
    /// The code was not started: the caller is no task, or another task is inside.
    Busy,
}

/// Who is inside: the number of a task, [`NOBODY`] or [`THE_END`].
static OWNER: AtomicU32 = AtomicU32::new(NOBODY);
const NOBODY: u32 = u32::MAX;
/// The CPU that ends the machine.
const THE_END: u32 = u32::MAX - 1;

/// The stack pointer with which to go on when the code is left.
static RESUME: AtomicUsize = AtomicUsize::new(0);
/// The preemption count on entry.
static DEPTH: AtomicU32 = AtomicU32::new(0);

/// The arena of the confined code that runs.
static ARENA: AtomicPtr<SpinLock<Arena>> = AtomicPtr::new(ptr::null_mut());

/// A value that only confined code makes and uses.
pub struct Confined<T> {
    value: Option<NonNull<T>>,
    /// Why the last attempt failed, and the pages that the value needs at least.
    failed: Option<(Ended, usize)>,
    /// The arena from which all memory of the value comes.
    arena: SpinLock<Arena>,
}

// SAFETY: the value is reached only through an exclusive reference to this, by one task at a time.
unsafe impl<T> Send for Confined<T> {}

impl<T> Confined<T> {
    /// Without a value: the first use makes it.
    pub const fn new() -> Self {
        Self {
            value: None,
            failed: None,
            arena: SpinLock::new(Arena::EMPTY),
        }
    }

    /// Runs `work` on the value, which `make` makes if there is none. On failure (but [`Ended::Busy`]) the value is gone.
    /// It is made again once twice the pages that it needed are free; after a panic, never. Task context, or the CPU that ends
    /// the machine.
    ///
    /// # Safety
    ///
    /// Where `make` and `work` allocate or may panic, they hold nothing that a destructor must put right: no lock, no guard, no
    /// memory but the arena's.
    pub unsafe fn with<'a, R: Copy>(
        &'a mut self,
        make: impl FnOnce() -> T,
        work: impl FnOnce(&'a T) -> R,
    ) -> Result<R, Ended> {
        if let (None, Some((why, pages))) = (self.value, self.failed)
            && buddy::free_pages() / 2 < pages
        {
            return Err(why);
        }
        let value = &mut self.value;
        let inside = || {
            let value = *value.get_or_insert_with(|| NonNull::from(Box::leak(Box::new(make()))));
            // SAFETY: it lies in the arena, which stays as long as the caller's borrow.
            work(unsafe { value.as_ref() })
        };
        // SAFETY: the caller's promise.
        let result = unsafe { run(&self.arena, inside) };
        if let Err(why) = result
            && why != Ended::Busy
        {
            self.value = None;
            let pages = self.arena.lock().give_back();
            self.failed = Some((
                why,
                if why == Ended::OutOfMemory {
                    pages
                } else {
                    usize::MAX
                },
            ));
        }
        result
    }
}

impl<T> Default for Confined<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Confined<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confined").finish_non_exhaustive()
    }
}

impl<T> Drop for Confined<T> {
    /// Frees the memory of the value without running its destructor.
    fn drop(&mut self) {
        self.arena.lock().give_back();
    }
}

/// Runs `work` confined, in this arena.
///
/// # Safety
///
/// `work` is as [`Confined::with`] demands.
unsafe fn run<W: FnOnce() -> R, R: Copy>(arena: &SpinLock<Arena>, work: W) -> Result<R, Ended> {
    struct Call<W, R> {
        work: Option<W>,
        result: Option<R>,
    }
    extern "C" fn call<W: FnOnce() -> R, R>(data: *mut c_void) {
        // SAFETY: it points to `data` below, which stays until this function returns.
        let call = unsafe { &mut *data.cast::<Call<W, R>>() };
        call.result = call.work.take().map(|work| work());
    }

    enter(arena)?;
    let mut data = Call {
        work: Some(work),
        result: None,
    };
    // SAFETY: `call` takes such data; the frames that may be dropped need no destructor, by the caller's promise.
    let reason =
        unsafe { context::call_until_left(RESUME.as_ptr(), (&raw mut data).cast(), call::<W, R>) };
    leave();
    match (reason, data.result) {
        (0, Some(result)) => Ok(result),
        (reason, _) if reason == Ended::OutOfMemory as usize => Err(Ended::OutOfMemory),
        _ => Err(Ended::Panicked),
    }
}

fn enter(arena: &SpinLock<Arena>) -> Result<(), Ended> {
    let me = if ending::is_ending() {
        THE_END
    } else {
        running_task().ok_or(Ended::Busy)?
    };
    OWNER
        .compare_exchange(NOBODY, me, Ordering::Relaxed, Ordering::Relaxed)
        .map_err(|_| Ended::Busy)?;
    ARENA.store(ptr::from_ref(arena).cast_mut(), Ordering::Relaxed);
    DEPTH.store(preempt::depth(), Ordering::Relaxed);
    stage::set_confined(Confinement::Begins);
    Ok(())
}

fn leave() {
    stage::set_confined(Confinement::Ends);
    OWNER.store(NOBODY, Ordering::Relaxed);
}

/// Whether the code that runs is confined. Any context.
pub fn is_inside() -> bool {
    match OWNER.load(Ordering::Relaxed) {
        NOBODY => false,
        THE_END => ending::ends_here(),
        task => !ending::is_ending() && running_task() == Some(task),
    }
}

/// Leaves the confined code that runs, because there is no memory for it.
pub(super) fn out_of_memory() -> ! {
    end(Ended::OutOfMemory)
}

/// Leaves the confined code that has panicked. Returns if the code that panicked is not confined, or if it panicked in kernel
/// code that it had called, with a lock held.
pub fn leave_after_panic() {
    if is_inside() && preempt::depth() == DEPTH.load(Ordering::Relaxed) {
        end(Ended::Panicked);
    }
}

fn end(why: Ended) -> ! {
    // SAFETY: the code is inside, so the frame of `run` is still there; the caller of `run` promises that frames can be dropped.
    unsafe { context::leave(RESUME.load(Ordering::Relaxed), why as usize) }
}

/// Nobody is inside from now on: confined code that was running never goes on. Called by the CPU that ends the machine.
pub fn forget() {
    OWNER.store(NOBODY, Ordering::Relaxed);
}

/// Bytes of a chunk that blocks are cut from.
const CHUNK: usize = 256 * 1024;
/// Maximum number of chunks of an arena.
const CHUNKS: usize = 128;

/// Sizes of blocks that share a chunk: powers of two, and one and a half times those, from 16 bytes to an eighth of a chunk;
/// 24 is left out.
const SMALLEST: usize = 16;
const LARGEST: usize = CHUNK / 8;
const SIZES: usize = 2 * (LARGEST / SMALLEST).ilog2() as usize + 1;

/// The memory of a confined value. No end address of a chunk is kept: another block may begin there.
struct Arena {
    chunks: ArrayVec<Chunk, CHUNKS>,
    pages: usize,
    /// The chunk that blocks are cut from, and how many bytes of it are cut already.
    current: usize,
    cut: usize,
    /// Free blocks by size: each begins with the address of the next one.
    free: [usize; SIZES],
    /// Pages that the arena would have with the last chunk it asked for; `usize::MAX` if it can have no more chunks.
    wanted: usize,
}

/// Memory that the arena has taken from the buddy allocator or the reserve.
#[derive(Clone, Copy)]
struct Chunk {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a chunk is used by its arena only.
unsafe impl Send for Chunk {}

/// Where a block comes from.
#[derive(Clone, Copy)]
enum Served {
    /// The block shares a chunk, and has the size with this number.
    Size(usize),
    /// The block is a chunk of its own, of so many bytes.
    Alone(usize),
}

/// Where a block of this layout comes from; `None` if its alignment is more than 16 bytes: there are no such blocks.
fn served(layout: Layout) -> Option<Served> {
    if layout.align() > SMALLEST {
        return None;
    }
    let len = layout.size().max(SMALLEST);
    if len > LARGEST {
        return Some(Served::Alone(len.checked_next_multiple_of(PAGE)?));
    }
    let power = len.next_power_of_two();
    let number = 2 * (power / SMALLEST).ilog2() as usize;
    let is_less = len <= power / 4 * 3 && power > 2 * SMALLEST;
    Some(Served::Size(number - usize::from(is_less)))
}

/// The bytes of a block that has the size with this number.
fn size(number: usize) -> usize {
    let power = SMALLEST << number.div_ceil(2);
    if number.is_multiple_of(2) {
        power
    } else {
        power / 4 * 3
    }
}

/// The arena of the running code, which must be confined.
fn arena() -> SpinLockGuard<'static, Arena> {
    // SAFETY: the code inside works on the value of this arena, and borrows both until it leaves.
    unsafe { &*ARENA.load(Ordering::Relaxed) }.lock()
}

/// Allocates a block from the arena. Called by confined code only.
pub(super) fn alloc(layout: Layout) -> Option<NonNull<u8>> {
    let mut arena = arena();
    match served(layout)? {
        Served::Size(number) => arena.cut(number),
        Served::Alone(len) => arena.take(len),
    }
}

/// Frees a block of the arena. Called by confined code only.
pub(super) fn free(block: NonNull<u8>, layout: Layout) {
    let mut arena = arena();
    match served(layout) {
        Some(Served::Size(number)) => arena.put(block, number),
        Some(Served::Alone(_)) => arena.drop_chunk(block),
        None => {}
    }
}

impl Arena {
    const EMPTY: Self = Self {
        chunks: ArrayVec::new_const(),
        pages: 0,
        current: 0,
        cut: 0,
        free: [0; SIZES],
        wanted: 0,
    };

    /// Takes a chunk, if the free pages left are then at least as many as the arena has. No such limit when the machine ends.
    fn take(&mut self, len: usize) -> Option<NonNull<u8>> {
        let order = buddy::order_of(len);
        let pages = 1 << order;
        if self.chunks.is_full() {
            self.wanted = usize::MAX;
            return None;
        }
        self.wanted = self.pages + pages;
        let start = if ending::is_ending() {
            stage::from_reserve(layout_of(len)?).or_else(|| buddy::try_alloc(order))?
        } else if buddy::free_pages() < self.wanted + pages {
            return None;
        } else {
            buddy::alloc(order, Tracking::Untracked)?
        };
        self.pages += pages;
        self.chunks.push(Chunk { start, len });
        Some(start)
    }

    fn cut(&mut self, number: usize) -> Option<NonNull<u8>> {
        let len = size(number);
        if let Some(block) = NonNull::new(ptr::with_exposed_provenance_mut::<u8>(self.free[number]))
        {
            // SAFETY: a free block of the arena, aligned, whose first word is the address of the next.
            self.free[number] = unsafe { block.cast::<usize>().read() };
            return Some(block);
        }
        if self.current == 0 || self.cut + len > CHUNK {
            self.current = self.take(CHUNK)?.expose_provenance().get();
            self.cut = 0;
        }
        let block = self.current + self.cut;
        self.cut += len;
        NonNull::new(ptr::with_exposed_provenance_mut(block))
    }

    fn put(&mut self, block: NonNull<u8>, number: usize) {
        // SAFETY: the block is freed, so the arena owns it; it is aligned, and has room for a word.
        unsafe { block.cast::<usize>().write(self.free[number]) };
        self.free[number] = block.expose_provenance().get();
    }

    fn drop_chunk(&mut self, start: NonNull<u8>) {
        let index = self.chunks.iter().rposition(|chunk| chunk.start == start);
        if let Some(index) = index {
            let chunk = self.chunks.swap_remove(index);
            self.pages -= 1 << buddy::order_of(chunk.len);
            chunk.give_back();
        }
    }

    /// Frees all chunks, and returns how many pages the arena needed; `usize::MAX` when the machine ends.
    fn give_back(&mut self) -> usize {
        self.current = 0;
        self.free = [0; SIZES];
        self.pages = 0;
        self.chunks.drain(..).for_each(Chunk::give_back);
        if ending::is_ending() {
            usize::MAX
        } else {
            self.wanted
        }
    }
}

impl Chunk {
    fn give_back(self) {
        if !ending::is_ending() {
            buddy::free(self.start, buddy::order_of(self.len), Tracking::Untracked);
        } else if let Some(layout) = layout_of(self.len) {
            // Chunks of the buddy allocator are not freed: its lock may never be released.
            // SAFETY: a chunk of this length, which is not used any more.
            unsafe { stage::give_to_reserve(self.start, layout) };
        }
    }
}

/// The layout with which a chunk is taken from the reserve.
fn layout_of(len: usize) -> Option<Layout> {
    Layout::from_size_align(len, SMALLEST).ok()
}
