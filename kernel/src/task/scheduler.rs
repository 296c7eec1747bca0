//! Which task runs on which CPU.
//!
//! All CPUs share a queue of ready tasks for each priority, a list of sleepers by deadline, and all tasks by number. Each CPU has an
//! idle task, which is never queued; the boot CPU's goes on from the boot, on the stack the loader gave it.
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
//! - At a switch the preemption count is one, the lock's own: who waits, or yields, while it holds a guard panics.
//! - A task that has left its CPU has no frames of the scheduler on its stack but that of [`context::switch`]: the live part of its stack is a
//!   root, and a frame's unused slots hold what earlier calls have left there.
//!
//! # Locks
//!
//! One, over all of it, with interrupts off; nothing else is locked under it, nothing allocated or freed.

use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use core::{mem, ptr};

use intrusive_collections::{Bound, LinkedList, RBTree};

use super::current::CURRENT;
pub use super::current::{current, try_current, with_current};
use super::may_wait::may_wait;
use super::{AllAdapter, Priority, RunAdapter, State, Task, TimerAdapter};
use crate::arch::context::Next;
use crate::arch::interrupts::InterruptFlag;
use crate::arch::percpu::{MAX_CPUS, cpu_id, set_task_id};
use crate::arch::{context, ending, interrupts, vector};
use crate::dev::{apic, time};
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

type Guard = SpinLockGuard<'static, Scheduler, LocalIrqDisabled>;

/// Why a task leaves its CPU.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
enum Leave {
    Yield,
    Block,
    Exit,
}

impl Leave {
    fn from_bits(bits: usize) -> Self {
        match bits {
            0 => Self::Yield,
            1 => Self::Block,
            _ => Self::Exit,
        }
    }
}

/// The deadline of a task that sleeps until it is woken.
const NEVER_US: u64 = u64::MAX;

/// What [`Task::interrupts`] is while they are off.
const DISABLED: u32 = InterruptFlag::Disabled as u32;

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

    /// Whether the running task has not been woken since it blocked last. If so, it is a sleeper from now on, if it has a deadline.
    fn may_block(&mut self, deadline_us: u64) -> bool {
        let task = self.running[cpu_id() as usize]
            .clone()
            .expect("a CPU that runs tasks runs one");
        if task.token.swap(0, Ordering::Relaxed) != 0 {
            return false;
        }
        if deadline_us != NEVER_US {
            task.deadline_us.store(deadline_us, Ordering::Relaxed);
            self.add_sleeper(task);
        }
        true
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

/// Takes this CPU from its task, and gives it to the next one; returns when the task gets a CPU again, or at once if it goes on.
#[inline(always)]
fn leave(how: Leave) {
    leave_until(how, NEVER_US);
}

/// Does what [`leave`] does; a task that blocks is woken at `deadline_us` at the latest.
///
/// The task waits in the frame of [`context::switch`], which holds nothing but registers: who is next is chosen in [`choose`], whose
/// frames are gone by then. They hold the addresses of tasks, and gaps that hold whatever was there before.
#[inline(always)]
fn leave_until(how: Leave, deadline_us: u64) {
    // SAFETY: the next task's pointer was saved when it left its CPU, under the lock, with which interrupts are off; the word to save
    // to is one of a task that the tree of all tasks keeps.
    unsafe { context::switch(how as usize, deadline_us, choose, finish) };
}

/// Locks the scheduler, and leaves it locked for [`finish`] if there is a task to switch to.
extern "C" fn choose(how: usize, deadline_us: u64) -> Next {
    const STAY: Next = Next {
        save: ptr::null_mut(),
        stack_pointer: 0,
    };
    let how = Leave::from_bits(how);
    may_wait();
    let mut scheduler = SCHEDULER.lock();
    if how == Leave::Block && !scheduler.may_block(deadline_us) {
        return STAY;
    }
    if ending::is_ending() {
        ending::must_not_wait();
    }
    let Some(next) = hand_over(&mut scheduler, how) else {
        return STAY;
    };
    // The lock stays closed; what it disables is enabled when this task runs again.
    mem::forget(scheduler.keep_locked());
    next
}

/// Opens the lock for the task that was switched to, which runs this first, and lets it be interrupted and preempted as before.
extern "C" fn finish() {
    let before = with_current(|task| task.interrupts.load(Ordering::Relaxed));
    // SAFETY: the task that switched to this one kept the lock closed and left it to us.
    unsafe { SCHEDULER.force_unlock() };
    let before = match before {
        Some(DISABLED) => InterruptFlag::Disabled,
        _ => InterruptFlag::Enabled,
    };
    // SAFETY: that task also left the preemption count at one and interrupts off.
    drop(unsafe { IrqGuard::adopt(before) });
}

/// Chooses the next task and makes it the running one; returns where to save this task's stack pointer, and the
/// stack pointer of the next task. None if this task goes on.
fn hand_over(scheduler: &mut Guard, how: Leave) -> Option<Next> {
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
    let before = scheduler.disabled().before() as u32;
    previous.interrupts.store(before, Ordering::Relaxed);
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
    let stack_pointer = next.stack_pointer();
    CURRENT
        .local(scheduler.disabled())
        .store(Arc::as_ptr(&next).cast_mut(), Ordering::Release);
    set_task_id(cpu as u32, next.id);
    scheduler.running[cpu] = Some(next);
    Some(Next {
        save,
        stack_pointer,
    })
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
    leave(Leave::Yield);
}

/// Gives this CPU to the next task: called when the preemption count has become zero, interrupts off.
pub fn preempt() {
    leave(Leave::Yield);
}

/// Waits until [`unpark`] wakes this task; returns at once if that has happened since the last call. May return early, so
/// callers check again. Task context, with no spinlock held.
pub fn park() {
    leave(Leave::Block);
}

/// Waits as [`park`] does, but at most until `deadline_us`, in microseconds since the boot.
pub fn park_until(deadline_us: u64) {
    leave_until(Leave::Block, deadline_us);
}

/// Wakes a task; if it is not blocked, its next [`park`] returns at once. Any context.
pub fn unpark(task: &Arc<Task>) {
    SCHEDULER.lock().wake(task);
}

/// Ends this task.
pub(super) fn exit() -> ! {
    leave(Leave::Exit);
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

/// Runs `look` on the task with the lowest number that is not below `from`, and returns its result. Any context.
pub fn find_task<R>(from: u32, look: impl FnOnce(&Task) -> R) -> Option<R> {
    let scheduler = SCHEDULER.lock();
    scheduler
        .all
        .lower_bound(Bound::Included(&from))
        .get()
        .map(look)
}
