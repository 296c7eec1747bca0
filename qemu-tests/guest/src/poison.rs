//! Writes to memory that is not the writer's, which poison, red zones and quarantine are to catch.
//!
//! What is printed of them is looked at by the host (`tests/qemu/poison.rs`), which runs some of these tests once more.

use alloc::alloc::{Layout, alloc, alloc_zeroed, dealloc, realloc};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hint::black_box;
use core::ptr::NonNull;

use kernel::leak::{self, KMEMLEAK};
use kernel::mm::buddy::{self, Tracking};
use kernel::mm::heap::Room;
use kernel::mm::slab::{self, SlabCache, Trace};
use kernel::mm::{self, misuse, poison};
use kernel::sync::IrqGuard;

use crate::guest_test;
use crate::leak_support::{check, plant, uproot};

static CACHE: SlabCache = SlabCache::new("test-poison", 96, Trace::Trace);
static UNSEEN: SlabCache = SlabCache::new("test-poison-unseen", 96, Trace::NoLeakTrace);

/// Sizes of all classes, at their ends and between them, and larger ones.
const SIZES: [usize; 16] = [
    1, 7, 8, 20, 32, 64, 96, 100, 384, 1000, 2048, 4096, 5000, 8192, 9000, 20_000,
];

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("a layout")
}

#[inline(never)]
fn the_allocation(size: usize) -> NonNull<u8> {
    // SAFETY: the size is not zero.
    black_box(NonNull::new(unsafe { alloc(layout(size)) }).expect("memory"))
}

#[inline(never)]
fn the_free(block: NonNull<u8>, size: usize) {
    // SAFETY: allocated with this layout; or it is refused.
    unsafe { dealloc(block.as_ptr(), layout(size)) };
    black_box(block);
}

/// Writes a byte at this offset from the block's start, wherever that is.
#[inline(never)]
fn the_stray_write(block: NonNull<u8>, offset: isize) {
    // SAFETY: mapped memory of slabs and pages, where a write hurts nobody, and is to be noticed.
    unsafe { block.as_ptr().wrapping_offset(offset).write_volatile(0xee) };
}

guest_test! {
    /// One byte past the end is noticed when the block is freed, whatever its size; the red zone begins where it ends.
    fn a_write_past_the_end_is_told() smp [1, 2] with "kmemleak.poison=on" {
        for (number, size) in (1..).zip(SIZES) {
            let block = the_allocation(size);
            the_stray_write(block, size as isize);
            the_free(block, size);
            assert_eq!((size, poison::count()), (size, number));
        }
        // What was put right is not told again.
        slab::empty_quarantines();
        assert_eq!((poison::count(), misuse::count()), (SIZES.len() as u64, 0));
        mm::check_invariants();
    }
}

guest_test! {
    /// So is one byte before the start, of all blocks that come from slabs.
    fn a_write_before_the_start_is_told() smp [1] with "kmemleak.poison=on" {
        for (number, size) in (1..).zip(SIZES.into_iter().filter(|&size| size <= 8192)) {
            let block = the_allocation(size);
            the_stray_write(block, -1);
            the_free(block, size);
            assert_eq!((size, poison::count()), (size, number));
        }
        mm::check_invariants();
    }
}

guest_test! {
    /// A write to a freed block is noticed when it leaves the quarantine, and one after that when it is handed out again.
    fn a_write_after_free_is_told() smp [1, 2] with "kmemleak.poison=on" {
        let block = the_allocation(64);
        the_free(block, 64);
        the_stray_write(block, 5);
        assert_eq!(poison::count(), 0);
        slab::empty_quarantines();
        assert_eq!(poison::count(), 1);
        let unseen = UNSEEN.alloc(96).expect("memory");
        UNSEEN.free(unseen);
        slab::empty_quarantines();
        the_stray_write(unseen, 95);
        assert_eq!(poison::count(), 1);
        let again: Vec<_> = (0..500).map(|_| UNSEEN.alloc(96).expect("memory")).collect();
        assert!(again.contains(&unseen));
        assert_eq!(poison::count(), 2);
        again.into_iter().for_each(|block| UNSEEN.free(block));
        mm::check_invariants();
    }
}

