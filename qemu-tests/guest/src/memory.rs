//! The allocators: what they hand out, what they leave in it, and what becomes of them when memory runs out.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, Ordering};

use kernel::arch::gdt;
use kernel::leak::{self, KMEMLEAK};
use kernel::mm::buddy::{self, Tracking};
use kernel::mm::slab::{SlabCache, Trace};
use kernel::mm::{self, misuse, percpu, vmalloc};
use kernel::task::scheduler::IdleTask;
use kernel::task::{self, JoinHandle, Priority};

use crate::guest_test;
use crate::leak_support::{check, plant, uproot, warnings};

static CACHE: SlabCache = SlabCache::new("test", 96, Trace::Trace);
static UNSEEN: SlabCache = SlabCache::new("test-unseen", 96, Trace::NoLeakTrace);

guest_test! {
    /// A lost block that was in a per-CPU cache's slot before is found: the slot does not hold it any more.
    fn popped_slots_keep_nothing_alive() smp [1, 2, 4] leaks nothing {
        let lost: Vec<_> = (0..40).map(|_| plant(|_| ())).collect();
        let mut found = check();
        found.sort_unstable();
        let mut expected = lost.clone();
        expected.sort_unstable();
        assert_eq!(found, expected);
        lost.into_iter().for_each(|block| {
            // SAFETY: planted above, and given back once.
            unsafe { uproot(block) }
        });
        assert_eq!(check(), []);
    }
}

guest_test! {
    /// A block that is smaller than its slab's slot takes no more metadata than one that fills it.
    fn small_blocks_take_little_metadata() smp [1] leaks nothing {
        const BLOCKS: usize = 50_000;
        let used = || {
            let used = KMEMLEAK.metadata();
            used.bytes - used.call_stacks
        };
        let mut blocks: Vec<Box<[u8; 40]>> = Vec::with_capacity(BLOCKS);
        let before = used();
        blocks.resize_with(BLOCKS, || Box::new([0; 40]));
        let each = (used() - before) / BLOCKS;
        // In slots of 80 bytes, with the gap.
        assert!(each <= 48, "{each} bytes of metadata for each block of 40 bytes");
        assert_eq!(mm::slab::cache_of(ptr::from_ref(&*blocks[0]).addr()).map(|(cache, _)| cache.object_size()), Some(64));
    }
}

guest_test! {
    /// Blocks of all sizes and alignments are as large and as aligned as asked for, don't overlap, and all
    /// memory comes back.
    fn random_blocks_do_not_overlap() smp [1] leaks nothing {
        let mut seed = 0x1234_5678_9abc_def1_u64;
        let mut roll = |sides: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize % sides
        };
        let mut blocks: Vec<(*mut u8, Layout, u8)> = Vec::with_capacity(600);
        for round in 0..6_000 {
            if blocks.len() < 500 && roll(3) != 0 {
                let size = if roll(8) == 0 { 1 + roll(40_000) } else { 1 + roll(700) };
                let layout = Layout::from_size_align(size, 1 << roll(13)).expect("a layout");
                // SAFETY: the layout is not empty.
                let block = unsafe { alloc::alloc::alloc(layout) };
                assert!(!block.is_null() && block.addr().is_multiple_of(layout.align()));
                let fill = round as u8;
                // SAFETY: the block is that long.
                unsafe { block.write_bytes(fill, size) };
                blocks.push((block, layout, fill));
            } else if !blocks.is_empty() {
                let (block, layout, fill) = blocks.swap_remove(roll(blocks.len()));
                // SAFETY: the block is that long, and written.
                let bytes = unsafe { core::slice::from_raw_parts(block, layout.size()) };
                assert!(bytes.iter().all(|&byte| byte == fill), "another block's bytes");
                // SAFETY: allocated with that layout.
                unsafe { alloc::alloc::dealloc(block, layout) };
            }
            if round % 500 == 0 {
                mm::check_invariants();
            }
        }
        for (block, layout, _) in blocks {
            // SAFETY: allocated with that layout.
            unsafe { alloc::alloc::dealloc(block, layout) };
        }
        mm::check_invariants();
        assert_eq!(misuse::count(), 0);
    }
}

