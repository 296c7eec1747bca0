//! Replays a history on a machine and on the model at once.
//!
//! Where the detector gets all the memory that it wants the two must agree. Where it is refused some they can't; but what it
//! calls a leak then must be one.

use std::ops::Range;
use std::sync::Arc;

use kmemleak::{AllocOptions, Detector, Platform};
use kmemleak_emulated::{Emulated, Machine, Place, Stop};

use crate::history::{ARENA, History, Operation, PERCPU, Percpu, REGIONS, Value, Where};
use crate::model::Model;

/// What the detector gets of the memory that it wants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Supply {
    All,
    /// So many pages and no more, until half of the history is over.
    Pages(usize),
    /// All but the requests with numbers from the first of these to before the second, pages or less.
    But(u64, u64),
}

/// What a replay has seen.
struct Seen {
    /// What is lost in the end: offsets into the arena, and sizes.
    leaks: Vec<(usize, usize)>,
    /// Where blocks start in the end.
    left: Vec<usize>,
    /// Pages that were refused.
    refused: usize,
    /// Requests for memory.
    requests: u64,
}

/// A machine and its detector, for one history, or for many.
pub struct Ground {
    machine: Arc<Machine>,
    detector: Box<Detector<Emulated>>,
    arena: usize,
}

impl Ground {
    pub fn new(cpus: u32) -> Self {
        let machine = Machine::builder().cpus(cpus).build();
        let detector = Box::new(Detector::new(Emulated::of(&machine)));
        let arena = machine.arena(ARENA);
        detector.set_min_age_us(0);
        Self {
            machine,
            detector,
            arena,
        }
    }

    /// Replays a history that has no per-CPU blocks and no regions, where all blocks of the one before are gone; frees what is left.
    #[allow(dead_code, reason = "fuzzers begin afresh with each input")]
    pub fn replay(&self, history: &History) -> Result<(), String> {
        let seen = run_on(self, history, Supply::All)?;
        for operation in &history.operations {
            if let Operation::Store(place, _) = *operation {
                match place {
                    Where::Root(index) => self.machine.store(Place::Bss(index), 0),
                    Where::Arena(offset) => self.machine.write(self.arena + offset, 0),
                    Where::Percpu(..) => {}
                }
            }
        }
        seen.left
            .iter()
            .for_each(|&start| self.detector.free(start));
        let left = self.detector.tracking().objects;
        agree("left", history.operations.len(), 0, left)
    }
}

/// Whether the two agree all the way; if not, where they don't.
pub fn replay(history: &History) -> Result<(), String> {
    run(history, Supply::All).map(|_| ())
}

/// Whether all that is called a leak is one where the detector has no more than so many pages for a while; how many more
/// it wanted.
pub fn replay_with_pages(history: &History, pages: usize) -> Result<usize, String> {
    run(history, Supply::Pages(pages)).map(|seen| seen.refused)
}

/// Replays a history where these of its requests are refused; and whether the two agree as long as the detector does not say that
/// something is missing. How many requests there were.
pub fn replay_without(history: &History, numbers: Range<u64>) -> Result<u64, String> {
    let supply = Supply::But(numbers.start, numbers.end);
    run(history, supply).map(|seen| seen.requests)
}

/// What is lost in the end: offsets into the arena, and sizes.
pub fn last_leaks(history: &History) -> Vec<(usize, usize)> {
    run(history, Supply::All).expect("they agree").leaks
}

fn run(history: &History, supply: Supply) -> Result<Seen, String> {
    run_on(&Ground::new(history.cpus), history, supply)
}

