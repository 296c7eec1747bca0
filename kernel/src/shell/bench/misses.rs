//! How many leaks a check misses, and by which words.
//!
//! Workers on all CPUs allocate, free and hand over blocks, and lose some of them on the way, in each of the ways of [`Shape`]. When enough are lost, and
//! the workers have gone on for a while, the world is checked; what was lost and is not listed is missed. Then the workers pause, and the
//! detector is asked of each missed block which word leads to it ([`causes`]). All this is done twice: with the contents of freed blocks
//! kept, and with them cleared.
//!
//! What was lost is known by inverted addresses alone ([`planted`]), so the benchmark itself keeps nothing alive: a word that does is one
//! that the workers left, as any code does. What is listed and was not lost, now or before the benchmark, is a false report.
//!
//! A word's type is not used: a word of a number counts as a pointer if it looks like one, here as in any check.

mod causes;
mod planted;
mod worker;

use alloc::vec::Vec;
use core::fmt::{self, Write};

use self::causes::{CAUSES, Cause};
use self::planted::{Lost, SHAPES};
use self::worker::{Phase, Workers};
use super::in_own_task;
use crate::foreground;
use crate::leak::{How, KMEMLEAK};
use crate::mm::{self, Freed, PAGE, Wipe, buddy};
use crate::task;

/// Bytes of memory that the load needs at most.
const LOAD: usize = 32 << 20;
/// Bytes of memory that a lost block takes at most on average: its slot in a slab, the detector's records, its row here.
const LOST_COST: usize = 300;
/// How often a check is tried if a CPU comes too late to its stop.
const STOPS: usize = 30;
/// How often it is looked how far the workers are.
const LOOK_US: u64 = 2000;

/// Why there is no figure.
enum Skipped {
    Ended,
    NoMemory,
    NoTask,
    /// The detector is off, or the world could not be stopped.
    NoCheck,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ended => "asked to stop",
            Self::NoMemory => "memory ran out",
            Self::NoTask => "no memory for another task",
            Self::NoCheck => "the detector is off, or the world could not be stopped",
        })
    }
}

/// What is shown of a run.
struct Missed {
    workers: usize,
    /// Blocks in use at the check.
    live: usize,
    lost: [usize; SHAPES.len()],
    missed: [usize; SHAPES.len()],
    causes: [usize; CAUSES.len()],
    /// Listed, but neither lost nor listed before.
    false_reports: usize,
}

/// Loses so many blocks with freed blocks kept, then again with them cleared; writes a line for each.
pub(super) fn run(blocks: usize, out: &mut dyn Write) -> fmt::Result {
    let before = mm::freed();
    let result = [Wipe::Never, Wipe::OnFree]
        .into_iter()
        .try_for_each(|wipe| {
            mm::set_wipe(wipe);
            line(blocks, out)
        });
    mm::set_wipe(match before {
        Freed::Kept => Wipe::Never,
        Freed::Cleared | Freed::Poisoned => Wipe::OnFree,
    });
    result
}

fn line(blocks: usize, out: &mut dyn Write) -> fmt::Result {
    let freed = match mm::freed() {
        Freed::Kept => "kept",
        Freed::Cleared => "cleared",
        Freed::Poisoned => "poisoned",
    };
    write!(out, "{{\"bench\":\"misses\",\"freed\":\"{freed}\",")?;
    let needed = blocks.saturating_mul(LOST_COST).saturating_add(LOAD);
    let free = buddy::free_pages() * PAGE;
    if needed > free {
        return writeln!(
            out,
            "\"skipped\":\"needs {} MiB of memory, {} MiB are free\"}}",
            needed >> 20,
            free >> 20
        );
    }
    match measure(blocks) {
        Ok(missed) => write_figures(&missed, out),
        Err(why) => writeln!(out, "\"skipped\":\"{why}\"}}"),
    }
}

fn write_figures(found: &Missed, out: &mut dyn Write) -> fmt::Result {
    let sum = |numbers: &[usize]| numbers.iter().sum::<usize>();
    write!(
        out,
        "\"cpus\":{},\"workers\":{},\"live\":{},\"planted\":{},\"missed\":{},\"false\":{}",
        crate::arch::percpu::running(),
        found.workers,
        found.live,
        sum(&found.lost),
        sum(&found.missed),
        found.false_reports
    )?;
    table(out, "causes", CAUSES.map(Cause::name), found.causes)?;
    table(
        out,
        "planted_as",
        SHAPES.map(|shape| shape.name()),
        found.lost,
    )?;
    table(
        out,
        "missed_of",
        SHAPES.map(|shape| shape.name()),
        found.missed,
    )?;
    writeln!(out, "}}")
}

