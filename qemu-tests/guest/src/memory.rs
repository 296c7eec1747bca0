//! The allocators: what they hand out, what they refuse, what they tell.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use kernel::arch::memory;
use kernel::arch::percpu::cpu_id;
use kernel::arch::percpu::running;
use kernel::dev::tlb;
use kernel::leak::{self, KMEMLEAK};
use kernel::mm::buddy::{self, Tracking};
use kernel::mm::slab::{SlabCache, Trace};
use kernel::mm::{self, heap, misuse, paging, percpu, vmalloc};
use kernel::task::{self, JoinHandle, Priority};

use crate::guest_test;
use crate::leak_support::{check, plant, uproot};

static CACHE: SlabCache = SlabCache::new("test", 96, Trace::Trace);
static UNSEEN: SlabCache = SlabCache::new("test-unseen", 96, Trace::NoLeakTrace);

/// What the detector has to say since the last time. Tests hold the warnings before they bring some about.
fn warnings() -> String {
    let mut text = String::new();
    KMEMLEAK.drain_warnings(&mut text);
    text
}

guest_test! {
    /// A second free is told, by the allocator and by the detector (who names who had the block last), and
    /// survived: the block is handed out once.
    fn double_free_is_told_and_survived() smp [1, 2] {
        let _ours = leak::hold_warnings();
        let block = CACHE.alloc(96).expect("memory");
        CACHE.free(block);
        assert_eq!((misuse::count(), warnings().as_str()), (0, ""));
        CACHE.free(block);
        assert_eq!(misuse::count(), 1);
        let told = warnings();
        assert!(told.contains("free refused by the allocator"), "{told}");
        assert!(told.contains("called from") && told.contains("allocated last from"), "{told}");
        assert!(told.contains("guest::memory::double_free_is_told_and_survived"), "{told}");
        let (one, other) = (CACHE.alloc(96), CACHE.alloc(96));
        assert_ne!(one, other);
        mm::check_invariants();
        assert_eq!(check().len(), 0, "both are in use");
        [one, other].into_iter().flatten().for_each(|block| CACHE.free(block));
    }
}

guest_test! {
    /// Where stacks of frees are kept, a second free shows the first one.
    fn double_free_shows_the_first_free() smp [1, 2] {
        #[inline(never)]
        fn the_first_free(block: NonNull<u8>) {
            CACHE.free(block);
            // Or the call would be a jump, and leave no frame.
            core::hint::black_box(block);
        }
        let _ours = leak::hold_warnings();
        assert_eq!(KMEMLEAK.boot_parameter("kmemleak.free_stacks=on"), Ok(()));
        let block = CACHE.alloc(96).expect("memory");
        the_first_free(block);
        CACHE.free(block);
        let told = warnings();
        let (_, freed) = told.split_once("freed last from").expect("the first free");
        assert!(freed.contains("double_free_shows_the_first_free::the_first_free+"), "{told}");
    }
}

guest_test! {
    /// A block that was in a per-CPU cache's slot and is lost is found: the slot does not hold it any more.
    fn popped_slots_keep_nothing_alive() smp [1, 2, 4] leaks nothing {
        let lost: Vec<_> = (0..40).map(|_| plant(|_| ())).collect();
        let mut found = check();
        found.sort_unstable();
        let mut expected = lost.clone();
        expected.sort_unstable();
        assert_eq!(found, expected);
        lost.into_iter().for_each(uproot);
        assert_eq!(check(), []);
    }
}

guest_test! {
    /// Frees of what is no block, or another's, are told and survived.
    fn foreign_frees_are_told_and_survived() smp [1] {
        let block = CACHE.alloc(96).expect("memory");
        let on_stack = 0_u64;
        let inside = NonNull::new(block.as_ptr().wrapping_add(8)).expect("not at zero");
        let in_boot_heap: *mut u8 = ptr::with_exposed_provenance_mut(heap::arena().end - 64);
        let frees: [&dyn Fn(); 8] = [
            // SAFETY: it is refused.
            &|| unsafe { alloc::alloc::dealloc(in_boot_heap, Layout::new::<u64>()) },
            &|| CACHE.free(inside),
            &|| CACHE.free(NonNull::from(&on_stack).cast()),
            &|| UNSEEN.free(block),
            &|| buddy::free(block, 0, Tracking::Tracked),
            &|| vmalloc::vfree(block.as_ptr()),
            &|| percpu::free_percpu(block.addr().get()),
            &|| buddy::free(inside, 0, Tracking::Untracked),
        ];
        for (number, free) in frees.iter().enumerate() {
            free();
            assert_eq!(misuse::count(), number as u64 + 1);
        }
        mm::check_invariants();
        CACHE.free(block);
        assert_eq!(misuse::count(), 8);
    }
}

