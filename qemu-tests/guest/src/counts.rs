//! A storm of references on all CPUs, with all counts compared the whole time: no count that is right is ever told, and
//! in the end each reference that was forgotten on purpose is.
//!
//! The command line's `soak.minutes=N` says for how long; without it the workers make a fixed number of rounds.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::sync::{Arc, Weak};
use alloc::task::Wake;
use alloc::vec::Vec;
use core::hint::black_box;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use core::task::Waker;

use kernel::arch::percpu::running;
use kernel::dev::time;
use kernel::leak::KMEMLEAK;
use kernel::sync::{LocalIrqDisabled, SpinLock};
use kernel::task::{self, Mutex, Priority};
use kernel::{cmdline, println};
use kmemleak::{CountSums, Miscount, Miscounted, NotCompared, StopError};

use crate::guest_test;
use crate::leak_support::{Secret, apart, check};
use crate::storm::Dice;

/// Rounds of each worker, at least.
const ROUNDS: usize = 3000;
const PLACES: usize = 32;

/// What is referred to.
struct Item {
    number: usize,
    other: SpinLock<Option<Arc<Item>>>,
    woken: AtomicUsize,
}

impl Wake for Item {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(self.number, Ordering::Relaxed);
    }
}

/// A state that holds a reference or not, whose old variants leave words behind.
#[expect(dead_code, reason = "what is held is only dropped")]
enum State {
    Idle([usize; 3]),
    Holds(usize, Arc<Item>),
    HoldsTwo(Arc<Item>, usize, Arc<Item>),
}

static STRONG: [SpinLock<Option<Arc<Item>>, LocalIrqDisabled>; PLACES] =
    [const { SpinLock::new(None) }; PLACES];
static WEAK: [SpinLock<Option<Weak<Item>>>; PLACES] = [const { SpinLock::new(None) }; PLACES];
static RAW: [AtomicPtr<Item>; PLACES] = [const { AtomicPtr::new(ptr::null_mut()) }; PLACES];
static WAKERS: [SpinLock<Option<Waker>>; PLACES] = [const { SpinLock::new(None) }; PLACES];
static STATES: [SpinLock<Option<Box<State>>>; PLACES] = [const { SpinLock::new(None) }; PLACES];
static QUEUE: Mutex<VecDeque<Arc<Item>>> = Mutex::new(VecDeque::new());
static MAP: Mutex<BTreeMap<usize, Arc<Item>>> = Mutex::new(BTreeMap::new());
static FINISHED: AtomicUsize = AtomicUsize::new(0);
static IS_OVER: AtomicBool = AtomicBool::new(false);

fn item(dice: &mut Dice) -> Arc<Item> {
    Arc::new(Item {
        number: dice.roll(1000),
        other: SpinLock::new(None),
        woken: AtomicUsize::new(0),
    })
}

/// A reference to what lies in some place, or a new one.
fn any(dice: &mut Dice) -> Arc<Item> {
    let found = STRONG[dice.roll(PLACES)].lock().clone();
    found.unwrap_or_else(|| item(dice))
}

/// What stands in a place from now on; what was there is dropped without the lock.
fn put(place: usize, item: Option<Arc<Item>>) {
    let before = core::mem::replace(&mut *STRONG[place].lock(), item);
    drop(before);
}

fn swap_raw(place: usize, item: *const Item) {
    let before = RAW[place].swap(item.cast_mut(), Ordering::AcqRel);
    if !before.is_null() {
        // SAFETY: made by `into_raw`, and taken out of its place once.
        drop(unsafe { Arc::from_raw(before) });
    }
}

