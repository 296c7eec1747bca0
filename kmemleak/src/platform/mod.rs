//! What the detector needs from the kernel that it is part of.
//!
//! The crate contains no code for certain hardware or a certain kernel: all of that comes through [`Platform`].
//!
//! # Contexts
//!
//! The tracking callbacks run wherever the kernel allocates: in tasks, in interrupt handlers, before any allocator exists. The methods
//! they reach must therefore work in all of these, must not sleep, must not print, and must not allocate from an allocator that is
//! tracked. Each method says in which contexts it is called; "any" excludes non-maskable interrupts, which must not call this crate.

pub(crate) mod address;
pub mod arch;
#[cfg(test)]
pub(crate) mod bare;
mod context;
mod counted;
pub(crate) mod descriptors;
mod frozen;
mod progress;
mod reading;
mod root;
mod stop;
mod task;
mod words;

use core::fmt;
use core::ops::{ControlFlow, Range, RangeInclusive};
use core::ptr::NonNull;

pub use self::context::{Comm, Context, IrqState, Level, StackWalk};
pub use self::counted::Counted;
pub use self::descriptors::CpuTables;
pub use self::frozen::ImageLost;
pub(crate) use self::frozen::PIECE_WORDS;
pub use self::progress::Progress;
pub use self::reading::Reading;
pub use self::root::{Root, RootCursor, RootKind};
pub use self::stop::{StopError, StoppedCpu};
pub use self::task::{TaskState, Wait, WaitsOn};
pub use self::words::{ForeignWords, Words};

/// The largest number of return addresses that are kept of a call stack.
///
/// Sixteen reaches from the allocator's hook through `alloc`'s collections to the code that asked,
/// and some callers beyond; deeper frames rarely tell two leaks apart.
pub const MAX_FRAMES: usize = 16;

/// Bytes of one page of metadata, which is also its alignment.
pub const METADATA_PAGE: usize = 4096;

/// Bytes of a task's name that are kept, as in other kernels.
pub const COMM_LEN: usize = 16;

