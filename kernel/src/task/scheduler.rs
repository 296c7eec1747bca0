//! Which task runs on which CPU.
//!
//! A queue of ready tasks for each priority, a list of sleepers in the order of their deadlines, all tasks by their
//! numbers: all CPUs share them. Each CPU has an idle task, which is never queued; the boot CPU's goes on
//! from the boot, on the stack the loader gave it.
//!
//! Blocking works by tokens: [`park`] blocks unless [`unpark`] has been called for the task since its last `park`. So
//! a task that waits for a condition notes that it waits, checks once more, and parks; a wake-up in between is
//! not lost, and a needless one is harmless, since all callers check again.
//!
//! # Invariants
//!
//! - A task that is not idle is in a ready queue exactly while it is `Ready`; it is `Running` on at most one CPU.
//! - The lock is held while stacks are switched, and opened by the task that is switched to. So no CPU runs a ready task whose
//!   registers are not saved yet, and none frees a stack that is still in use.
//! - At a switch the preemption count is one, the lock's own.
//!
//! # Locks
//!
//! One, over all of it, with interrupts off; nothing else is locked under it, nothing allocated or freed.

use alloc::sync::Arc;
use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use intrusive_collections::{Bound, LinkedList, RBTree};

use super::{AllAdapter, Priority, RunAdapter, State, Task, TimerAdapter};
use crate::arch::percpu::{MAX_CPUS, cpu_id, set_task_id};
use crate::arch::{context, ending, interrupts, vector};
use crate::dev::{apic, time};
use crate::percpu;
use crate::sync::{
    IrqGuard, LocalIrqDisabled, Pending, PreemptGuard, SpinLock, SpinLockGuard, preempt,
};

/// One of this many picks prefers tasks of low priority, so that they always make progress.
const LOW_TURN: usize = 16;

struct Scheduler {
    ready: LinkedList<RunAdapter>,
    ready_low: LinkedList<RunAdapter>,
    sleepers: LinkedList<TimerAdapter>,
    dead: LinkedList<RunAdapter>,
    all: RBTree<AllAdapter>,
    running: [Option<Arc<Task>>; MAX_CPUS],
    idle: [Option<Arc<Task>>; MAX_CPUS],
    reaper: Option<Arc<Task>>,
    picks: usize,
}

static SCHEDULER: SpinLock<Scheduler, LocalIrqDisabled> = SpinLock::new(Scheduler {
    ready: LinkedList::new(RunAdapter::NEW),
    ready_low: LinkedList::new(RunAdapter::NEW),
    sleepers: LinkedList::new(TimerAdapter::NEW),
    dead: LinkedList::new(RunAdapter::NEW),
    all: RBTree::new(AllAdapter::NEW),
    running: [const { None }; MAX_CPUS],
    idle: [const { None }; MAX_CPUS],
    reaper: None,
    picks: 0,
});

/// Number of ready tasks, which can be read without the lock.
static READY: AtomicUsize = AtomicUsize::new(0);
/// CPUs that wait for work, as bits.
static IDLE_CPUS: AtomicU64 = AtomicU64::new(0);
/// The first sleeper's deadline, which can be read without the lock.
static NEXT_DEADLINE_US: AtomicU64 = AtomicU64::new(u64::MAX);

percpu! {
    /// The task that this CPU runs; null before there are tasks.
    static CURRENT: AtomicPtr<Task> = AtomicPtr::new(core::ptr::null_mut());
}

type Guard = SpinLockGuard<'static, Scheduler, LocalIrqDisabled>;

/// Why a task leaves its CPU.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    Yield,
    Block,
    Exit,
}

impl Scheduler {
    fn enqueue(&mut self, task: Arc<Task>) {
        task.set_state(State::Ready);
        match task.priority {
            Priority::Normal => self.ready.push_back(task),
            Priority::Low => self.ready_low.push_back(task),
        }
        READY.fetch_add(1, Ordering::Release);
    }

    fn pick(&mut self) -> Option<Arc<Task>> {
        self.picks = self.picks.wrapping_add(1);
        let (first, second) = if self.picks.is_multiple_of(LOW_TURN) {
            (&mut self.ready_low, &mut self.ready)
        } else {
            (&mut self.ready, &mut self.ready_low)
        };
        let task = first.pop_front().or_else(|| second.pop_front())?;
        READY.fetch_sub(1, Ordering::Release);
        Some(task)
    }

    /// Makes a blocked task ready; leaves a token for a task that is not blocked.
    fn wake(&mut self, task: &Arc<Task>) {
        self.forget_deadline(task);
        if task.state() != State::Blocked {
            task.token.store(1, Ordering::Relaxed);
            return;
        }
        self.enqueue(task.clone());
        kick_idle_cpu();
    }

