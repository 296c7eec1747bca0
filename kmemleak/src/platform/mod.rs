//! What the detector needs of the kernel it lives in.
//!
//! The crate knows no hardware and no kernel: everything of that kind comes through [`Platform`].
//! Few methods are required, so that a small kernel is served by a screenful; the others have
//! defaults that give up a feature, never correctness. A kernel whose allocators call the detector themselves,
//! without a [`Tracked`](crate::Tracked), implements [`readable`](Platform::readable) as well: by default no block that
//! they name is read.
//!
//! # Contexts
//!
//! The tracking callbacks run wherever the kernel allocates: in tasks, in interrupt handlers,
//! before any allocator exists. The methods they reach ([`now_us`](Platform::now_us),
//! [`context`](Platform::context), [`call_stack`](Platform::call_stack), the interrupt and the
//! metadata methods) must therefore work in all of these, must not sleep, must not print, and must
//! not allocate from an allocator that is tracked. Each method says which contexts it is called
//! from; "any" excludes non-maskable interrupts, from which nothing of this crate may be called.

pub(crate) mod address;

use core::fmt;
use core::ops::{ControlFlow, Range, RangeInclusive};
use core::ptr::NonNull;

/// Return addresses kept of one call stack, at most.
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
/// # Safety
///
/// The detector reads memory that others own, and writes to memory that it is given. Its callbacks are safe functions, for all
/// numbers: what they name is read where the platform vouches for it, and nowhere else, but for blocks of a
/// [`Tracked`](crate::Tracked). An implementation promises:
///
/// - **Roots.** All that [`next_root`](Self::next_root) names is mapped and can be read: in a stopped world until the world goes on,
///   else as long as the walk does. But of a stack that a tracked block holds it is enough that it can be read until that block's
///   free is told, and of another one what [`stays_readable`](Self::stays_readable) says.
///   *Else:* reads of memory that is not there, or of a device.
/// - **Blocks and regions.** Where [`readable`](Self::readable) is true, the memory is mapped, may be read, and reading has no
///   effects. It stays so until the block is no longer tracked, or the region no longer a region: until
///   [`free`](crate::Detector::free), [`free_part`](crate::Detector::free_part), [`free_percpu`](crate::Detector::free_percpu)
///   or [`region_remove`](crate::Detector::region_remove) *return*, or a check that was begun before ends, whichever is later
///   for a region. (A free waits for a reader.) Without a tracked block or region there, nothing follows from it.
///   A platform that does not look at the address, but answers `true` always, vouches for whoever can call the
///   detector. *Else:* as above; the default vouches for nothing.
/// - **Other places of a block.** The same holds for where [`phys_to_virt`](Self::phys_to_virt) and
///   [`percpu_copy`](Self::percpu_copy) say that a block lies; `readable` is asked there as well. They give the same answer as
///   long as the block is tracked. *Else:* the verdict is wrong.
/// - **Words.** [`read_word`](Self::read_word) has no effects on memory. If it is replaced, or [`untag`](Self::untag) is,
///   [`has_plain_words`](Self::has_plain_words) is false. *Else:* memory is read that only the replacement could read.
/// - **Metadata.** A page from [`metadata_alloc`](Self::metadata_alloc) is [`METADATA_PAGE`] bytes, aligned to that, readable
///   and writable, and nobody else's until [`metadata_free`](Self::metadata_free) gets it back. It need not be zeroed.
///   *Else:* records are overwritten, and what they name is read.
/// - **Interrupts.** Between [`irq_save`](Self::irq_save) and [`irq_restore`](Self::irq_restore) no interrupt handler and no
///   other task runs on this CPU, and this task stays on it. *Else:* a callback waits for itself for ever, and a block may be
///   read after its free.
/// - **Stopping.** While [`stop_world`](Self::stop_world) runs its closure, all CPUs run it or wait for the end, and none is
///   inside a callback of the detector's. The closure runs `of` times at once; `index` is another number below `of` each time, and
///   `initiator` is true once. It has returned everywhere when `stop_world` does. If it can't be run on all it is run
///   on none. *Else:* two markers share one queue, or metadata is read while it is changed.
/// - **CPUs.** [`cpus`](Self::cpus) is not less than there are, unless `stop_world` is replaced. *Else:* a world counts as stopped
///   in which another CPU runs, and metadata is read while that changes it.
/// - **Stacks.** All of the stack that [`stack_walk`](Self::stack_walk) names is the calling code's own and can be read.
///   *Else:* as for roots.
///
/// Verdicts rest on what else the methods say (that [`now_us`](Self::now_us) does not go backwards, that
/// [`cpus`](Self::cpus) never changes and no CPU has a number as high, that no word of a root is named twice, that
/// [`cpu`](Self::cpu) names this one), but no memory does: a platform that breaks it gets wrong answers.
pub unsafe trait Platform: Sync {
    /// Microseconds since some fixed moment; never goes backwards. Any context.
    fn now_us(&self) -> u64;

