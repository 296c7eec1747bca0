//! An allocation storm on all CPUs, with checks or scans all the while: nothing that is in use is ever reported,
//! everything that was lost is, and at the end every object is accounted for. [`soak`](crate::soak) has one after the other.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};

use kernel::arch::percpu::running;
use kernel::leak::KMEMLEAK;
use kernel::mm::buddy::{self, Tracking};
use kernel::mm::{self, percpu, vmalloc};
use kernel::sync::{LocalIrqDisabled, SpinLock};
use kernel::task::{self, Mutex, Priority};

use crate::guest_test;
use crate::leak_support::{Secret, apart, check, check_frozen};

/// Rounds of each worker.
pub const ROUNDS: usize = 400;
/// Places where blocks are handed over.
const PLACES: usize = 64;
/// Leaks at most.
const MAX_PLANTED: usize = 4096;

/// A chain of boxes, each with some bytes: two blocks each.
struct Parcel {
    bytes: Vec<u8>,
    next: Option<Box<Parcel>>,
}

impl Drop for Parcel {
    fn drop(&mut self) {
        FREED.fetch_add(2, Ordering::Relaxed);
    }
}

static MAIL: [SpinLock<Option<Box<Parcel>>, LocalIrqDisabled>; PLACES] =
    [const { SpinLock::new(None) }; PLACES];

/// What was lost on purpose, inverted.
static PLANTED: [AtomicUsize; MAX_PLANTED] = [const { AtomicUsize::new(0) }; MAX_PLANTED];
static PLANTED_COUNT: AtomicUsize = AtomicUsize::new(0);
/// How large they are.
static SIZES: [AtomicUsize; MAX_PLANTED] = [const { AtomicUsize::new(0) }; MAX_PLANTED];
static FINISHED: AtomicUsize = AtomicUsize::new(0);
/// Rounds of all workers so far.
static ROUNDS_DONE: AtomicUsize = AtomicUsize::new(0);
/// Blocks that workers have allocated, in all storms.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
/// Of these, those that were given back.
static FREED: AtomicUsize = AtomicUsize::new(0);
/// What workers wait for, asleep.
static TURNSTILE: Mutex<u64> = Mutex::new(0);

/// A generator of numbers (xorshift64*, Marsaglia).
pub struct Dice(pub u64);

impl Dice {
    /// A number below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
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
    ALLOCATED.fetch_add(1, Ordering::Relaxed);
    SIZES[index].store(size, Ordering::Relaxed);
    PLANTED[index].store(
        Secret::hide(black_box(block).addr()).inverted(),
        Ordering::Release,
    );
}

fn parcel(dice: &mut Dice) -> Box<Parcel> {
    let mut parcel = None;
    for _ in 0..=dice.roll(4) {
        let bytes = alloc::vec![0x50; 1 + dice.roll(3000)];
        ALLOCATED.fetch_add(2, Ordering::Relaxed);
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
        match dice.roll(19) {
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
                ALLOCATED.fetch_add(1, Ordering::Relaxed);
                let block = vmalloc::vmalloc(4096 * (1 + dice.roll(4)), vmalloc::Kind::Data);
                task::yield_now();
                vmalloc::vfree(block.expect("memory").as_ptr());
                FREED.fetch_add(1, Ordering::Relaxed);
            }
            13 => {
                ALLOCATED.fetch_add(1, Ordering::Relaxed);
                let handle = percpu::alloc_percpu(8 + dice.roll(200), 8).expect("memory");
                task::yield_now();
                percpu::free_percpu(handle);
                FREED.fetch_add(1, Ordering::Relaxed);
            }
            14 => {
                ALLOCATED.fetch_add(1, Ordering::Relaxed);
                let order = dice.roll(3) as u32;
                let pages = buddy::alloc(order, Tracking::Tracked).expect("memory");
                task::yield_now();
                buddy::free(pages, order, Tracking::Tracked);
                FREED.fetch_add(1, Ordering::Relaxed);
            }
            // Waits asleep, where only its stack has the parcel, and goes on where there is a CPU.
            15 => {
                let held = parcel(&mut dice);
                *TURNSTILE.lock() += 1;
                task::sleep_us(1 + dice.roll(200) as u64);
                black_box(size_of_all(&held));
            }
            16 => {
                let mut passed = TURNSTILE.lock();
                let held = parcel(&mut dice);
                task::yield_now();
                *passed += 1;
                black_box(size_of_all(&held));
            }
            // A block that grows, and so moves, while it holds the only pointers to others.
            17 => {
                let mut parcels = Vec::with_capacity(1);
                ALLOCATED.fetch_add(1, Ordering::Relaxed);
                for _ in 0..1 + dice.roll(12) {
                    parcels.push(parcel(&mut dice));
                }
                black_box(&parcels);
                drop(parcels);
                FREED.fetch_add(1, Ordering::Relaxed);
            }
            _ => {
                let (sent, place) = (parcel(&mut dice), dice.roll(PLACES));
                apart(move || drop(MAIL[place].lock().replace(sent)));
            }
        }
    }
    FINISHED.fetch_add(1, Ordering::AcqRel);
}