/// The kernel as the detector sees it.
///
/// Four methods are required. Each of the others has a default, which does less:
///
/// | method | called | without it |
/// | --- | --- | --- |
/// | [`now_us`](Self::now_us), [`irq_save`](Self::irq_save), [`irq_restore`](Self::irq_restore) | in any context | *required* |
/// | [`next_root`](Self::next_root) | by a check | *required* |
/// | [`context`](Self::context), [`cpu`](Self::cpu), [`comm`](Self::comm) | by callbacks | one task and one CPU are known, and the task's name is `kernel` |
/// | [`stack_bounds`](Self::stack_bounds) | by callbacks and checks | call stacks, the running stack and its registers must be named by other methods |
/// | [`stack_walk`](Self::stack_walk), or [`call_stack`](Self::call_stack) | by callbacks | without `stack_bounds`, leaks have no call stacks, and are not grouped |
/// | [`metadata_alloc`](Self::metadata_alloc), [`metadata_free`](Self::metadata_free) | by callbacks; in task context | metadata ends with what [was lent](crate::Detector::add_metadata) |
/// | [`slab_stride`](Self::slab_stride) | by callbacks | records of small blocks in large slots take somewhat more memory |
/// | [`block_addresses`](Self::block_addresses) | by callbacks | a callback that names an address of user space is taken at its word |
/// | [`cpus`](Self::cpus), [`percpu_copy`](Self::percpu_copy) | in any context | there is one CPU, and a per-CPU block has one copy |
/// | [`phys_to_virt`](Self::phys_to_virt) | in any context | blocks of physical memory are not scanned, and no physical address is followed |
/// | [`readable`](Self::readable) | by callbacks and checks | blocks are read only if all come from a [`Tracked`](crate::Tracked) |
/// | [`roots_begin`](Self::roots_begin), [`roots_end`](Self::roots_end), [`stays_readable`](Self::stays_readable) | by a check | no stack that is named may be unmapped while a check runs |
/// | [`words`](Self::words) | by a check | words are read as they lie in memory, and pointers have no tags |
/// | [`stop_world`](Self::stop_world) | by a check | with one CPU nothing; with more, a check takes several passes and finds suspects, no leaks |
/// | [`freeze`](Self::freeze), [`thaw`](Self::thaw), [`read_frozen`](Self::read_frozen) | by a check; `read_frozen` by callbacks, too | the world is stopped for as long as a check takes |
/// | [`next_task`](Self::next_task), [`next_task_list`](Self::next_task_list) | by the question which tasks wait for ever | no task is known to wait |
/// | [`on_unscanned_stack`](Self::on_unscanned_stack) | by a check | without `stack_bounds`, what a check leaves on its own stack may hide leaks, if that stack is a root |
/// | [`checkpoint`](Self::checkpoint) | by checks and questions | nobody sees how far they have come, and a check in a stopped world can't be ended early |
/// | [`relax`](Self::relax), [`spin`](Self::spin) | by waits | a wait takes its CPU from others |
/// | [`symbol`](Self::symbol), [`functions`](Self::functions) | by reports | reports show addresses, and suppressions match these |
/// | [`instances`](Self::instances) | by reports | blocks have no types |
/// | [`is_waiting_machinery`](Self::is_waiting_machinery) | by reports | call stacks of tasks that wait begin in the scheduler |
/// | [`counted`](Self::counted) | by reports | of counted blocks only `Arc` and `Rc` are known |
/// | [`name_root`](Self::name_root) | by reports | words in roots are named by numbers |
///
/// # Safety
///
/// The detector reads memory that others own, and writes to memory that it is given. Its callbacks are safe functions, for all
/// numbers: what they name is read where the platform vouches for it, and nowhere else, but for blocks of a
/// [`Tracked`](crate::Tracked). An implementation promises:
///
/// - **Roots.** All that [`next_root`](Self::next_root) names is mapped and can be read until [`roots_end`](Self::roots_end), or in
///   a stopped world until the world goes on. But of a stack that a tracked block holds it is enough that it can be read until
///   that block's free is told, and of another one what [`stays_readable`](Self::stays_readable) says. *Else:* reads of memory that
///   is not there, or of a device.
/// - **Blocks and regions.** Where [`readable`](Self::readable) is true, the memory is mapped, may be read, and reading has no
///   effects. This stays true until the block is no longer tracked, or the region no longer a region: until
///   [`free`](crate::Detector::free), [`free_part`](crate::Detector::free_part), [`free_percpu`](crate::Detector::free_percpu)
///   or [`region_remove`](crate::Detector::region_remove) *return*. (They wait for a reader.) Where there is no tracked block or
///   region, the answer promises nothing.
///   A platform that answers `true` for every address vouches for all code that can call the detector.
///   *Else:* reads of memory that is not there, or of a device. The default vouches for nothing.
/// - **Other places of a block.** The promise for blocks also holds where [`phys_to_virt`](Self::phys_to_virt) and
///   [`percpu_copy`](Self::percpu_copy) say that a block lies; `readable` is asked there as well. Their answer for a block does
///   not change while the block is tracked. *Else:* the verdict is wrong.
/// - **Words.** Where memory can't be read by plain loads, [`words`](Self::words) says so. *Else:* memory is read that is not
///   there.
/// - **Metadata.** A page from [`metadata_alloc`](Self::metadata_alloc) is [`METADATA_PAGE`] bytes, aligned to that, readable
///   and writable, and has no other user until [`metadata_free`](Self::metadata_free) gets it back. It need not be zeroed.
///   *Else:* records are overwritten, and what they name is read.
/// - **Interrupts.** Between [`irq_save`](Self::irq_save) and [`irq_restore`](Self::irq_restore) no interrupt handler and no
///   other task runs on this CPU, and this task stays on it. *Else:* a callback waits for itself forever (deadlock), and a
///   block may be read after its free.
/// - **Stopping.** While [`stop_world`](Self::stop_world) runs its closure, all CPUs run it or wait for the end, and none is
///   inside a callback of the detector. The closure runs `of` times at once; each run has its own `index` below `of`, and
///   `initiator` is true for one of them. All runs have returned when `stop_world` returns. If it can't be run on all CPUs, it
///   is run on none. *Else:* two markers share one queue, or metadata is read while it is changed.
/// - **Freezing.** [`freeze`](Self::freeze) runs its closure as `stop_world` does. Until [`thaw`](Self::thaw),
///   [`read_frozen`](Self::read_frozen) tells what a tracked block held when the closure returned, whoever writes to it: a CPU, by any
///   address at which the memory is mapped, or a device. *Else:* blocks in use are named as leaks.
/// - **CPUs.** [`cpus`](Self::cpus) is not less than the number of CPUs, unless `stop_world` is replaced. *Else:* a world counts
///   as stopped in which another CPU runs, and metadata is read while that CPU changes it.
/// - **Stacks.** All of the stack that [`stack_bounds`](Self::stack_bounds) or [`stack_walk`](Self::stack_walk) names is the calling
///   code's own and can be read.
///   *Else:* reads of memory that is not there, or of a device.
///
/// What else the methods promise (that [`now_us`](Self::now_us) does not go backwards, that [`cpus`](Self::cpus) never
/// changes and all numbers of CPUs are below it, that no word of a root is named twice, that [`cpu`](Self::cpu) names this
/// CPU) matters for verdicts, but not for memory safety: a platform that breaks it gets wrong answers.
pub unsafe trait Platform: Sync {
    // Required.

