//! Memory as it was when it was frozen, whoever writes to it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kernel::arch::percpu::running;
use kernel::leak::KMEMLEAK;
use kernel::mm::{frozen, vmalloc};
use kernel::stop;
use kernel::sync::{LocalIrqDisabled, SpinLock};
use kernel::task::{self, Priority};

use crate::guest_test;
use crate::leak_support::{Secret, apart, check, check_frozen, plant, uproot};

/// Holders of a worker.
const HOLDERS: usize = 64;

/// A block that holds the only pointer to another one.
struct Holder {
    held: Option<Box<[u64; 4]>>,
    _room: [u64; 5],
}

fn holder() -> Box<Holder> {
    Box::new(Holder {
        held: Some(Box::new([0x48; 4])),
        _room: [0; 5],
    })
}

static OVER: AtomicBool = AtomicBool::new(false);
static MOVES: AtomicUsize = AtomicUsize::new(0);

/// Where holders go from one worker to another.
static BETWEEN: SpinLock<Option<Box<Holder>>, LocalIrqDisabled> = SpinLock::new(None);

/// Moves pointers from block to block, and exchanges the blocks that hold them, until it is over.
fn move_all_the_time(seed: usize) {
    let mut holders: Vec<Box<Holder>> = (0..HOLDERS).map(|_| holder()).collect();
    let mut turn = seed;
    while !OVER.load(Ordering::Acquire) {
        for _ in 0..50 {
            turn = turn
                .wrapping_mul(0x2545_f491_4f6c_dd1d)
                .wrapping_add(seed | 1);
            let (from, to) = (turn >> 20 & (HOLDERS - 1), turn >> 40 & (HOLDERS - 1));
            // From the block to a register, and to another block.
            let moved = black_box(holders[from].held.take());
            let back = core::mem::replace(&mut holders[to].held, moved);
            if let Some(back) = black_box(back) {
                holders[from].held = Some(back);
            }
            match turn >> 50 & 7 {
                0 => {
                    // A new holder takes over what another one held.
                    let old = core::mem::replace(
                        &mut holders[from],
                        Box::new(Holder {
                            held: None,
                            _room: [0; 5],
                        }),
                    );
                    holders[from].held = { *old }.held;
                }
                1 => {
                    let sent = core::mem::replace(&mut holders[to], holder());
                    drop(BETWEEN.lock().replace(sent));
                }
                _ => {}
            }
        }
        MOVES.fetch_add(50, Ordering::AcqRel);
        task::yield_now();
    }
}

guest_test! {
    /// Pointers that are moved all the time, with no copy in their old place, are never lost; what is lost is found.
    fn pointers_that_move_are_never_lost_in_frozen_memory() smp [1, 2, 4] {
        let lost = plant(|_| {});
        let workers: Vec<_> = (0..running() as usize * 2)
            .map(|worker| {
                task::spawn("mover", Priority::Normal, move || move_all_the_time(worker * 77 + 5))
                    .expect("memory for a task")
            })
            .collect();
        let (mut copied, mut rounds_with_it) = (0, 0);
        for round in 0..30 {
            let next = MOVES.load(Ordering::Acquire) + 500;
            while MOVES.load(Ordering::Acquire) < next {
                task::yield_now();
            }
            let found = check_frozen();
            copied = copied.max(frozen::pages_copied());
            // A word that is left on a stack by chance may hide it for once.
            assert!(found.iter().all(|it| *it == lost), "round {round}: in use: {found:x?}");
            rounds_with_it += found.len();
        }
        OVER.store(true, Ordering::Release);
        workers.into_iter().for_each(task::JoinHandle::join);
        drop(BETWEEN.lock().take());
        assert!(rounds_with_it > 0, "what is lost was never found");
        assert!(copied > 0, "nothing was written to while memory was frozen");
        assert_eq!(check(), [lost]);
        // SAFETY: `plant` made it.
        unsafe { uproot(lost) };
        assert_eq!(check_frozen(), []);
    }
}

