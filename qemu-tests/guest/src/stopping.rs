//! Stopping the world.

use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use kernel::arch::percpu::running;
use kernel::leak::KMEMLEAK;
use kernel::stop;
use kernel::sync::{IrqGuard, SpinLock};
use kernel::task::{self, JoinHandle, Priority, scheduler};
use kmemleak::{How, StopError};

use crate::guest_test;
use crate::leak_support::{check, plant, stop_world, unreferenced};

fn spawn(work: impl FnOnce() + Send + 'static) -> JoinHandle {
    task::spawn("test", Priority::Normal, work).expect("memory for a task")
}

guest_test! {
    /// All CPUs run the closure once, one of them as the one that asked; nothing else runs meanwhile.
    fn every_cpu_takes_part() smp [1, 2, 4] {
        static TICKS: AtomicU64 = AtomicU64::new(0);
        static END: AtomicU32 = AtomicU32::new(0);
        let busy: Vec<_> = (0..running())
            .map(|_| spawn(|| while END.load(Ordering::Relaxed) == 0 {
                TICKS.fetch_add(1, Ordering::Relaxed);
            }))
            .collect();
        for _ in 0..50 {
            let (seen, initiators) = (AtomicU64::new(0), AtomicU32::new(0));
            let moved = AtomicU32::new(0);
            stop_world(&|cpu| {
                assert_eq!(cpu.of, running());
                let before = seen.fetch_or(1 << cpu.index, Ordering::Relaxed);
                assert_eq!(before & 1 << cpu.index, 0, "cpu {} came twice", cpu.index);
                initiators.fetch_add(u32::from(cpu.initiator), Ordering::Relaxed);
                let ticks = TICKS.load(Ordering::Relaxed);
                (0..2_000).for_each(|_| core::hint::spin_loop());
                moved.fetch_or(u32::from(ticks != TICKS.load(Ordering::Relaxed)), Ordering::Relaxed);
            });
            assert_eq!(seen.into_inner(), (1 << running()) - 1);
            assert_eq!(initiators.into_inner(), 1);
            assert_eq!(moved.into_inner(), 0, "somebody ran in the stopped world");
        }
        END.store(1, Ordering::Relaxed);
        busy.into_iter().for_each(JoinHandle::join);
    }
}

guest_test! {
    /// The stack pointer that is noted for a CPU is that of the task that it runs, also of an initiator that was on another CPU
    /// a moment ago.
    fn stack_pointers_are_of_who_runs() smp [1, 2, 4] {
        static END: AtomicU32 = AtomicU32::new(0);
        let busy: Vec<_> = (0..2 * running())
            .map(|_| spawn(|| while END.load(Ordering::Relaxed) == 0 {
                task::yield_now();
            }))
            .collect();
        for _ in 0..100 {
            let astray = AtomicU64::new(0);
            stop_world(&|cpu| {
                let stack = scheduler::with_current(task::Task::stack).expect("a task");
                let is_astray = !stack.contains(&stop::stack_pointer(cpu.index));
                astray.fetch_or(u64::from(is_astray) << cpu.index, Ordering::Relaxed);
            });
            assert_eq!(astray.into_inner(), 0, "CPUs with a stack pointer of somebody else");
            task::yield_now();
        }
        END.store(1, Ordering::Relaxed);
        busy.into_iter().for_each(JoinHandle::join);
    }
}

guest_test! {
    /// Several tasks that want to stop the world at once do so one after the other.
    fn stops_take_turns() smp [1, 2, 4] {
        static RUNNING: AtomicU32 = AtomicU32::new(0);
        let stoppers: Vec<_> = (0..4)
            .map(|_| spawn(|| for _ in 0..20 {
                stop_world(&|cpu| if cpu.initiator {
                    assert_eq!(RUNNING.fetch_add(1, Ordering::AcqRel), 0);
                    (0..100).for_each(|_| core::hint::spin_loop());
                    RUNNING.fetch_sub(1, Ordering::AcqRel);
                });
            }))
            .collect();
        stoppers.into_iter().for_each(JoinHandle::join);
    }
}

guest_test! {
    /// No CPU is stopped under a spinlock.
    fn nobody_is_stopped_under_a_spinlock() smp [2, 4] {
        static LOCK: SpinLock<u64> = SpinLock::new(0);
        static END: AtomicU32 = AtomicU32::new(0);
        let busy: Vec<_> = (0..running())
            .map(|_| spawn(|| while END.load(Ordering::Relaxed) == 0 {
                let mut held = LOCK.lock();
                *held += 1;
                (0..300).for_each(|_| core::hint::spin_loop());
            }))
            .collect();
        for _ in 0..50 {
            let free = AtomicU32::new(0);
            stop_world(&|cpu| if cpu.initiator {
                free.store(u32::from(LOCK.try_lock().is_some()), Ordering::Relaxed);
            });
            assert_eq!(free.into_inner(), 1, "somebody was stopped who holds the lock");
            task::yield_now();
        }
        END.store(1, Ordering::Relaxed);
        busy.into_iter().for_each(JoinHandle::join);
    }
}

guest_test! {
    /// A CPU that does not come is named, and the check is made in passes while other code runs: what it lists are suspects.
    /// When it takes interrupts again, checks are exact again.
    fn a_missing_cpu_is_named() smp [2] {
        static STATE: AtomicU32 = AtomicU32::new(0);
        let block = plant(|_| ());
        let deaf = spawn(|| {
            let _deaf = IrqGuard::new();
            STATE.store(1, Ordering::Release);
            while STATE.load(Ordering::Acquire) != 2 {}
        });
        while STATE.load(Ordering::Acquire) == 0 {
            core::hint::spin_loop();
        }
        let summary = KMEMLEAK.check().expect("the detector is on");
        let How::Repeated { reason: StopError::Missing(cpu), .. } = summary.how else {
            panic!("a check with a deaf CPU: {summary:?}");
        };
        assert!(cpu < 2);
        assert!(summary.objects == 0 && summary.suspects > 0, "{summary:?}");
        assert!(unreferenced().contains(&block));
        let mut report = String::new();
        KMEMLEAK.report(&mut report).expect("a string takes it");
        assert!(report.contains("did not stop in time"), "{report}");
        STATE.store(2, Ordering::Release);
        deaf.join();
        assert_eq!(check(), [block]);
    }
}