    /// Microseconds since some fixed moment; never goes backwards. Any context.
    fn now_us(&self) -> u64;

    /// Disables interrupts on this CPU and returns the state before. Any context; may nest.
    fn irq_save(&self) -> IrqState;

    /// Restores the interrupt state that [`irq_save`](Self::irq_save) returned. Called once for each `irq_save`, in
    /// reverse order, on the same CPU. Any context.
    fn irq_restore(&self, state: IrqState);

    /// The next range of root memory, or `None` after the last.
    ///
    /// The cursor is plain data, all zero at the start, in which the platform keeps its place. The walk may go on later, or
    /// on another CPU. The platform must not name a word twice in one walk: the detector does not check that, and would count
    /// two references. These are not roots and must not be named: heap arenas, free lists and caches of allocators, stacks
    /// below their stack pointer. The detector itself leaves out its own memory, what is
    /// [excluded](crate::Detector::exclude), and, where [`stack_bounds`](Self::stack_bounds) names the stack of the code that checks,
    /// that stack: it reads the part in use by itself.
    ///
    /// Called with the world stopped, or (where it can't be stopped) from the task that checks, between
    /// [`roots_begin`](Self::roots_begin) and [`roots_end`](Self::roots_end).
    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root>;

    // Called by the tracking callbacks, and so in every context that allocates.

    /// The running task and its CPU, which are stored with each object. Any context. The default knows one task and one CPU.
    /// Where several tasks have one number, the detector can't tell them apart: while one of them gets or
    /// writes an answer, the others' requests look like its own, and are refused ([`NotDone::Nested`](crate::NotDone::Nested)).
    #[inline]
    fn context(&self) -> Context {
        Context {
            task: 0,
            cpu: 0,
            level: Level::Task,
        }
    }

    /// The CPU that this runs on. Any context, with interrupts off.
    #[inline]
    fn cpu(&self) -> u32 {
        self.context().cpu
    }

    /// The name of the running task. Called when another task than before allocates on a CPU. Any context.
    fn comm(&self) -> Comm {
        Comm::new("kernel")
    }