fn act(dice: &mut Dice) {
    let place = dice.roll(PLACES);
    match dice.roll(18) {
        0 | 1 => put(place, Some(item(dice))),
        2 | 3 => {
            let copied = any(dice);
            put(place, Some(copied));
        }
        4 => put(place, None),
        // Two references in one frame, while others run.
        5 => {
            let one = any(dice);
            let other = one.clone();
            task::yield_now();
            black_box(one.number + other.number);
        }
        6 => {
            let held = any(dice);
            task::sleep_us(1 + dice.roll(100) as u64);
            black_box(held.number);
        }
        7 => {
            let weak = Arc::downgrade(&any(dice));
            let before = WEAK[place].lock().replace(weak);
            drop(before.and_then(|weak| weak.upgrade()));
        }
        8 => swap_raw(place, Arc::into_raw(any(dice))),
        9 => swap_raw(place, ptr::null()),
        10 => {
            let waker = Waker::from(any(dice));
            let before = WAKERS[place].lock().replace(waker.clone());
            before.into_iter().for_each(Waker::wake);
            waker.wake_by_ref();
        }
        11 => {
            let (one, two) = (any(dice), any(dice));
            let state = match dice.roll(3) {
                0 => State::Idle([dice.roll(9); 3]),
                1 => State::Holds(dice.roll(9), one),
                _ => State::HoldsTwo(one, dice.roll(9), two),
            };
            let mut states = STATES[place].lock();
            let before = match &mut *states {
                // In place, so that words of the old variant remain.
                Some(old) => core::mem::replace(&mut **old, state),
                none => {
                    *none = Some(Box::new(state));
                    State::Idle([0; 3])
                }
            };
            drop(states);
            drop(before);
        }
        12 => {
            let pushed = any(dice);
            let mut queue = QUEUE.lock();
            queue.push_back(pushed);
            let popped = (queue.len() > 20).then(|| queue.pop_front());
            drop(queue);
            drop(popped);
        }
        13 => {
            let kept = any(dice);
            let mut map = MAP.lock();
            let before = map.insert(dice.roll(40), kept);
            let removed = map.remove(&dice.roll(40));
            drop(map);
            drop((before, removed));
        }
        // A vector that grows, and so moves, full of clones of one.
        14 => {
            let one = any(dice);
            let mut clones = Vec::with_capacity(1);
            for _ in 0..1 + dice.roll(20) {
                clones.push(one.clone());
            }
            drop(one);
            task::yield_now();
            clones.truncate(3);
            task::yield_now();
            black_box(&clones);
        }
        15 => {
            let (one, other) = (any(dice), item(dice));
            *other.other.lock() = Some(one);
            put(place, Some(other));
        }
        16 => {
            let alone = Rc::new([dice.roll(9); 4]);
            let list = Box::new([alone.clone(), alone.clone(), alone]);
            task::yield_now();
            black_box(Rc::strong_count(&list[0]));
        }
        _ => {
            let given = any(dice);
            let slice: Arc<[usize]> = Arc::from(alloc::vec![given.number; 4]);
            task::spawn("given", Priority::Normal, move || {
                black_box((given.number, slice.len()));
            })
            .expect("memory for a task")
            .join();
        }
    }
}

fn work(seed: u64) {
    let mut dice = Dice(seed);
    let mut rounds = 0;
    while rounds < ROUNDS || !IS_OVER.load(Ordering::Acquire) {
        act(&mut dice);
        rounds += 1;
    }
    FINISHED.fetch_add(1, Ordering::AcqRel);
}

/// What was compared in all.
static COMPARED: Mutex<CountSums> = Mutex::new(CountSums {
    blocks: 0,
    on_stacks: 0,
    below_zero: 0,
    too_low: 0,
    too_high: 0,
});

/// Compares counts once, and shows what is certainly wrong. False if a CPU came too late.
fn compare(look: &mut dyn FnMut(Miscount)) -> bool {
    let told = KMEMLEAK.for_each_miscount(&mut |found| {
        if found.wrong != Miscounted::TooLow {
            look(found);
        }
    });
    match told {
        Ok(sums) => {
            let mut all = COMPARED.lock();
            all.blocks += sums.blocks;
            all.on_stacks += sums.on_stacks;
            all.too_low += sums.too_low;
            true
        }
        Err(NotCompared::Unstopped(StopError::Missing(_)) | NotCompared::InFlight) => false,
        Err(why) => panic!("{why}"),
    }
}