fn run_on(ground: &Ground, history: &History, supply: Supply) -> Result<Seen, String> {
    let Ground {
        machine,
        detector,
        arena,
    } = ground;
    let arena = *arena;
    machine.set_stop(history.stop);
    let mut model = Model::default();
    let (mut now, mut leaks, mut told) = (0, Vec::new(), false);
    // Handles and sizes.
    let mut percpu = [None; PERCPU];
    match supply {
        Supply::All => {}
        Supply::Pages(pages) => machine.set_metadata_budget(pages),
        Supply::But(first, end) => detector.refuse_metadata(first..end),
    }
    for (number, &operation) in history.operations.iter().enumerate() {
        if number == history.operations.len() / 2 {
            machine.set_metadata_budget(usize::MAX);
        }
        // Two blocks in three have a moment of their own; the others share one.
        let passed = u64::from(number % 3 != 0 || is_pass(&operation));
        now += passed;
        machine.advance_us(passed);
        let mut verdict = None;
        match operation {
            Operation::Alloc(start, size, min_count) => {
                let options = AllocOptions::new().min_count(min_count);
                detector.alloc(arena + start, size, options);
                model.alloc(arena + start, size, min_count, now);
            }
            Operation::Free(start) => {
                detector.free(arena + start);
                model.free(arena + start);
            }
            Operation::Store(place, value) => {
                let word = match value {
                    Value::Arena(offset) => arena + offset,
                    Value::Percpu(slot, 0, offset) => {
                        percpu[slot].map_or(0, |(handle, _)| handle + offset)
                    }
                    Value::Percpu(slot, copy, offset) => percpu[slot].map_or(0, |(handle, _)| {
                        let cpu = (copy - 1) as u32 % history.cpus;
                        machine
                            .percpu_copy(handle, cpu)
                            .map_or(0, |copy| copy + offset)
                    }),
                    Value::Raw(word) => word,
                };
                let address = match place {
                    Where::Root(index) => {
                        machine.store(Place::Bss(index), word);
                        model.store_root(index, word);
                        None
                    }
                    Where::Arena(offset) => Some(arena + offset),
                    Where::Percpu(slot, cpu, offset) => percpu[slot]
                        .filter(|&(_, size)| offset + 8 <= size)
                        .and_then(|(handle, _)| {
                            let copy = machine.percpu_copy(handle, cpu as u32 % history.cpus);
                            copy.map(|copy| copy + offset)
                        }),
                };
                if let Some(address) = address {
                    machine.write(address, word);
                    model.store(address, word);
                }
            }
            Operation::FreePart(start, len) => {
                detector.free_part(arena + start, len);
                model.free_part(arena + start, len);
            }
            Operation::Vmalloc(start, size, area) => {
                let (start, area) = (arena + start, arena + area);
                detector.vmalloc(start, size, area);
                model.vmalloc(start, size, area, now);
            }
            Operation::TransientLeak(start) => {
                detector.transient_leak(arena + start);
                model.transient_leak(arena + start);
            }
            Operation::Percpu(slot, what) => match (what, percpu[slot]) {
                (Percpu::Alloc(size), None) => {
                    let handle = machine.percpu(size);
                    let copies: Vec<usize> = (0..history.cpus)
                        .filter_map(|cpu| machine.percpu_copy(handle, cpu))
                        .collect();
                    detector.alloc_percpu(handle, size);
                    model.alloc_percpu(handle, size, &copies, now);
                    percpu[slot] = Some((handle, size));
                }
                (Percpu::Free, Some((handle, _))) => {
                    detector.free_percpu(handle);
                    machine.free(handle);
                    model.free(handle);
                    percpu[slot] = None;
                }
                (Percpu::MinCount(min_count), Some((handle, _))) => {
                    if min_count == 0 {
                        detector.not_leak(handle);
                    } else {
                        detector.ignore_percpu(handle);
                    }
                    model.set_min_count(handle, min_count);
                }
                (Percpu::NoScan, Some((handle, _))) => {
                    detector.no_scan(handle);
                    model.no_scan(handle);
                }
                (Percpu::ScanArea(offset, len), Some((handle, _))) => {
                    detector.scan_area(handle + offset, len);
                    model.scan_area(handle + offset, len);
                }
                (Percpu::FreePart(offset, len), Some((handle, _))) => {
                    detector.free_part(handle + offset, len);
                    model.free_part(handle + offset, len);
                }
                _ => {}
            },
            Operation::RegionAdd(region) => {
                let region = &REGIONS[region];
                let added = detector.region_add(arena + region.start, region.len());
                if !added && (supply == Supply::All || !is_incomplete(detector)) {
                    return Err("no memory for a region, and nothing says so".into());
                }
                model.region_add(arena + region.start, region.len());
            }
            Operation::RegionRemove(region) => {
                detector.region_remove(arena + REGIONS[region].start);
                model.region_remove(arena + REGIONS[region].start);
            }
            Operation::MinAge(us) => {
                detector.set_min_age_us(us);
                model.min_age = us;
            }
            Operation::NotLeak(start) => {
                detector.not_leak(arena + start);
                model.set_min_count(arena + start, 0);
            }
            Operation::Ignore(start) => {
                detector.ignore(arena + start);
                model.set_min_count(arena + start, -1);
            }
            Operation::NoScan(start) => {
                detector.no_scan(arena + start);
                model.no_scan(arena + start);
            }
            Operation::ScanArea(start, len) => {
                detector.scan_area(arena + start, len);
                model.scan_area(arena + start, len);
            }
            Operation::Check => {
                verdict = Some(detector.check().map_err(|why| why.to_string())?);
                match history.stop {
                    Stop::Works => model.check(),
                    _ => model.check_by_passes(),
                }
            }
            Operation::Scan => {
                verdict = Some(detector.scan().map_err(|why| why.to_string())?);
                model.scan(now);
            }
            // It takes what is missing for granted.
            Operation::Clear if told || matches!(supply, Supply::Pages(_)) => {}
            Operation::Clear => {
                let mut answer = String::new();
                let done = detector.command("clear", &mut answer);
                done.map_err(|_| "clear fails")?;
                model.clear();
            }
        }
        let some_refused = match supply {
            Supply::All => false,
            Supply::Pages(_) => true,
            Supply::But(first, _) => detector.metadata_requests() > first,
        };
        told = told || some_refused && is_incomplete(detector);
        if !told {
            let tracking = detector.tracking();
            agree(
                "tracked",
                number,
                model.tracked(),
                (tracking.objects, tracking.bytes),
            )?;
        }
        let Some(verdict) = verdict else { continue };
        leaks.clear();
        detector
            .for_each_unreferenced(&mut |object| leaks.push((object.start, object.size)))
            .expect("asked from outside");
        if !told {
            let mut wanted = model.leaks();
            if some_refused {
                // Perhaps there was no memory to put them in order.
                wanted.sort_unstable();
                leaks.sort_unstable();
            }
            agree("lost", number, wanted, leaks.clone())?;
        } else if verdict.doubt().is_some() {
            // Those are suspects.
            agree("leaks in doubt", number, 0, verdict.objects)?;
        } else {
            let known = model.leaks();
            leaks.retain(|leak| !known.contains(leak));
            agree("called leaks", number, Vec::new(), leaks.clone())?;
        }
    }
    let offset = |(start, size): (usize, usize)| (start.wrapping_sub(arena), size);
    Ok(Seen {
        leaks: leaks.into_iter().map(offset).collect(),
        left: model.starts(),
        refused: machine.metadata_refused(),
        requests: detector.metadata_requests(),
    })
}

/// Whether the detector says that it could not keep all that it should.
fn is_incomplete<P: Platform>(detector: &Detector<P>) -> bool {
    let mut status = String::new();
    detector
        .command("status", &mut status)
        .expect("text takes all");
    let state = status.lines().next();
    state.is_some_and(|state| state.contains("incomplete"))
}

fn is_pass(operation: &Operation) -> bool {
    matches!(operation, Operation::Check | Operation::Scan)
}

fn agree<T: PartialEq + std::fmt::Debug>(
    what: &str,
    number: usize,
    wanted: T,
    told: T,
) -> Result<(), String> {
    if wanted == told {
        return Ok(());
    }
    Err(format!(
        "{what} after operation {number}: the model says {wanted:x?}, the detector {told:x?}"
    ))
}