    /// Where the stack of the running code lies, from its lowest address on: of the task, or of the interrupt handler if that has a
    /// stack of its own. A range in which the stack pointer does not lie counts for nothing. Any context.
    ///
    /// On an architecture that the crate [knows](arch), this is all that it needs to walk call stacks, and to check on the stack of
    /// its caller: the part in use is a root, with the registers that functions preserve, and what the check itself leaves there is
    /// none. If the stack lies in a tracked block, that block is alive, and nothing else of the stack is read.
    ///
    /// The default names none.
    #[inline]
    fn stack_bounds(&self) -> Option<Range<usize>> {
        None
    }

    /// Where the current call stack lies, for code that keeps frame pointers: faster than [`call_stack`](Self::call_stack).
    /// It is to be inlined into its caller, whose frame is the innermost. Any context. Where it returns `None`, `call_stack` is
    /// called instead. The default begins in its caller, in the stack of [`stack_bounds`](Self::stack_bounds), if there is one and
    /// the architecture is known.
    #[inline(always)]
    fn stack_walk(&self) -> Option<StackWalk> {
        arch::stack_walk(self.stack_bounds()?)
    }

    /// Fills `frames` with the return addresses of the calling functions, innermost first, and
    /// returns how many there are. Any context; must survive a broken stack. The default returns 0.
    /// [`frame_pointer_walk`](crate::frame_pointer_walk) implements it where code keeps frame pointers.
    fn call_stack(&self, frames: &mut [usize; MAX_FRAMES]) -> usize {
        let _ = frames;
        0
    }

    /// A page for metadata. Any context. `None` means that there is none *now*: what could not be recorded is counted, and the
    /// detector asks again with the next allocation. Must come from memory that is not tracked. The default returns `None`, so
    /// only the pool is used, and what was [lent](crate::Detector::add_metadata).
    fn metadata_alloc(&self) -> Option<NonNull<u8>> {
        None
    }

    /// The distance in bytes between the blocks of the slab in which `start` lies; `None` if it lies in no slab, or the answer
    /// would take a search. A hint that saves metadata where it is more than the size of the blocks, rounded up to a power of
    /// two; it is asked for when memory gets its first blocks. `start` may lie anywhere that a callback named: also in memory of
    /// no slab, as the blocks do that the self-test records in memory of the detector's own. Any context, under the detector's
    /// locks.
    #[inline]
    fn slab_stride(&self, start: usize) -> Option<usize> {
        let _ = start;
        None
    }

    /// The addresses at which blocks of this kernel may start. A callback that names another one is refused with a warning, so
    /// that a kernel can leave out the addresses of user space. Any context. In any case no block starts in the first page
    /// (null), at one of the last 4095 numbers (error codes), or at a number that is no address. The default leaves out nothing
    /// more. It does not apply to blocks of physical memory.
    #[inline(always)]
    fn block_addresses(&self) -> RangeInclusive<usize> {
        0..=usize::MAX
    }

    /// Number of CPUs, running or not; never changes. Copies of a per-CPU block are numbered below it. With one CPU, the default
    /// [`stop_world`](Self::stop_world) only keeps interrupts off: a kernel with more CPUs must say so.
    fn cpus(&self) -> u32 {
        1
    }

    /// The address of CPU `cpu`'s copy of the dynamic per-CPU block `handle`. Any context.
    fn percpu_copy(&self, handle: usize, cpu: u32) -> usize {
        let _ = cpu;
        handle
    }

    /// Where `len` bytes of physical memory at `start` are mapped; `None` if they are not. For blocks that are read as
    /// [`Physical`](Reading::Physical) this is asked for whatever number below 2^47 lies there, and must not panic. Any context.
    fn phys_to_virt(&self, start: usize, len: usize) -> Option<usize> {
        let _ = (start, len);
        None
    }

