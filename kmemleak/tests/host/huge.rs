//! Objects that cover whole tables of the index, and sizes beyond 32 bits: address space that can't be read.

use kmemleak::AllocOptions;

use crate::lab::Lab;

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
/// An address at which the host has nothing.
const FAR: usize = 0x2000_0000_0000;

fn alloc(lab: &Lab, start: usize, size: usize) {
    lab.machine.make_unreadable(start, size);
    lab.machine.advance_us(1);
    lab.detector.alloc(start, size, AllocOptions::new());
}

/// The start of the object that an address lies in.
fn object_at(lab: &Lab, address: usize) -> Option<usize> {
    let told = lab.say(&format!("dump={address:#x}"));
    let start = told.strip_prefix("object 0x")?.split(' ').next()?;
    Some(usize::from_str_radix(start, 16).expect("an address"))
}

/// Addresses all over a block, near the edges of what tables of the index stand for as well.
fn offsets(start: usize, size: usize) -> Vec<usize> {
    let mut offsets = vec![
        0,
        1,
        7,
        8,
        511,
        512,
        513,
        4095,
        size / 2,
        size / 3,
        size - 1,
    ];
    for span in [512, 4096, 256 << 10, 128 * MIB, 256 * MIB, GIB] {
        let edge = start.next_multiple_of(span) - start;
        let last = ((start + size) / span * span).wrapping_sub(start);
        for near in [edge, edge + span, last, 512 * 524_287, 512 * 524_288] {
            for near in [-513, -1, 0, 1, 512].map(|off| near.wrapping_add_signed(off)) {
                offsets.push(near);
            }
        }
    }
    offsets.retain(|&offset| offset < size);
    offsets
}

fn is_found_everywhere(lab: &Lab, start: usize, size: usize) {
    for offset in offsets(start, size) {
        let found = object_at(lab, start + offset);
        assert_eq!(found, Some(start), "{start:#x}+{offset:#x} of {size:#x}");
    }
    for outside in [start - 1, start - 513, start + size, start + size + 513] {
        assert_ne!(object_at(lab, outside), Some(start), "{outside:#x}");
    }
}

const SHAPES: [(usize, usize); 8] = [
    (0, GIB),
    (512, GIB - 1024),
    (8, GIB),
    (24, 128 * MIB + 7),
    (256, 300 * MIB),
    (100 * MIB + 264, 400 * MIB + 8),
    (128 * MIB - 256, 256 * MIB + 512),
    (513, 3 * GIB + 13),
];

#[test]
fn are_found_by_any_of_their_addresses() {
    for (offset, size) in SHAPES {
        let lab = Lab::new();
        alloc(&lab, FAR + offset, size);
        is_found_everywhere(&lab, FAR + offset, size);
        assert_eq!(lab.detector.tracking().bytes, size);
    }
}

#[test]
fn with_neighbours_that_touch_them() {
    for (offset, size) in SHAPES {
        let lab = Lab::new();
        let start = FAR + offset;
        // The one before reaches into the chunk in which the large one starts, wherever it doesn't begin one.
        alloc(&lab, start - 2000, 2000);
        alloc(&lab, start, size);
        alloc(&lab, start + size, 300 * MIB);
        assert_eq!(lab.status("missed frees"), "0");
        is_found_everywhere(&lab, start, size);
        assert_eq!(object_at(&lab, start - 1), Some(start - 2000));
        is_found_everywhere(&lab, start + size, 300 * MIB);
    }
}

#[test]
fn freed_they_leave_nothing_behind() {
    for (offset, size) in SHAPES {
        let lab = Lab::new();
        let start = FAR + offset;
        for round in 0..2 {
            alloc(&lab, start, size);
            lab.detector.free(start);
            for offset in offsets(start, size) {
                assert_eq!(object_at(&lab, start + offset), None, "round {round}");
            }
        }
        // Small ones where it was.
        for offset in offsets(start, size - 16).into_iter().step_by(3) {
            let small = (start + offset) & !15;
            lab.detector.alloc(small, 16, AllocOptions::new());
            assert_eq!(object_at(&lab, small + 15), Some(small));
            lab.detector.free(small);
        }
        assert_eq!(lab.status("missed frees"), "0");
        assert_eq!((lab.tracked(), lab.warnings()), (0, String::new()));
    }
}

#[test]
fn a_new_block_wins_wherever_it_lies_over_them() {
    for (offset, size) in SHAPES {
        let start = FAR + offset;
        for inside in [0, 8, 512, 128 * MIB, size / 2, size - 8] {
            let (lab, inside) = (Lab::new(), inside & !7);
            alloc(&lab, start, size);
            alloc(&lab, start + inside, 8);
            assert_eq!((lab.tracked(), lab.status("missed frees")), (1, "1".into()));
            assert_eq!(object_at(&lab, start + inside), Some(start + inside));
            assert_eq!(object_at(&lab, start + size - 1 - 16), None);
            lab.detector.free(start + inside);
            // And the other way round.
            alloc(&lab, start + inside, 8);
            alloc(&lab, start, size);
            assert_eq!((lab.tracked(), lab.status("missed frees")), (1, "2".into()));
            is_found_everywhere(&lab, start, size);
        }
    }
}

