//! `bench`: what the leak detector costs in this kernel.
//!
//! Each figure is one line of JSON. Times are counts of the time stamp counter (`tsc`). Under QEMU's
//! `-icount shift=0,sleep=off` with one CPU a count is an instruction, and the figures are the same in every run:
//!
//! ```text
//! cargo run -- --smp 1 --memory 2G --accel tcg -- -icount shift=0,sleep=off
//! ```
//!
//! For that, no timed code reads a device, and interrupts are off while pairs are timed.
//!
//! *Pairs*: a task whose call stack has seven frames allocates 64 bytes, writes to them and frees them, over and over.
//! Three lines: from the global allocator; from a slab cache that is tracked; and from one that is not tracked, whose
//! hooks are never called. The two caches are otherwise equal, and the ratio of their times is what tracking costs.
//! For the cost of the hooks when the detector is off, see the first line after a boot with `kmemleak=off`, or
//! after the command `kmemleak off`, which can't be undone.
//!
//! *Checks*: a random forest of 64 trees, of objects whose mean size is 282 bytes, most of whose words are
//! not pointers. One in a thousand objects is lost: only a word that is stored inverted refers to it, by which the
//! benchmark finds and frees it afterwards. A check must find these objects and no others.
//!
//! Separate tasks build the forest and free it: their stacks are freed before the check begins, so words left
//! there keep nothing alive.

use alloc::alloc::{Layout, alloc, dealloc};
use alloc::sync::Arc;
use core::fmt::{self, Display, Formatter, Write};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use super::commands::Answered;
use crate::arch::backtrace;
use crate::dev::time;
use crate::leak::{CommandError, KMEMLEAK};
use crate::mm::slab::{SlabCache, Trace};
use crate::mm::{PAGE, buddy};
use crate::sync::{IrqGuard, SpinLock};
use crate::task::{self, Priority, SpawnError, scheduler};

/// Numbers of objects of the checks that `bench` without an argument makes.
const CHECKS: [usize; 4] = [0, 10_000, 100_000, 500_000];

/// What is to be measured.
enum What {
    All,
    Pairs,
    Check { objects: usize },
}

fn parse(line: &str) -> Option<What> {
    let words = line.split_once(' ').unwrap_or((line, ""));
    match (words.0, words.1.trim()) {
        ("", "") => Some(What::All),
        ("pairs", "") => Some(What::Pairs),
        ("check", number) => Some(What::Check {
            objects: number.parse().ok()?,
        }),
        _ => None,
    }
}

/// Runs the command.
pub fn run(line: &str, out: &mut dyn Write) -> Answered {
    match parse(line) {
        Some(What::All) => {
            pairs(out)?;
            checks(&CHECKS, out)?;
        }
        Some(What::Pairs) => pairs(out)?,
        Some(What::Check { objects }) => checks(&[objects], out)?,
        None => {
            writeln!(
                out,
                "bench: invalid argument `{line}`: expected pairs, check NUMBER or nothing"
            )?;
            return Err(CommandError::NotUnderstood);
        }
    }
    Ok(())
}

/// Runs `work` in a task of its own and waits until that task has ended.
fn in_own_task<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SpawnError> {
    let result: Arc<SpinLock<Option<T>>> = Arc::new(SpinLock::new(None));
    let place = result.clone();
    let task = task::spawn("bench", Priority::Normal, move || {
        let done = work();
        *place.lock() = Some(done);
    })?;
    task.join();
    let done = result.lock().take();
    done.ok_or(SpawnError)
}

/// Frames of the call stack that the detector sees of a pair.
const FRAMES: usize = 7;
/// Bytes of a pair's block.
const SIZE: usize = 64;
/// Number of pairs that are timed, and of pairs before them that are not.
const PAIRS: usize = 10_000;
const WARM_UP: usize = 1000;

