//! `memory`: what the detector takes for itself.

use crate::workload::Fill;
use crate::world::{World, Wrong};

/// The subcommand.
pub fn run(objects: u32) -> Result<(), Wrong> {
    let world = World::new(objects, Fill::Random, 1)?;
    let used = world.detector.metadata();
    let all_but_depot = used.bytes - used.call_stacks;
    println!(
        "{{\"objects\":{objects},\"record_bytes\":{},\"index_bytes\":{},\"depot_bytes\":{},\
         \"bytes_per_object\":{:.1}}}",
        used.objects,
        all_but_depot - used.objects,
        used.call_stacks,
        all_but_depot as f64 / f64::from(objects)
    );
    Ok(())
}