guest_test! {
    /// Blocks handed from CPU to CPU come back, and the count of blocks in use is right.
    fn caches_add_up_across_cpus() smp [2, 4] leaks nothing {
        static FREED: AtomicU32 = AtomicU32::new(0);
        for _ in 0..20 {
            let tasks: Vec<_> = (0..8)
                .map(|_| {
                    let blocks: Vec<_> = (0..40).map(|_| Address(CACHE.alloc(96).expect("memory"))).collect();
                    let free = move || blocks.into_iter().for_each(|block| {
                        CACHE.free(block.0);
                        FREED.fetch_add(1, Ordering::Relaxed);
                    });
                    task::spawn("free", Priority::Normal, free).expect("memory for a task")
                })
                .collect();
            tasks.into_iter().for_each(JoinHandle::join);
        }
        assert_eq!(FREED.load(Ordering::Relaxed), 20 * 8 * 40);
        let stats = CACHE.stats();
        assert_eq!(stats.in_use, 0);
        mm::check_invariants();
    }
}

/// A block on its way to another task.
struct Address(NonNull<u8>);

// SAFETY: only the holder of this uses the block.
unsafe impl Send for Address {}

guest_test! {
    /// A cache's blocks that the detector is not told of are not tracked, and keep nothing alive.
    fn noleaktrace_is_unseen() smp [1] {
        let _ours = leak::hold_warnings();
        let before = KMEMLEAK.tracking();
        let block = UNSEEN.alloc(96).expect("memory");
        assert_eq!(KMEMLEAK.tracking(), before);
        UNSEEN.free(block);
        assert_eq!(warnings(), "");
    }
}

guest_test! {
    /// A page-sized free of another owner's untracked pages is refused.
    fn untracked_pages_are_no_blocks_of_the_heap() smp [1] {
        let layout = Layout::from_size_align(16_384, 8).expect("a layout");
        let pages = buddy::alloc(2, Tracking::Untracked).expect("memory");
        let _ours = leak::hold_warnings();
        // SAFETY: it is refused.
        unsafe { alloc::alloc::dealloc(pages.as_ptr(), layout) };
        assert_eq!(misuse::count(), 1);
        buddy::free(pages, 2, Tracking::Untracked);
        assert_eq!(misuse::count(), 1);
        mm::check_invariants();
    }
}

guest_test! {
    /// Of a large block of the heap the detector knows the bytes that were asked for: what lies behind them in its last page
    /// keeps nothing alive.
    fn large_blocks_have_the_size_that_was_asked_for() smp [1] {
        const LEN: usize = 9000;
        let large = alloc::vec![0_u8; LEN];
        let lost = plant(|_| ());
        let slot: *mut usize = ptr::with_exposed_provenance_mut(large.as_ptr().expose_provenance() + LEN);
        // SAFETY: a word of the block's last page, which is unused.
        unsafe { slot.write(lost.show()) };
        assert_eq!(check(), [lost]);
        let mut told = String::new();
        let command = alloc::format!("dump {:x}", large.as_ptr().addr());
        KMEMLEAK.command(&command, &mut told).expect("a command");
        assert!(told.contains("(size 9000)"), "{told}");
        // SAFETY: as above.
        unsafe { slot.write(0) };
        // SAFETY: planted above, and given back once.
        unsafe { uproot(lost) };
    }
}

guest_test! {
    /// Fresh memory of a slab holds no link, and wiped memory nothing at all.
    fn wipe_clears_freed_blocks() smp [1] {
        mm::set_wipe(mm::Wipe::OnFree);
        let block = CACHE.alloc(96).expect("memory");
        // SAFETY: the block is that long.
        unsafe { block.write_bytes(0xee, 96) };
        CACHE.free(block);
        // SAFETY: still mapped; nobody else allocates.
        let bytes = unsafe { core::slice::from_raw_parts(block.as_ptr(), 96) };
        assert!(bytes.iter().all(|&byte| byte == 0));
    }
}

guest_test! {
    /// What a slab hands out holds what its last user left, and not one word of the allocator's.
    fn slabs_write_nothing_into_blocks() smp [1, 2] leaks nothing {
        let blocks: Vec<_> = (0..300).map(|_| CACHE.alloc(96).expect("memory")).collect();
        for block in &blocks {
            // SAFETY: the block is that long.
            unsafe { block.write_bytes(0xee, 96) };
        }
        blocks.iter().for_each(|&block| CACHE.free(block));
        let again: Vec<_> = (0..100).map(|_| CACHE.alloc(96).expect("memory")).collect();
        for block in again {
            // SAFETY: the block is that long; it was written to before.
            let bytes = unsafe { core::slice::from_raw_parts(block.as_ptr(), 96) };
            assert!(bytes.iter().all(|&byte| byte == 0xee), "{bytes:x?}");
            CACHE.free(block);
        }
    }
}