static TRACKED: SlabCache = SlabCache::new("bench-tracked", SIZE, Trace::Trace);
static UNTRACKED: SlabCache = SlabCache::new("bench-untracked", SIZE, Trace::NoLeakTrace);

/// Times of [`PAIRS`] pairs, and the frames of the call stack that they had.
#[derive(Clone, Copy)]
struct Times {
    frames: usize,
    heap: u64,
    tracked: u64,
    untracked: u64,
}

fn pairs(out: &mut dyn Write) -> fmt::Result {
    let times = match in_own_task(|| below(time_pairs)) {
        Ok(Some(times)) => times,
        Ok(None) => return writeln!(out, "bench: no memory for {SIZE} bytes"),
        Err(error) => return writeln!(out, "bench: {error}"),
    };
    let on = KMEMLEAK.is_on();
    let lines = [
        ("heap", on, times.heap),
        ("tracked cache", on, times.tracked),
        ("untracked cache", false, times.untracked),
    ];
    for (from, tracked, tsc) in lines {
        writeln!(
            out,
            "{{\"bench\":\"pairs\",\"from\":\"{from}\",\"tracked\":{tracked},\"frames\":{},\
             \"bytes\":{SIZE},\"pairs\":{PAIRS},\"tsc_per_pair\":{}}}",
            times.frames,
            Ratio(tsc, PAIRS as u64)
        )?;
    }
    writeln!(
        out,
        "{{\"bench\":\"ratio\",\"tracked_to_untracked\":{}}}",
        Ratio(times.tracked, times.untracked)
    )
}

/// Calls `work` with a call stack of [`FRAMES`] frames.
#[inline(never)]
fn below<T>(work: fn() -> T) -> T {
    // `work` adds a frame of its own.
    let result = if callers() + 2 < FRAMES {
        below(work)
    } else {
        work()
    };
    // Something is left to do here, so that no call becomes a jump.
    core::hint::black_box(result)
}

/// How many callers the function has into which this is inlined.
#[inline(always)]
fn callers() -> usize {
    let stack = scheduler::with_current(task::Task::stack).unwrap_or_default();
    let mut frames = [0; 2 * FRAMES];
    // SAFETY: the stack of the task that runs this.
    unsafe { backtrace::walk(backtrace::frame_pointer(), stack, &mut frames) }
}

#[inline(never)]
fn time_pairs() -> Option<Times> {
    let layout = Layout::new::<[u64; SIZE / 8]>();
    Some(Times {
        frames: callers() + 1,
        heap: time_pair(|| {
            // SAFETY: the layout has a size.
            let block = NonNull::new(unsafe { alloc(layout) })?;
            write(block);
            // SAFETY: allocated above, with this layout.
            unsafe { dealloc(block.as_ptr(), layout) };
            Some(())
        })?,
        tracked: time_pair(|| cached(&TRACKED))?,
        untracked: time_pair(|| cached(&UNTRACKED))?,
    })
}

#[inline(always)]
fn cached(cache: &'static SlabCache) -> Option<()> {
    let block = cache.alloc(SIZE)?;
    write(block);
    cache.free(block);
    Some(())
}

#[inline(always)]
fn write(block: NonNull<u8>) {
    // SAFETY: a block of that size, aligned, which no other code uses.
    unsafe { block.cast::<u64>().write_volatile(1) };
}

/// How long [`PAIRS`] pairs take, after [`WARM_UP`] others.
#[inline(always)]
fn time_pair(mut pair: impl FnMut() -> Option<()>) -> Option<u64> {
    for _ in 0..WARM_UP {
        pair()?;
    }
    let _no_ticks = IrqGuard::new();
    let start = time::tsc();
    for _ in 0..PAIRS {
        pair()?;
    }
    Some(time::tsc() - start)
}

/// Number of trees in the forest.
const TREES: usize = 64;
/// One object in this many is lost.
const LOST_SHARE: usize = 1000;
/// Bytes of memory that an object takes at most on average: its share of a slab and of the detector's metadata.
const OBJECT_COST: usize = 400;

