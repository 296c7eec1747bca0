//! `memory`: what the detector takes for itself.

use std::fmt::{self, Display, Formatter};

use crate::workload::Fill;
use crate::world::{Measuree, World, Wrong};

/// Bytes of the detector's metadata; `None` where the detector does not tell them apart.
struct Metadata {
    records: Option<usize>,
    index: Option<usize>,
    depot: Option<usize>,
    /// All of it but the depot.
    per_object: usize,
}

/// Asks the detector.
fn metadata(detector: &Measuree) -> Result<Metadata, Wrong> {
    // All in one is what it tells: "metadata     N bytes, M call stacks".
    let mut status = String::new();
    detector.command("status", &mut status)?;
    let all = status.lines().find_map(|line| {
        let (bytes, _) = line.strip_prefix("metadata")?.split_once("bytes")?;
        bytes.trim().parse().ok()
    });
    Ok(Metadata {
        records: None,
        index: None,
        depot: None,
        per_object: all.ok_or("the detector does not tell of its metadata")?,
    })
}

/// The subcommand.
pub fn run(objects: u32) -> Result<(), Wrong> {
    let world = World::new(objects, Fill::Random, 1)?;
    let used = metadata(world.detector)?;
    println!(
        "{{\"objects\":{objects},\"record_bytes\":{},\"index_bytes\":{},\"depot_bytes\":{},\
         \"bytes_per_object\":{:.1}}}",
        Json(used.records),
        Json(used.index),
        Json(used.depot),
        used.per_object as f64 / f64::from(objects)
    );
    Ok(())
}

/// A number, or null.
struct Json(Option<usize>);

impl Display for Json {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => number.fmt(f),
            None => f.write_str("null"),
        }
    }
}
