//! Confined code, and names told where memory is short.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt::Write;
use core::hint::black_box;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use arrayvec::{ArrayString, ArrayVec};
use kernel::leak::KMEMLEAK;
use kernel::mm;
use kernel::mm::buddy::{self, Tracking};
use kernel::mm::confined::{Confined, Ended};
use kernel::symbols::{self, Missing};
use kernel::sync::PreemptGuard;
use kernel::task::{self, Mutex, Priority};

use crate::guest_test;
use crate::leak_support::apart;

/// Takes blocks of all sizes until there are none, and returns how many bytes that were.
fn take_without_end() -> usize {
    let mut blocks = Vec::new();
    let mut bytes = 0;
    for round in 0_usize.. {
        let len = 1 << (4 + round % 16);
        blocks.push(black_box(alloc::vec![round as u8; len]));
        bytes += len;
        assert!(bytes < 1 << 30, "memory without end");
    }
    bytes
}

guest_test! {
    /// Confined blocks of all sizes are the confined code's alone, and are given back with it; the detector sees none.
    fn confined_blocks_are_unseen() smp [1, 2] {
        let (objects, free) = (KMEMLEAK.tracking().objects, buddy::free_pages());
        let mut confined = Confined::new();
        let make = || {
            let mut lists: Vec<Vec<u32>> = (0..200).map(|_| Vec::new()).collect();
            for number in 0..40_000 {
                let list = &mut lists[number as usize * 7919 % 200];
                list.push(number);
                if list.len() == 150 {
                    // From the front: pieces of all sizes become free.
                    *list = Vec::from(&list[100..]);
                }
            }
            lists
        };
        let is_sound = |lists: &Vec<Vec<u32>>| lists.iter().enumerate().all(|(index, list)| {
            list.iter().all(|&number| number as usize * 7919 % 200 == index)
        });
        // SAFETY: both work on what they allocate alone.
        let result = unsafe { confined.with(make, is_sound) };
        assert_eq!(result, Ok(true));
        assert_eq!(KMEMLEAK.tracking().objects, objects);
        assert!(buddy::free_pages() < free);
        drop(confined);
        assert_eq!(buddy::free_pages(), free);
        mm::check_invariants();
    }
}

guest_test! {
    /// While one task runs confined code, other tasks' blocks come from the usual allocators, and the detector tracks them.
    fn other_tasks_are_not_confined() smp [1, 2] {
        static STATE: AtomicU32 = AtomicU32::new(0);
        let kept = alloc::sync::Arc::new(Mutex::new(Vec::<Box<[u64; 8]>>::with_capacity(8)));
        let theirs = kept.clone();
        let other = task::spawn("other", Priority::Normal, move || {
            while STATE.load(Ordering::Acquire) != 1 {
                task::yield_now();
            }
            theirs.lock().extend((0..8).map(|_| Box::new([7; 8])));
            STATE.store(2, Ordering::Release);
            while STATE.load(Ordering::Acquire) != 3 {
                task::yield_now();
            }
        });
        let other = other.expect("memory for a task");
        let before = KMEMLEAK.tracking().objects;
        // SAFETY: it allocates before and after it waits, and holds its own block only.
        let result = unsafe {
            Confined::new().with(|| alloc::vec![1_u8; 100], |own| {
                STATE.store(1, Ordering::Release);
                while STATE.load(Ordering::Acquire) != 2 {
                    core::hint::spin_loop();
                }
                own.len() + alloc::vec![1_u8; 1000].len()
            })
        };
        assert_eq!(result, Ok(1100));
        assert_eq!(KMEMLEAK.tracking().objects, before + 8);
        STATE.store(3, Ordering::Release);
        other.join();
        drop(kept);
        mm::check_invariants();
    }
}

