//! Mappings: page tables that several CPUs change and look at, and flushes that all of them answer.

use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use kernel::arch::memory;
use kernel::arch::percpu::{cpu_id, running};
use kernel::dev::tlb;
use kernel::mm::buddy::{self, Tracking};
use kernel::mm::mapping;
use kernel::mm::paging::{self, Open};
use kernel::mm::vmalloc;
use kernel::task::{self, JoinHandle, Priority};

use crate::guest_test;

guest_test! {
    /// A page table is empty from the moment on at which CPUs find it, whatever its frame held before: a page that was
    /// never mapped is never seen as mapped.
    fn new_page_tables_are_empty() smp [2, 4] {
        // What one table describes.
        const TABLE: usize = 2 << 20;
        // More frames than are taken below, and than the allocator has in hand.
        let dirty: Vec<_> = (0..4096).map_while(|_| buddy::alloc(0, Tracking::Untracked)).collect();
        for frame in &dirty {
            // SAFETY: a frame, and ours.
            unsafe { frame.write_bytes(0xff, 4096) };
        }
        dirty.into_iter().for_each(|frame| buddy::free(frame, 0, Tracking::Untracked));
        // A page of the table that comes next.
        static NEVER_MAPPED: AtomicUsize = AtomicUsize::new(0);
        static LOOKED: AtomicUsize = AtomicUsize::new(0);
        static SEEN: AtomicU32 = AtomicU32::new(0);
        let mut last = vmalloc::vmalloc_aligned(4096, TABLE, vmalloc::Kind::Data).expect("memory").addr().get();
        NEVER_MAPPED.store(last + TABLE + TABLE / 2, Ordering::Release);
        let looker = task::spawn("looker", Priority::Normal, || loop {
            let page = NEVER_MAPPED.load(Ordering::Acquire);
            if page == 0 {
                return;
            }
            SEEN.fetch_add(u32::from(paging::is_mapped(page)), Ordering::Relaxed);
            LOOKED.store(page, Ordering::Release);
        });
        for _ in 0..200 {
            // Until it looks where the next table is going to be.
            while LOOKED.load(Ordering::Acquire) != NEVER_MAPPED.load(Ordering::Relaxed) {
                task::yield_now();
            }
            let block = vmalloc::vmalloc_aligned(4096, TABLE, vmalloc::Kind::Data).expect("memory");
            assert_eq!(block.addr().get(), last + TABLE, "the lowest place that is free");
            last += TABLE;
            NEVER_MAPPED.store(last + TABLE + TABLE / 2, Ordering::Release);
        }
        NEVER_MAPPED.store(0, Ordering::Release);
        looker.expect("memory for a task").join();
        assert_eq!(SEEN.load(Ordering::Relaxed), 0, "pages that were never mapped, but seen so");
    }
}

guest_test! {
    /// When tasks on all CPUs map in one table's range at once and need the same new table, each mapping is there.
    fn mappings_of_all_cpus_at_once_are_all_there() smp [2, 4] {
        const PAGES: usize = 64;
        const ROUNDS: usize = 40;
        static ROUND: AtomicUsize = AtomicUsize::new(0);
        static READY: AtomicUsize = AtomicUsize::new(0);
        // Far above whatever vmalloc takes; each round in tables of its own.
        let page = |round: usize, task: usize, number: usize| {
            0xffff_e800_0000_0000 + (round << 30) + (number * 4 + task) * 4096
        };
        let frame = buddy::alloc(0, Tracking::Untracked).expect("memory");
        let physical = frame.addr().get() as u64 - memory::PHYSICAL_WINDOW;
        let tasks: Vec<_> = (0..4)
            .map(|task| {
                let map = move || for round in 0..ROUNDS {
                    READY.fetch_add(1, Ordering::AcqRel);
                    while ROUND.load(Ordering::Acquire) <= round {
                        task::yield_now();
                    }
                    for number in 0..PAGES {
                        let page = page(round, task, number);
                        // SAFETY: an address of this test's, and a frame of its own.
                        unsafe { mapping::map(page, physical, mapping::Access::Data, &Open::new()) }.expect("memory");
                    }
                };
                task::spawn("mapper", Priority::Normal, map).expect("memory for a task")
            })
            .collect();
        for round in 0..ROUNDS {
            while READY.load(Ordering::Acquire) < 4 * (round + 1) {
                task::yield_now();
            }
            ROUND.store(round + 1, Ordering::Release);
        }
        tasks.into_iter().for_each(JoinHandle::join);
        for round in 0..ROUNDS {
            for page in (0..PAGES).flat_map(|number| (0..4).map(move |task| page(round, task, number))) {
                assert!(paging::is_mapped(page), "{page:#x}");
                // SAFETY: nobody has used it.
                unsafe { mapping::unmap(page, &Open::new()) };
                assert!(!paging::is_mapped(page), "{page:#x}");
            }
        }
        tlb::flush_all_cpus();
        buddy::free(frame, 0, Tracking::Untracked);
    }
}

guest_test! {
    /// CPUs that read the page tables and CPUs that change them don't disturb one another.
    fn tables_are_looked_at_and_changed_by_all() smp [2, 4] {
        /// What one table maps.
        const SPAN: usize = 2 << 20;
        static END: AtomicU32 = AtomicU32::new(0);
        let known = vmalloc::vmalloc(8192, vmalloc::Kind::Data).expect("memory").addr().get();
        let watchers: Vec<_> = (1..running())
            .map(|_| {
                task::spawn("watcher", Priority::Normal, move || {
                    while END.load(Ordering::Acquire) == 0 {
                        assert!(vmalloc::readable(known, 8192));
                        assert!(!vmalloc::readable(known - 4096, 8), "the guard page");
                    }
                })
            })
            .collect();
        for _ in 0..100 {
            let block = vmalloc::vmalloc_aligned(4096, SPAN, vmalloc::Kind::Data).expect("memory");
            assert!(vmalloc::readable(block.addr().get(), 4096));
            vmalloc::vfree(block.as_ptr());
        }
        END.store(1, Ordering::Release);
        watchers.into_iter().for_each(|task| task.expect("memory for a task").join());
        vmalloc::vfree(ptr::with_exposed_provenance_mut(known));
    }
}

guest_test! {
    /// All CPUs answer a flush, also when the task that asks is moved to another CPU meanwhile: it is never left
    /// waiting for the CPU that it came from.
    fn a_flush_is_answered_whoever_moves() smp [2] {
        const MOVES: u32 = 60;
        static END: AtomicU32 = AtomicU32::new(0);
        // More tasks than CPUs: each tick of the clock moves some task.
        let busy: Vec<_> = (0..running() + 1)
            .map(|_| task::spawn("busy", Priority::Normal, || while END.load(Ordering::Relaxed) == 0 {}))
            .collect();
        // No other task flushes, which would answer for this one. Until this one has been moved often: how many flushes
        // that takes depends on how long one takes.
        let (mut moves, mut last) = (0, cpu_id());
        while moves < MOVES {
            tlb::flush_all_cpus();
            let here = cpu_id();
            moves += u32::from(here != last);
            last = here;
        }
        END.store(1, Ordering::Relaxed);
        busy.into_iter().for_each(|task| task.expect("memory for a task").join());
    }
}
