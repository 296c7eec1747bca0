//! Per-CPU variables.
//!
//! The linker gathers every static declared with [`percpu!`](crate::percpu) in the `.percpu`
//! section. That section is a template: each CPU gets a copy of it, its *area*, and holds in its GS
//! base the distance from the template to the copy. The template itself is never used as a variable
//! (and is no root of the leak detector; the areas are).
//!
//! The few words that every lock and every allocation touches (the distance itself, the number of
//! the CPU, the preemption count, the current task) are reached in one instruction, `gs:[symbol]`,
//! which no migration can split. All others are reached by reference, and a reference is only valid
//! while its holder stays on this CPU; so [`PerCpu::local`] takes the guard that keeps it there.
//!
//! # Invariants
//!
//! - GS base is set before the first lock is taken: by [`init_boot_cpu`] on the boot CPU, by the
//!   start-up code of each other CPU.
//! - `OFFSETS[cpu]` is written once, before that CPU runs, and not zero from then on.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use x86_64::VirtAddr;
use x86_64::registers::model_specific::GsBase;

/// The most CPUs that a machine may have: with more the kernel does not start.
pub const MAX_CPUS: usize = include!("max_cpus.in");

/// A guard that keeps the code that holds it on its CPU.
///
/// # Safety
///
/// No other task runs on this CPU, and the code is not moved to another one, as long as the guard lives.
pub unsafe trait StaysHere {}

/// A guard that also keeps interrupts off its CPU.
///
/// # Safety
///
/// As for [`StaysHere`], and no interrupt handler runs on this CPU.
pub unsafe trait InterruptsOff {}

/// One variable of which each CPU has its own copy. Declared by [`percpu!`](crate::percpu).
#[repr(transparent)]
pub struct PerCpu<T>(UnsafeCell<T>);

// SAFETY: the copies are handed out as shared references only: to the CPU that owns one while it
// can't be interrupted (`local`), or to any CPU where T allows that (`T: Sync`).
unsafe impl<T: Send> Sync for PerCpu<T> {}