static OTHER: SlabCache = SlabCache::new("test-other", 64, Trace::Trace);

guest_test! {
    /// Whatever an allocator refuses, the detector keeps what it knows: the block is known, and is forgotten by its own free.
    fn a_refused_free_forgets_nothing() smp [1, 2] {
        let _ours = leak::hold_warnings();
        let objects = || KMEMLEAK.tracking().objects;
        let before = objects();
        let object = CACHE.alloc(96).expect("memory");
        let pages = buddy::alloc(1, Tracking::Tracked).expect("memory");
        let mapped = vmalloc::vmalloc(5000, vmalloc::Kind::Data).expect("memory").as_ptr();
        let handle = percpu::alloc_percpu(64, 8).expect("memory");
        let large = Layout::from_size_align(9000, 8).expect("a layout");
        // SAFETY: the layout is not empty.
        let heap = NonNull::new(unsafe { alloc::alloc::alloc(large) }).expect("memory");
        let inside = |block: NonNull<u8>, offset| NonNull::new(block.as_ptr().wrapping_add(offset)).expect("not at zero");
        let as_percpu = |block: NonNull<u8>| percpu::free_percpu(block.addr().get());
        // SAFETY: it is refused.
        let to_heap = |block: NonNull<u8>, size| unsafe {
            alloc::alloc::dealloc(block.as_ptr(), Layout::from_size_align(size, 8).expect("a layout"));
        };
        let wrong: [&dyn Fn(); 20] = [
            &|| UNSEEN.free(object),
            &|| OTHER.free(object),
            &|| CACHE.free(inside(object, 8)),
            &|| to_heap(object, 96),
            &|| to_heap(object, 9000),
            &|| vmalloc::vfree(object.as_ptr()),
            &|| as_percpu(object),
            &|| buddy::free(object, 0, Tracking::Tracked),
            &|| buddy::free(pages, 0, Tracking::Tracked),
            &|| buddy::free(pages, 1, Tracking::Untracked),
            &|| buddy::free(inside(pages, 4096), 0, Tracking::Tracked),
            &|| buddy::free_part(inside(pages, 8), 1, Tracking::Tracked),
            &|| buddy::free_part(pages, 1, Tracking::Untracked),
            &|| to_heap(pages, 64),
            &|| vmalloc::vfree(mapped.wrapping_add(4096)),
            &|| buddy::free(NonNull::new(mapped).expect("not at zero"), 1, Tracking::Tracked),
            &|| percpu::free_percpu(handle + 16),
            &|| percpu::free_percpu(percpu::percpu_copy(handle, 0) + 8),
            &|| to_heap(heap, 20_000),
            &|| to_heap(inside(heap, 4096), 9000),
        ];
        for (number, free) in wrong.iter().enumerate() {
            free();
            assert_eq!((number, misuse::count()), (number, number as u64 + 1), "refused");
            assert_eq!((number, objects()), (number, before + 5), "known as before");
        }
        mm::check_invariants();
        warnings();
        CACHE.free(object);
        buddy::free(pages, 1, Tracking::Tracked);
        vmalloc::vfree(mapped);
        percpu::free_percpu(handle);
        to_heap(heap, 9000);
        assert_eq!((objects(), misuse::count(), warnings().as_str()), (before, wrong.len() as u64, ""));
        let again: [&dyn Fn(); 5] = [
            &|| CACHE.free(object),
            &|| buddy::free(pages, 1, Tracking::Tracked),
            &|| vmalloc::vfree(mapped),
            &|| percpu::free_percpu(handle),
            &|| to_heap(heap, 9000),
        ];
        for (number, free) in (1..).zip(again) {
            free();
            assert_eq!(misuse::count(), wrong.len() as u64 + number, "refused");
        }
        let told = warnings();
        assert!(told.contains("free refused by the allocator") && told.contains("called from"), "{told}");
        drop(told);
        assert_eq!(objects(), before);
        mm::check_invariants();
    }
}

