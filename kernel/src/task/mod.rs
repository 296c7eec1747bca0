//! Tasks: threads of the kernel, preempted round-robin.
//!
//! | module | what |
//! | --- | --- |
//! | [`scheduler`] | who runs where; blocking, waking, sleeping, ending |
//! | `current` | the task that a CPU runs |
//! | [`reaper`] | frees what a task leaves when it has ended |
//! | [`Mutex`], [`WaitQueue`], [`channel`] | waiting asleep |
//! | [`waits`] | what a task waits for, for the leak detector |
//!
//! A [`Task`] is shared by the scheduler's lists and the tasks that wait for it. Its stack belongs to
//! it until the reaper frees that. For the leak detector a stack is a tracked block that is not scanned as a block; its live
//! part is a root.

pub mod channel;
mod current;
mod may_wait;
mod mutex;
pub mod reaper;
pub mod scheduler;
mod sleep;
mod wait_queue;
pub mod waits;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ffi::c_void;
use core::fmt;
use core::mem::{self, MaybeUninit};
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use intrusive_collections::{
    KeyAdapter, LinkedListAtomicLink, RBTreeAtomicLink, intrusive_adapter,
};
use kmemleak::Comm;

use crate::arch::interrupts::InterruptFlag;
use crate::arch::{backtrace, context, memory};
use crate::leak::hooks;
use crate::mm::heap::{NoMemory, Room};
use crate::mm::vmalloc;
use crate::sync::{LocalIrqDisabled, SpinLock};

pub use self::mutex::{Mutex, MutexGuard};
pub use self::scheduler::{current, park, unpark, yield_now};
pub use self::sleep::sleep_us;
pub use self::wait_queue::WaitQueue;
use self::waits::{Awaited, WaitNote};

/// Bytes of a task's stack.
pub const STACK_LEN: usize = 64 * 1024;

/// Number of a task. Never used again for another.
pub type TaskId = u32;

/// Which ready tasks run first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Round-robin with all other tasks of this priority.
    Normal,
    /// Runs when no normal task is ready, and for one slice in a while even if there is one.
    Low,
}

/// What a task is doing. Changes under the scheduler's lock only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// Waits for a CPU.
    Ready,
    /// Has a CPU.
    Running,
    /// Waits to be woken.
    Blocked,
    /// Has ended.
    Dead,
}

impl State {
    fn from_bits(bits: u32) -> Self {
        match bits {
            0 => Self::Ready,
            1 => Self::Running,
            2 => Self::Blocked,
            _ => Self::Dead,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Blocked => "blocked",
            Self::Dead => "dead",
        })
    }
}

/// The code that a task runs, once. A boxed `FnOnce` would be called through a function of the standard library: where the
/// compiler does not inline that, it is a frame in each call stack.
trait Work: Send {
    fn run(&mut self);
}

/// Work that is done once.
struct Once<F> {
    work: MaybeUninit<F>,
    is_there: bool,
}

impl<F: FnOnce() + Send> Work for Once<F> {
    fn run(&mut self) {
        if !mem::take(&mut self.is_there) {
            return;
        }
        // SAFETY: it is there, and taken once.
        let work = unsafe { self.work.assume_init_read() };
        // The block lives as long as the task, which may give away or lose what the work owns long before that.
        // SAFETY: nothing is there any more.
        unsafe { memory::clear((&raw mut self.work).cast(), size_of::<F>()) };
        work();
    }
}

impl<F> Drop for Once<F> {
    fn drop(&mut self) {
        if self.is_there {
            // SAFETY: it is there.
            unsafe { self.work.assume_init_drop() };
        }
    }
}

type Entry = Box<dyn Work>;

/// A task.
pub struct Task {
    id: TaskId,
    comm: Comm,
    priority: Priority,
    stack: Range<usize>,
    /// The stack pointer while the task does not run.
    stack_pointer: AtomicUsize,
    /// How the interrupt flag was when it left its CPU.
    interrupts: AtomicU32,
    state: AtomicU32,
    /// The CPU that runs it, or ran it last.
    cpu: AtomicU32,
    /// When the task is to be woken if it sleeps, in microseconds since the boot.
    deadline_us: AtomicU64,
    /// Not zero: the task was woken while it was not blocked, so its next [`park`] returns at once.
    token: AtomicU32,
    /// Not zero: the reaper is done with it.
    reaped: AtomicU32,
    /// Tasks that wait for its end.
    joiners: WaitQueue,
    /// What it waits for itself.
    waits: WaitNote,
    entry: SpinLock<Option<Entry>, LocalIrqDisabled>,
    run_link: LinkedListAtomicLink,
    timer_link: LinkedListAtomicLink,
    all_link: RBTreeAtomicLink,
    pub(crate) wait_link: LinkedListAtomicLink,
}