    fn add_sleeper(&mut self, task: Arc<Task>) {
        let deadline = task.deadline_us.load(Ordering::Relaxed);
        let mut place = self.sleepers.front_mut();
        while place
            .get()
            .is_some_and(|other| other.deadline_us.load(Ordering::Relaxed) <= deadline)
        {
            place.move_next();
        }
        place.insert_before(task);
        self.note_next_deadline();
    }

    fn forget_deadline(&mut self, task: &Arc<Task>) {
        if task.timer_link.is_linked() {
            // SAFETY: only this list links by `timer_link`.
            unsafe { self.sleepers.cursor_mut_from_ptr(Arc::as_ptr(task)) }.remove();
            self.note_next_deadline();
        }
    }

    fn note_next_deadline(&self) {
        let first = self
            .sleepers
            .front()
            .get()
            .map_or(u64::MAX, |task| task.deadline_us.load(Ordering::Relaxed));
        NEXT_DEADLINE_US.store(first, Ordering::Relaxed);
    }

    fn wake_sleepers(&mut self, now_us: u64) {
        while let Some(task) = self.sleepers.front().clone_pointer() {
            if task.deadline_us.load(Ordering::Relaxed) > now_us {
                break;
            }
            self.wake(&task);
        }
    }
}

/// Interrupts a CPU that has nothing to do, if there is one.
fn kick_idle_cpu() {
    let idle = IDLE_CPUS.load(Ordering::Acquire);
    if idle == 0 {
        return;
    }
    let cpu = idle.trailing_zeros();
    // The next call interrupts another CPU.
    IDLE_CPUS.fetch_and(!(1 << cpu), Ordering::AcqRel);
    let stay_here = PreemptGuard::new();
    if cpu == cpu_id() {
        preempt::set_pending(Pending::RESCHEDULE, &IrqGuard::new());
    } else {
        apic::send(cpu, vector::RESCHEDULE);
    }
    drop(stay_here);
}

/// Takes this CPU from its task and gives it to the next one; returns when the task gets a CPU again.
///
/// The frame of this function stays on the stack of a task for as long as the task waits, and is part of a
/// root: it must not hold the next task's address. So [`hand_over`], a function of its own, chooses the next task.
fn leave(mut scheduler: Guard, how: Leave) {
    if ending::is_ending() {
        ending::must_not_wait();
    }
    let Some((save, next_pointer)) = hand_over(&mut scheduler, how) else {
        return;
    };
    // The lock stays closed; what it disables is enabled when this task runs again.
    let disabled = scheduler.keep_locked();
    // SAFETY: the next task's pointer was saved when it left its CPU, under the lock; interrupts are off.
    // `save` is a word of a task that the tree of all tasks keeps.
    unsafe { context::switch(save, next_pointer) };
    // SAFETY: the task that switched to this one kept the lock closed and left it to us.
    unsafe { SCHEDULER.force_unlock() };
    drop(disabled);
}

/// Chooses the next task and makes it the running one; returns where to save this task's stack pointer, and the
/// stack pointer of the next task. None if this task goes on.
#[inline(never)]
fn hand_over(scheduler: &mut Guard, how: Leave) -> Option<(*mut usize, usize)> {
    let cpu = cpu_id() as usize;
    let previous = scheduler.running[cpu].take()?;
    let is_idle = scheduler.idle[cpu]
        .as_ref()
        .is_some_and(|idle| Arc::ptr_eq(idle, &previous));
    let next = match scheduler.pick() {
        Some(next) => next,
        None if how == Leave::Yield => {
            scheduler.running[cpu] = Some(previous);
            return None;
        }
        None => scheduler.idle[cpu]
            .clone()
            .expect("every CPU that runs has an idle task"),
    };
    let save = previous.stack_pointer.as_ptr();
    match how {
        Leave::Yield if is_idle => {
            previous.set_state(State::Ready);
            drop(previous);
        }
        Leave::Yield => scheduler.enqueue(previous),
        Leave::Block => {
            previous.set_state(State::Blocked);
            // Not the last reference: the tree of all tasks has one.
            drop(previous);
        }
        Leave::Exit => {
            previous.set_state(State::Dead);
            scheduler.dead.push_back(previous);
            if let Some(reaper) = scheduler.reaper.clone() {
                scheduler.wake(&reaper);
            }
        }
    }
    next.set_state(State::Running);
    next.cpu.store(cpu as u32, Ordering::Release);
    let next_pointer = next.stack_pointer();
    CURRENT
        .local(scheduler.disabled())
        .store(Arc::as_ptr(&next).cast_mut(), Ordering::Release);
    set_task_id(cpu as u32, next.id);
    scheduler.running[cpu] = Some(next);
    Some((save, next_pointer))
}