guest_test! {
    /// Confined code that wants too much memory is ended: half of the free memory is left to others, and all that it took is
    /// given back. Until there is more memory, it is not tried again.
    fn want_of_memory_ends_confined_code_alone() smp [1, 2] {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        static LEAST: AtomicUsize = AtomicUsize::new(usize::MAX);
        let pages = take_pages(2000);
        let free = buddy::free_pages();
        let mut confined = Confined::<usize>::new();
        let mut try_it = || {
            let make = || {
                MADE.fetch_add(1, Ordering::Relaxed);
                let mut blocks = Vec::new();
                loop {
                    LEAST.fetch_min(buddy::free_pages(), Ordering::Relaxed);
                    blocks.push(black_box(alloc::vec![1_u8; 3000]));
                }
            };
            // SAFETY: it works on what it allocates alone.
            unsafe { confined.with(make, |made| *made) }
        };
        assert_eq!(try_it(), Err(Ended::OutOfMemory));
        assert_eq!(buddy::free_pages(), free);
        assert!(LEAST.load(Ordering::Relaxed) >= free / 2, "it has left {LEAST:?} of {free} pages");
        assert_eq!((try_it(), MADE.load(Ordering::Relaxed)), (Err(Ended::OutOfMemory), 1));
        // SAFETY: it works on what it allocates alone.
        let result = unsafe { Confined::new().with(take_without_end, |bytes| *bytes) };
        assert_eq!(result, Err(Ended::OutOfMemory));
        assert_eq!(buddy::free_pages(), free);
        give_pages(pages);
        mm::check_invariants();
    }
}

guest_test! {
    /// Confined code that panics is ended alone; what it made is dropped, and later calls report the panic.
    fn a_panic_ends_confined_code_alone() smp [1, 2] {
        let free = buddy::free_pages();
        let mut confined = Confined::new();
        let mut try_it = |index: usize| {
            // SAFETY: both work on what they allocate alone.
            unsafe { confined.with(|| alloc::vec![1_u8; 10], |list| list[black_box(index)]) }
        };
        assert_eq!(try_it(9), Ok(1));
        assert_eq!(try_it(10), Err(Ended::Panicked));
        assert_eq!(try_it(9), Err(Ended::Panicked));
        assert_eq!(buddy::free_pages(), free);
        // Whatever is alive is as it was: this task can be preempted, others run.
        apart(|| drop(black_box(Box::new(1))));
    }
}

guest_test! {
    /// A panic of confined code that holds a guard is an ordinary panic: it ends the machine.
    fn a_panic_with_a_guard_is_a_panic() smp [1] fails "index out of bounds" {
        let work = |list: &Vec<u8>| {
            let _guard = PreemptGuard::new();
            list[black_box(10)]
        };
        // SAFETY: not so: the machine must end.
        let _ = unsafe { Confined::new().with(|| alloc::vec![1_u8; 10], work) };
    }
}

/// Takes pages until so many are left.
fn take_pages(left: usize) -> Vec<NonNull<u8>> {
    let mut pages = Vec::with_capacity(1 << 16);
    while buddy::free_pages() > left {
        pages.extend(buddy::alloc(0, Tracking::Untracked));
    }
    pages
}

fn give_pages(pages: Vec<NonNull<u8>>) {
    for page in pages {
        buddy::free(page, 0, Tracking::Untracked);
    }
}

/// The name of a place in this function.
#[inline(never)]
fn own_name() -> ArrayString<256> {
    let mut name = ArrayString::new();
    let at = own_name as *const () as usize;
    write!(name, "{}", symbols::at(at)).expect("room for a name");
    name
}

guest_test! {
    /// Where memory is short names are told without their lines, and when there is some again, with them.
    fn names_need_no_memory() smp [1, 2] {
        const NAME: &str = "guest::confined::own_name+0x0/0x";
        const FILE: &str = "(qemu-tests/guest/src/confined.rs:";
        for left in [1000, 100, 3] {
            let pages = take_pages(left);
            let name = own_name();
            assert!(name.starts_with(NAME) && !name.contains(FILE), "{name}");
            assert_eq!(symbols::missing(), Some(Missing::NoMemory));
            assert!(buddy::free_pages() <= left);
            give_pages(pages);
        }
        let name = own_name();
        assert!(name.starts_with(NAME) && name.contains(FILE), "{name}");
        assert_eq!(symbols::missing(), None);
    }
}

guest_test! {
    /// Checks and reports go on where there is no page left.
    fn a_report_needs_no_memory() smp [1, 2] {
        apart(|| core::mem::forget(black_box(Box::new([1_u64; 8]))));
        let pages = take_pages(0);
        struct Told(ArrayVec<u8, 8192>);
        impl Write for Told {
            fn write_str(&mut self, text: &str) -> core::fmt::Result {
                self.0.try_extend_from_slice(text.as_bytes()).map_err(|_| core::fmt::Error)
            }
        }
        let mut told = Told(ArrayVec::new());
        task::clear_dead_stack();
        KMEMLEAK.command("scan --full", &mut told).expect("room for a report");
        give_pages(pages);
        let told = core::str::from_utf8(&told.0).expect("text");
        assert!(told.contains("unreferenced object 0x"), "{told}");
        assert!(told.contains("    kernel::task::start+0x"), "{told}");
    }
}
