//! Blocks freed in part where it matters: without memory for metadata, with scan areas, beyond 32 bits, inside
//! of what an index has for large blocks, beside a scan.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

use kmemleak::AllocOptions;

use crate::lab::Lab;
use crate::sparse::{BLOCKS, SparseLab};

const PAGE: usize = 4096;
/// What a table of the lowest level stands for; so much memory has none where a block covers all of it.
const TABLE: usize = 64 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

fn alloc(lab: &SparseLab, start: usize, size: usize) {
    lab.platform().now_us.fetch_add(1, Ordering::Relaxed);
    lab.detector.alloc(start, size, AllocOptions::new());
    if size > MIB {
        // Memory that is a map takes its time.
        lab.detector.no_scan(start);
    }
}

/// What is tracked from `start` on: offsets and sizes.
fn blocks(lab: &SparseLab, start: usize) -> Vec<(usize, usize)> {
    let mut blocks = Vec::new();
    lab.detector.check().expect("on");
    lab.detector
        .for_each_unreferenced(&mut |one| blocks.push((one.start - start, one.size)))
        .expect("on");
    blocks.sort_unstable();
    blocks
}

fn unrecorded(lab: &SparseLab) -> u64 {
    lab.detector.check().expect("on").unrecorded
}

/// Frees a part while there is no memory at all.
fn free_part_without_memory(lab: &SparseLab, start: usize, len: usize) {
    lab.detector.exhaust_metadata(true);
    lab.detector.free_part(start, len);
    lab.detector.exhaust_metadata(false);
}

#[test]
fn an_end_is_trimmed_without_memory() {
    // Starts at an even address and at an odd one, and in the middle of a table's range.
    for start in [BLOCKS, BLOCKS + 3, BLOCKS + TABLE / 2 + 8] {
        for (size, left) in [
            (2 * PAGE, PAGE),
            (2 * PAGE, 1),
            (4 * TABLE, TABLE + PAGE),
            (4 * TABLE, 3 * TABLE + 17),
            (4 * TABLE, 100),
            (100 * MIB, 50 * MIB),
            (100 * MIB, 33 * MIB + 5),
            (6 * GIB, 5 * GIB),
            (6 * GIB, GIB),
        ] {
            let lab = SparseLab::new();
            alloc(&lab, start, size);
            free_part_without_memory(&lab, start + left, size - left);
            assert_eq!(blocks(&lab, start), [(0, left)], "of {size:#x}");
            assert_eq!(unrecorded(&lab), 0);
            // What is left can be found all over, and nothing behind it.
            for (offset, lost) in [
                (0, 0),
                (left / 2, 0),
                (left - 1, 0),
                (left, 1),
                (size - 1, 1),
            ] {
                lab.hold(0, start + offset);
                assert_eq!(lab.leaks().len(), lost, "{left:#x} of {size:#x}");
            }
            lab.detector.free(start);
            assert_eq!(lab.detector.tracking().objects, 0);
        }
    }
}

#[test]
fn a_beginning_is_trimmed_without_memory() {
    for (start, size, gone) in [
        (BLOCKS, 2 * PAGE, PAGE),
        (BLOCKS, 4 * PAGE, PAGE),
        (BLOCKS, 16 * PAGE, 15 * PAGE),
        (BLOCKS + 12 * PAGE, 8 * PAGE, 4 * PAGE),
        (BLOCKS, 100 * MIB, PAGE),
        (BLOCKS, 6 * GIB, PAGE),
        (BLOCKS, 4 * GIB + PAGE, 2 * PAGE),
        // Within a chunk, and out of it; from an odd start to another.
        (BLOCKS, 256, 64),
        (BLOCKS + 256, 1024, 512),
        (BLOCKS + 3, 1000, 102),
        (BLOCKS + 3, 8 * PAGE, PAGE),
    ] {
        let lab = SparseLab::new();
        alloc(&lab, start, size);
        free_part_without_memory(&lab, start, gone);
        assert_eq!(blocks(&lab, start), [(gone, size - gone)], "of {size:#x}");
        assert_eq!(unrecorded(&lab), 0);
        for (offset, lost) in [(gone - 1, 1), (gone, 0), (size - 1, 0), (size, 1)] {
            lab.hold(0, start + offset);
            assert_eq!(lab.leaks().len(), lost, "{gone:#x} of {size:#x}");
        }
        lab.detector.free(start + gone);
        assert_eq!(lab.detector.tracking().objects, 0);
        assert_eq!(lab.warnings(), "");
    }
}

#[test]
fn of_a_hole_in_the_middle_the_front_stays_known() {
    for size in [4 * PAGE, 8 * TABLE] {
        let lab = SparseLab::new();
        alloc(&lab, BLOCKS, size);
        free_part_without_memory(&lab, BLOCKS + PAGE, PAGE);
        assert_eq!(blocks(&lab, BLOCKS), [(0, PAGE)]);
        assert_eq!(unrecorded(&lab), 1);
        // What is not known may be freed.
        lab.detector.free(BLOCKS + 2 * PAGE);
        assert_eq!(lab.warnings(), "");
    }
}

