//! An allocation storm on all CPUs, with checks or scans all the while: nothing that is in use is ever reported,
//! everything that was lost is, and at the end every object is accounted for.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};

use kernel::arch::percpu::running;
use kernel::leak::KMEMLEAK;
use kernel::mm::buddy::{self, Tracking};
use kernel::mm::{self, percpu, vmalloc};
use kernel::sync::{LocalIrqDisabled, SpinLock};
use kernel::task::{self, Priority};

use crate::guest_test;
use crate::leak_support::{Secret, apart, check, check_frozen};

/// Rounds of each worker.
const ROUNDS: usize = 400;
/// Places where blocks are handed over.
const PLACES: usize = 64;
/// Leaks at most.
const MAX_PLANTED: usize = 4096;

/// A chain of boxes, each with some bytes.
struct Parcel {
    bytes: Vec<u8>,
    next: Option<Box<Parcel>>,
}

static MAIL: [SpinLock<Option<Box<Parcel>>, LocalIrqDisabled>; PLACES] =
    [const { SpinLock::new(None) }; PLACES];

/// What was lost on purpose, inverted.
static PLANTED: [AtomicUsize; MAX_PLANTED] = [const { AtomicUsize::new(0) }; MAX_PLANTED];
static PLANTED_COUNT: AtomicUsize = AtomicUsize::new(0);
static FINISHED: AtomicUsize = AtomicUsize::new(0);
/// Rounds of all workers so far.
static ROUNDS_DONE: AtomicUsize = AtomicUsize::new(0);

/// A generator of numbers (xorshift64*, Marsaglia).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }
}

/// Loses a block: first it is noted as lost, then it is.
#[inline(never)]
fn lose(size: usize) {
    let block = Box::into_raw(alloc::vec![0x4c_u8; size].into_boxed_slice());
    let index = PLANTED_COUNT.fetch_add(1, Ordering::AcqRel);
    PLANTED[index].store(
        Secret::hide(black_box(block).addr()).inverted(),
        Ordering::Release,
    );
}

fn parcel(dice: &mut Dice) -> Box<Parcel> {
    let mut parcel = None;
    for _ in 0..=dice.roll(4) {
        let bytes = alloc::vec![0x50; 1 + dice.roll(3000)];
        parcel = Some(Box::new(Parcel {
            bytes,
            next: parcel,
        }));
    }
    parcel.expect("there is one at least")
}

fn size_of_all(parcel: &Parcel) -> usize {
    parcel.bytes.len() + parcel.next.as_deref().map_or(0, size_of_all)
}

fn work(seed: u64) {
    let mut dice = Dice(seed);
    for _ in 0..ROUNDS {
        ROUNDS_DONE.fetch_add(1, Ordering::AcqRel);
        match dice.roll(16) {
            0..8 => {
                let sent = parcel(&mut dice);
                let place = &MAIL[dice.roll(PLACES)];
                let received = place.lock().replace(sent);
                black_box(received.as_deref().map(size_of_all));
            }
            8..11 => drop(black_box(parcel(&mut dice))),
            11 => {
                let size = 8 + dice.roll(500);
                apart(move || lose(size));
            }
            12 => {
                let block = vmalloc::vmalloc(4096 * (1 + dice.roll(4)), vmalloc::Kind::Data);
                task::yield_now();
                vmalloc::vfree(block.expect("memory").as_ptr());
            }
            13 => {
                let handle = percpu::alloc_percpu(8 + dice.roll(200), 8).expect("memory");
                task::yield_now();
                percpu::free_percpu(handle);
            }
            14 => {
                let order = dice.roll(3) as u32;
                let pages = buddy::alloc(order, Tracking::Tracked).expect("memory");
                task::yield_now();
                buddy::free(pages, order, Tracking::Tracked);
            }
            _ => {
                let (sent, place) = (parcel(&mut dice), dice.roll(PLACES));
                apart(move || drop(MAIL[place].lock().replace(sent)));
            }
        }
    }
    FINISHED.fetch_add(1, Ordering::AcqRel);
}