    /// Keeps interrupts off this CPU and tells how it was before. Any context; may nest.
    fn irq_save(&self) -> IrqState;

    /// Puts interrupts back as `state` says. Called once for each [`irq_save`](Self::irq_save), in
    /// reverse order, on the same CPU.
    fn irq_restore(&self, state: IrqState);

    /// The next range of root memory, or `None` after the last.
    ///
    /// The cursor is plain data, all zero at the start, for the platform to keep its place in:
    /// whoever holds it may go on, be it another CPU or a later moment. No word is to be named twice
    /// in one walk: that is not looked after, and would be two references. Not roots, and so not to be named: heap
    /// arenas, free lists and caches of allocators, stacks below their stack pointer. The detector leaves out its own
    /// memory itself, and what is [excluded](crate::Detector::exclude).
    ///
    /// Called with the world stopped, or (where it can't be) from the task that checks.
    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root>;

    /// Who is running: stored with each object. Any context. The default knows one task and one CPU. Where several tasks have
    /// one number, the detector can't tell them apart: while one of them is shown or writes an answer, what the others ask is
    /// refused ([`NotDone::Nested`](crate::NotDone::Nested)), since the first one would wait for itself.
    #[inline]
    fn context(&self) -> Context {
        Context {
            task: 0,
            cpu: 0,
            level: Level::Task,
        }
    }

    /// The name of the running task. Asked when a task allocates first on a CPU. Any context.
    fn comm(&self) -> Comm {
        Comm::new("kernel")
    }

    /// The CPU that this runs on. Any context, with interrupts off.
    #[inline]
    fn cpu(&self) -> u32 {
        self.context().cpu
    }

    /// Where the call stack lies that leads here, for code that keeps frame pointers: the fast way. It is to be inlined
    /// into its caller, whose frame is the innermost. Any context. The default has none, and
    /// [`call_stack`](Self::call_stack) is asked.
    #[inline(always)]
    fn stack_walk(&self) -> Option<StackWalk> {
        None
    }

    /// Fills `frames` with the return addresses of the calling functions, innermost first, and
    /// returns how many there are. Any context; must survive a broken stack. The default knows none.
    /// [`frame_pointer_walk`](crate::frame_pointer_walk) does it where code keeps frame pointers.
    fn call_stack(&self, frames: &mut [usize; MAX_FRAMES]) -> usize {
        let _ = frames;
        0
    }

    /// A page for metadata. Any context. `None` means that there is none *now*: what could not be
    /// recorded is counted, and the detector asks again with the next allocation. Must come from
    /// memory that is not tracked. The default leaves it at the bootstrap pool.
    fn metadata_alloc(&self) -> Option<NonNull<u8>> {
        None
    }

    /// Takes back a page that [`metadata_alloc`](Self::metadata_alloc) gave. Task context.
    ///
    /// # Safety
    ///
    /// `page` came from `metadata_alloc` of the same platform and is not used any more.
    unsafe fn metadata_free(&self, page: NonNull<u8>) {
        let _ = page;
    }

    /// Runs `work` on every CPU at once while nothing else runs anywhere, interrupts being off, and
    /// returns when all have finished.
    ///
    /// The registers and the stacks of all CPUs, as they were when they stopped, must be in memory
    /// that [`next_root`](Self::next_root) then names; the frames of `work` itself must not be.
    /// Task context, with no lock held. The default keeps interrupts off where there is [one CPU](Self::cpus), which
    /// stops all else; with more it can't, and what checks find are suspects, no leaks.
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

    /// Lets others run and tells whether the detector's caller is asked to stop. Task context,
    /// with no lock held.
    fn relax(&self) -> ControlFlow<()> {
        core::hint::spin_loop();
        ControlFlow::Continue(())
    }

    /// Passes a moment while another CPU is waited for, over and over. Any context. Where CPUs are threads of a host that
    /// may have fewer, the others should get one.
    #[inline]
    fn spin(&self) {
        core::hint::spin_loop();
    }

    /// Number of CPUs, running or not; never changes. Copies of a per-CPU block are numbered below it. With one CPU, the default
    /// [`stop_world`](Self::stop_world) only keeps interrupts off: a kernel with more CPUs must say so.
    fn cpus(&self) -> u32 {
        1
    }