    /// Whether the platform vouches that `len` bytes at `start` can be read, for as long as what lies there is tracked. Asked of
    /// each block before it is scanned, and of each page of a registered region, so that the scan passes over numbers that are no
    /// memory, and memory that the kernel unmaps under a tracked block. What is passed over counts as without pointers, so what
    /// only it points to is reported. Any context.
    ///
    /// Not asked while all blocks come from a [`Tracked`](crate::Tracked), which vouches for its blocks itself. A kernel whose
    /// allocators call the detector's callbacks has to answer: the callbacks are safe to call, so a call does not prove that
    /// the memory is there.
    ///
    /// The default vouches for nothing: it knows neither what is mapped nor who calls the detector. A verdict for which no block
    /// could be read says so, and lists suspects. Where the detector is private to allocators that name only blocks that exist,
    /// `true` is a correct answer. Elsewhere, look whether the address lies in memory that is never unmapped, or look into the
    /// page tables.
    #[inline]
    fn readable(&self, start: usize, len: usize) -> bool {
        let _ = (start, len);
        false
    }

    /// Called over and over by a loop that waits for another CPU. Any context. Where CPUs are threads of a host that may have
    /// fewer CPUs, it should yield to the other threads.
    #[inline]
    fn spin(&self) {
        core::hint::spin_loop();
    }

    // Called by checks, some of them in a stopped world.

    /// Runs `work` on every CPU at once while nothing else runs anywhere, interrupts being off, and
    /// returns when all have finished.
    ///
    /// The registers and the stacks of all CPUs, as they were when they stopped, must be in memory
    /// that [`next_root`](Self::next_root) then names; the frames of `work` itself must not be.
    /// Task context, with no lock held. The default keeps interrupts off where there is [one CPU](Self::cpus), which
    /// stops all else; with more CPUs it returns an error, and checks find suspects, no leaks.
    fn stop_world(&self, work: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        if self.cpus() != 1 {
            return Err(StopError::Unsupported);
        }
        let interrupts = self.irq_save();
        work(StoppedCpu {
            index: 0,
            of: 1,
            initiator: true,
        });
        self.irq_restore(interrupts);
        Ok(())
    }

    /// Stops the world, runs `at_stop` on every CPU as [`stop_world`](Self::stop_world) does, keeps what tracked blocks hold at that
    /// moment ([`read_frozen`](Self::read_frozen)), and lets the world go on. Returns for how many microseconds it was stopped.
    ///
    /// In `at_stop` the roots are read; blocks are read later, and so is a block that is freed meanwhile, by its free. Usually a kernel
    /// write-protects its memory in the stop, and copies a page when it is written to for the first time. It need not keep what roots
    /// hold, nor stacks, unless they lie in tracked blocks that are scanned. Memory that a device writes to has to be copied at once.
    ///
    /// Task context, with no lock held; not nested. The default returns an error, and the world is stopped for a whole check.
    fn freeze(&self, at_stop: &(dyn Fn(StoppedCpu) + Sync)) -> Result<u64, StopError> {
        let _ = at_stop;
        Err(StopError::Unsupported)
    }

    /// Ends what [`freeze`](Self::freeze) began: copies are not needed any more. Task context, with no lock held. By then no callback
    /// reads what memory held.
    fn thaw(&self) {}

    /// Fills `words` with what memory held from `address` on when it was frozen. It is called for at most 64 words, which lie in one
    /// page. An error if there was no room to keep that: then the check is made in a stopped world. Any context, between
    /// [`freeze`](Self::freeze) and [`thaw`](Self::thaw), with interrupts off.
    ///
    /// # Safety
    ///
    /// `address` is a multiple of the word's size. The words lie in a tracked block whose free has not returned, and that
    /// [`readable`](Self::readable) vouches for.
    unsafe fn read_frozen(&self, address: usize, words: &mut [usize]) -> Result<(), ImageLost> {
        let _ = (address, words);
        Err(ImageLost)
    }

    /// Begins a walk over the roots, or several: until [`roots_end`](Self::roots_end), whatever [`next_root`](Self::next_root) names
    /// must stay readable. So a kernel whose tasks may end meanwhile keeps the stacks of these mapped until then, for example by
    /// taking a reference to each, or by letting nobody reap. Task context, with no lock held; called before the world is stopped,
    /// by one task at a time, and not nested.
    fn roots_begin(&self) {}

