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
//! *Checks of frozen memory* are the same, but that the world is stopped only for the roots: the figure that counts is for how long.
//!
//! *Confirmations*: in the same forest a background scan looks for suspects, and stops the world to confirm them. Its line has the time
//! of the stop in microseconds (`stopped_us`), as a check's has; under `-icount` a thousand instructions each.
//!
//! *Windows*: how long the detector keeps interrupts off at most during passes of the background scan, with the call stack, in heaps
//! that are made to be hard for it ([`windows`]).
//!
//! *Misses*: how many of so many leaks a check does not find, beside a load on all CPUs, and by which words ([`misses`]).
//!
//! *Waits*: how long it takes a task to wait, to be woken and to get the CPU, while two take turns ([`waits`]).
//!
//! Separate tasks build the forest and free it: their stacks are freed before the check begins, so words left
//! there keep nothing alive.
//!
//! Ctrl-C ends a benchmark. The forest is freed then while the shell goes on; until that is done no other can be built.

mod forest;
mod misses;
mod waits;
mod windows;

use alloc::alloc::{Layout, alloc, dealloc};
use alloc::sync::Arc;
use core::fmt::{self, Display, Formatter, Write};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use self::forest::{Unplanted, fell, plant};

use super::commands::Answered;
use crate::arch::backtrace;
use crate::dev::time;
use crate::foreground;
use crate::leak::{CommandError, How, KMEMLEAK, NotDone, Summary, last_freeze};
use crate::mm::heap::Room;
use crate::mm::slab::{SlabCache, Trace};
use crate::mm::{PAGE, buddy};
use crate::sync::{IrqGuard, SpinLock};
use crate::task::{self, Priority, SpawnError, scheduler};

/// Numbers of objects of the checks that `bench` without an argument makes.
const CHECKS: [usize; 4] = [0, 10_000, 100_000, 500_000];

/// How many blocks `bench misses` without a number loses.
const MISSES: usize = 100_000;

/// What is to be measured.
enum What {
    All,
    Pairs,
    Check { kind: Kind, objects: usize },
    Window { objects: usize },
    Misses { blocks: usize },
    Waits,
}

/// What is done in a forest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A check in a stopped world.
    Check,
    /// A check of frozen memory.
    Frozen,
    /// A background scan whose suspects are confirmed.
    Confirm,
}

impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Check => "check",
            Self::Frozen => "frozen",
            Self::Confirm => "confirm",
        })
    }
}

