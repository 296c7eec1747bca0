//! Tasks, and what they wait with.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use kernel::arch::interrupts;
use kernel::arch::percpu::cpu_id;
use kernel::arch::percpu::running;
use kernel::dev::time;
use kernel::sync::{IrqGuard, PreemptGuard, SpinLock, is_disabled};
use kernel::task::{self, JoinHandle, Mutex, Priority, State, WaitQueue, scheduler};

use crate::guest_test;

fn spawn(work: impl FnOnce() + Send + 'static) -> JoinHandle {
    task::spawn("test", Priority::Normal, work).expect("memory for a task")
}

fn in_many(tasks: usize, work: impl Fn() + Clone + Send + 'static) {
    let handles: Vec<_> = (0..tasks).map(|_| spawn(work.clone())).collect();
    handles.into_iter().for_each(JoinHandle::join);
}

guest_test! {
    /// The kernel starts as many CPUs as the machine has, and all of them run tasks.
    fn all_cpus_run_tasks() smp [1, 2, 4, 8] leaks nothing {
        let expected = kernel::cmdline::value("test").map(|_| running());
        assert_eq!(Some(kernel::mm::percpu::cpus()), expected, "a CPU did not start");
        let seen = Arc::new(AtomicU64::new(0));
        let all = (1 << running()) - 1;
        in_many(running() as usize * 2, move || {
            while seen.load(Ordering::Relaxed) != all {
                seen.fetch_or(1 << cpu_id(), Ordering::Relaxed);
            }
        });
    }
}

guest_test! {
    /// The stack of an idle CPU does not hold the frames in which it was started: stale words in them would point to blocks
    /// that were freed and handed out again.
    fn an_idle_cpu_has_forgotten_its_start() smp [1] {
        /// Waiting, and leaving the CPU to this task: two frames and what is pushed; or those of the handler in which it was
        /// taken. The start itself has more than that.
        const MOST: usize = 900;
        let idle = scheduler::find_task(0, |task| {
            assert_eq!(task.comm().as_str(), "idle/0");
            task.stack().end - task.stack_pointer()
        });
        let idle = idle.expect("it was the first task");
        assert!(idle <= MOST, "{idle} bytes are live");
    }
}

guest_test! {
    /// Tasks that never give up their CPU share it all the same.
    fn spinning_tasks_are_preempted() smp [1, 2] leaks nothing {
        static TURN: AtomicU32 = AtomicU32::new(0);
        const TASKS: u32 = 5;
        let handles: Vec<_> = (0..TASKS)
            .map(|mine| {
                spawn(move || {
                    for round in 0..4 {
                        while TURN.load(Ordering::Acquire) != round * TASKS + mine {
                            core::hint::spin_loop();
                        }
                        TURN.fetch_add(1, Ordering::AcqRel);
                    }
                })
            })
            .collect();
        handles.into_iter().for_each(JoinHandle::join);
        assert_eq!(TURN.load(Ordering::Acquire), 4 * TASKS);
    }
}

guest_test! {
    /// A task of low priority gets on beside ones that never rest.
    fn low_priority_is_not_starved() smp [1] {
        static DONE: AtomicU32 = AtomicU32::new(0);
        let busy = spawn(|| while DONE.load(Ordering::Acquire) == 0 {});
        let low = task::spawn("low", Priority::Low, || DONE.store(1, Ordering::Release));
        low.expect("memory for a task").join();
        busy.join();
    }
}

guest_test! {
    /// A sleeper wakes, and not too early.
    fn sleep_takes_its_time() smp [1, 2] leaks nothing {
        in_many(4, || {
            for us in [1, 5_000, 20_000] {
                let start = time::now_us();
                task::sleep_us(us);
                assert!(time::now_us() - start >= us);
            }
        });
    }
}

guest_test! {
    /// The sleeping mutex lets one task in at a time, also while its holder sleeps.
    fn mutex_excludes() smp [1, 2, 4] leaks nothing {
        static COUNT: Mutex<u64> = Mutex::new(0);
        in_many(8, || {
            for round in 0..200 {
                let mut count = COUNT.lock();
                let seen = *count;
                if round % 50 == 0 {
                    task::sleep_us(1);
                } else {
                    task::yield_now();
                }
                *count = seen + 1;
            }
        });
        assert_eq!(*COUNT.lock(), 8 * 200);
    }
}

guest_test! {
    /// The spinlock lets one task in at a time, and keeps its holder on its CPU.
    fn spinlock_excludes() smp [1, 2, 4] leaks nothing {
        static COUNT: SpinLock<u64> = SpinLock::new(0);
        in_many(8, || {
            for _ in 0..5_000 {
                let mut count = COUNT.lock();
                assert!(is_disabled());
                *count += 1;
            }
        });
        assert_eq!(*COUNT.lock(), 8 * 5_000);
        assert!(!is_disabled());
    }
}

