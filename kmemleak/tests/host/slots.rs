//! How much metadata objects take, by how they lie.

use kmemleak::AllocOptions;

use crate::lab::Lab;

/// Bytes of records, and of all metadata but call stacks, for each of many objects of `size` bytes that lie `apart` bytes apart.
fn bytes_per_object(objects: usize, size: usize, apart: usize) -> (f64, f64) {
    let lab = Lab::new();
    let start = lab.machine.arena(objects * apart);
    let used = || {
        let used = lab.detector.metadata();
        (used.objects, used.bytes - used.call_stacks)
    };
    let before = used();
    for object in 0..objects {
        let at = start + object * apart;
        lab.detector.alloc(at, size, AllocOptions::new());
    }
    let after = used();
    let each = |before: usize, after: usize| (after - before) as f64 / objects as f64;
    (each(before.0, after.0), each(before.1, after.1))
}

#[test]
fn small_objects_take_no_more_than_a_record_and_their_share_of_the_index() {
    for (size, apart) in [(8, 8), (24, 32), (40, 64), (61, 64), (64, 64), (72, 80)] {
        let (_, bytes) = bytes_per_object(20_000, size, apart);
        assert!(bytes <= 45.0, "{size} in {apart}: {bytes} bytes");
    }
    // Two records for three objects are too few, and the next number is four.
    for (size, apart) in [(24, 24), (40, 48), (80, 96), (100, 112), (200, 200)] {
        let (_, bytes) = bytes_per_object(20_000, size, apart);
        assert!(bytes <= 52.0, "{size} in {apart}: {bytes} bytes");
    }
}

#[test]
fn an_object_that_lies_alone_has_one_record() {
    for size in [8, 40, 64, 500] {
        let (records, _) = bytes_per_object(2000, size, 1024);
        assert!(records <= 33.0, "{size}: {records} bytes");
    }
}

#[test]
fn a_chunk_that_has_become_empty_keeps_its_records_for_others() {
    let lab = Lab::new();
    let start = lab.machine.arena(4096);
    let slots = || (start..start + 4096).step_by(64);
    let alloc = |block, size| lab.detector.alloc(block, size, AllocOptions::new());
    slots().for_each(|block| alloc(block, 40));
    let full = lab.detector.metadata();
    for size in [64, 33, 48, 40] {
        slots().for_each(|block| lab.detector.free(block));
        slots().step_by(8).for_each(|block| alloc(block, size));
        assert_eq!(lab.detector.metadata(), full);
        let others = slots().enumerate().filter(|(number, _)| number % 8 != 0);
        others.for_each(|(_, block)| alloc(block, size));
        assert_eq!(lab.detector.metadata(), full);
    }
}