guest_test! {
    /// Of two frees of one block at once, on two CPUs, one is refused, and the detector hears of the other alone.
    fn of_two_frees_at_once_one_is_refused() smp [2, 4] {
        const ROUNDS: u64 = 60;
        static READY: AtomicU32 = AtomicU32::new(0);
        let _ours = leak::hold_warnings();
        let before = KMEMLEAK.tracking().objects;
        let at = |address| NonNull::new(ptr::with_exposed_provenance_mut(address)).expect("not at zero");
        for round in 0..ROUNDS {
            let object = CACHE.alloc(96).expect("memory").expose_provenance().get();
            let pages = buddy::alloc(1, Tracking::Tracked).expect("memory").expose_provenance().get();
            let mapped = vmalloc::vmalloc(5000, vmalloc::Kind::Data).expect("memory").expose_provenance().get();
            let handle = percpu::alloc_percpu(64, 8).expect("memory");
            READY.store(0, Ordering::Release);
            let free = move || {
                READY.fetch_add(1, Ordering::AcqRel);
                while READY.load(Ordering::Acquire) < 2 {
                    task::yield_now();
                }
                percpu::free_percpu(handle);
                buddy::free(at(pages), 1, Tracking::Tracked);
                CACHE.free(at(object));
                vmalloc::vfree(at(mapped).as_ptr());
            };
            let tasks = [0, 1].map(|_| task::spawn("free", Priority::Normal, free).expect("memory for a task"));
            tasks.into_iter().for_each(JoinHandle::join);
            assert_eq!(misuse::count(), 4 * (round + 1));
        }
        assert_eq!(KMEMLEAK.tracking().objects, before);
        mm::check_invariants();
    }
}

guest_test! {
    /// The warning of a refused free names its caller and the block's owner, wherever in the block the address lies.
    fn refused_frees_are_told_with_the_stacks() smp [1] {
        #[inline(never)]
        fn the_allocation() -> NonNull<u8> {
            core::hint::black_box(CACHE.alloc(96).expect("memory"))
        }
        #[inline(never)]
        fn the_wrong_free(free: impl Fn()) {
            free();
            core::hint::black_box(&free);
        }
        fn told() {
            let told = warnings();
            assert!(told.contains("free refused by the allocator"), "{told}");
            let (called, allocated) = told.split_once("allocated last from").expect("both stacks");
            assert!(called.contains("called from") && called.contains("the_wrong_free"), "{told}");
            assert!(allocated.contains("::the_allocation+"), "{told}");
        }
        let _ours = leak::hold_warnings();
        let block = the_allocation();
        let inside = NonNull::new(block.as_ptr().wrapping_add(16)).expect("not at zero");
        // The same from the same call stack is told once; each of these has one of its own.
        the_wrong_free(|| CACHE.free(inside));
        told();
        the_wrong_free(|| OTHER.free(block));
        told();
        the_wrong_free(|| vmalloc::vfree(block.as_ptr()));
        told();
        the_wrong_free(|| percpu::free_percpu(block.addr().get()));
        told();
        assert_eq!(misuse::count(), 4);
        CACHE.free(block);
        assert_eq!(warnings(), "");
    }
}

guest_test! {
    /// The boot heap, which believes what it is given, is given nothing back that it has not handed out.
    fn the_boot_heap_takes_back_its_blocks_only() smp [1] {
        let _ours = leak::hold_warnings();
        let before = (KMEMLEAK.tracking().objects, heap::boot_heap_used());
        // No block of the boot is that large.
        let layout = Layout::from_size_align(5008, 8).expect("a layout");
        for (number, address) in (1..).zip(heap::arena().step_by(1000)) {
            // SAFETY: it is refused.
            unsafe { alloc::alloc::dealloc(ptr::with_exposed_provenance_mut(address), layout) };
            assert_eq!(misuse::count(), number);
        }
        assert_eq!((KMEMLEAK.tracking().objects, heap::boot_heap_used()), before);
    }
}

guest_test! {
    /// Pages and vmalloc blocks, freed twice or with the wrong size.
    fn wrong_page_frees_are_told_and_survived() smp [1, 2] {
        let pages = buddy::alloc(1, Tracking::Tracked).expect("memory");
        buddy::free(pages, 0, Tracking::Tracked);
        assert_eq!(misuse::count(), 1);
        buddy::free(pages, 1, Tracking::Untracked);
        assert_eq!(misuse::count(), 2);
        buddy::free(pages, 1, Tracking::Tracked);
        assert_eq!(misuse::count(), 2);
        buddy::free(pages, 1, Tracking::Tracked);
        assert_eq!(misuse::count(), 3);
        let block = vmalloc::vmalloc(5000, vmalloc::Kind::Data).expect("memory");
        vmalloc::vfree(block.as_ptr());
        vmalloc::vfree(block.as_ptr());
        assert_eq!(misuse::count(), 4);
        mm::check_invariants();
    }
}

