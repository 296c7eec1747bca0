//! Replays a history on a machine and on the model at once.

use kmemleak::{AllocOptions, Detector};
use kmemleak_emulated::{Emulated, Machine, Place};

use crate::history::{ARENA, History, Operation, Value, Where};
use crate::model::Model;

/// Whether the two agree all the way; if not, where they don't.
pub fn replay(history: &History) -> Result<(), String> {
    run(history).map(|_| ())
}

/// What is lost in the end: offsets into the arena, and sizes.
pub fn last_leaks(history: &History) -> Vec<(usize, usize)> {
    run(history).expect("they agree")
}

fn run(history: &History) -> Result<Vec<(usize, usize)>, String> {
    let machine = Machine::builder().cpus(history.cpus).build();
    machine.set_stop(history.stop);
    let detector: Box<Detector<_, 4096>> = Box::new(Detector::new(Emulated::of(&machine)));
    let mut model = Model::default();
    let arena = machine.arena(ARENA);
    let (mut now, mut leaks) = (0, Vec::new());
    for (number, &operation) in history.operations.iter().enumerate() {
        // Two blocks in three have a moment of their own; the others share one.
        let passed = u64::from(number % 3 != 0 || matches!(operation, Operation::Check));
        now += passed;
        machine.advance_us(passed);
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
                    Value::Raw(word) => word,
                };
                match place {
                    Where::Root(index) => {
                        machine.store(Place::Bss(index), word);
                        model.store_root(index, word);
                    }
                    Where::Arena(offset) => {
                        machine.write(arena + offset, word);
                        model.store(arena + offset, word);
                    }
                }
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
                detector.check().ok_or("the detector is off")?;
                model.check();
            }
            Operation::Clear => {
                let mut answer = String::new();
                let done = detector.command("clear", &mut answer);
                done.map_err(|_| "clear fails")?;
                model.clear();
            }
        }
        let tracking = detector.tracking();
        agree(
            "tracked",
            number,
            model.tracked(),
            (tracking.objects, tracking.bytes),
        )?;
        if matches!(operation, Operation::Check) {
            leaks.clear();
            detector.for_each_unreferenced(&mut |object| leaks.push((object.start, object.size)));
            agree("lost", number, model.leaks(), leaks.clone())?;
        }
    }
    let offset = |(start, size): (usize, usize)| (start - arena, size);
    Ok(leaks.into_iter().map(offset).collect())
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