guest_test! {
    /// A task that waits is woken, however wake-ups and waits fall together.
    fn wake_ups_are_not_lost() smp [1, 2, 4] leaks nothing {
        static QUEUE: WaitQueue = WaitQueue::new();
        static TOKENS: AtomicU32 = AtomicU32::new(0);
        const TASKS: u32 = 4;
        const EACH: u32 = 500;
        let takers: Vec<_> = (0..TASKS)
            .map(|_| {
                spawn(|| {
                    for _ in 0..EACH {
                        QUEUE.wait_for(|| {
                            let take = |tokens: u32| tokens.checked_sub(1);
                            TOKENS.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).ok()
                        });
                    }
                })
            })
            .collect();
        for _ in 0..TASKS * EACH {
            TOKENS.fetch_add(1, Ordering::AcqRel);
            QUEUE.wake_one();
        }
        takers.into_iter().for_each(JoinHandle::join);
        assert_eq!(TOKENS.load(Ordering::Acquire), 0);
    }
}

guest_test! {
    /// A wake-up of a task that has just got what it waited for by itself is handed on to one that still waits.
    fn wake_ups_are_handed_on() smp [1, 2] leaks nothing {
        static QUEUE: WaitQueue = WaitQueue::new();
        static STEP: AtomicU32 = AtomicU32::new(0);
        static TOKEN: AtomicU32 = AtomicU32::new(0);
        let leaves = spawn(|| {
            let mut looks = 0;
            QUEUE.wait_for(|| {
                looks += 1;
                // The first look is before it is in the queue.
                (looks > 1).then(|| {
                    STEP.store(1, Ordering::Release);
                    while STEP.load(Ordering::Acquire) != 2 {
                        task::yield_now();
                    }
                })
            });
        });
        while STEP.load(Ordering::Acquire) != 1 {
            task::yield_now();
        }
        let waits = spawn(|| QUEUE.wait_for(|| (TOKEN.load(Ordering::Acquire) != 0).then_some(())));
        while waits.task().state() != State::Blocked {
            task::yield_now();
        }
        TOKEN.store(1, Ordering::Release);
        QUEUE.wake_one();
        STEP.store(2, Ordering::Release);
        [leaves, waits].into_iter().for_each(JoinHandle::join);
    }
}

guest_test! {
    /// Guards nest, and put back what they found.
    fn guards_nest() smp [1] {
        assert_eq!(interrupts::flag(), interrupts::InterruptFlag::Enabled);
        {
            let _outer = PreemptGuard::new();
            {
                let _inner = IrqGuard::new();
                let _innermost = IrqGuard::new();
                assert_eq!(interrupts::flag(), interrupts::InterruptFlag::Disabled);
            }
            assert_eq!(interrupts::flag(), interrupts::InterruptFlag::Enabled);
            assert!(is_disabled());
        }
        assert!(!is_disabled());
    }
}

guest_test! {
    /// Tasks come and go, and leave nothing.
    fn tasks_leave_nothing() smp [1, 2, 4] leaks nothing {
        use kernel::stop;
        use kernel::mm;
        // The task that was waited for is the reaper's for a moment, at most until the world stops.
        let reaped = || while stop::stop_world(&|_| ()).is_err() {};
        // Caches fill up first.
        in_many(20, || {});
        reaped();
        mm::vmalloc::purge();
        let (free, before) = (mm::buddy::free_pages(), kernel::leak::KMEMLEAK.tracking());
        for _ in 0..20 {
            in_many(20, task::yield_now);
        }
        reaped();
        mm::vmalloc::purge();
        assert_eq!(kernel::leak::KMEMLEAK.tracking(), before);
        // A slab more or less, and pages of metadata, but not 400 stacks of 16 pages.
        assert!(free.abs_diff(mm::buddy::free_pages()) < 64);
    }
}

guest_test! {
    /// A task that holds a guard must not give its CPU away: that would never be preempted again, nor join a stop of the world.
    fn who_yields_with_a_guard_panics() smp [1, 2] fails "while it holds a spinlock" {
        let _guard = PreemptGuard::new();
        task::yield_now();
    }
}

guest_test! {
    /// The same for one that sleeps.
    fn who_sleeps_with_a_guard_panics() smp [1] fails "while it holds a spinlock" {
        static LOCK: SpinLock<u32> = SpinLock::new(0);
        let _held = LOCK.lock();
        task::sleep_us(1);
    }
}

guest_test! {
    /// A mutex is not to be locked with a guard held, even if it is open.
    fn who_locks_a_mutex_with_a_guard_panics() smp [1] fails "while it holds a spinlock" {
        let _guard = IrqGuard::new();
        drop(Mutex::new(0).lock());
    }
}
