//! Requests for which there is no memory: each is refused, and takes nothing.

use alloc::alloc::{alloc, dealloc};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::convert::Infallible;
use core::hint::black_box;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use kernel::mm::buddy::{self, Tracking};
use kernel::mm::heap::Room;
use kernel::mm::{self, slab, vmalloc};
use kernel::task::{self, Priority};

use crate::guest_test;

/// All memory: single pages, and small blocks of all sizes that a task's start may need.
struct AllMemory {
    pages: Vec<NonNull<u8>>,
    blocks: Vec<(*mut u8, Layout)>,
}

impl AllMemory {
    /// Takes what is free.
    fn take() -> Self {
        let mut all = Self {
            pages: Vec::with_capacity(buddy::total_pages()),
            blocks: Vec::with_capacity(10_000),
        };
        all.take_rest();
        all
    }

    fn take_rest(&mut self) {
        vmalloc::purge();
        let page = || buddy::alloc(0, Tracking::Untracked);
        self.pages.extend(core::iter::from_fn(page));
        for size in [8, 16, 32, 64, 96, 128, 192, 256, 384, 512] {
            let layout = Layout::from_size_align(size, 8).expect("a layout");
            loop {
                // SAFETY: the size is not zero.
                let block = unsafe { alloc(layout) };
                if block.is_null() {
                    break;
                }
                assert!(self.blocks.len() < self.blocks.capacity());
                self.blocks.push((block, layout));
            }
        }
    }

    fn give_pages(&mut self, count: usize) {
        for _ in 0..count {
            let page = self.pages.pop().expect("a page");
            buddy::free(page, 0, Tracking::Untracked);
        }
    }
}

impl Drop for AllMemory {
    fn drop(&mut self) {
        self.give_pages(self.pages.len());
        for (block, layout) in self.blocks.drain(..) {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(block, layout) };
        }
    }
}

/// Blocks of all slab caches that users have. (The detector can't tell what is lost: it has no memory for its records, either.)
fn blocks_in_use() -> u64 {
    let mut sum = 0;
    let all: Result<(), Infallible> = slab::for_each_cache(&mut |cache| {
        sum += cache.stats().in_use;
        Ok(())
    });
    let Ok(()) = all;
    sum
}

guest_test! {
    /// With whatever number of pages: a task is started, or refused, and then has taken nothing.
    fn a_task_is_started_or_refused() smp [1, 2] {
        static RUN: AtomicU32 = AtomicU32::new(0);
        let before = blocks_in_use();
        let mut all = AllMemory::take();
        let (mut started, mut refused) = (0, 0);
        for pages in 0..40 {
            all.give_pages(pages);
            let free = buddy::free_pages();
            match task::spawn("small", Priority::Normal, move || {
                // What it holds makes it a block.
                RUN.fetch_add(black_box(pages) as u32 / 100 + 1, Ordering::Relaxed);
            }) {
                Ok(task) => {
                    task.join();
                    started += 1;
                }
                Err(_) => {
                    refused += 1;
                    vmalloc::purge();
                    let lost = free - buddy::free_pages();
                    // Slabs, and page tables, which are kept.
                    assert!(lost < 10, "{lost} of {pages} pages are lost");
                }
            }
            all.take_rest();
        }
        drop(all);
        assert!(started > 5 && refused > 5, "{started} started, {refused} refused");
        assert_eq!(RUN.load(Ordering::Relaxed), started);
        vmalloc::purge();
        assert_eq!(blocks_in_use(), before);
        mm::check_invariants();
    }
}

guest_test! {
    /// Room is certain, or refused.
    fn room_for_a_block_is_certain() smp [1, 2] {
        let all = AllMemory::take();
        assert!(Room::for_box::<[u64; 8]>().is_err());
        assert!(Room::for_arc::<[u64; 8]>().is_err());
        assert!(Room::for_box::<()>().is_ok());
        drop(all);
        let mut boxes = Vec::with_capacity(1000);
        let mut all = AllMemory::take();
        all.give_pages(2);
        // To the last block.
        while let Ok(room) = Room::for_box::<[u64; 8]>() {
            boxes.push(Box::new([1_u64; 8]));
            drop(room);
        }
        assert!(boxes.len() > 40, "{} boxes", boxes.len());
        boxes.pop();
        let room = Room::for_arc::<[u64; 6]>();
        let arc = room.map(|_room| Arc::new([2_u64; 6]));
        assert_eq!(arc.map(|arc| arc[0]), Ok(2));
    }
}