/// Does what [`leave`] does after a switch, for a new task, which begins without a call of it.
///
/// # Safety
///
/// Called once, as the first thing a new task does.
pub(super) unsafe fn finish_first_switch() {
    // SAFETY: the task that switched to this one kept the lock closed and left it to us.
    unsafe { SCHEDULER.force_unlock() };
    // SAFETY: that task also left the preemption count at one and interrupts off.
    drop(unsafe { IrqGuard::adopt(interrupts::InterruptFlag::Enabled) });
}

/// The boot CPU's flow of control becomes its idle task. `stack` is the one it runs on.
pub fn init(stack: Range<usize>) {
    let task = Task::new("idle/0", Priority::Low, stack, None);
    let task = task.expect("memory for the first task");
    task.set_state(State::Running);
    let mut scheduler = SCHEDULER.lock();
    CURRENT
        .local(scheduler.disabled())
        .store(Arc::as_ptr(&task).cast_mut(), Ordering::Release);
    set_task_id(0, task.id);
    scheduler.running[0] = Some(task.clone());
    scheduler.idle[0] = Some(task.clone());
    scheduler.all.insert(task);
}

/// The idle task of a CPU that is about to start: not known to the scheduler yet.
#[derive(Debug)]
pub struct IdleTask(Arc<Task>);

impl IdleTask {
    /// Makes the idle task of this CPU; `None` if there is no memory for it. Task context.
    pub fn new(cpu: u32) -> Option<Self> {
        let mut name = arrayvec::ArrayString::<16>::new();
        // A number has at most ten digits.
        let _ = core::fmt::Write::write_fmt(&mut name, format_args!("idle/{cpu}"));
        let stack = super::allocate_stack().ok()?;
        let start = stack.start;
        let task = Task::new(&name, Priority::Low, stack, None);
        let task = task.inspect_err(|_| super::give_stack_back(start)).ok()?;
        task.set_state(State::Running);
        task.cpu.store(cpu, Ordering::Release);
        Some(Self(task))
    }

    /// The end of the stack that the CPU is to start on.
    pub fn stack_end(&self) -> usize {
        self.0.stack.end
    }

    /// Gives its memory back: the CPU has not started. Task context.
    pub fn give_back(self) {
        let start = self.0.stack.start;
        drop(self);
        super::give_stack_back(start);
    }

    /// Makes it what this CPU runs, which has begun on the task's stack, with interrupts off.
    pub fn adopt(self) {
        let Self(task) = self;
        let cpu = cpu_id();
        let mut scheduler = SCHEDULER.lock();
        let pointer = Arc::as_ptr(&task).cast_mut();
        CURRENT.on(cpu).store(pointer, Ordering::Release);
        set_task_id(cpu, task.id);
        scheduler.running[cpu as usize] = Some(task.clone());
        scheduler.idle[cpu as usize] = Some(task.clone());
        scheduler.all.insert(task);
    }
}

/// What a CPU does when no task is ready. Called by its idle task at the end of the CPU's start; never returns, and discards the
/// frames of the start. They would be part of a root as long as the CPU idles, and the blocks whose addresses they hold may be
/// freed and allocated again. Called with interrupts off; they are turned on after the frames are discarded, since an interrupt
/// before that might give the CPU to another task for long.
pub fn idle() -> ! {
    let stack = with_current(Task::stack).expect("every CPU that runs has an idle task");
    // SAFETY: this is the idle task's stack, whose end is page-aligned; the callers are done, and no code has references to
    // their frames.
    unsafe { context::start_over(stack.start, stack.end, wait_for_work) }
}

extern "C" fn wait_for_work() -> ! {
    loop {
        interrupts::disable();
        let bit = 1 << cpu_id();
        IDLE_CPUS.fetch_or(bit, Ordering::AcqRel);
        // The next interrupt's frames will lie here, with gaps that are never written, and are part of a root.
        super::clear_stack_below();
        if READY.load(Ordering::Acquire) == 0 {
            interrupts::enable_and_wait();
        }
        IDLE_CPUS.fetch_and(!bit, Ordering::AcqRel);
        // The frames in which this task waits for its next turn must not hold what a handler has left.
        super::clear_stack_below();
        interrupts::enable();
        if READY.load(Ordering::Acquire) != 0 {
            yield_now();
        }
    }
}

pub(super) fn add(task: Arc<Task>) {
    let mut scheduler = SCHEDULER.lock();
    scheduler.all.insert(task.clone());
    scheduler.enqueue(task);
    kick_idle_cpu();
}

pub(super) fn set_reaper(task: Arc<Task>) {
    SCHEDULER.lock().reaper = Some(task);
}