    /// How far apart the blocks lie of the slab that `start` is in, in bytes, where there is one and it is known at
    /// once: a hint that saves metadata. Any context.
    #[inline]
    fn slab_stride(&self, start: usize) -> Option<usize> {
        let _ = start;
        None
    }

    /// The addresses at which blocks of this kernel may start. A callback that names another one is refused with a warning:
    /// a kernel can so leave out the addresses of user space. Any context. Whatever this says, no block starts in the first page
    /// (null), at one of the last 4095 numbers (error codes), or at what is no address. The default leaves out nothing more.
    /// Blocks of physical memory are not asked about.
    #[inline(always)]
    fn block_addresses(&self) -> RangeInclusive<usize> {
        0..=usize::MAX
    }

    /// Where `len` bytes of physical memory at `start` are mapped; `None` if they are not. Any context.
    fn phys_to_virt(&self, start: usize, len: usize) -> Option<usize> {
        let _ = (start, len);
        None
    }

    /// Runs `scan`, in which the calling task looks for leaks: beside whatever runs, with the world stopped, or first
    /// the one and then the other. What it puts on its stack meanwhile is no root, for it has passed through the
    /// addresses of all objects; what its callers have there, and in registers, is. Called inside itself, the outer
    /// call counts. Task context.
    fn scan_apart(&self, scan: &mut dyn FnMut()) {
        scan();
    }

    /// Where CPU `cpu`'s copy of the dynamic per-CPU block `handle` lies. Any context.
    fn percpu_copy(&self, handle: usize, cpu: u32) -> usize {
        let _ = cpu;
        handle
    }

    /// Writes the place of a code address as a person reads it:
    /// `function+0xoffset/0xsize (file:line)`. Task context. The default writes the number.
    fn symbol(&self, address: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{address:#018x}")
    }

    /// Writes the names of the functions that a return address leads into, one a line: of the function itself, and of
    /// those inlined there. These are what a suppression's pattern is held against. Task context. The default writes
    /// what [`symbol`](Self::symbol) does, offset and place included, so that a pattern needs a `*` at its end.
    fn functions(&self, address: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        self.symbol(address, out)
    }

    /// Writes what a person calls the word at `address`, which was found in `root`: the section with the variable and
    /// the offset in it, the per-CPU variable and the CPU, the task and the offset in its stack, or the register.
    /// Task context; the root may be gone by then, and is not to be read. The default knows no names but numbers.
    fn name_root(&self, root: Root, address: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        let offset = address.wrapping_sub(root.start);
        match root.kind {
            RootKind::Section => write!(out, "section {:#018x}+{offset:#x}", root.start),
            RootKind::PerCpu(cpu) => write!(out, "cpu {cpu} per-cpu area+{offset:#x}"),
            RootKind::Frames(first) => write!(out, "frames from {first:#x} on, +{offset:#x}"),
            RootKind::Stack(task) => write!(out, "task {task} stack+{offset:#x}"),
            RootKind::Registers(cpu) => write!(out, "cpu {cpu} registers+{offset:#x}"),
            RootKind::Region => write!(out, "region {:#018x}+{offset:#x}", root.start),
        }
    }

    /// Whether the platform vouches that `len` bytes at `start` can be read, for as long as what lies there is tracked. Asked of
    /// each block before it is scanned, and of each page of a registered region, so that a number that is no memory, and memory
    /// which a kernel unmaps under a tracked block, are passed over. What is passed over holds no pointers, so what only it
    /// points to is reported. Any context.
    ///
    /// Not asked while all that was told of comes from a [`Tracked`](crate::Tracked), which vouches for its blocks itself. A
    /// kernel whose allocators call the detector's callbacks has to answer: the callbacks are safe to call, so their
    /// word is no proof.
    ///
    /// The default vouches for nothing but words that are not memory ([`read_word`](Self::read_word) is replaced): it knows
    /// neither what is mapped nor who calls the detector. A verdict for which no block could be read says so, and lists
    /// suspects. Where nobody can call the detector but allocators that tell the truth, because it is private to them,
    /// `true` is an honest answer. Elsewhere, look whether the address lies in memory that is never unmapped, or ask the page
    /// tables.
    #[inline]
    fn readable(&self, start: usize, len: usize) -> bool {
        let _ = (start, len);
        !self.has_plain_words()
    }

    /// Whether `len` bytes at `start` can be read and are never unmapped: asked of a piece of a stack that is in no object,
    /// beside whatever runs, where [`readable`](Self::readable) may be true no more a moment later. Any context.
    #[inline]
    fn stays_readable(&self, start: usize, len: usize) -> bool {
        self.readable(start, len)
    }

    /// Strips what a platform stores in a pointer beside the address (tags). Any context.
    #[inline(always)]
    fn untag(&self, word: usize) -> usize {
        word
    }

    /// Whether [`read_word`](Self::read_word) and [`untag`](Self::untag) are the ones that are given here: then words may
    /// be read several at a time. A platform with one of its own says `false`. Any context.
    #[inline(always)]
    fn has_plain_words(&self) -> bool {
        true
    }

    /// Reads one word of memory that is not the detector's own and may be written to meanwhile.
    ///
    /// This is the one function by which the detector looks at foreign memory; no slice of or
    /// reference to scanned memory ever exists. A platform whose memory is emulated replaces it.
    ///
    /// # Safety
    ///
    /// `address` is a multiple of the word's size, and lies in a root or in a tracked block that the
    /// caller keeps from being freed.
    #[inline(always)]
    unsafe fn read_word(&self, address: usize) -> usize {
        // SAFETY: the caller's promise; volatile, since others may write to the word meanwhile.
        unsafe { core::ptr::read_volatile(core::ptr::without_provenance(address)) }
    }
}

/// What [`Platform::irq_save`] found; its meaning is the platform's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrqState(pub usize);

/// Who allocates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The number of the running task; of the interrupted one in an interrupt.
    pub task: u32,
    /// The CPU.
    pub cpu: u32,
    /// Task or interrupt.
    pub level: Level,
}