    /// Ends what [`roots_begin`](Self::roots_begin) began: the stacks of tasks that have ended may be unmapped again. Called when the
    /// world goes on. Task context, with no lock held.
    fn roots_end(&self) {}

    /// The next task that does not run, or `None` after the last: for the question [which can never run
    /// again](crate::Detector::for_each_lost_task). The cursor is as that of [`next_root`](Self::next_root). Called in a stopped
    /// world, by one CPU. A task that is not named counts as one that can run.
    ///
    /// A task waits ([`TaskState::wait`]) only as long as a waker has yet to find it. One that has been taken out of its wait queue,
    /// and that somebody is about to wake, does not wait any more: nobody need reach the queue again.
    ///
    /// The default names none.
    fn next_task(&self, cursor: &mut RootCursor) -> Option<TaskState> {
        let _ = cursor;
        None
    }

    /// The next list of tasks that the scheduler or an executor keeps, or `None` after the last: a pointer there wakes nobody, so for the
    /// question which tasks can never run again it counts for nothing. A range of a root, or an address in a tracked block, none of
    /// whose words count then. Called as [`next_task`](Self::next_task) is.
    ///
    /// A list that is linked through the tasks need not be named if all [control blocks](TaskState::block) are: the words of a task
    /// that waits are not followed. The default names none.
    fn next_task_list(&self, cursor: &mut RootCursor) -> Option<Range<usize>> {
        let _ = cursor;
        None
    }

    /// Runs `scan`, in which the calling task looks for leaks: while other code runs, with the world stopped, or first
    /// one and then the other. The stack that `scan` uses should be no root, since the addresses of all objects pass through
    /// it; the stack of its callers, and their registers, must be. When calls are nested, the outer call counts. Task
    /// context.
    ///
    /// Only platforms without [`stack_bounds`](Self::stack_bounds) need it, for example by switching to another stack.
    fn on_unscanned_stack(&self, scan: &mut dyn FnMut()) {
        scan();
    }

    /// Lets other tasks run, and returns `Break` if the caller of the detector has been asked to stop. Task context,
    /// with no lock held.
    fn relax(&self) -> ControlFlow<()> {
        core::hint::spin_loop();
        ControlFlow::Continue(())
    }

    /// Is told how far a check, or the answer to a question, has come; returns `Break` to end it. It is called after a fixed
    /// amount of work (some ten thousand words that were read), not after a fixed time: usually several thousand times a second,
    /// so an implementation should look at the time first, and mostly return at once.
    ///
    /// Called on every CPU that checks, at the same time; with interrupts off while the world is stopped, else in the task that
    /// checks. It must not allocate or sleep, nor take a lock that code may hold where it is stopped. It may look for a key at
    /// the console by polling the device, and write to it in the same way.
    ///
    /// After `Break`, from any CPU, all CPUs give the check up: the last verdict stays, and the caller gets
    /// [`NotDone::Stopped`](crate::NotDone::Stopped) or [`NoAnswer::Stopped`](crate::NoAnswer::Stopped). Once a check has found what
    /// is alive, it can't be ended any more. The default returns `Continue`.
    #[inline]
    fn checkpoint(&self, progress: Progress) -> ControlFlow<()> {
        let _ = progress;
        ControlFlow::Continue(())
    }

    /// Whether `len` bytes of a stack, at `start`, can be read until [`roots_end`](Self::roots_end). Asked while other code runs, of
    /// a piece of a stack that lies in no tracked block (a tracked block can be read until its free has been told). What is not
    /// readable is left out, and what only it points to becomes a suspect. Any context.
    ///
    /// The default is true. A kernel that unmaps stacks of tasks that end while a check runs must say so here, unless it keeps
    /// them in [`roots_begin`](Self::roots_begin).
    #[inline]
    fn stays_readable(&self, start: usize, len: usize) -> bool {
        let _ = (start, len);
        true
    }