fn planted() -> Vec<Secret> {
    let count = PLANTED_COUNT.load(Ordering::Acquire);
    let words = PLANTED[..count]
        .iter()
        .map(|word| Secret::hide(!word.load(Ordering::Acquire)));
    let mut planted: Vec<_> = words.collect();
    planted.sort_unstable();
    planted
}

/// What goes on beside the storm.
#[derive(Clone, Copy)]
enum Beside {
    /// Checks, with the world stopped, whose findings are looked at.
    Checks,
    /// Checks of frozen memory, whose findings are looked at.
    FrozenChecks,
    /// One pass of the background scan after the other.
    Scans,
}

/// Checks until the workers have finished; returns how often.
fn check_all_the_while(workers: usize, check: fn() -> Vec<Secret>) -> usize {
    let mut checks = 0;
    while FINISHED.load(Ordering::Acquire) < workers {
        let found = check();
        let planted = planted();
        for lost in &found {
            assert!(
                planted.binary_search(lost).is_ok(),
                "check {checks}: {lost:x?} is in use"
            );
        }
        checks += 1;
        drop((found, planted));
        // The world goes on between two checks, however slow the host.
        let next = ROUNDS_DONE.load(Ordering::Acquire) + workers;
        while ROUNDS_DONE.load(Ordering::Acquire) < next.min(workers * ROUNDS)
            && FINISHED.load(Ordering::Acquire) < workers
        {
            task::yield_now();
        }
    }
    checks
}

/// Scans, in a task of its own, until the workers have finished; returns how often.
fn scan_all_the_while(workers: usize) -> usize {
    static SCANS: AtomicUsize = AtomicUsize::new(0);
    apart(move || {
        while FINISHED.load(Ordering::Acquire) < workers {
            KMEMLEAK.scan().expect("the detector is on");
            SCANS.fetch_add(1, Ordering::AcqRel);
        }
    });
    SCANS.load(Ordering::Acquire)
}

fn storm(beside: Beside) {
    assert_eq!(check(), [], "before");
    drop(planted());
    let before = KMEMLEAK.tracking();
    let workers = running() as usize * 3;
    let handles: Vec<_> = (0..workers)
        .map(|worker| {
            let seed = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(worker as u64 + 1);
            task::spawn("worker", Priority::Normal, move || work(seed)).expect("memory for a task")
        })
        .collect();
    let passes = match beside {
        Beside::Checks => check_all_the_while(workers, check),
        Beside::FrozenChecks => check_all_the_while(workers, check_frozen),
        Beside::Scans => scan_all_the_while(workers),
    };
    handles.into_iter().for_each(task::JoinHandle::join);
    for place in &MAIL {
        drop(place.lock().take());
    }
    let mut found = check();
    found.sort_unstable();
    let planted = planted();
    kernel::println!("{passes} passes, {} leaks planted", planted.len());
    assert!(passes > 0 && !planted.is_empty(), "it was no storm");
    assert_eq!(found, planted);
    let count = planted.len();
    drop((found, planted));
    mm::check_invariants();
    let after = KMEMLEAK.tracking();
    assert_eq!(
        after.objects - before.objects,
        count,
        "objects unaccounted for"
    );
}

guest_test! {
    /// The storm beside checks, freed blocks left as they are.
    fn allocation_storm() smp [1, 2, 4] {
        storm(Beside::Checks);
    }
}

guest_test! {
    /// The storm beside checks, with freed blocks cleared.
    fn allocation_storm_with_wipe() smp [1, 4] {
        mm::set_wipe(mm::Wipe::OnFree);
        storm(Beside::Checks);
    }
}

guest_test! {
    /// The storm beside the background scan: the scan faults on no block that is freed while it reads, and leaves
    /// nothing behind that makes a later check wrong.
    fn allocation_storm_beside_the_background_scan() smp [1, 2, 4] {
        storm(Beside::Scans);
    }
}

guest_test! {
    /// The storm beside checks of frozen memory: the world goes on while they mark, and their verdicts are as exact.
    fn allocation_storm_beside_checks_of_frozen_memory() smp [1, 2, 4] {
        storm(Beside::FrozenChecks);
    }
}