intrusive_adapter!(RunAdapter = Arc<Task>: Task { run_link => LinkedListAtomicLink });
intrusive_adapter!(TimerAdapter = Arc<Task>: Task { timer_link => LinkedListAtomicLink });
intrusive_adapter!(AllAdapter = Arc<Task>: Task { all_link => RBTreeAtomicLink });
intrusive_adapter!(pub(crate) WaitAdapter = Arc<Task>: Task { wait_link => LinkedListAtomicLink });

impl<'a> KeyAdapter<'a> for AllAdapter {
    type Key = TaskId;
    fn get_key(&self, task: &'a Task) -> TaskId {
        task.id
    }
}

static NEXT_ID: AtomicU32 = AtomicU32::new(0);

impl Task {
    fn new(
        name: &str,
        priority: Priority,
        stack: Range<usize>,
        entry: Option<Entry>,
    ) -> Result<Arc<Self>, SpawnError> {
        let task = Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            comm: Comm::new(name),
            priority,
            stack,
            stack_pointer: AtomicUsize::new(0),
            interrupts: AtomicU32::new(InterruptFlag::Enabled as u32),
            state: AtomicU32::new(State::Ready as u32),
            cpu: AtomicU32::new(0),
            deadline_us: AtomicU64::new(0),
            token: AtomicU32::new(0),
            reaped: AtomicU32::new(0),
            joiners: WaitQueue::new(),
            waits: WaitNote::default(),
            entry: SpinLock::new(entry),
            run_link: LinkedListAtomicLink::new(),
            timer_link: LinkedListAtomicLink::new(),
            all_link: RBTreeAtomicLink::new(),
            wait_link: LinkedListAtomicLink::new(),
        };
        let _room = Room::for_arc::<Self>()?;
        Ok(Arc::new(task))
    }

    /// Its number.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Its name.
    pub fn comm(&self) -> Comm {
        self.comm
    }

    /// Its priority.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// What it is doing; may have changed since, unless the caller stopped the world.
    pub fn state(&self) -> State {
        State::from_bits(self.state.load(Ordering::Acquire))
    }

    /// The CPU that runs it, or ran it last.
    pub fn cpu(&self) -> u32 {
        self.cpu.load(Ordering::Acquire)
    }

    /// Where its stack lies.
    #[inline]
    pub fn stack(&self) -> Range<usize> {
        self.stack.clone()
    }

    /// Its stack pointer, while it does not run.
    pub fn stack_pointer(&self) -> usize {
        self.stack_pointer.load(Ordering::Acquire)
    }

    #[inline(always)]
    fn is_reaped(&self) -> bool {
        self.reaped.load(Ordering::Acquire) != 0
    }

    fn set_state(&self, state: State) {
        self.state.store(state as u32, Ordering::Release);
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("id", &self.id)
            .field("comm", &self.comm)
            .finish_non_exhaustive()
    }
}

/// There is no memory for another task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpawnError;

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no memory for another task")
    }
}

impl From<NoMemory> for SpawnError {
    fn from(NoMemory: NoMemory) -> Self {
        Self
    }
}

/// A task that can be waited for. Dropping it lets the task go on by itself.
#[derive(Debug)]
pub struct JoinHandle {
    task: Arc<Task>,
}

impl JoinHandle {
    /// The task.
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// Waits until the task has ended and its stack has been given back. Task context.
    pub fn join(self) {
        self.wait();
    }

    /// Waits as [`join`](Self::join) does, and keeps the handle.
    #[inline(always)]
    pub fn wait(&self) {
        let task = &*self.task;
        let reaped = || task.is_reaped().then_some(());
        task.joiners.wait_for_as(Awaited::End(task.id), reaped);
    }
}

/// Takes the memory for a stack, with a guard page below it.
fn allocate_stack() -> Result<Range<usize>, SpawnError> {
    let start = vmalloc::vmalloc(STACK_LEN, vmalloc::Kind::Stack)
        .ok_or(SpawnError)?
        .addr()
        .get();
    // The live part is a root; words below the stack pointer must keep nothing alive.
    hooks::no_scan(start);
    Ok(start..start + STACK_LEN)
}

