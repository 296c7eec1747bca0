//! `scan`: the time of one pass of the background scan, which goes on while other code runs.
//!
//! Nothing else runs here, so what is timed is the pass's own work: it is to be held against a check of the same graph. The machine
//! can't stop its world. A pass that is not timed comes first, which remembers what the lost objects contain; from then on each pass
//! must find these objects, no more and no less.

use std::time::Instant;

use kmemleak::Summary;
use kmemleak_emulated::Stop;

use crate::workload::Fill;
use crate::world::{Measuree, World, Wrong};

/// The subcommand.
pub fn run(objects: u32, fill: Fill, repeat: u32) -> Result<(), Wrong> {
    let world = World::new(objects, fill, 1)?;
    world.machine.set_stop(Stop::Unsupported);
    world.detector.set_min_age_us(0);
    let (words, leaked) = (world.workload.words(), world.workload.leaked());
    world.detector.scan()?;
    for _ in 0..repeat {
        let began = Instant::now();
        let found = scan_once(world.detector);
        let ns = began.elapsed().as_nanos();
        let found = found.ok_or("the detector is off")?;
        let checksum = world.verify()?;
        let suspects = found.listed();
        if suspects != leaked || found.unrecorded != 0 {
            return Err(format!(
                "{suspects} suspects instead of {leaked}, with {} blocks unrecorded",
                found.unrecorded
            )
            .into());
        }
        println!(
            "{{\"objects\":{objects},\"words\":{words},\"suspects\":{suspects},\"checksum\":\"{checksum:016x}\",\
             \"ns\":{ns},\"ns_per_word\":{:.3}}}",
            ns as f64 / words as f64
        );
    }
    Ok(())
}

/// For valgrind to count in.
#[inline(never)]
fn scan_once(detector: &Measuree) -> Option<Summary> {
    detector.scan().ok()
}
