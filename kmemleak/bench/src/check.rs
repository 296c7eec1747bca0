//! `check`: the time of one exact check.
//!
//! The timed part is all of a check: the machine stops, its CPUs mark, and the verdict is there. Reporting is not
//! in it. Each repetition must find what is leaked, no more and no less, in the graph that it should be.

use std::time::Instant;

use kmemleak::Summary;

use crate::workload::Fill;
use crate::world::{Measuree, World, Wrong};

/// The subcommand.
pub fn run(objects: u32, fill: Fill, cpus: u32, repeat: u32) -> Result<(), Wrong> {
    let world = World::new(objects, fill, cpus)?;
    let (words, leaked) = (world.workload.words(), world.workload.leaked());
    for _ in 0..repeat {
        let began = Instant::now();
        let found = check_once(world.detector);
        let ns = began.elapsed().as_nanos();
        let found = found.ok_or("the detector is off")?;
        let checksum = world.verify()?;
        if found.objects != leaked || found.unrecorded != 0 {
            return Err(format!(
                "found {} leaked objects instead of {leaked}, with {} blocks unrecorded",
                found.objects, found.unrecorded
            )
            .into());
        }
        // Each five that are lost are one alone and a chain of four.
        let direct = found.leaders.ok_or("no memory to find leaders")?;
        if direct != (0..leaked).filter(|lost| lost % 5 <= 1).count() {
            return Err(format!("{direct} leaders of {leaked} leaked objects").into());
        }
        println!(
            "{{\"objects\":{objects},\"words\":{words},\"leaked\":{},\"direct\":{},\"indirect\":{},\
             \"checksum\":\"{checksum:016x}\",\"ns\":{ns},\"ns_per_word\":{:.3}}}",
            found.objects,
            direct,
            found.objects - direct,
            ns as f64 / words as f64
        );
    }
    Ok(())
}

/// For valgrind to count in.
#[inline(never)]
pub fn check_once(detector: &Measuree) -> Option<Summary> {
    detector.check().ok()
}