/// Empties all places.
fn end() {
    for place in 0..PLACES {
        put(place, None);
        swap_raw(place, ptr::null());
        drop(WEAK[place].lock().take());
        drop(WAKERS[place].lock().take());
        drop(STATES[place].lock().take());
    }
    // With its buffer, whose slots have stale words.
    *QUEUE.lock() = VecDeque::new();
    MAP.lock().clear();
}

/// Items that stay in use, of which clones are forgotten.
static KEPT: [SpinLock<Option<Arc<Item>>>; PLACES] = [const { SpinLock::new(None) }; PLACES];

/// Where their values lie, inverted.
static PLANTED: [AtomicUsize; PLACES] = [const { AtomicUsize::new(0) }; PLACES];

fn forget(place: usize) {
    let kept = item(&mut Dice(place as u64 + 1));
    for _ in 0..=place % 3 {
        core::mem::forget(kept.clone());
    }
    PLANTED[place].store(
        Secret::hide(Arc::as_ptr(&kept).addr()).inverted(),
        Ordering::Release,
    );
    *KEPT[place].lock() = Some(kept);
}

/// What is found at last: addresses, and how much the count is too high.
static FOUND: Mutex<Vec<(Secret, i64)>> = Mutex::new(Vec::new());

fn find_forgotten() {
    let mut found = Vec::new();
    while !compare(&mut |one| found.push((Secret::hide(one.start), one.difference))) {
        found.clear();
        task::yield_now();
    }
    *FOUND.lock() = found;
}

guest_test! {
    /// References that come and go, while counts are compared.
    fn counts_in_a_storm() smp [1, 2, 4] {
        let minutes: u64 = cmdline::value("soak.minutes").map_or(0, |text| text.parse().expect("a number"));
        let end_us = time::now_us() + minutes * 60_000_000;
        let workers = running() as usize * 3;
        let spawn = |worker| {
            let seed = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(worker as u64 + 1);
            task::spawn("worker", Priority::Normal, move || work(seed)).expect("memory for a task")
        };
        let handles: Vec<_> = (0..workers).map(spawn).collect();
        let (mut asked, mut late) = (0, 0);
        while FINISHED.load(Ordering::Acquire) < workers {
            apart(|| _ = compare(&mut |one| panic!("{one:?} is right")));
            match compare(&mut |one| panic!("{one:?} is right")) {
                true => asked += 1,
                false => late += 1,
            }
            IS_OVER.store(time::now_us() >= end_us, Ordering::Release);
        }
        handles.into_iter().for_each(task::JoinHandle::join);
        apart(end);
        let all = *COMPARED.lock();
        println!("counts: asked {asked} times, {late} given up; {} counts compared, {} of them held by stacks; {} possibly too low; none false",
            all.blocks, all.on_stacks, all.too_low);
        assert!(asked > 0 && all.blocks > all.on_stacks, "nothing was judged");
        assert_eq!(check(), [], "something is lost");

        apart(|| (0..PLACES).for_each(forget));
        apart(find_forgotten);
        assert_eq!(check(), [], "it is in use");
        // A stale word may hide a difference, or a part of it: few do.
        let found = FOUND.lock();
        for &(block, difference) in found.iter() {
            // The value lies behind two counts.
            let value = block.inverted() - 16;
            let place = PLANTED.iter().position(|planted| planted.load(Ordering::Acquire) == value);
            let place = place.unwrap_or_else(|| panic!("{block:x?} is right"));
            assert!(difference <= 1 + place as i64 % 3, "{difference} at {place}");
        }
        println!("counts: {} of {PLACES} found", found.len());
        assert!(found.len() >= PLACES / 2, "{found:x?}");
    }
}