/// Takes the next task that has ended and left its stack.
pub(super) fn take_dead() -> Option<Arc<Task>> {
    let mut scheduler = SCHEDULER.lock();
    let task = scheduler.dead.pop_front()?;
    if task.all_link.is_linked() {
        // SAFETY: only this list links by `all_link`. Its reference is dropped without the lock.
        let listed = unsafe { scheduler.all.cursor_mut_from_ptr(Arc::as_ptr(&task)) }.remove();
        drop(scheduler);
        drop(listed);
    }
    Some(task)
}

/// Lets another task run, if one is ready. Task context.
pub fn yield_now() {
    leave(SCHEDULER.lock(), Leave::Yield);
}

/// Gives this CPU to the next task: called when the preemption count has become zero, interrupts off.
pub fn preempt() {
    leave(SCHEDULER.lock(), Leave::Yield);
}

/// Waits until [`unpark`] wakes this task; returns at once if that has happened since the last call. May return early, so
/// callers check again. Task context, with no spinlock held.
pub fn park() {
    park_with(None);
}

/// Waits as [`park`] does, but at most until `deadline_us`, in microseconds since the boot.
pub fn park_until(deadline_us: u64) {
    park_with(Some(deadline_us));
}

fn park_with(deadline_us: Option<u64>) {
    let mut scheduler = SCHEDULER.lock();
    let cpu = cpu_id() as usize;
    let task = scheduler.running[cpu]
        .clone()
        .expect("a CPU that runs tasks runs one");
    if task.token.swap(0, Ordering::Relaxed) != 0 {
        return;
    }
    if let Some(deadline_us) = deadline_us {
        task.deadline_us.store(deadline_us, Ordering::Relaxed);
        scheduler.add_sleeper(task);
    } else {
        drop(task);
    }
    leave(scheduler, Leave::Block);
}

/// Wakes a task; if it is not blocked, its next [`park`] returns at once. Any context.
pub fn unpark(task: &Arc<Task>) {
    SCHEDULER.lock().wake(task);
}

/// Sleeps for at least `us` microseconds; the timer that wakes it ticks every 4000. Task context.
pub fn sleep_us(us: u64) {
    let deadline = time::now_us() + us;
    while time::now_us() < deadline {
        park_until(deadline);
    }
}

/// Ends this task.
pub(super) fn exit() -> ! {
    leave(SCHEDULER.lock(), Leave::Exit);
    unreachable!("a task that has ended was given a CPU");
}

/// Handles the timer interrupt of each CPU.
pub fn tick() {
    let now_us = time::now_us();
    if cpu_id() == 0 && NEXT_DEADLINE_US.load(Ordering::Relaxed) <= now_us {
        SCHEDULER.lock().wake_sleepers(now_us);
    }
    if READY.load(Ordering::Acquire) != 0 {
        preempt::set_pending(Pending::RESCHEDULE, &IrqGuard::new());
    }
}

/// Handles the interrupt by which another CPU asks this one to run a ready task.
pub fn reschedule_interrupt() {
    preempt::set_pending(Pending::RESCHEDULE, &IrqGuard::new());
}

/// The running task's address; null before there are tasks. Read in one instruction, so that no migration can
/// make it another task's.
#[inline]
fn current_pointer() -> *const Task {
    let pointer;
    // SAFETY: reads one word of this CPU's area.
    unsafe {
        asm!("mov {0}, gs:[{1}]", out(reg) pointer, sym CURRENT,
            options(nostack, readonly, preserves_flags));
    }
    pointer
}

/// The running task. Task context, once there are tasks.
pub fn current() -> Arc<Task> {
    try_current().expect("called before there were tasks")
}

/// The running (or interrupted) task, if there are tasks already. Any context.
pub fn try_current() -> Option<Arc<Task>> {
    let pointer = current_pointer();
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the pointer came from an Arc, and the task that runs is kept by the scheduler.
    unsafe { Arc::increment_strong_count(pointer) };
    // SAFETY: as above; the count was taken for this one.
    Some(unsafe { Arc::from_raw(pointer) })
}

/// Runs `look` on the running (or interrupted) task, if there are tasks already. Any context; unlike
/// [`try_current`] it changes no reference count and frees nothing.
#[inline]
pub fn with_current<R>(look: impl FnOnce(&Task) -> R) -> Option<R> {
    let pointer = current_pointer();
    // SAFETY: null, or a task that is kept by the scheduler while it runs; and it runs this.
    unsafe { pointer.as_ref() }.map(look)
}

/// Runs `look` on the task with the lowest number that is not below `from`, and returns its result. Any context.
pub fn find_task<R>(from: u32, look: impl FnOnce(&Task) -> R) -> Option<R> {
    let scheduler = SCHEDULER.lock();
    scheduler
        .all
        .lower_bound(Bound::Included(&from))
        .get()
        .map(look)
}
