//! Frees: what the allocators take back, what they refuse, what is told of that.

use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use kernel::arch::percpu::cpu_id;
use kernel::leak::{self, KMEMLEAK};
use kernel::mm::buddy::{self, Tracking};
use kernel::mm::frame::{self, Owner};
use kernel::mm::slab::{self, SlabCache, Trace};
use kernel::mm::{self, heap, misuse, percpu, vmalloc};
use kernel::task::{self, JoinHandle, Priority};

use crate::guest_test;
use crate::leak_support::{check, warnings};

static CACHE: SlabCache = SlabCache::new("test-frees", 96, Trace::Trace);
static UNSEEN: SlabCache = SlabCache::new("test-frees-unseen", 96, Trace::NoLeakTrace);
static OTHER: SlabCache = SlabCache::new("test-other", 64, Trace::Trace);

guest_test! {
    /// A second free is reported, by the allocator and by the detector (which names the block's last owner), and
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
        assert!(told.contains("guest::frees::double_free_is_told_and_survived"), "{told}");
        let (one, other) = (CACHE.alloc(96), CACHE.alloc(96));
        assert_ne!(one, other);
        mm::check_invariants();
        assert_eq!(check().len(), 0, "both are in use");
        [one, other].into_iter().flatten().for_each(|block| CACHE.free(block));
    }
}

guest_test! {
    /// A page lies in a slab only if a slab says so, not its owner's word: who frees in metadata is refused, and the detector may
    /// be told of blocks there, as its self-test does.
    fn only_slabs_have_objects() smp [1] {
        let _ours = leak::hold_warnings();
        let page = buddy::alloc(0, Tracking::Untracked).expect("memory");
        let frame = frame::frame_of(page.addr().get()).expect("each page has a frame");
        for owner in [Owner::Metadata, Owner::User(0), Owner::User(1), Owner::User(page.addr().get())] {
            frame.set_owner(owner);
            assert_eq!(frame.owner(), owner);
            assert!(slab::cache_of(page.addr().get()).is_none());
            let before = misuse::count();
            CACHE.free(page);
            assert_eq!(misuse::count(), before + 1);
            assert!(warnings().contains("free refused by the allocator"));
        }
        buddy::free(page, 0, Tracking::Untracked);
        assert_eq!(frame.owner(), Owner::User(0));
        mm::check_invariants();
    }
}

/// The first two words of the header of the slab that the block lies in: its seal, and its cache.
fn header_of_slab(block: NonNull<u8>) -> &'static [AtomicUsize; 2] {
    let frame = frame::frame_of(block.addr().get()).expect("each page has a frame");
    let start = frame.slab().expect("the block lies in a slab");
    // SAFETY: the slab has a block in use, so it stays; nobody else uses its cache.
    unsafe { &*ptr::with_exposed_provenance(start) }
}

guest_test! {
    /// A write past the end of what lies before a slab runs into the slab's header. A free there is refused.
    fn a_free_into_a_broken_slab_is_refused() smp [1] {
        let _ours = leak::hold_warnings();
        let block = CACHE.alloc(96).expect("memory");
        let [seal, _] = header_of_slab(block);
        seal.fetch_xor(1, Ordering::Relaxed);
        CACHE.free(block);
        assert_eq!(misuse::count(), 1);
        assert!(slab::cache_of(block.addr().get()).is_none());
        seal.fetch_xor(1, Ordering::Relaxed);
        CACHE.free(block);
        assert_eq!(misuse::count(), 1);
        mm::check_invariants();
    }
}

guest_test! {
    /// The seal tells also that the header names another cache.
    fn a_slab_of_another_cache_is_noticed() smp [1] {
        let _ours = leak::hold_warnings();
        let (block, other) = (CACHE.alloc(96).expect("memory"), OTHER.alloc(64).expect("memory"));
        let ([_, cache], [_, other_cache]) = (header_of_slab(block), header_of_slab(other));
        let before = cache.swap(other_cache.load(Ordering::Relaxed), Ordering::Relaxed);
        assert_eq!(before, (&raw const CACHE).addr());
        OTHER.free(block);
        assert_eq!(misuse::count(), 1);
        cache.store(before, Ordering::Relaxed);
        [(&CACHE, block), (&OTHER, other)].into_iter().for_each(|(cache, block)| cache.free(block));
        assert_eq!(misuse::count(), 1);
    }
}

guest_test! {
    /// Nothing is handed out of a slab of which nobody knows any more what is free.
    fn nothing_is_allocated_from_a_broken_slab() smp [1] fails "header was overwritten" {
        let block = CACHE.alloc(96).expect("memory");
        header_of_slab(block)[0].store(0, Ordering::Relaxed);
        let _other = CACHE.alloc(96);
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
    /// The boot heap, which does not check what is freed, gets nothing back that it has not handed out.
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
    /// Frees of pages and vmalloc blocks twice or with the wrong size are refused.
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
    /// A block of pages can be given back part by part: each page once, and the detector knows what remains.
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