/// From where to where the detector walks a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackWalk {
    /// The address of the innermost frame: what the frame pointer register holds.
    pub frame_pointer: usize,
    /// Where the stack lies. All of it can be read.
    pub stack: Range<usize>,
    /// Code of the allocator's hooks. The innermost frames are left out as long as their return addresses lie
    /// there, so that a call stack begins with the code that asked. An empty range leaves out none.
    pub skip: Range<usize>,
}

/// What kind of code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A task.
    Task,
    /// An interrupt handler.
    Interrupt,
}

/// The name of a task: UTF-8, cut at a character's boundary to at most [`COMM_LEN`] bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Comm {
    len: u8,
    bytes: [u8; COMM_LEN],
}

impl Comm {
    /// Keeps as much of `name` as fits.
    pub const fn new(name: &str) -> Self {
        let name = name.as_bytes();
        let mut len = if name.len() < COMM_LEN {
            name.len()
        } else {
            COMM_LEN
        };
        // Never end inside a character: continuation bytes are 0b10xx_xxxx.
        while len < name.len() && name[len] & 0xc0 == 0x80 {
            len -= 1;
        }
        let mut bytes = [0; COMM_LEN];
        let mut i = 0;
        while i < len {
            bytes[i] = name[i];
            i += 1;
        }
        Self {
            len: len as u8,
            bytes,
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or("?")
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// A place in the walk over the roots, for the platform to fill as it likes. Starts all zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RootCursor {
    /// Which sort of root comes next, say.
    pub stage: usize,
    /// Which one of that sort.
    pub index: usize,
}

/// A range of memory that is scanned without being an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// What lies there.
    pub kind: RootKind,
    /// Address of the first byte; words are read at multiples of the word's size.
    pub start: usize,
    /// Bytes.
    pub len: usize,
}

/// The sorts of roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootKind {
    /// A section of the kernel's image, such as `.data` or `.bss`.
    Section,
    /// The static per-CPU area of this CPU.
    PerCpu(u32),
    /// Descriptors of page frames in use, the first of them for this frame number.
    Frames(u64),
    /// The live part of this task's stack, with the registers that it holds while the task waits.
    Stack(u32),
    /// The registers of this CPU, where they are not on a stack.
    Registers(u32),
    /// A region that was registered by hand.
    Region,
}

/// One CPU of a stopped world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoppedCpu {
    /// Its number, below `of`.
    pub index: u32,
    /// How many CPUs run the closure.
    pub of: u32,
    /// Whether this is the one that asked for the stop; exactly one is.
    pub initiator: bool,
}

/// Why the world could not be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopError {
    /// The platform has no way to do it.
    Unsupported,
    /// This CPU did not come in time.
    Missing(u32),
}

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported => f.write_str("this platform cannot stop the world"),
            Self::Missing(cpu) => write!(f, "cpu {cpu} did not stop in time"),
        }
    }
}