/// What was lost on purpose in this storm, in order.
pub fn planted() -> Vec<Secret> {
    let count = PLANTED_COUNT.load(Ordering::Acquire);
    let words = PLANTED[..count]
        .iter()
        .map(|word| Secret::hide(!word.load(Ordering::Acquire)));
    let mut planted: Vec<_> = words.collect();
    planted.sort_unstable();
    planted
}

/// Starts a storm of three workers a CPU.
pub fn start(seed: u64) -> Vec<task::JoinHandle> {
    PLANTED_COUNT.store(0, Ordering::Release);
    ROUNDS_DONE.store(0, Ordering::Release);
    FINISHED.store(0, Ordering::Release);
    let spawn = |worker| {
        let seed = seed.wrapping_mul(worker as u64 + 1);
        task::spawn("worker", Priority::Normal, move || work(seed)).expect("memory for a task")
    };
    (0..workers()).map(spawn).collect()
}

fn workers() -> usize {
    running() as usize * 3
}

/// Whether all workers of this storm have finished.
pub fn is_over() -> bool {
    FINISHED.load(Ordering::Acquire) == workers()
}

/// Ends a storm: what its workers have left behind is what was lost on purpose.
pub fn end(handles: Vec<task::JoinHandle>) {
    handles.into_iter().for_each(task::JoinHandle::join);
    // In a task that ends: the next storm may lose a block at an address that this stack would keep.
    apart(|| {
        for place in &MAIL {
            drop(place.lock().take());
        }
    });
}

/// Gives back what was lost on purpose in a storm that is over.
pub fn give_back_planted() {
    apart(|| {
        let count = PLANTED_COUNT.swap(0, Ordering::AcqRel);
        for (word, size) in PLANTED[..count].iter().zip(&SIZES) {
            let block: *mut u8 =
                core::ptr::with_exposed_provenance_mut(!word.swap(0, Ordering::AcqRel));
            let block = core::ptr::slice_from_raw_parts_mut(block, size.load(Ordering::Relaxed));
            // SAFETY: `lose` made it from a boxed slice of this size, and nothing else has it.
            drop(unsafe { Box::from_raw(block) });
            FREED.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// Blocks of all storms: those that were allocated, and those of them that were given back.
pub fn allocated_and_freed() -> (usize, usize) {
    (
        ALLOCATED.load(Ordering::Relaxed),
        FREED.load(Ordering::Relaxed),
    )
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
fn check_all_the_while(check: fn() -> Vec<Secret>) -> usize {
    let mut checks = 0;
    while !is_over() {
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
        let_the_world_go_on();
    }
    checks
}

/// Waits for some rounds of the workers, however slow the host.
pub fn let_the_world_go_on() {
    let next = ROUNDS_DONE.load(Ordering::Acquire) + workers();
    while ROUNDS_DONE.load(Ordering::Acquire) < next.min(workers() * ROUNDS) && !is_over() {
        task::yield_now();
    }
}

/// Scans, in a task of its own, until the workers have finished; returns how often.
fn scan_all_the_while() -> usize {
    static SCANS: AtomicUsize = AtomicUsize::new(0);
    apart(move || {
        while !is_over() {
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
    let handles = start(0x9e37_79b9_7f4a_7c15);
    let passes = match beside {
        Beside::Checks => check_all_the_while(check),
        Beside::FrozenChecks => check_all_the_while(check_frozen),
        Beside::Scans => scan_all_the_while(),
    };
    end(handles);
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
    /// The storm beside checks, with freed blocks poisoned: nothing is found overwritten.
    fn allocation_storm_with_poison() smp [1, 4] with "kmemleak.poison=on" {
        storm(Beside::Checks);
        assert!(mm::slab::check_contents().is_some());
        assert_eq!(mm::poison::count(), 0);
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
