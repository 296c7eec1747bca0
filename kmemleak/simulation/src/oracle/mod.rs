//! What must be said of the world: the model of `kmemleak/tests/model`, and what callbacks are under way.
//!
//! A callback takes a while, and so there are moments at which nobody can tell whether it has happened. The model has what is over. A
//! stop of the world keeps a copy, with the callbacks under way; a verdict is right if the model comes to it for some choice of
//! which of these have happened ([`Kept::agrees`]). Callbacks at one time name different blocks, so their order is nobody's business.

#[path = "../../../tests/model/model.rs"]
#[allow(dead_code, reason = "the tests there use all of it")]
#[allow(
    missing_docs,
    missing_debug_implementations,
    reason = "it is of a test"
)]
pub mod model;
#[path = "../../../tests/model/random.rs"]
#[allow(
    missing_docs,
    missing_debug_implementations,
    reason = "it is of a test"
)]
pub mod random;

use std::fmt;

use self::model::Model;

/// What a callback tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Start, size, references wanted.
    Alloc(usize, usize, i32),
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
}

impl Op {
    fn apply(self, model: &mut Model, now_us: u64) {
        match self {
            Self::Alloc(start, size, min_count) => model.alloc(start, size, min_count, now_us),
            Self::Free(start) => model.free(start),
            Self::FreePart(start, len) => model.free_part(start, len),
            Self::MinCount(start, min_count) => model.set_min_count(start, min_count),
            Self::NoScan(start) => model.no_scan(start),
            Self::ScanArea(start, len) => model.scan_area(start, len),
            Self::TransientLeak(start) => model.transient_leak(start),
            Self::Excess(area, start) => model.set_excess(area, start),
        }
    }

    /// What it changes: start and length.
    fn range(self) -> (usize, usize) {
        match self {
            Self::Alloc(start, size, _) => (start, size),
            Self::FreePart(start, len) | Self::ScanArea(start, len) => (start, len.max(1)),
            Self::Free(start)
            | Self::MinCount(start, _)
            | Self::NoScan(start)
            | Self::TransientLeak(start)
            | Self::Excess(start, _) => (start, 1),
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

/// The world at a stop.
#[derive(Clone, Debug)]
pub struct Kept {
    model: Model,
    flights: Vec<Flight>,
}

/// What is known.
#[derive(Default)]
pub struct Oracle {
    /// All that is over.
    pub model: Model,
    flights: Vec<Flight>,
    begun: u64,
    kept: Option<Kept>,
    /// What callbacks have changed since the stop, or were about to: starts and lengths.
    touched: Vec<(usize, usize)>,
}

impl fmt::Debug for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oracle")
            .field("flights", &self.flights)
            .finish_non_exhaustive()
    }
}

/// What a verdict says: how many objects it lists, and those that it still shows, with their sizes.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// How many.
    pub objects: usize,
    /// Starts and sizes.
    pub shown: Vec<(usize, usize)>,
}

impl Oracle {
    /// A callback begins; it does these things in this order.
    pub fn begin(&mut self, task: usize, ops: &[Op], now_us: u64) -> u64 {
        self.begun += 1;
        self.touched.extend(ops.iter().map(|op| op.range()));
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

    /// Whether a task is in the midst of a callback.
    pub fn is_inside(&self, task: usize) -> bool {
        self.flights.iter().any(|flight| flight.task == task)
    }

    /// The call stack of what a task does.
    pub fn site(&self, task: usize) -> usize {
        0x5170 + task
    }

    /// All stand still.
    pub fn note_stop(&mut self) {
        self.touched = self
            .flights
            .iter()
            .flat_map(|flight| flight.ops.iter().map(|op| op.range()))
            .collect();
        self.kept = Some(Kept {
            model: self.model.clone(),
            flights: self.flights.clone(),
        });
    }

    /// What was kept at the last stop.
    pub fn take_kept(&mut self) -> Option<Kept> {
        self.kept.take()
    }

    /// Whether a callback has changed one of these bytes since the stop.
    fn is_touched(&self, (start, size): (usize, usize)) -> bool {
        self.touched
            .iter()
            .any(|&(from, len)| from.wrapping_sub(start) < size || start.wrapping_sub(from) < len)
    }

    /// Whether a verdict of the last stop is right.
    pub fn judge(&mut self, listed: &Listed) -> Result<(), String> {
        let kept = self.kept.take().ok_or("the world was not stopped")?;
        // A long block that is being noted may be found by its start alone.
        let unsure = kept.long_ones();
        let mut listed = listed.clone();
        listed.shown.retain(|leak| !unsure.contains(&leak.0));
        kept.agrees(|model| self.holds(model, &listed, &unsure))
    }

    /// Whether it is right, if this is what was true.
    fn holds(&self, model: &mut Model, listed: &Listed, unsure: &[usize]) -> Result<(), String> {
        model.check();
        let mut wanted = model.leaks();
        wanted.retain(|leak| !unsure.contains(&leak.0));
        wanted.sort_unstable();
        let mut shown = listed.shown.clone();
        shown.sort_unstable();
        if !(wanted.len()..=wanted.len() + unsure.len()).contains(&listed.objects) {
            return Err(format!(
                "{} are lost, the detector says {}: {wanted:x?}, it shows {shown:x?}",
                wanted.len(),
                listed.objects
            ));
        }
        for leak in &shown {
            if wanted.binary_search(leak).is_err() {
                return Err(format!("{leak:x?} is shown, and not lost"));
            }
        }
        for leak in wanted {
            if shown.binary_search(&leak).is_err() && !self.is_touched(leak) {
                return Err(format!("{leak:x?} is lost, and not shown"));
            }
        }
        Ok(())
    }
}

/// Blocks of so many bytes are recorded in steps, and are found by their start until that is over: see the detector's `tracker::long`.
const LONG: usize = 64 * 512;

impl Kept {
    /// Blocks that are recorded in steps just now.
    fn long_ones(&self) -> Vec<usize> {
        let ops = self.flights.iter().flat_map(|flight| &flight.ops);
        let long = ops.filter_map(|op| match *op {
            Op::Alloc(start, size, _) if size >= LONG => Some(start),
            _ => None,
        });
        long.collect()
    }

    /// Whether something holds for some choice of which callbacks under way have happened. If not, why it does not hold if all have.
    pub fn agrees(&self, holds: impl Fn(&mut Model) -> Result<(), String>) -> Result<(), String> {
        let mut steps = vec![0; self.flights.len()];
        let mut why;
        loop {
            let mut model = self.model.clone();
            for (flight, &done) in self.flights.iter().zip(&steps) {
                for op in &flight.ops[..done] {
                    op.apply(&mut model, flight.now_us);
                }
            }
            match holds(&mut model) {
                Ok(()) => return Ok(()),
                Err(reason) => why = reason,
            }
            // The next choice, as digits of a number.
            let next = steps
                .iter()
                .zip(&self.flights)
                .position(|(&done, flight)| done < flight.ops.len());
            let Some(next) = next else {
                return Err(format!("{why}; under way: {:x?}", self.flights));
            };
            steps[next] += 1;
            steps[..next].fill(0);
        }
    }
}