#[test]
fn all_of_a_block_goes_without_memory() {
    let lab = SparseLab::new();
    alloc(&lab, BLOCKS, 4 * PAGE);
    free_part_without_memory(&lab, BLOCKS, 4 * PAGE);
    assert_eq!((lab.detector.tracking().objects, unrecorded(&lab)), (0, 0));
}

/// What an index has where a large block comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tables {
    Missing,
    There,
}

/// The index has one entry for 64 KiB, or for 32 MiB, that a block covers. A front that ends within leaves it.
#[test]
fn behind_a_front_that_ends_anywhere_blocks_are_recorded_again() {
    for (size, left, tables) in [
        (4 * TABLE, 2 * TABLE + PAGE),
        (4 * TABLE, 2 * TABLE + PAGE + 24),
        (4 * TABLE, 2 * TABLE + 24),
        (4 * TABLE, 3 * TABLE - 8),
        (100 * MIB, 40 * MIB + TABLE + PAGE),
        (100 * MIB, 64 * MIB + 8),
    ]
    .into_iter()
    .flat_map(|(size, left)| [(size, left, Tables::Missing), (size, left, Tables::There)])
    {
        let lab = SparseLab::new();
        if tables == Tables::There {
            // There is a table for each 64 KiB, which the block covers as well.
            for small in (BLOCKS..BLOCKS + size).step_by(TABLE) {
                alloc(&lab, small + 512, 64);
                lab.detector.free(small + 512);
            }
        }
        alloc(&lab, BLOCKS, size);
        free_part_without_memory(&lab, BLOCKS + left, size - left);
        // Right behind it, a little further, and over all the rest.
        alloc(&lab, BLOCKS + left, 8);
        alloc(&lab, BLOCKS + left + PAGE, 64);
        let rest = (left + 2 * PAGE).next_multiple_of(PAGE);
        alloc(&lab, BLOCKS + rest, size - rest);
        let told = [(0, left), (left, 8), (left + PAGE, 64), (rest, size - rest)];
        assert_eq!(blocks(&lab, BLOCKS), told);
        assert_eq!((unrecorded(&lab), lab.warnings()), (0, String::new()));
        for (start, size) in told {
            lab.hold(0, BLOCKS + start + size - 1);
            assert_eq!(lab.leaks().len(), 3, "{start:#x}");
        }
        for (start, _) in told {
            lab.detector.free(BLOCKS + start);
        }
        lab.hold(0, 0);
        alloc(&lab, BLOCKS, size);
        assert_eq!(blocks(&lab, BLOCKS), [(0, size)]);
        assert_eq!(lab.warnings(), "");
    }
}

/// A block of four pages with areas, whose word at each half page points to a block of its own.
fn with_areas(areas: &[(usize, usize)]) -> SparseLab {
    let lab = SparseLab::new();
    alloc(&lab, BLOCKS, 4 * PAGE);
    for &(offset, len) in areas {
        lab.detector.scan_area(BLOCKS + offset, len);
    }
    for half in 0..8 {
        let child = BLOCKS + MIB + half * PAGE;
        alloc(&lab, child, 64);
        lab.platform().write(BLOCKS + half * PAGE / 2, child);
    }
    lab
}

/// Which half pages are scanned, of parts that are all held.
fn scanned(lab: &SparseLab, parts: &[usize]) -> Vec<usize> {
    for (word, part) in parts.iter().enumerate() {
        lab.hold(word, BLOCKS + part);
    }
    let lost = lab.leaks();
    let held = |half: &usize| !lost.contains(&(BLOCKS + MIB + half * PAGE));
    (0..8).filter(held).collect()
}

#[test]
fn areas_go_on_cut_to_what_remains() {
    // Over all, one in each page, over the hole; in the hole alone; of the front, of the tail.
    let whole = [(0, 4 * PAGE)];
    let each = [(0, 8), (PAGE, 8), (2 * PAGE, 8), (3 * PAGE, 8)];
    let over = [(PAGE / 2, 3 * PAGE)];
    let hole = [(PAGE, PAGE)];
    let front = [(0, PAGE / 2)];
    let tail = [(3 * PAGE + PAGE / 2, 8)];
    type Halves<'h> = &'h [usize];
    type Areas<'a> = &'a [(usize, usize)];
    let cases: [(Areas<'_>, Halves<'_>, Halves<'_>, Halves<'_>); 6] = [
        // Areas; what is scanned when the second page is gone, the first, or the last two.
        (
            &whole,
            &[0, 1, 4, 5, 6, 7],
            &[2, 3, 4, 5, 6, 7],
            &[0, 1, 2, 3],
        ),
        (&each, &[0, 4, 6], &[2, 4, 6], &[0, 2]),
        (&over, &[1, 4, 5, 6], &[2, 3, 4, 5, 6], &[1, 2, 3]),
        (&hole, &[], &[2, 3], &[2, 3]),
        (&front, &[0], &[], &[0]),
        (&tail, &[7], &[7], &[]),
    ];
    for (areas, middle, first, last) in cases {
        let lab = with_areas(areas);
        lab.detector.free_part(BLOCKS + PAGE, PAGE);
        assert_eq!(scanned(&lab, &[0, 2 * PAGE]), middle, "{areas:x?}");
        let lab = with_areas(areas);
        free_part_without_memory(&lab, BLOCKS, PAGE);
        assert_eq!(scanned(&lab, &[PAGE]), first, "{areas:x?}");
        assert_eq!(unrecorded(&lab), 0, "{areas:x?}");
        let lab = with_areas(areas);
        free_part_without_memory(&lab, BLOCKS + 2 * PAGE, 2 * PAGE);
        assert_eq!(scanned(&lab, &[0]), last, "{areas:x?}");
        assert_eq!(unrecorded(&lab), 0, "{areas:x?}");
    }
}