guest_test! {
    /// The copies of a per-CPU block are zeroed, each CPU's its own.
    fn percpu_copies_are_distinct() smp [1, 4] leaks nothing {
        let handles: Vec<_> = (0..50).map(|n| percpu::alloc_percpu(8 + n * 8, 8).expect("memory")).collect();
        for &handle in &handles {
            for cpu in 0..percpu::cpus() {
                let copy: *mut u64 = ptr::with_exposed_provenance_mut(percpu::percpu_copy(handle, cpu));
                // SAFETY: a copy of a block of 8 bytes at least.
                assert_eq!(unsafe { copy.read() }, 0, "not zeroed, or another's");
                // SAFETY: as above.
                unsafe { copy.write(0x1111_1111_1111_1111 * u64::from(cpu + 1)) };
            }
        }
        handles.iter().for_each(|&handle| percpu::free_percpu(handle));
        assert_eq!(misuse::count(), 0);
        percpu::free_percpu(handles[0]);
        assert_eq!(misuse::count(), 1);
    }
}

guest_test! {
    /// A request for more memory than there is is refused, and the memory stays usable.
    fn running_out_is_survived() smp [1] {
        let mut taken = Vec::with_capacity(1 << 17);
        while let Some(page) = buddy::alloc(0, Tracking::Untracked) {
            taken.push(page);
        }
        assert_eq!(buddy::free_pages(), 0);
        assert!(vmalloc::vmalloc(1 << 20, vmalloc::Kind::Data).is_none());
        assert!(task::spawn("none", Priority::Normal, || ()).is_err());
        taken.into_iter().for_each(|page| buddy::free(page, 0, Tracking::Untracked));
        mm::check_invariants();
        task::spawn("one", Priority::Normal, || ()).expect("memory for a task").join();
        assert_eq!(check(), []);
    }
}

guest_test! {
    /// When the detector runs out of metadata, it goes on, and says what it misses.
    fn metadata_exhaustion_is_told_not_fatal() smp [1] {
        let _ours = leak::hold_warnings();
        let mut taken = Vec::with_capacity(1 << 17);
        while let Some(page) = buddy::alloc(0, Tracking::Untracked) {
            taken.push(page);
        }
        // More records than are left in the pages that the detector has; of blocks where no allocator has any.
        let start = |n: usize| 0xffff_f000_0000_0000 + n * 16;
        (0..50_000).for_each(|n| KMEMLEAK.alloc(start(n), 16, kmemleak::AllocOptions::new()));
        taken.into_iter().for_each(|page| buddy::free(page, 0, Tracking::Untracked));
        let mut text = String::new();
        KMEMLEAK.command("status", &mut text).expect("a string takes it");
        assert!(text.contains("enabled, incomplete"), "{text}");
        (0..50_000).for_each(|n| KMEMLEAK.free(start(n)));
        assert_eq!(warnings(), "", "frees of unrecorded blocks are silent");
        let block = Box::new(7_u64);
        assert_eq!(check(), []);
        drop(block);
        text.clear();
        KMEMLEAK.report(&mut text).expect("a string takes it");
        assert!(text.contains("unrecorded"), "{text}");
        KMEMLEAK.command("clear", &mut text).expect("a string takes it");
        text.clear();
        KMEMLEAK.command("status", &mut text).expect("a string takes it");
        assert!(text.contains("state        enabled\n"), "{text}");
    }
}

guest_test! {
    /// What was taken for a CPU that does not start is given back, and the detector hears of it as little as before.
    fn memory_of_a_cpu_is_given_back() smp [1] {
        let _ours = leak::hold_warnings();
        let take_and_give = || {
            let idle = IdleTask::new(63).expect("memory");
            let stack = vmalloc::map_untold_stack(gdt::EXCEPTION_STACK_LEN).expect("memory");
            vmalloc::unmap_untold_stack(stack);
            idle.give_back();
            vmalloc::purge();
        };
        let state = || (vmalloc::pages(), KMEMLEAK.tracking().objects);
        let before = state();
        take_and_give();
        // The slabs, magazines and page tables that it needs stay.
        let free_pages = || buddy::free_pages() + leak::metadata_bytes() as usize / 4096;
        let free = free_pages();
        take_and_give();
        assert_eq!((state(), misuse::count(), warnings().as_str()), (before, 0, ""));
        assert_eq!(free_pages(), free);
        mm::check_invariants();
    }
}
