//! CPUs: host threads that say which one they are, and the stop that waits for them.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::{Barrier, Mutex, RwLock, RwLockReadGuard};

use kmemleak::{Comm, Context, Level, StopError, StoppedCpu};

thread_local! {
    /// Task, CPU, and whether an interrupt is handled: plain words, which are read without a branch.
    static CURRENT: Cell<[u32; 3]> = const { Cell::new([1, 0, 0]) };
    static COMM: Cell<Comm> = const { Cell::new(Comm::new("test")) };
    /// How often the name of this thread's task was asked for.
    static COMM_ASKED: Cell<usize> = const { Cell::new(0) };
    /// How often this thread has switched interrupts off.
    static IRQS_OFF: Cell<usize> = const { Cell::new(0) };
    /// How many running guards this thread has.
    static GUARDS: Cell<usize> = const { Cell::new(0) };
}

/// Says who the calling host thread is: its task and the CPU it runs on. At first it is task 1, "test", on CPU 0.
pub fn set_current(context: Context) {
    let Context { task, cpu, level } = context;
    CURRENT.set([task, cpu, u32::from(level == Level::Interrupt)]);
}

/// Gives the task of the calling host thread another name.
pub fn set_comm(name: &str) {
    COMM.set(Comm::new(name));
}

/// How often the detector asked for the name of the calling host thread's task.
pub fn comm_asked() -> usize {
    COMM_ASKED.get()
}

pub(crate) fn comm() -> Comm {
    COMM_ASKED.set(COMM_ASKED.get() + 1);
    COMM.get()
}

#[inline]
pub(crate) fn current() -> Context {
    let [task, cpu, in_interrupt] = CURRENT.get();
    let level = match in_interrupt {
        0 => Level::Task,
        _ => Level::Interrupt,
    };
    Context { task, cpu, level }
}

/// Switches interrupts off; returns how often they were off before.
#[inline]
pub(crate) fn irq_save() -> usize {
    IRQS_OFF.replace(IRQS_OFF.get() + 1)
}

/// Restores what [`irq_save`] found.
#[inline]
pub(crate) fn irq_restore(before: usize) {
    let now = IRQS_OFF.replace(before);
    debug_assert_eq!(now, before + 1, "interrupts are put back in reverse order");
}

/// Panics, with `what` in the message, if interrupts are off.
pub(crate) fn assert_may_wait(what: &str) {
    assert_eq!(IRQS_OFF.get(), 0, "{what} with interrupts off");
}

/// How a machine answers a request to stop the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It stops.
    Works,
    /// It has no way to stop.
    Unsupported,
    /// This CPU does not come.
    Missing(u32),
}

/// The right to run while the world is not stopped: a stop waits until all are gone. A thread that has one must
/// neither ask for another nor stop the world.
#[derive(Debug)]
pub struct Running<'a> {
    _guard: RwLockReadGuard<'a, ()>,
    _thread: PhantomData<*const ()>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        GUARDS.set(GUARDS.get() - 1);
    }
}

pub(crate) struct Cpus {
    count: u32,
    stop: Mutex<Stop>,
    /// Locked for writing by the CPU that stops the world, for reading by those that run.
    running: RwLock<()>,
}

impl Cpus {
    pub(crate) fn new(count: u32) -> Self {
        assert!(count > 0, "a machine has a CPU");
        Self {
            count,
            stop: Mutex::new(Stop::Works),
            running: RwLock::new(()),
        }
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    pub(crate) fn set_stop(&self, stop: Stop) {
        *self.stop.lock().expect("nobody panics under it") = stop;
    }

    pub(crate) fn running(&self) -> Running<'_> {
        assert_eq!(GUARDS.get(), 0, "this thread has a running guard");
        let guard = self.running.read().expect("a stopped world panicked");
        GUARDS.set(1);
        Running {
            _guard: guard,
            _thread: PhantomData,
        }
    }

    pub(crate) fn stop_world(&self, work: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        assert_may_wait("stopping the world");
        assert_eq!(GUARDS.get(), 0, "stopping the world while running");
        match *self.stop.lock().expect("nobody panics under it") {
            Stop::Works => {}
            Stop::Unsupported => return Err(StopError::Unsupported),
            Stop::Missing(cpu) => return Err(StopError::Missing(cpu)),
        }
        let _stopped = self.running.write().expect("a running thread panicked");
        let me = current();
        let initiator = me.cpu % self.count;
        let all_here = Barrier::new(self.count as usize);
        let join = |index: u32| {
            set_current(Context { cpu: index, ..me });
            all_here.wait();
            let before = irq_save();
            work(StoppedCpu {
                index,
                of: self.count,
                initiator: index == initiator,
            });
            irq_restore(before);
        };
        std::thread::scope(|scope| {
            for index in (0..self.count).filter(|&index| index != initiator) {
                scope.spawn(move || join(index));
            }
            join(initiator);
        });
        set_current(me);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn each_cpu_works_once_and_one_is_the_initiator() {
        let (cpus, bits, initiators) = (Cpus::new(4), AtomicU32::new(0), AtomicU32::new(0));
        let stopped = cpus.stop_world(&|cpu| {
            assert_eq!((current().cpu, cpu.of), (cpu.index, 4));
            bits.fetch_add(1 << cpu.index, Ordering::Relaxed);
            initiators.fetch_add(cpu.initiator.into(), Ordering::Relaxed);
        });
        assert_eq!(stopped, Ok(()));
        assert_eq!((bits.into_inner(), initiators.into_inner()), (0b1111, 1));
    }

    #[test]
    fn a_stop_waits_for_who_runs() {
        let (cpus, changes) = (Cpus::new(1), AtomicU32::new(0));
        std::thread::scope(|scope| {
            let running = cpus.running();
            let stopper = scope.spawn(|| {
                let mut seen = Mutex::new(0);
                let _ = cpus.stop_world(&|_| {
                    *seen.lock().expect("one CPU") = changes.load(Ordering::Relaxed);
                });
                *seen.get_mut().expect("one CPU")
            });
            changes.store(1, Ordering::Relaxed);
            drop(running);
            assert_eq!(stopper.join().expect("no panic"), 1);
        });
    }

    #[test]
    fn a_stop_can_fail() {
        let cpus = Cpus::new(2);
        cpus.set_stop(Stop::Missing(1));
        assert_eq!(cpus.stop_world(&|_| ()), Err(StopError::Missing(1)));
        cpus.set_stop(Stop::Unsupported);
        assert_eq!(cpus.stop_world(&|_| ()), Err(StopError::Unsupported));
    }
}