/// Declares per-CPU variables; each CPU starts with a copy of the initial value.
#[macro_export]
macro_rules! percpu {
    ($($(#[$meta:meta])* $vis:vis static $name:ident: $type:ty = $init:expr;)+) => {
        $(
            $(#[$meta])*
            #[unsafe(link_section = ".percpu")]
            $vis static $name: $crate::arch::percpu::PerCpu<$type> =
                $crate::arch::percpu::PerCpu::new($init);
        )+
    };
}

impl<T> PerCpu<T> {
    /// Called only by [`percpu!`](crate::percpu): a variable outside its section has one copy only.
    pub const fn new(initial: T) -> Self {
        Self(UnsafeCell::new(initial))
    }

    /// This CPU's copy, which no interrupt handler and no other task touches while `_guard` lives.
    pub fn local<'a>(&'static self, _guard: &'a impl InterruptsOff) -> &'a T {
        // SAFETY: the area of a running CPU is mapped and initialised; the guard keeps us on it.
        unsafe { &*self.pointer(this_offset()) }
    }

    /// This CPU's copy, for a type that may be shared: interrupt handlers may use it meanwhile.
    pub fn local_shared<'a>(&'static self, _guard: &'a impl StaysHere) -> &'a T
    where
        T: Sync,
    {
        // SAFETY: the area of a running CPU is mapped and initialised, and the guard keeps us on it; T is Sync.
        unsafe { &*self.pointer(this_offset()) }
    }

    /// The copy of a CPU that has an area, for a type that may be shared.
    pub fn on(&'static self, cpu: u32) -> &'static T
    where
        T: Sync,
    {
        let offset = offset_of(cpu);
        assert!(offset != 0, "cpu {cpu} has no per-CPU area");
        // SAFETY: the area is mapped and initialised, and stays permanently.
        unsafe { &*self.pointer(offset) }
    }

    fn pointer(&self, offset: usize) -> *const T {
        self.0.get().wrapping_byte_add(offset)
    }
}

percpu! {
    /// Distance from the template to this CPU's area.
    static THIS_OFFSET: AtomicUsize = AtomicUsize::new(0);
    /// Number of this CPU.
    static CPU_ID: AtomicU32 = AtomicU32::new(0);
    /// Number of the task that this CPU runs.
    static TASK_ID: AtomicU32 = AtomicU32::new(NO_TASK);
    /// The same, but zero before there are tasks.
    static TASK_OR_ZERO: AtomicU32 = AtomicU32::new(0);
}

const NO_TASK: u32 = u32::MAX;

/// Number of CPUs that run; they are numbered from zero.
static RUNNING: AtomicU32 = AtomicU32::new(1);

/// Number of CPUs that run.
pub fn running() -> u32 {
    RUNNING.load(Ordering::Acquire)
}

/// Counts this CPU, whose start is done, among those that run.
pub fn has_come_up(cpu: u32) {
    RUNNING.store(cpu + 1, Ordering::Release);
}

/// Number of the task that this CPU runs, or has interrupted; none before there are tasks. Read in one instruction, so that no
/// migration can make it another task's. Any context.
#[inline]
pub fn task_id() -> Option<u32> {
    let id: u32;
    // SAFETY: reads one word of this CPU's area.
    unsafe {
        asm!("mov {0:e}, gs:[{1}]", out(reg) id, sym TASK_ID,
            options(nostack, readonly, preserves_flags));
    }
    (id != NO_TASK).then_some(id)
}

/// What [`task_id`] says, but zero before there are tasks. Each allocation asks for it, so it has a word of its own.
#[inline]
pub fn task_or_zero() -> u32 {
    let id;
    // SAFETY: reads one word of this CPU's area.
    unsafe {
        asm!("mov {0:e}, gs:[{1}]", out(reg) id, sym TASK_OR_ZERO,
            options(nostack, readonly, preserves_flags));
    }
    id
}

/// Notes that `cpu` runs this task from now on. For the scheduler, which has interrupts off, or for a CPU that does not run yet.
pub fn set_task_id(cpu: u32, task: u32) {
    TASK_ID.on(cpu).store(task, Ordering::Relaxed);
    TASK_OR_ZERO.on(cpu).store(task, Ordering::Relaxed);
}

/// Distances of all CPUs' areas from the template; zero where a CPU has none (yet).
static OFFSETS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

/// CPUs that have an area: those that run, and one that is about to.
static CPUS: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    static __percpu_start: u8;
    static __percpu_end: u8;
    static __percpu_boot_start: u8;
}

/// Address of the template.
pub fn template() -> usize {
    (&raw const __percpu_start).addr()
}

/// Bytes of an area.
pub fn area_len() -> usize {
    (&raw const __percpu_end).addr() - template()
}

/// Where the static area of `cpu` lies, or `None` while it has none.
pub fn area(cpu: u32) -> Option<usize> {
    match offset_of(cpu) {
        0 => None,
        offset => Some(template().wrapping_add(offset)),
    }
}

/// The address in the template that corresponds to `address` in the area of `cpu`, or `None` if `address` is not in that area.
/// The symbols of per-CPU variables are addresses in the template.
pub fn in_template(cpu: u32, address: usize) -> Option<usize> {
    let offset = address.checked_sub(area(cpu)?)?;
    (offset < area_len()).then(|| template() + offset)
}

/// Distance from the template to the area of `cpu`; zero while it has none.
pub fn offset_of(cpu: u32) -> usize {
    OFFSETS
        .get(cpu as usize)
        .map_or(0, |offset| offset.load(Ordering::Acquire))
}

/// Number of CPUs that have an area.
pub fn cpus() -> u32 {
    CPUS.load(Ordering::Acquire)
}

/// Number of the CPU that runs this. Valid for as long as the caller can't be moved to another CPU.
#[inline]
pub fn cpu_id() -> u32 {
    let id;
    // SAFETY: reads one word of this CPU's area.
    unsafe {
        asm!("mov {0:e}, gs:[{1}]", out(reg) id, sym CPU_ID,
            options(nostack, readonly, preserves_flags));
    }
    id
}

#[inline]
fn this_offset() -> usize {
    let offset;
    // SAFETY: reads one word of this CPU's area.
    unsafe {
        asm!("mov {0}, gs:[{1}]", out(reg) offset, sym THIS_OFFSET,
            options(nostack, readonly, preserves_flags));
    }
    offset
}

/// Gives the boot CPU its area, which the linker has set aside.
///
/// # Safety
///
/// Called once, as the first thing the kernel does.
pub unsafe fn init_boot_cpu() {
    let area = (&raw const __percpu_boot_start).cast_mut();
    // SAFETY: the linker made the area as long as the template, and no code uses it yet.
    unsafe { prepare(0, area) };
    // SAFETY: the area was prepared for this CPU.
    unsafe { enter(0) };
}

/// Fills `area` with the initial values and makes it the area of `cpu`.
///
/// # Safety
///
/// `area` is [`area_len`] bytes of memory that stay mapped permanently and are used for nothing else, aligned as
/// the template is; `cpu` is the next CPU, below [`MAX_CPUS`], and has entered no area yet. Any CPU may do it for any other, or for
/// itself.
pub unsafe fn prepare(cpu: u32, area: *mut u8) {
    let template_start = &raw const __percpu_start;
    // SAFETY: both are that long; the template is only read.
    unsafe { area.copy_from_nonoverlapping(template_start, area_len()) };
    let offset = area.addr().wrapping_sub(template());
    // SAFETY: the area holds a copy of the template, so the variable is there and initialised.
    let this_offset = unsafe { &*THIS_OFFSET.pointer(offset) };
    this_offset.store(offset, Ordering::Relaxed);
    // SAFETY: as above.
    let id = unsafe { &*CPU_ID.pointer(offset) };
    id.store(cpu, Ordering::Relaxed);
    OFFSETS[cpu as usize].store(offset, Ordering::Release);
    CPUS.fetch_max(cpu + 1, Ordering::Release);
}

/// Points GS at the area of `cpu`.
///
/// # Safety
///
/// The area was prepared, and this is that CPU.
pub unsafe fn enter(cpu: u32) {
    GsBase::write(VirtAddr::new(offset_of(cpu) as u64));
}