#[inline]
fn box_entry(work: impl Work + 'static) -> Result<Entry, SpawnError> {
    fn room_for<W>(_: &W) -> Result<Room, NoMemory> {
        Room::for_box::<W>()
    }
    let _room = room_for(&work)?;
    Ok(Box::new(work))
}

/// Gives back the stack that begins there, of a task that was not started.
fn give_stack_back(start: usize) {
    vmalloc::vfree(ptr::with_exposed_provenance_mut(start));
}

/// Starts a task. If there is no memory for it, nothing is left of it. Task context.
pub fn spawn(
    name: &str,
    priority: Priority,
    entry: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle, SpawnError> {
    let stack = allocate_stack()?;
    let start = stack.start;
    // SAFETY: a fresh stack, page-aligned, which the reaper gives back.
    let spawned = unsafe { spawn_on(name, priority, stack, entry) };
    spawned.inspect_err(|_| give_stack_back(start))
}

/// Starts a task on this stack. Task context.
///
/// # Safety
///
/// All of `stack` is writable and used for nothing else, and its end is a multiple of 16. It came from vmalloc, or the
/// task never ends.
pub(crate) unsafe fn spawn_on(
    name: &str,
    priority: Priority,
    stack: Range<usize>,
    entry: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle, SpawnError> {
    let top = stack.end;
    let entry = box_entry(Once {
        work: MaybeUninit::new(entry),
        is_there: true,
    })?;
    let task = Task::new(name, priority, stack, Some(entry))?;
    // SAFETY: the caller's promise.
    let pointer = unsafe { context::prepare(top, start) };
    task.stack_pointer.store(pointer, Ordering::Release);
    scheduler::add(task.clone());
    Ok(JoinHandle { task })
}

/// Where a task begins, when the switch to it is finished.
extern "C" fn start() -> ! {
    let entry = current().entry.lock().take();
    if let Some(mut entry) = entry {
        entry.run();
    }
    scheduler::exit()
}

/// Ends this task. Task context, with no lock held. What the task owns on its stack is not dropped.
pub fn exit() -> ! {
    scheduler::exit()
}

/// Clears 8 KiB of this task's stack below the caller's frame, where the frames of an interrupt handler will lie.
#[inline(always)]
fn clear_stack_below() {
    const LEN: usize = 8192;
    let Some(stack) = scheduler::with_current(Task::stack) else {
        return;
    };
    let bottom = stack.start.max(backtrace::stack_pointer() - LEN) & !7;
    // SAFETY: the stack of the task that runs this, or its upper part.
    unsafe { context::clear_dead_stack(bottom) };
}

/// Clears this task's stack below the caller's frame: see [`context::clear_dead_stack`]. Task context.
#[inline(always)]
pub fn clear_dead_stack() {
    if let Some(stack) = scheduler::with_current(Task::stack) {
        // SAFETY: the stack of the task that runs this.
        unsafe { context::clear_dead_stack(stack.start) };
    }
}

/// Runs `work` with the dead part of the stack and the registers cleared: no address that the caller works with gets into
/// bytes that `work` leaves unwritten. Any context; on a stack that is no task's, only the registers are cleared.
pub fn on_clean_stack<R>(work: impl FnOnce() -> R) -> R {
    struct Call<W, R> {
        work: Option<W>,
        result: Option<R>,
    }
    extern "C" fn run<W: FnOnce() -> R, R>(call: *mut c_void) {
        // SAFETY: the call below, whose owner waits for us to return.
        let call = unsafe { &mut *call.cast::<Call<W, R>>() };
        call.result = call.work.take().map(|work| work());
    }
    fn runner<W: FnOnce() -> R, R>(_: &Call<W, R>) -> extern "C" fn(*mut c_void) {
        run::<W, R>
    }

    let mut call = Call {
        work: Some(work),
        result: None,
    };
    let run = runner(&call);
    let here = backtrace::stack_pointer();
    let stack = scheduler::with_current(Task::stack).filter(|stack| stack.contains(&here));
    let bottom = stack.map_or(usize::MAX, |stack| stack.start);
    // SAFETY: the stack of the task that runs this; `run` is for such a call.
    unsafe { context::call_on_clean_stack(bottom, (&raw mut call).cast(), run) };
    call.result.expect("the work has been done")
}