/// Freezes memory, runs `work`, and lets it thaw.
fn while_frozen(work: impl FnOnce()) {
    let prepared = frozen::prepare().expect("there is memory");
    let protected = AtomicBool::new(false);
    stop::stop_world(&|cpu| {
        if cpu.initiator {
            frozen::protect(&prepared);
            protected.store(true, Ordering::Release);
        }
        while !protected.load(Ordering::Acquire) {
            core::hint::spin_loop();
        }
        frozen::forget_translations();
    })
    .expect("all CPUs stop");
    work();
    frozen::thaw();
}

/// What memory held.
fn was(address: usize) -> usize {
    let mut word = [0];
    // SAFETY: the callers name words of blocks that stay.
    unsafe { frozen::read(address, &mut word) }.expect("there is room for copies");
    word[0]
}

guest_test! {
    /// Words of slabs, pages and vmalloc's blocks are read as they were, whoever has written to them since; and all can be written to.
    fn memory_is_read_as_it_was() smp [1, 4] {
        let mut small = Box::new([1_u64; 8]);
        let mut pages = alloc::vec![2_u64; 3 * 4096];
        let mapped = vmalloc::vmalloc(3 * 4096, vmalloc::Kind::Data).expect("memory").cast::<u64>();
        // SAFETY: a block of that size, and ours.
        let mapped_words = unsafe { core::slice::from_raw_parts_mut(mapped.as_ptr(), 3 * 512) };
        mapped_words.fill(3);
        let untouched = Box::new([4_u64; 8]);
        while_frozen(|| {
            let address = |word: &u64| core::ptr::from_ref(word).addr();
            assert_eq!(was(address(&small[3])), 1);
            small[3] = 11;
            pages[4096] = 12;
            mapped_words[600] = 13;
            assert_eq!((was(address(&small[3])), was(address(&small[4]))), (1, 1));
            assert_eq!((was(address(&pages[4096])), was(address(&pages[0]))), (2, 2));
            assert_eq!((was(address(&mapped_words[600])), was(address(&mapped_words[1200]))), (3, 3));
            assert_eq!(was(address(&untouched[7])), 4);
            // From other CPUs, whose translations may be older.
            let place = core::ptr::from_mut(&mut small[5]).expose_provenance();
            apart(move || {
                let place: *mut u64 = core::ptr::with_exposed_provenance_mut(place);
                // SAFETY: a word that waits for this task.
                unsafe { place.write_volatile(15) };
            });
            assert_eq!(was(address(&small[5])), 1);
            assert!(frozen::pages_copied() >= 3);
        });
        assert_eq!((small[3], small[5], pages[4096], mapped_words[600]), (11, 15, 12, 13));
        mapped_words[1200] = 14;
        vmalloc::vfree(mapped.as_ptr().cast());
        black_box((small, pages, untouched));
    }
}

guest_test! {
    /// Where more is written to than there is room for, that is told, and nothing else happens; a check stops the world then.
    fn too_many_copies_are_told_of() smp [1] {
        use kernel::mm::buddy::{self, Tracking};
        // Little memory stays free, of which a part is for copies.
        let mut taken = Vec::with_capacity(4096);
        while buddy::free_pages() > 4096 {
            taken.push(Secret::hide(buddy::alloc(9, Tracking::Untracked).expect("memory").addr().get()));
        }
        let mut large: Vec<_> = (0..5).map(|_| alloc::vec![0_u64; 512 * 256]).collect();
        while_frozen(|| {
            for block in &mut large {
                block.chunks_mut(512).for_each(|page| page[0] = 1);
            }
            let mut word = [0];
            // SAFETY: a word of a block that stays.
            let read = unsafe { frozen::read(core::ptr::from_ref(&large[0][0]).addr(), &mut word) };
            assert_eq!(read, Err(frozen::Lost));
        });
        assert_eq!(large[4][512 * 255], 1);
        for block in taken {
            let block = core::ptr::with_exposed_provenance_mut(block.show());
            buddy::free(core::ptr::NonNull::new(block).expect("it was"), 9, Tracking::Untracked);
        }
        assert!(KMEMLEAK.check_frozen().is_ok());
    }
}
