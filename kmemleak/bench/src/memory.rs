//! `memory`: what the detector takes for itself, for the workload's objects or for objects of a size that lie a stride apart.

use kmemleak::{AllocOptions, Detector, Metadata};
use kmemleak_emulated::{CallStacks, Machine};

use crate::platform::Measured;
use crate::workload::Fill;
use crate::world::{World, Wrong};

/// Objects of one size, each at the beginning of a slot of a slab.
#[derive(Clone, Copy)]
struct Slots {
    size: usize,
    stride: usize,
}

/// Whether the platform says how far apart the slots are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stride {
    Told,
    NotTold,
}

/// The subcommand for the workload's objects.
pub fn run(objects: u32) -> Result<(), Wrong> {
    let world = World::new(objects, Fill::Random, 1)?;
    print(objects, "", world.detector.metadata());
    Ok(())
}

/// The subcommand for objects of sizes and strides.
pub fn run_slots(objects: u32, sizes: &[usize], strides: &[usize]) -> Result<(), Wrong> {
    if sizes.len() != strides.len() {
        let (sizes, strides) = (sizes.len(), strides.len());
        return Err(format!("{sizes} sizes and {strides} strides; give a stride for each").into());
    }
    for (&size, &stride) in sizes.iter().zip(strides) {
        if size > stride {
            return Err(format!("size {size} does not fit stride {stride}").into());
        }
        for told in [Stride::NotTold, Stride::Told] {
            let used = metadata_of(objects, Slots { size, stride }, told);
            let is_told = told == Stride::Told;
            let slots = format!("\"size\":{size},\"stride\":{stride},\"stride_told\":{is_told},");
            print(objects, &slots, used);
        }
    }
    Ok(())
}

/// What a detector takes for objects in consecutive slots. All of them have one call stack.
fn metadata_of(objects: u32, slots: Slots, told: Stride) -> Metadata {
    let machine = Machine::builder().call_stacks(CallStacks::Walked).build();
    let mut platform = Measured::of(&machine);
    if told == Stride::Told {
        platform = platform.with_stride(slots.stride);
    }
    let detector: &'static Detector<Measured> = Box::leak(Box::new(Detector::new(platform)));
    let start = machine.arena(objects as usize * slots.stride);
    for object in 0..objects as usize {
        let at = start + object * slots.stride;
        detector.alloc(at, slots.size, AllocOptions::new());
    }
    detector.metadata()
}

fn print(objects: u32, slots: &str, used: Metadata) {
    let all_but_depot = used.bytes - used.call_stacks;
    println!(
        "{{\"objects\":{objects},{slots}\"record_bytes\":{},\"index_bytes\":{},\"depot_bytes\":{},\
         \"bytes_per_object\":{:.1}}}",
        used.objects,
        all_but_depot - used.objects,
        used.call_stacks,
        all_but_depot as f64 / f64::from(objects)
    );
}
