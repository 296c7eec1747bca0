//! `confirm`: the stop in which a background scan confirms its suspects, and that of a check for comparison.
//!
//! What is timed is the time in which the world is stopped. Each scan must find what is leaked, no more and no less, confirmed, in the
//! graph that it should be. With one CPU valgrind counts the instructions of all stops in the function `in_the_stop`: here those of
//! scans, and with `check` those of checks.

use kmemleak::How;

use crate::workload::Fill;
use crate::world::{World, Wrong};

/// The subcommand.
pub fn run(objects: u32, fill: Fill, cpus: u32, repeat: u32) -> Result<(), Wrong> {
    let world = World::new(objects, fill, cpus)?;
    let (words, leaked) = (world.workload.words(), world.workload.leaked());
    let detector = world.detector;
    detector.set_min_age_us(0);
    detector.set_stop_max_us(u64::MAX);
    // What is unreferenced for the first time is no suspect.
    detector.scan()?;
    for _ in 0..repeat {
        let found = detector.scan_and_confirm()?;
        let checksum = world.verify()?;
        if (found.how, found.objects, found.unrecorded) != (How::Confirmed, leaked, 0) {
            return Err(format!("found {found:?} instead of {leaked} leaks, confirmed").into());
        }
        println!(
            "{{\"objects\":{objects},\"words\":{words},\"leaked\":{},\"checksum\":\"{checksum:016x}\",\
             \"stopped_us\":{},\"took_us\":{}}}",
            found.objects, found.stopped_us, found.took_us
        );
    }
    Ok(())
}