guest_test! {
    /// The second of two frees in a row is refused.
    fn a_double_free_at_once_is_told() smp [1, 2] with "kmemleak.poison=on" {
        let _ours = leak::hold_warnings();
        let block = the_allocation(64);
        the_free(block, 64);
        the_free(block, 64);
        assert_eq!((misuse::count(), poison::count()), (1, 0));
    }
}

guest_test! {
    /// A freed block waits, so a second free is refused even when others have been allocated since: it does not free theirs.
    fn a_double_free_after_allocations_is_told() smp [1, 2] with "kmemleak.poison=on" {
        let _ours = leak::hold_warnings();
        let block = the_allocation(64);
        the_free(block, 64);
        let others: Vec<_> = (0..500).map(|_| the_allocation(64)).collect();
        assert!(!others.contains(&block));
        the_free(block, 64);
        assert_eq!(misuse::count(), 1);
        others.into_iter().for_each(|block| the_free(block, 64));
        assert_eq!((misuse::count(), poison::count()), (1, 0));
    }
}

guest_test! {
    /// Without the parameter, blocks are handed out again at once, and nobody looks.
    fn without_poison_nothing_is_told() smp [1] {
        let block = the_allocation(60);
        the_stray_write(block, 60);
        the_free(block, 60);
        the_stray_write(block, 5);
        assert_eq!(the_allocation(60), block, "the one that was freed last");
        the_free(block, 60);
        assert_eq!((poison::count(), slab::check_contents(), slab::quarantined()), (0, None, 0));
        assert!(!slab::empty_quarantines());
        assert_eq!(slab::switch_poison_on(), Err(slab::TooLate));
    }
}

guest_test! {
    /// Blocks are aligned, zeroed and kept as ever, and `realloc` moves the red zone with the end.
    fn blocks_are_what_they_were() smp [1] with "kmemleak.poison=on" {
        for size in SIZES {
            for align in (0..14).map(|log2| 1_usize << log2) {
                let layout = Layout::from_size_align(size, align).expect("a layout");
                // SAFETY: the size is not zero.
                let block = NonNull::new(unsafe { alloc_zeroed(layout) }).expect("memory");
                assert!(block.addr().get().is_multiple_of(align), "{layout:?}: {block:?}");
                // SAFETY: the block is that long, and nobody else's.
                let bytes = unsafe { core::slice::from_raw_parts_mut(block.as_ptr(), size) };
                assert!(bytes.iter().all(|&byte| byte == 0), "{layout:?}");
                bytes.fill(0xc3);
                // SAFETY: allocated with this layout.
                let larger = NonNull::new(unsafe { realloc(block.as_ptr(), layout, size + 3) }).expect("memory");
                // SAFETY: the block is that long, and nobody else's.
                let bytes = unsafe { core::slice::from_raw_parts_mut(larger.as_ptr(), size + 3) };
                assert!(bytes[..size].iter().all(|&byte| byte == 0xc3), "{layout:?}");
                bytes.fill(0xc3);
                let layout = Layout::from_size_align(size + 3, align).expect("a layout");
                // SAFETY: allocated with this layout.
                unsafe { dealloc(larger.as_ptr(), layout) };
            }
        }
        assert_eq!((poison::count(), misuse::count()), (0, 0));
        mm::check_invariants();
    }
}

guest_test! {
    /// The quarantine has an end.
    fn the_quarantine_is_bounded() smp [1] with "kmemleak.poison=on" {
        slab::empty_quarantines();
        let blocks: Vec<_> = (0..20_000).map(|_| CACHE.alloc(96).expect("memory")).collect();
        blocks.into_iter().for_each(|block| CACHE.free(block));
        let (waiting, most) = (slab::quarantined(), slab::most_bytes());
        // A few blocks of the kernel's own wait in other caches.
        assert!(waiting > most / 2 && waiting < most + most / 4, "{waiting} of {most}");
        mm::check_invariants();
    }
}