#[test]
fn areas_that_are_named_later_add_up() {
    let lab = with_areas(&[(0, 8)]);
    lab.detector.free_part(BLOCKS + PAGE, PAGE);
    lab.detector.scan_area(BLOCKS + 3 * PAGE, 8);
    assert_eq!(scanned(&lab, &[0, 2 * PAGE]), [0, 6]);
    // Nothing is left of them when the parts are gone.
    for (start, size) in [(0, PAGE), (2 * PAGE, 2 * PAGE)] {
        lab.detector.free(BLOCKS + start);
        alloc(&lab, BLOCKS + start, size);
    }
    assert_eq!(scanned(&lab, &[0, 2 * PAGE]), [0, 1, 4, 5, 6, 7]);
}

#[test]
fn what_is_needed_of_references_goes_on() {
    for needed in [2, 4, 5, 60] {
        let lab = SparseLab::new();
        let options = AllocOptions::new().min_count(needed);
        lab.detector.alloc(BLOCKS, 4 * PAGE, options);
        lab.detector.free_part(BLOCKS + PAGE, PAGE);
        for part in [0, 2 * PAGE] {
            for word in 0..needed as usize {
                assert!(lab.leaks().contains(&(BLOCKS + part)));
                lab.hold(word, BLOCKS + part);
            }
            assert!(!lab.leaks().contains(&(BLOCKS + part)));
            lab.hold(0, 0);
        }
        assert_eq!(unrecorded(&lab), 0);
    }
}

#[test]
fn physical_blocks_are_trimmed_too() {
    let lab = SparseLab::new();
    let offset = BLOCKS - PAGE;
    lab.platform()
        .physical_offset
        .store(offset, Ordering::Relaxed);
    lab.detector.alloc_phys(PAGE, 4 * PAGE);
    for page in 0..4 {
        let child = BLOCKS + MIB + page * PAGE;
        alloc(&lab, child, 64);
        lab.platform().write(BLOCKS + page * PAGE, child);
    }
    lab.detector.exhaust_metadata(true);
    lab.detector.free_part_phys(4 * PAGE, PAGE);
    lab.detector.free_part_phys(PAGE, PAGE);
    lab.detector.exhaust_metadata(false);
    let lost = [0, 3].map(|page| BLOCKS + MIB + page * PAGE);
    assert_eq!((lab.leaks(), unrecorded(&lab)), (lost.into(), 0));
}

/// What remains is scanned in a pass that goes on, wherever the pass is when the rest goes.
#[test]
fn beside_a_scan_nothing_that_remains_is_suspected() {
    // How often a pass lets others run.
    for hole in [(0, PAGE), (PAGE, PAGE), (3 * PAGE, PAGE)] {
        let mut reached = true;
        for moment in 0_usize.. {
            if !reached {
                break;
            }
            let lab = Lab::new();
            lab.detector.set_min_age_us(0);
            let block = lab.machine.pages(4 * PAGE);
            lab.detector.alloc(block, 4 * PAGE, AllocOptions::new());
            for page in 0..4 {
                let child = lab.block(64);
                lab.machine.write(block + page * PAGE + PAGE - 8, child);
            }
            // Unreferenced once: what the next pass does not meet is a suspect at once.
            lab.machine.advance_us(1);
            lab.detector.scan().expect("on");
            (0..4).for_each(|page| lab.hold(page, block + page * PAGE));
            let (detector, mut left) = (Arc::downgrade(&lab.detector), moment);
            let (told, freed) = mpsc::channel();
            lab.machine.at_relax(move |_| {
                if left == 0
                    && let Some(detector) = detector.upgrade()
                {
                    detector.free_part(block + hole.0, hole.1);
                    _ = told.send(());
                }
                left = left.wrapping_sub(1);
            });
            lab.machine.advance_us(1);
            lab.detector.scan().expect("on");
            let lost = lab.listed();
            reached = freed.try_recv().is_ok();
            // The child that the hole held.
            assert!(lost.len() <= 1, "{lost:x?} at moment {moment}");
        }
    }
}