#[test]
fn sizes_beyond_32_bits() {
    for size in [
        (1 << 32) - 2,
        (1 << 32) - 1,
        1 << 32,
        (1 << 32) + 1,
        (1_usize << 42) + 3,
    ] {
        let lab = Lab::new();
        alloc(&lab, FAR, size);
        let tracking = lab.detector.tracking();
        assert_eq!((tracking.objects, tracking.bytes), (1, size));
        assert_eq!(object_at(&lab, FAR + size - 1), Some(FAR));
        assert_eq!(object_at(&lab, FAR + size), None);
        assert_eq!(lab.leaks(), [FAR]);
        let summary = lab.detector.check().expect("on");
        assert_eq!(summary.bytes, size);
        lab.hold(0, FAR + size - 1);
        assert_eq!(lab.leaks(), []);
        lab.hold(0, FAR + size);
        assert_eq!(lab.leaks(), [FAR]);
        lab.detector.free(FAR);
        assert_eq!((lab.tracked(), lab.warnings()), (0, String::new()));
    }
}

#[test]
fn a_scan_beside_what_runs_judges_them_as_well() {
    let lab = Lab::new();
    lab.detector.set_min_age_us(0);
    alloc(&lab, FAR + 8, 300 * MIB);
    for lost in [false, true] {
        lab.machine.advance_us(1);
        lab.detector.scan().expect("on");
        assert_eq!(lab.listed().len(), usize::from(lost));
    }
    lab.hold(0, FAR + 299 * MIB);
    lab.detector.scan().expect("on");
    assert_eq!(lab.listed(), []);
}

#[test]
fn freed_in_part() {
    let lab = Lab::new();
    alloc(&lab, FAR, 10 * GIB);
    lab.detector.free_part(FAR + 5 * GIB, GIB);
    assert_eq!(lab.detector.tracking().bytes, 9 * GIB);
    is_found_everywhere(&lab, FAR, 5 * GIB);
    is_found_everywhere(&lab, FAR + 6 * GIB, 4 * GIB);
    assert_eq!(object_at(&lab, FAR + 5 * GIB + GIB / 2), None);
    lab.detector.free(FAR);
    lab.detector.free(FAR + 6 * GIB);
    assert_eq!((lab.tracked(), lab.warnings()), (0, String::new()));
}

#[test]
fn of_one_without_a_record_nothing_stays() {
    // Wherever memory ends: with the whole size or not at all, and what comes later finds the place free.
    for budget in 0..20 {
        let lab: (_, kmemleak::Detector<_>) = {
            let machine = kmemleak_emulated::Machine::new();
            let platform = kmemleak_emulated::Emulated::of(&machine);
            (machine, kmemleak::Detector::new(platform))
        };
        let (machine, detector) = lab;
        machine.set_metadata_budget(budget);
        let size = 6 * GIB + 1000;
        detector.alloc(FAR + 520, size, AllocOptions::new());
        let recorded = detector.tracking().objects == 1;
        machine.set_metadata_budget(usize::MAX);
        if recorded {
            assert_eq!(detector.tracking().bytes, size);
            detector.free(FAR + 520);
        }
        for inside in [520, GIB, 5 * GIB, size - 8] {
            detector.alloc(FAR + (inside & !7), 64, AllocOptions::new());
        }
        assert_eq!(detector.tracking().objects, 4, "budget {budget}");
        machine.make_unreadable(FAR, 8 * GIB);
    }
}

#[test]
fn at_the_end_of_memory() {
    let lab = Lab::new();
    for (start, size) in [
        (usize::MAX - 7, 8),
        (usize::MAX - 4095, 4096),
        (usize::MAX - 4095, 4095),
        (usize::MAX, 1),
    ] {
        lab.machine.make_unreadable(start - 1, 1);
        lab.machine.make_unreadable(start, usize::MAX - start);
        lab.detector.alloc(start, size, AllocOptions::new());
        lab.machine.advance_us(1);
        lab.detector.check().expect("on");
        lab.detector.scan().expect("on");
        lab.detector.free(start);
        lab.detector.free_part(start, size);
    }
    assert_eq!(lab.tracked(), 0);
}

#[test]
fn addresses_that_are_none() {
    let lab = Lab::new();
    let block = lab.block(64);
    let strange = block | 0x1234 << 48;
    lab.detector.free(strange);
    lab.detector.free_part(strange, 8);
    lab.detector.not_leak(strange);
    assert_eq!(lab.leaks(), [block]);
    lab.detector.alloc(strange, 64, AllocOptions::new());
    lab.detector.alloc(1 << 48, 64, AllocOptions::new());
    assert_eq!(lab.leaks(), [block]);
}

/// Its record is in one note and its size in another.
#[test]
fn an_odd_start_and_a_size_beyond_32_bits() {
    let lab = Lab::new();
    alloc(&lab, FAR + 5, 5 * GIB);
    assert_eq!(lab.detector.tracking().bytes, 5 * GIB);
    assert_eq!(lab.leaks(), [FAR + 5]);
    lab.detector.free(FAR + 5);
    assert_eq!(lab.tracked(), 0);
}