/// Sizes of objects, each after the percentage of objects that are at most as large. The mean is 282.
const SIZES: [(usize, usize); 6] = [
    (18, 32),
    (34, 64),
    (54, 128),
    (72, 256),
    (90, 512),
    (100, 1024),
];

/// Words of an object: its two children, or zeros; its size. The other words are not pointers.
const CHILDREN: usize = 0;
const OBJECT_SIZE: usize = 2;
const FILLER: usize = 3;

/// The trees' roots.
static FOREST: [AtomicUsize; TREES] = [const { AtomicUsize::new(0) }; TREES];
/// The address of the last lost object, inverted. The first word of each holds that of the one made before, inverted.
static LOST: AtomicUsize = AtomicUsize::new(!0);

fn checks(numbers: &[usize], out: &mut dyn Write) -> fmt::Result {
    for &objects in numbers {
        check(objects, out)?;
    }
    // Another check, so that the last verdict names no object that was freed since.
    match KMEMLEAK.check() {
        Ok(summary) => writeln!(
            out,
            "{{\"bench\":\"end\",\"tracked\":{},\"leaked\":{}}}",
            KMEMLEAK.tracking().objects,
            summary.listed()
        ),
        Err(_) => Ok(()),
    }
}

/// Builds a forest, checks, and frees it.
fn check(objects: usize, out: &mut dyn Write) -> fmt::Result {
    write!(out, "{{\"bench\":\"check\",\"objects\":{objects},")?;
    let (needed, free) = (
        objects.saturating_mul(OBJECT_COST),
        buddy::free_pages() * PAGE,
    );
    if needed > free {
        return writeln!(
            out,
            "\"skipped\":\"needs {} MiB of memory, {} MiB are free\"}}",
            needed >> 20,
            free >> 20
        );
    }
    let built = in_own_task(move || plant(objects));
    if let Ok(Ok(bytes)) = built {
        // Begin right after a tick, so that the next one comes as late as possible in the check.
        task::sleep_us(1);
        let start = time::tsc();
        let found = KMEMLEAK.check();
        let tsc = time::tsc() - start;
        match found {
            Ok(found) => writeln!(
                out,
                "\"bytes\":{bytes},\"tracked\":{},\"leaked\":{},\"unrecorded\":{},\"tsc\":{tsc},\
                 \"us\":{}}}",
                KMEMLEAK.tracking().objects,
                found.listed(),
                found.unrecorded,
                time::us(tsc)
            )?,
            Err(why) => writeln!(out, "\"skipped\":\"{why}\"}}")?,
        }
    } else {
        writeln!(out, "\"skipped\":\"memory ran out\"}}")?;
    }
    match in_own_task(fell) {
        Ok(()) => Ok(()),
        Err(error) => writeln!(out, "bench: the objects stay: {error}"),
    }
}

/// There was no memory for an object.
struct RanOut;

/// Builds the forest, and returns how many bytes it has.
fn plant(objects: usize) -> Result<usize, RanOut> {
    let mut random = Random(0);
    let mut bytes = 0;
    let reachable = objects - objects / LOST_SHARE;
    for number in 0..objects {
        let object = new_object(&mut random)?;
        // SAFETY: a word of an object of ours.
        bytes += unsafe { load(object, OBJECT_SIZE) };
        if number < reachable {
            hang(object, number, &mut random);
        } else {
            // SAFETY: a word of an object of ours.
            unsafe { store(object, 0, LOST.swap(!object, Ordering::Relaxed)) };
        }
    }
    Ok(bytes)
}