fn parse(line: &str) -> Option<What> {
    let words = line.split_once(' ').unwrap_or((line, ""));
    match (words.0, words.1.trim()) {
        ("", "") => Some(What::All),
        ("pairs", "") => Some(What::Pairs),
        ("check", number) => Some(What::Check {
            kind: Kind::Check,
            objects: number.parse().ok()?,
        }),
        ("frozen", number) => Some(What::Check {
            kind: Kind::Frozen,
            objects: number.parse().ok()?,
        }),
        ("window", number) => Some(What::Window {
            objects: number.parse().ok()?,
        }),
        ("waits", "") => Some(What::Waits),
        ("misses", "") => Some(What::Misses { blocks: MISSES }),
        ("misses", number) => Some(What::Misses {
            blocks: number.parse().ok()?,
        }),
        ("confirm", number) => Some(What::Check {
            kind: Kind::Confirm,
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
            checks(Kind::Check, &CHECKS, out)?;
        }
        Some(What::Pairs) => pairs(out)?,
        Some(What::Check { kind, objects }) => checks(kind, &[objects], out)?,
        Some(What::Window { objects }) => windows::run(objects, out)?,
        Some(What::Misses { blocks }) => misses::run(blocks, out)?,
        Some(What::Waits) => waits::run(out)?,
        None => {
            writeln!(
                out,
                "bench: invalid argument `{line}`: expected pairs, check NUMBER, frozen NUMBER, confirm NUMBER, window NUMBER, misses [NUMBER], waits or nothing"
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
    let room = Room::for_arc::<SpinLock<Option<T>>>()?;
    let result: Arc<SpinLock<Option<T>>> = Arc::new(SpinLock::new(None));
    drop(room);
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

/// Bytes of memory that an object takes at most on average: its share of a slab and of the detector's metadata.
const OBJECT_COST: usize = 400;

fn checks(kind: Kind, numbers: &[usize], out: &mut dyn Write) -> fmt::Result {
    for &objects in numbers {
        check(kind, objects, out)?;
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

/// Builds a forest, measures, and frees it.
fn check(kind: Kind, objects: usize, out: &mut dyn Write) -> fmt::Result {
    write!(out, "{{\"bench\":\"{kind}\",\"objects\":{objects},")?;
    in_forest(objects, out, |bytes, out| measure(kind, bytes, out))
}

/// Builds a forest, does something with it, and frees it. A line has been begun.
fn in_forest(
    objects: usize,
    out: &mut dyn Write,
    work: impl FnOnce(usize, &mut dyn Write) -> fmt::Result,
) -> fmt::Result {
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
    if FELLING.load(Ordering::Acquire) {
        return writeln!(
            out,
            "\"skipped\":\"the objects of the last benchmark are still being freed\"}}"
        );
    }
    let built = in_own_task(move || plant(objects));
    let written = match built {
        Ok(Ok(bytes)) => work(bytes, out),
        Ok(Err(Unplanted::Ended)) => writeln!(out, "\"skipped\":\"asked to stop\"}}"),
        Ok(Err(Unplanted::RanOut)) | Err(_) => {
            writeln!(out, "\"skipped\":\"memory ran out\"}}")
        }
    };
    // Whatever became of the answer.
    match clear_away() {
        Ok(()) => written,
        Err(error) => writeln!(out, "bench: the objects stay: {error}"),
    }
}

/// Checks, and writes what was found in a forest of so many bytes.
fn measure(kind: Kind, bytes: usize, out: &mut dyn Write) -> fmt::Result {
    // Begin right after a tick, so that the next one comes as late as possible in the check.
    task::sleep_us(1);
    let (found, tsc) = match kind {
        Kind::Check => timed(|| KMEMLEAK.check()),
        Kind::Frozen => timed(|| KMEMLEAK.check_frozen()),
        Kind::Confirm => confirm(),
    };
    if let (Kind::Frozen, Ok(found)) = (kind, &found) {
        let (stopped_tsc, copied) = match found.how {
            How::Frozen => last_freeze(),
            _ => (tsc, 0),
        };
        write!(
            out,
            "\"stopped_tsc\":{stopped_tsc},\"pages_copied\":{copied},"
        )?;
    }
    match found {
        Ok(found) => writeln!(
            out,
            "\"bytes\":{bytes},\"tracked\":{},\"leaked\":{},\"unrecorded\":{},\"tsc\":{tsc},\"us\":{},\"stopped_us\":{}}}",
            KMEMLEAK.tracking().objects,
            found.listed(),
            found.unrecorded,
            time::us(tsc),
            found.stopped_us
        ),
        Err(why) => writeln!(out, "\"skipped\":\"{why}\"}}"),
    }
}

/// What is found, and how long that takes.
fn timed(find: impl FnOnce() -> Found) -> (Found, u64) {
    let start = time::tsc();
    let found = find();
    (found, time::tsc() - start)
}

type Found = Result<Summary, NotDone>;

/// Scans as the background task does, with one pass before it that has no suspects yet.
fn confirm() -> (Found, u64) {
    let primed = KMEMLEAK.scan();
    task::sleep_us(OLD_ENOUGH_US);
    // However long it takes.
    let max_us = KMEMLEAK.stop_max_us();
    KMEMLEAK.set_stop_max_us(u64::MAX);
    let found = timed(|| primed.and_then(|_| KMEMLEAK.scan_and_confirm()));
    KMEMLEAK.set_stop_max_us(max_us);
    found
}

/// So old is an object that the background scan reports.
const OLD_ENOUGH_US: u64 = 6_000_000;

/// Whether a forest is being freed.
static FELLING: AtomicBool = AtomicBool::new(false);

/// Frees the forest, in a task of its own; waits for that, unless Ctrl-C is typed.
fn clear_away() -> Result<(), SpawnError> {
    FELLING.store(true, Ordering::Release);
    let task = task::spawn("bench", Priority::Normal, || {
        fell();
        FELLING.store(false, Ordering::Release);
    });
    let task = task.inspect_err(|_| FELLING.store(false, Ordering::Release))?;
    while FELLING.load(Ordering::Acquire) {
        if foreground::go_on_from(&"freeing the objects").is_break() {
            return Ok(());
        }
        task::sleep_us(FELLING_LOOK_US);
    }
    task.join();
    Ok(())
}

/// How often it is looked whether a forest is freed.
const FELLING_LOOK_US: u64 = 1000;

/// A quotient, written with two digits after the point.
struct Ratio(u64, u64);

impl Display for Ratio {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let hundredths = self.0 * 100 / self.1.max(1);
        write!(f, "{}.{:02}", hundredths / 100, hundredths % 100)
    }
}
