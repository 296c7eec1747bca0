//! Pointers one past a block's last byte: no allocator for blocks of less than a page hands out a block that begins there.
//!
//! A slice's iterator holds its end, and so does a range of pointers. Where blocks lie without a gap, the end of one is the start
//! of the next, and no detector can tell which of the two the word means: the next one's loss is hidden for as long as the iterator
//! lives.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::hint::black_box;
use core::slice::Iter;
use core::sync::atomic::{AtomicBool, Ordering};

use kernel::task::{self, JoinHandle, Mutex, Priority, State, WaitQueue};

use crate::guest_test;
use crate::leak_support::{apart, check};

/// Blocks that are lost, of each size.
const LOST: usize = 64;

/// Sizes of blocks that fill an object of a slab.
const SIZES: [usize; 15] = [
    8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192,
];

/// A block that nobody frees.
fn block(layout: Layout) -> &'static [u8] {
    // SAFETY: the layout is not empty.
    let block = unsafe { alloc::alloc::alloc_zeroed(layout) };
    assert!(!block.is_null(), "no memory");
    // SAFETY: a block of that many bytes, all written, which is never freed.
    unsafe { core::slice::from_raw_parts(block, layout.size()) }
}

/// Iterators over slices, which hold the ends of these.
type Iterators = [Iter<'static, u8>; LOST];

/// Makes iterators over every other one of twice so many blocks that lie one after another; the others are lost. Allocates nothing
/// else: a block that is freed might be a lost one later, and be held by a stale word.
#[inline(never)]
fn beside_lost_ones(layout: Layout, iterators: &mut Iterators) {
    let mut blocks: [_; 2 * LOST] = core::array::from_fn(|_| block(layout));
    blocks.sort_unstable_by_key(|block| block.as_ptr().addr());
    for (iterator, kept) in iterators.iter_mut().zip(blocks.iter().step_by(2)) {
        *iterator = kept.iter();
    }
}

guest_test! {
    /// A block is reported though an iterator over the one before it lives, in a block or on the stack of a task that waits.
    fn no_end_of_a_block_hides_its_neighbour() smp [1, 2] {
        /// Iterators in a block of their own.
        struct Kept(#[expect(dead_code, reason = "holds ends")] Box<Iterators>);
        static IN_BLOCKS: Mutex<Vec<Kept>> = Mutex::new(Vec::new());
        let of = |size| Layout::from_size_align(size, 1).expect("a layout");
        let aligned = |size| Layout::from_size_align(size, size).expect("a layout");
        let over_aligned = SIZES.into_iter().filter(|size| (32..4096).contains(size) && size.is_power_of_two());
        let layouts: Vec<_> = SIZES.into_iter().map(of).chain(over_aligned.map(aligned)).collect();
        let mut all = 0;
        for &layout in &layouts {
            apart(move || {
                let mut iterators = Box::new(core::array::from_fn(|_| Iter::default()));
                beside_lost_ones(layout, &mut iterators);
                IN_BLOCKS.lock().push(Kept(iterators));
            });
            let found = check().len();
            kernel::println!("{layout:?}: {} of {LOST} are reported beside iterators in blocks", found - all);
            all = found;
        }
        assert_eq!(all, layouts.len() * LOST);

        static OVER: AtomicBool = AtomicBool::new(false);
        static QUEUE: WaitQueue = WaitQueue::new();
        let mut waiting: Vec<JoinHandle> = Vec::with_capacity(layouts.len());
        for &layout in &layouts {
            let waits = move || {
                let mut iterators: Iterators = core::array::from_fn(|_| Iter::default());
                beside_lost_ones(layout, &mut iterators);
                QUEUE.wait_for(|| OVER.load(Ordering::Acquire).then_some(()));
                drop(black_box(iterators));
            };
            waiting.push(task::spawn("iterates", Priority::Normal, waits).expect("memory for a task"));
            while waiting.last().expect("pushed").task().state() != State::Blocked {
                task::yield_now();
            }
            let found = check().len();
            kernel::println!("{layout:?}: {} of {LOST} are reported beside iterators on a stack", found - all);
            all = found;
        }
        assert_eq!(all, 2 * layouts.len() * LOST);
        OVER.store(true, Ordering::Release);
        QUEUE.wake_all();
        waiting.into_iter().for_each(JoinHandle::join);
    }
}

guest_test! {
    /// A machine whose detector is off from the boot on takes no memory for gaps.
    fn a_machine_without_the_detector_has_no_gaps() smp [1] with "kmemleak=off" {
        let layout = Layout::new::<[u64; 8]>();
        let mut blocks: [_; 2 * LOST] = core::array::from_fn(|_| block(layout).as_ptr().addr());
        blocks.sort_unstable();
        let touch = blocks.windows(2).filter(|two| two[1] - two[0] == layout.size()).count();
        // Less than three slabs, so there are two places at most where a block is the last one of its slab.
        assert!(touch >= 2 * LOST - 4, "{touch} of {} blocks touch the next one", 2 * LOST);
    }
}
