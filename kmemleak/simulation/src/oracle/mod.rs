//! What must be said of the world: the model of `kmemleak/tests/model`, and what callbacks are under way.
//!
//! A callback takes a while, and so there are moments at which nobody can tell whether it has happened. The model has what is over. A
//! stop of the world keeps a copy, with the callbacks under way; a verdict is right if the model comes to it for some choice of
//! which of these have happened ([`kept`]). Callbacks at one time name different blocks, so their order is nobody's business.
//!
//! Of a verdict that was made while other code ran less can be said: nothing is listed to which pointers led all the time that were there
//! before, and have not been written since ([`Watch`]). What else it should list is said where all stand still
//! ([`crate::passes`]).

pub mod kept;
#[path = "../../../tests/model/model.rs"]
#[allow(dead_code, reason = "the tests there use all of it")]
#[allow(missing_docs, reason = "it is of a test")]
pub mod model;
#[path = "../../../tests/model/random.rs"]
#[allow(dead_code, reason = "the tests there use all of it")]
#[allow(missing_docs, reason = "it is of a test")]
pub mod random;

use std::collections::BTreeSet;
use std::fmt;

use self::kept::Kept;
use self::model::Model;

/// What a callback tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Start, size, references wanted.
    Alloc(usize, usize, i32),
    /// Handle, size, where the copies lie.
    Percpu(usize, usize, Vec<usize>),
    /// Number, size, where it is mapped.
    Phys(usize, usize, usize),
    /// Start.
    Free(usize),
    /// Start and length.
    FreePart(usize, usize),
    /// Start, references wanted.
    MinCount(usize, i32),
    /// Start.
    NoScan(usize),
    /// Start and length.
    ScanArea(usize, usize),
    /// Start.
    TransientLeak(usize),
    /// The start of an area, and of the block that it describes.
    Excess(usize, usize),
    /// Start, and whether its memory is not mapped from now on.
    Dark(usize, bool),
    /// Start and length.
    RegionAdd(usize, usize),
    /// Start.
    RegionRemove(usize),
}

impl Op {
    fn apply(&self, model: &mut Model, now_us: u64) {
        match self {
            &Self::Alloc(start, size, min_count) => model.alloc(start, size, min_count, now_us),
            Self::Percpu(handle, size, copies) => {
                model.add_percpu(*handle, *size, copies, now_us);
            }
            &Self::Phys(start, size, mapped) => model.alloc_phys(start, size, mapped, now_us),
            &Self::Free(start) => model.free(start),
            &Self::FreePart(start, len) => model.free_part(start, len),
            &Self::MinCount(start, min_count) => model.set_min_count(start, min_count),
            &Self::NoScan(start) => model.no_scan(start),
            &Self::ScanArea(start, len) => model.scan_area(start, len),
            &Self::TransientLeak(start) => model.transient_leak(start),
            &Self::Excess(area, start) => model.set_excess(area, start),
            &Self::Dark(start, dark) => model.set_dark(start, dark),
            &Self::RegionAdd(start, len) => model.region_add(start, len),
            &Self::RegionRemove(start) => model.region_remove(start),
        }
    }

    /// What it changes: start and length.
    fn range(&self) -> (usize, usize) {
        match *self {
            Self::Alloc(start, size, _)
            | Self::Percpu(start, size, _)
            | Self::Phys(start, size, _) => (start, size),
            Self::FreePart(start, len) | Self::ScanArea(start, len) => (start, len.max(1)),
            Self::Free(start)
            | Self::MinCount(start, _)
            | Self::NoScan(start)
            | Self::TransientLeak(start)
            | Self::Dark(start, _)
            | Self::Excess(start, _) => (start, 1),
            Self::RegionAdd(..) | Self::RegionRemove(_) => (0, 0),
        }
    }

    /// The start of a region that comes or goes.
    fn region(&self) -> Option<usize> {
        match *self {
            Self::RegionAdd(start, _) | Self::RegionRemove(start) => Some(start),
            _ => None,
        }
    }
}

/// A callback under way: what it does, one after the other.
#[derive(Clone, Debug)]
struct Flight {
    number: u64,
    task: usize,
    ops: Vec<Op>,
    now_us: u64,
}

/// What has changed since a moment, or was about to change then.
#[derive(Clone, Debug, Default)]
struct Changes {
    /// Starts and lengths of what callbacks named.
    touched: Vec<(usize, usize)>,
    /// Starts of regions.
    regions: BTreeSet<usize>,
    /// Addresses of words.
    written: BTreeSet<usize>,
}

impl Changes {
    fn note(&mut self, op: &Op) {
        self.touched.push(op.range());
        self.regions.extend(op.region());
    }