guest_test! {
    /// What waits in quarantine is used where there is no other memory, by slabs and by who wants pages.
    fn the_quarantine_gives_way() smp [1] with "kmemleak.poison=on" {
        let mut blocks = Vec::with_capacity(1 << 16);
        let mut pages = Vec::with_capacity(1 << 16);
        blocks.extend((0..500).map(|_| CACHE.alloc(96).expect("memory")));
        while let Some(page) = buddy::alloc(0, Tracking::Untracked) {
            pages.push(page);
        }
        while let Some(block) = CACHE.alloc(96) {
            blocks.push(block);
        }
        let count = blocks.len();
        blocks.drain(..).for_each(|block| CACHE.free(block));
        assert!(slab::quarantined() > 0);
        blocks.extend((0..count).map_while(|_| CACHE.alloc(96)));
        // Of the slabs that become empty, the detector takes some for the records that it had no memory for.
        assert!(2 * blocks.len() > count, "{} of {count}", blocks.len());
        while let Some(page) = buddy::alloc(0, Tracking::Untracked) {
            pages.push(page);
        }
        blocks.drain(..).for_each(|block| CACHE.free(block));
        let large = layout(9000);
        // SAFETY: the size is not zero.
        let large_block = unsafe { alloc(large) };
        assert!(!large_block.is_null(), "pages of empty slabs");
        // SAFETY: allocated with this layout.
        unsafe { dealloc(large_block, large) };
        pages.drain(..).for_each(|page| buddy::free(page, 0, Tracking::Untracked));
        assert_eq!((poison::count(), misuse::count()), (0, 0));
        mm::check_invariants();
    }
}

guest_test! {
    /// Room that was made for a block is there for the next one, also where a freed one waits.
    fn room_is_room() smp [1, 2] with "kmemleak.poison=on" {
        let mut blocks = Vec::with_capacity(1 << 16);
        let mut pages = Vec::with_capacity(1 << 16);
        while let Some(page) = buddy::alloc(0, Tracking::Untracked) {
            pages.push(page);
        }
        let off = IrqGuard::new();
        while let Ok(room) = Room::for_box::<[u8; 200]>() {
            let waiting = slab::quarantined();
            blocks.push(Box::new([1_u8; 200]));
            assert_eq!(slab::quarantined(), waiting);
            drop(room);
        }
        drop(off);
        assert!(blocks.len() > 1);
        pages.into_iter().for_each(|page| buddy::free(page, 0, Tracking::Untracked));
        drop(blocks);
        assert_eq!((poison::count(), misuse::count()), (0, 0));
    }
}

guest_test! {
    /// The detector forgets what waits in quarantine, and finds what is lost; red zones and poison are no pointers.
    fn the_detector_sees_what_it_saw() smp [1, 2] with "kmemleak.poison=on" {
        let objects = || KMEMLEAK.tracking().objects;
        let before = objects();
        let block = CACHE.alloc(96).expect("memory");
        CACHE.free(block);
        assert_eq!((objects(), slab::quarantined() > 0), (before, true));
        let lost = plant(|_| ());
        assert_eq!(check(), [lost]);
        // SAFETY: planted above, and given back once.
        unsafe { uproot(lost) };
        assert_eq!(check().len(), 0);
        assert_eq!(poison::count(), 0);
    }
}

guest_test! {
    /// A look at all objects finds what was written past the end of a block in use, and to a free one.
    fn a_check_finds_what_nobody_has_freed_yet() smp [1] with "kmemleak.poison=on" {
        let (used, freed) = (CACHE.alloc(90).expect("memory"), UNSEEN.alloc(96).expect("memory"));
        UNSEEN.free(freed);
        assert!(slab::check_contents().is_some_and(|objects| objects > 100));
        assert_eq!(poison::count(), 0);
        the_stray_write(used, 90);
        the_stray_write(freed, 40);
        slab::check_contents();
        assert_eq!(poison::count(), 2);
        CACHE.free(used);
        assert_eq!(poison::count(), 3, "told once more, then put right");
        slab::empty_quarantines();
        slab::check_contents();
        assert_eq!(poison::count(), 4);
    }
}
