//! The world at a stop, and what a verdict of that moment must be.

use super::model::Model;
use super::{Changes, Flight, Op, Oracle};

/// Blocks of so many bytes are recorded in steps, and are found by their start until that is over: see the detector's `tracker::long`.
const LONG: usize = 64 * 512;

/// The world at a stop.
#[derive(Clone, Debug)]
pub struct Kept {
    model: Model,
    flights: Vec<Flight>,
}

/// What a verdict says: how many objects it lists, and those that it still shows, with their sizes.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// How many.
    pub objects: usize,
    /// Starts and sizes.
    pub shown: Vec<(usize, usize)>,
}

/// When a verdict of a stop was put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// In the stop.
    Then,
    /// Later: what changed in between may be left out.
    Later,
}

impl Oracle {
    /// Whether a verdict of the last stop is right.
    pub fn judge(&mut self, listed: &Listed, when: When) -> Result<(), String> {
        let kept = self.kept.take().ok_or("the world was not stopped")?;
        // A long block that is being noted may be found by its start alone.
        let unsure = kept.long_ones();
        let mut listed = listed.clone();
        listed.shown.retain(|leak| !unsure.contains(&leak.0));
        let changes = &self.changes;
        kept.agrees(|model| holds(model, &listed, &unsure, changes, when))
    }

    /// Whether nothing is listed to which pointers led at the last stop.
    pub fn judge_confirmed(&mut self, listed: &Listed) -> Result<(), String> {
        let kept = self.kept.take().ok_or("the world was not stopped")?;
        let Changes {
            touched, regions, ..
        } = Changes::since(&kept.flights);
        let alive = kept.model.steady(&Default::default(), &touched, &regions);
        match listed.shown.iter().find(|leak| alive.contains(&leak.0)) {
            None => Ok(()),
            Some(leak) => Err(format!("{leak:x?} is confirmed, and was alive at the stop")),
        }
    }
}

/// Whether a verdict is right, if this is what was true.
fn holds(
    model: &mut Model,
    listed: &Listed,
    unsure: &[usize],
    changes: &Changes,
    when: When,
) -> Result<(), String> {
    model.check();
    let excused = match when {
        When::Then => Default::default(),
        // What a block held that is freed meanwhile counts as in use.
        When::Later => model.led_to(|leak| changes.has(leak)),
    };
    let mut wanted = model.leaks();
    wanted.retain(|leak| !unsure.contains(&leak.0));
    wanted.sort_unstable();
    let mut shown = listed.shown.clone();
    shown.sort_unstable();
    let certain = wanted
        .iter()
        .filter(|leak| !excused.contains(&leak.0))
        .count();
    let fewest = match when {
        When::Then => wanted.len(),
        When::Later => certain,
    };
    if let Some(leak) = shown
        .iter()
        .find(|leak| wanted.binary_search(leak).is_err())
    {
        return Err(format!(
            "{leak:x?} is shown, and not lost: {:x?} {:x?}",
            model.holders(leak.0),
            changes
        ));
    }
    if !(fewest..=wanted.len() + unsure.len()).contains(&listed.objects) {
        return Err(format!(
            "{} are lost, the detector says {}: {wanted:x?}, it shows {shown:x?}",
            wanted.len(),
            listed.objects
        ));
    }
    for leak in wanted {
        if shown.binary_search(&leak).is_err() && !changes.has(leak) && !excused.contains(&leak.0) {
            return Err(format!("{leak:x?} is lost, and not shown"));
        }
    }
    Ok(())
}

impl Kept {
    pub(super) fn new(model: &Model, flights: &[Flight]) -> Self {
        Self {
            model: model.clone(),
            flights: flights.to_vec(),
        }
    }

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
    fn agrees(&self, holds: impl Fn(&mut Model) -> Result<(), String>) -> Result<(), String> {
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