    fn since(flights: &[Flight]) -> Self {
        let mut changes = Self::default();
        let ops = flights.iter().flat_map(|flight| &flight.ops);
        ops.for_each(|op| changes.note(op));
        changes
    }

    fn has(&self, (start, size): (usize, usize)) -> bool {
        self.touched
            .iter()
            .any(|&(from, len)| from.wrapping_sub(start) < size || start.wrapping_sub(from) < len)
    }
}

/// What was known when a pass began, and what has changed since.
#[derive(Clone, Debug)]
pub struct Watch {
    model: Model,
    changes: Changes,
}

/// What is known.
#[derive(Default)]
pub struct Oracle {
    /// All that is over.
    pub model: Model,
    flights: Vec<Flight>,
    begun: u64,
    kept: Option<Kept>,
    /// Since that.
    changes: Changes,
    watch: Option<Watch>,
}

impl fmt::Debug for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oracle")
            .field("flights", &self.flights)
            .finish_non_exhaustive()
    }
}

impl Oracle {
    /// A callback begins; it does these things in this order.
    pub fn begin(&mut self, task: usize, ops: &[Op], now_us: u64) -> u64 {
        self.begun += 1;
        for op in ops {
            self.changes.note(op);
            if let Some(watch) = &mut self.watch {
                watch.changes.note(op);
            }
        }
        self.flights.push(Flight {
            number: self.begun,
            task,
            ops: ops.to_vec(),
            now_us,
        });
        self.begun
    }

    /// It is over.
    pub fn end(&mut self, number: u64) {
        let at = self
            .flights
            .iter()
            .position(|flight| flight.number == number);
        let flight = self.flights.remove(at.expect("it has begun"));
        for op in flight.ops {
            op.apply(&mut self.model, flight.now_us);
        }
    }

    /// A word was written: of a root, or elsewhere.
    pub fn write(&mut self, address: usize, word: usize, is_root: bool) {
        match is_root {
            true => self.model.store_root(address, word),
            false => self.model.store(address, word),
        }
        if let Some(watch) = &mut self.watch {
            watch.changes.written.insert(address);
        }
    }

    /// Zeros were written, where there may be no root.
    pub fn clear(&mut self, start: usize, len: usize) {
        if let Some(watch) = &mut self.watch {
            watch
                .changes
                .written
                .extend(self.model.words_at(start, len));
        }
        self.model.clear_words(start, len);
    }

    /// Whether a task is in the midst of a callback.
    pub fn is_inside(&self, task: usize) -> bool {
        self.flights.iter().any(|flight| flight.task == task)
    }

    /// Whether no callback is under way.
    pub fn is_calm(&self) -> bool {
        self.flights.is_empty()
    }

    /// The call stack of what a task does.
    pub fn site(&self, task: usize) -> usize {
        0x5170 + task
    }

    /// All stand still.
    pub fn note_stop(&mut self) {
        self.changes = Changes::since(&self.flights);
        self.kept = Some(Kept::new(&self.model, &self.flights));
    }

    /// A pass begins.
    pub fn begin_watch(&mut self) {
        self.kept = None;
        self.watch = Some(Watch {
            model: self.model.clone(),
            changes: Changes::since(&self.flights),
        });
    }

    /// Whether a pass that was ended has left the verdict before as it was, but for what was freed.
    pub fn judge_ended(
        &mut self,
        before: &[(usize, usize)],
        after: &[(usize, usize)],
    ) -> Result<(), String> {
        let changes = self.watch.take().ok_or("no pass has begun")?.changes;
        let is_gone = |leak: &&(usize, usize)| !after.contains(leak) && !changes.has(**leak);
        match after.iter().find(|leak| !before.contains(leak)) {
            Some(leak) => Err(format!("{leak:x?} is listed by a pass that was ended")),
            None => match before.iter().find(is_gone) {
                Some(leak) => Err(format!("a pass that was ended has dropped {leak:x?}")),
                None => Ok(()),
            },
        }
    }

    /// Whether all that a pass lists may be lost, for all that is known of the time since it began.
    pub fn judge_watched(&mut self, shown: &[(usize, usize)]) -> Result<(), String> {
        let watch = self.watch.take().ok_or("no pass has begun")?;
        let Changes {
            touched,
            regions,
            written,
        } = &watch.changes;
        let alive = watch.model.steady(written, touched, regions);
        match shown.iter().find(|leak| alive.contains(&leak.0)) {
            None => Ok(()),
            Some(leak) => Err(format!(
                "{leak:x?} is listed, and was alive all the time: {:x?} {:x?}",
                watch.model.holders(leak.0),
                watch.changes
            )),
        }
    }
}