fn table<const N: usize>(
    out: &mut dyn Write,
    title: &str,
    names: [&str; N],
    numbers: [usize; N],
) -> fmt::Result {
    write!(out, ",\"{title}\":{{")?;
    for (index, (name, number)) in names.into_iter().zip(numbers).enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(out, "{comma}\"{name}\":{number}")?;
    }
    write!(out, "}}")
}

fn measure(blocks: usize) -> Result<Missed, Skipped> {
    let before = listed_before()?;
    planted::make_room(blocks).map_err(|_| Skipped::NoMemory)?;
    let workers = Workers::start().map_err(|_| Skipped::NoTask)?;
    let found = look(blocks, &before, &workers);
    worker::enter(Phase::Ended);
    workers.join();
    // In a task whose stack is gone afterwards: later leaks may have the same addresses.
    let cleared = in_own_task(|| {
        worker::clear_away();
        planted::free_all();
    });
    cleared.map_err(|_| Skipped::NoTask)?;
    // The last verdict names no block that was freed since.
    let _ = KMEMLEAK.check();
    found
}

/// Waits until enough is lost, checks, and asks.
fn look(blocks: usize, before: &[usize], workers: &Workers) -> Result<Missed, Skipped> {
    while !workers.have_settled() {
        let percent = 100 * planted::count() / blocks.max(1);
        wait(&format_args!("planting: {percent} % of {blocks} blocks"))?;
        if worker::out_of_memory() {
            return Err(Skipped::NoMemory);
        }
    }
    check()?;
    worker::enter(Phase::Paused);
    while !workers.are_paused() {
        wait(&"waiting for the workers")?;
    }
    let live = KMEMLEAK.tracking().objects.saturating_sub(planted::count());
    let mut lost = planted::take_sorted();
    let missed = judge(&mut lost, before).and_then(|false_reports| {
        let mut missed = Missed {
            workers: workers.count(),
            live,
            lost: [0; SHAPES.len()],
            missed: [0; SHAPES.len()],
            causes: [0; CAUSES.len()],
            false_reports,
        };
        ask_of_all(&lost, &mut missed).map(|()| missed)
    });
    planted::put_back(lost);
    missed
}

/// Counts what was lost and missed, and asks why.
fn ask_of_all(lost: &[Lost], counts: &mut Missed) -> Result<(), Skipped> {
    for block in lost {
        counts.lost[block.shape as usize] += 1;
        if block.is_listed {
            continue;
        }
        counts.missed[block.shape as usize] += 1;
        let asked: usize = counts.causes.iter().sum();
        if foreground::go_on_from(&format_args!("asking: {asked} missed blocks so far")).is_break()
        {
            return Err(Skipped::Ended);
        }
        counts.causes[causes::of(block.inverted, lost) as usize] += 1;
    }
    Ok(())
}

fn wait(progress: &dyn fmt::Display) -> Result<(), Skipped> {
    if foreground::go_on_from(progress).is_break() {
        return Err(Skipped::Ended);
    }
    task::sleep_us(LOOK_US);
    Ok(())
}

/// Checks in a stopped world.
fn check() -> Result<(), Skipped> {
    for _ in 0..STOPS {
        let summary = KMEMLEAK.check().map_err(|_| Skipped::NoCheck)?;
        if summary.how == How::Stopped {
            return Ok(());
        }
    }
    Err(Skipped::NoCheck)
}

/// What is listed before anything is lost here: inverted addresses, sorted.
fn listed_before() -> Result<Vec<usize>, Skipped> {
    check()?;
    let mut before = Vec::new();
    let mut no_memory = false;
    let listed = KMEMLEAK.for_each_unreferenced(&mut |leak| match before.try_reserve(1) {
        Ok(()) => before.push(!leak.start),
        Err(_) => no_memory = true,
    });
    listed.map_err(|_| Skipped::NoCheck)?;
    if no_memory {
        return Err(Skipped::NoMemory);
    }
    before.sort_unstable();
    Ok(before)
}

/// Notes what is listed of what was lost, and returns how much else is listed that was not before.
fn judge(lost: &mut [Lost], before: &[usize]) -> Result<usize, Skipped> {
    let mut false_reports = 0;
    let listed = KMEMLEAK.for_each_unreferenced(&mut |leak| {
        let inverted = !leak.start;
        match lost.binary_search_by_key(&inverted, |block| block.inverted) {
            Ok(row) => lost[row].is_listed = true,
            Err(_) => false_reports += usize::from(before.binary_search(&inverted).is_err()),
        }
    });
    listed.map_err(|_| Skipped::NoCheck)?;
    Ok(false_reports)
}