guest_test! {
    /// A block of pages that is given back part by part: each page once, and the detector knows what remains.
    fn parts_of_a_block_are_given_back() smp [1, 2] {
        let objects = || KMEMLEAK.tracking().objects;
        let _ours = leak::hold_warnings();
        // The detector takes pages of its own meanwhile.
        let free_pages = || buddy::free_pages() + leak::metadata_bytes() as usize / 4096;
        let (free, tracked) = (free_pages(), objects());
        let block = buddy::alloc(3, Tracking::Tracked).expect("memory");
        let page = |number: usize| NonNull::new(block.as_ptr().wrapping_add(number * 4096)).expect("not at zero");
        assert_eq!((free_pages(), objects()), (free - 8, tracked + 1));
        buddy::free_part(page(3), 2, Tracking::Tracked);
        assert_eq!((free_pages(), objects()), (free - 6, tracked + 2));
        mm::check_invariants();
        buddy::free_part(page(0), 3, Tracking::Tracked);
        buddy::free_part(page(5), 3, Tracking::Tracked);
        assert_eq!((free_pages(), objects()), (free, tracked));
        assert_eq!((misuse::count(), warnings().as_str()), (0, ""));
        buddy::free_part(page(5), 1, Tracking::Tracked);
        buddy::free_part(page(0), 1, Tracking::Untracked);
        assert_eq!(misuse::count(), 2);
        assert_eq!(free_pages(), free);
        mm::check_invariants();
    }
}

guest_test! {
    /// Pages in a row that are of several blocks, and of what others have left, are given back by one call.
    fn parts_of_several_blocks_are_given_back_at_once() smp [1] {
        let objects = || KMEMLEAK.tracking().objects;
        let _ours = leak::hold_warnings();
        let free_pages = || buddy::free_pages() + leak::metadata_bytes() as usize / 4096;
        let before = (free_pages(), objects());
        let block = buddy::alloc(3, Tracking::Tracked).expect("memory");
        let page = |number: usize| NonNull::new(block.as_ptr().wrapping_add(number * 4096)).expect("not at zero");
        buddy::free_part(page(3), 1, Tracking::Tracked);
        assert_eq!(objects(), before.1 + 2);
        assert_eq!(buddy::alloc(0, Tracking::Tracked), Some(page(3)), "what was given back last");
        buddy::free_part(page(0), 8, Tracking::Tracked);
        assert_eq!((free_pages(), objects()), before);
        assert_eq!((misuse::count(), warnings().as_str()), (0, ""));
        mm::check_invariants();
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
    /// Blocks handed from CPU to CPU come back; what users have adds up.
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
    /// A page-sized free of somebody else's untracked pages is refused.
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

/// Caches whose first object is asked for when memory is out: each takes what is left for one more magazine.
static LATE: [SlabCache; 32] = [const { SlabCache::new("test-late", 64, Trace::Trace) }; 32];

guest_test! {
    /// A free needs no memory, not even on a CPU that has none of the cache's yet.
    fn a_free_needs_no_memory() smp [2] {
        let block = OTHER.alloc(64).expect("memory");
        let home = cpu_id();
        let mut pages = Vec::with_capacity(1 << 16);
        while let Some(page) = buddy::alloc(0, Tracking::Untracked) {
            pages.push(page);
        }
        assert!(LATE.iter().any(|cache| cache.alloc(64).is_none()));
        while cpu_id() == home {
            task::yield_now();
        }
        OTHER.free(block);
        pages.into_iter().for_each(|page| buddy::free(page, 0, Tracking::Untracked));
        assert_eq!(misuse::count(), 0);
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
        uproot(lost);
    }
}

guest_test! {
    /// A page table is empty from the moment on at which CPUs find it, whatever its frame held before: of a page that was
    /// never mapped nobody hears that it is.
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
    /// Tasks on all CPUs that map in one table's range at once, and want the same new table: each mapping is there.
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
                        paging::map(page(round, task, number), physical, paging::Access::Data).expect("memory");
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
                paging::unmap(page);
                assert!(!paging::is_mapped(page), "{page:#x}");
            }
        }
        tlb::flush_all_cpus();
        buddy::free(frame, 0, Tracking::Untracked);
    }
}

guest_test! {
    /// CPUs that look at the page tables, and such that change them, don't disturb one another.
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
    /// More than there is is refused, and what was there stays usable.
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
    /// The detector runs out of metadata: it goes on, and says what it misses.
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
    /// All CPUs answer a flush, also when who asks is moved to another CPU while it asks: it is never left
    /// waiting for the CPU that it came from.
    fn a_flush_is_answered_whoever_moves() smp [2] {
        const MOVES: u32 = 60;
        static END: AtomicU32 = AtomicU32::new(0);
        // More tasks than CPUs: each tick of the clock moves somebody.
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