    /// How words of scanned memory are read, and which tags are stripped from them ([`Words::Tagged`]). Any context. The default
    /// reads them as they lie there.
    #[inline(always)]
    fn words(&self) -> Words<'_> {
        Words::Plain
    }

    /// Takes back a page that [`metadata_alloc`](Self::metadata_alloc) gave: each page when the detector is off and its metadata
    /// is freed, and the pages of a snapshot when it has been written. Task context.
    ///
    /// # Safety
    ///
    /// `page` came from `metadata_alloc` of the same platform and is not used any more.
    unsafe fn metadata_free(&self, page: NonNull<u8>) {
        let _ = page;
    }

    // Called when a report is written. Task context.

    /// Writes the functions that a return address lies in, one per line, innermost first. The last line is the function that has
    /// the frame, as `function+0xOFFSET/0xSIZE (file:line)`; those before it were inlined there, and are `function (file:line)`.
    /// Offset, size and place may be left out, and so may functions that were inlined. For example:
    ///
    /// ```text
    /// kernel::net::Packet::new (kernel/src/net/packet.rs:40)
    /// kernel::net::receive+0x1c/0x67 (kernel/src/net/mod.rs:99)
    /// ```
    ///
    /// Reports shorten generic arguments and escape control characters themselves. It may be called several times with one
    /// address for one report. Task context. The default writes the address.
    fn symbol(&self, address: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{address:#018x}")
    }

    /// Writes the names of the functions that a return address leads into, one a line: of the function itself, and of
    /// those inlined there. The patterns of suppressions are matched against these names, and reports leave out the innermost
    /// frames by them ([`is_allocation_machinery`](crate::is_allocation_machinery)). Task context. The default writes
    /// what [`symbol`](Self::symbol) does, offset and place included, so that a pattern needs a `*` at its end.
    fn functions(&self, address: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        self.symbol(address, out)
    }

    /// Writes the functions that a return address leads into, one a line, innermost first, each with its generic arguments: the
    /// types of blocks are known by them. All count, those of the standard library above all. Two forms are understood:
    ///
    /// ```text
    /// alloc::sync::Arc<T>::new<kernel::task::Task>
    /// <alloc::sync::Arc<kernel::task::Task>>::new
    /// ```
    ///
    /// The first is a function's name as a legacy symbol has it, with the arguments that debug information writes behind its name
    /// (`DW_AT_name`: `new<kernel::task::Task>`); the second is how `v0` symbols are demangled.
    ///
    /// A function whose code serves several types must be written without arguments, and so must all that is inlined there, or
    /// types will be wrong. LLVM merges functions of equal code, and leaves no trace of that; `-C llvm-args=-opt-disable=mergefunc`
    /// keeps it from doing so. Where code may be merged, write the arguments of functions only that are inlined into the kernel's own.
    ///
    /// Where nothing is written, the frame is taken for one that nothing is known of, and the block has no type. Task context. The default
    /// writes nothing.
    fn instances(&self, address: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        let _ = (address, out);
        Ok(())
    }

    /// Whether a function is part of what blocks a task: the scheduler, wait queues, locks. The call stack in which a task waits for ever
    /// is shown from the caller of these on. The name is one that [`functions`](Self::functions) writes. Task context. The default
    /// knows none.
    fn is_waiting_machinery(&self, function: &str) -> bool {
        let _ = function;
        false
    }

    /// How values of a type count the references to them; `None` if they don't, as by default. `name` is the type of a block as
    /// [`instances`](Self::instances) wrote it, with its arguments; `Arc` and `Rc` are known without it. Task context.
    fn counted(&self, name: &str) -> Option<Counted> {
        let _ = name;
        None
    }

    /// Writes a readable name of the word at `address`, which was found in `root`: the section with the variable and
    /// the offset in it, the per-CPU variable and the CPU, the task and the offset in its stack, or the register.
    /// Task context; the root may be gone by then, and must not be read. The default writes numbers instead of names.
    fn name_root(&self, root: Root, address: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        root.write_numbers(address, out)
    }
}