fn new_object(random: &mut Random) -> Result<usize, RanOut> {
    let drawn = random.below(100);
    let size = SIZES.iter().find(|(bound, _)| drawn < *bound);
    let size = size.map_or(SIZES[0].1, |&(_, size)| size);
    // SAFETY: the size is not zero.
    let block = NonNull::new(unsafe { alloc(layout(size)) }).ok_or(RanOut)?;
    let object = block.as_ptr().expose_provenance();
    let filler = (FILLER..size / 8).map(|word| (word, random.next() as usize >> 2 | 1 << 62));
    let named = [(CHILDREN, 0), (CHILDREN + 1, 0), (OBJECT_SIZE, size)];
    for (word, value) in named.into_iter().chain(filler) {
        // SAFETY: a word of the new object.
        unsafe { store(object, word, value) };
    }
    Ok(object)
}

/// Links an object at the end of a random path down a tree. The first [`TREES`] objects are the roots of the trees.
fn hang(object: usize, number: usize, random: &mut Random) {
    if number < TREES {
        FOREST[number].store(object, Ordering::Relaxed);
        return;
    }
    let mut parent = FOREST[random.below(TREES)].load(Ordering::Relaxed);
    loop {
        let place = CHILDREN + random.below(2);
        // SAFETY: a word of an object of ours.
        match unsafe { load(parent, place) } {
            // SAFETY: as above.
            0 => return unsafe { store(parent, place, object) },
            child => parent = child,
        }
    }
}

/// Frees the forest and the lost objects.
fn fell() {
    for tree in &FOREST {
        // The objects still to be freed, linked by a word that has no other use any more.
        let mut rest = tree.swap(0, Ordering::Relaxed);
        let push = |rest: &mut usize, object: usize| {
            if object != 0 {
                // SAFETY: a word of an object of ours.
                unsafe { store(object, FILLER, core::mem::replace(rest, object)) };
            }
        };
        if rest != 0 {
            // SAFETY: a word of an object of ours.
            unsafe { store(rest, FILLER, 0) };
        }
        while rest != 0 {
            let object = core::mem::replace(&mut rest, 0);
            let words = [FILLER, CHILDREN, CHILDREN + 1];
            // SAFETY: words of an object of ours.
            let [next, children @ ..] = words.map(|word| unsafe { load(object, word) });
            rest = next;
            children
                .into_iter()
                .for_each(|child| push(&mut rest, child));
            // SAFETY: nothing leads to it any more.
            unsafe { free(object) };
        }
    }
    let mut lost = !LOST.swap(!0, Ordering::Relaxed);
    while lost != 0 {
        let object = lost;
        // SAFETY: a word of an object of ours.
        lost = !unsafe { load(object, 0) };
        // SAFETY: nothing leads to it any more.
        unsafe { free(object) };
    }
}

/// Frees an object.
///
/// # Safety
///
/// [`new_object`] has made it, and it is in no tree any more.
unsafe fn free(object: usize) {
    // SAFETY: a word of the object.
    let layout = layout(unsafe { load(object, OBJECT_SIZE) });
    let block = ptr::with_exposed_provenance_mut(object);
    // SAFETY: made by `new_object`, with this layout.
    unsafe { dealloc(block, layout) };
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, align_of::<usize>()).expect("one of a few sizes")
}

/// Reads a word of an object.
///
/// # Safety
///
/// The object is live and has that word, which was written to before.
unsafe fn load(object: usize, word: usize) -> usize {
    let place = ptr::with_exposed_provenance::<usize>(object).wrapping_add(word);
    // SAFETY: the caller's promise.
    unsafe { place.read() }
}

/// Writes a word of an object.
///
/// # Safety
///
/// The object is live and has that word; one task at a time builds or frees.
unsafe fn store(object: usize, word: usize, value: usize) {
    let place = ptr::with_exposed_provenance_mut::<usize>(object).wrapping_add(word);
    // SAFETY: the caller's promise.
    unsafe { place.write(value) };
}

/// splitmix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.0;
        let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

/// A quotient, written with two digits after the point.
struct Ratio(u64, u64);

impl Display for Ratio {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let hundredths = self.0 * 100 / self.1.max(1);
        write!(f, "{}.{:02}", hundredths / 100, hundredths % 100)
    }
}
