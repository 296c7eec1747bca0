//! What finds no room in metadata, whatever it is: counted, told, and no block in use is called a leak for it.

use kmemleak::{AllocOptions, Reading};

use crate::sparse::{BLOCKS, SparseLab};

const AREA: usize = BLOCKS + 0x1000;
const REGION: usize = BLOCKS + (1 << 30);
const OTHERS: usize = BLOCKS + 0x10_0000;
const HUGE: usize = BLOCKS + (2 << 30);

type Work<'w> = &'w dyn Fn(&SparseLab);

/// Something that needs room, and what would be lost if nobody said that there was none.
struct Case<'w> {
    what: &'w str,
    before: Work<'w>,
    work: Work<'w>,
}

fn alloc(lab: &SparseLab, start: usize, size: usize, min_count: i32) {
    let options = AllocOptions::new().min_count(min_count);
    lab.detector.alloc(start, size, options);
}

/// Uses up all metadata but that of records, of each size: what is kept of regions, and of blocks that need many references.
fn use_up(lab: &SparseLab) {
    let others = || (OTHERS..OTHERS + 0x2000).step_by(16);
    others().for_each(|start| alloc(lab, start, 8, 1));
    others().for_each(|start| lab.detector.free(start));
    lab.platform().set_metadata_budget(0);
    let mut regions = 0;
    while lab.detector.region_add(REGION + regions * 64, 8) {
        regions += 1;
    }
    others().for_each(|start| alloc(lab, start, 8, 9));
    lab.say("clear");
}

/// Whether a check lists the block.
fn is_lost(lab: &SparseLab) -> bool {
    lab.leaks().contains(&BLOCKS)
}

/// Does something while there is no memory.
fn without_memory(lab: &SparseLab, work: Work<'_>) {
    lab.detector.exhaust_metadata(true);
    work(lab);
    lab.detector.exhaust_metadata(false);
}

#[test]
fn whatever_it_is_it_is_counted_and_told() {
    let nothing: Work<'_> = &|_| {};
    let block: Work<'_> = &|lab| {
        alloc(lab, BLOCKS, 4096, 1);
        lab.hold(0, BLOCKS);
    };
    let cases = [
        Case {
            what: "a block",
            before: nothing,
            work: &|lab| alloc(lab, BLOCKS, 64, 1),
        },
        Case {
            what: "a size",
            before: nothing,
            work: &|lab| alloc(lab, HUGE, 1 << 33, 1),
        },
        Case {
            what: "a block at an odd address",
            before: block,
            work: &|lab| alloc(lab, BLOCKS + 4097, 64, 1),
        },
        Case {
            what: "a number of references",
            before: nothing,
            work: &|lab| alloc(lab, BLOCKS, 64, 200),
        },
        Case {
            what: "a per-CPU block",
            before: nothing,
            work: &|lab| lab.detector.alloc_percpu(BLOCKS, 64),
        },
        Case {
            what: "a block of physical memory",
            before: nothing,
            work: &|lab| lab.detector.alloc_phys(0x10_0000, 64),
        },
        Case {
            what: "an area",
            before: block,
            work: &|lab| lab.detector.scan_area(BLOCKS, 8),
        },
        Case {
            what: "a region",
            before: nothing,
            work: &|lab| assert!(!lab.detector.region_add(REGION, 64)),
        },
        Case {
            what: "a reading",
            before: block,
            work: &|lab| lab.detector.read_as(BLOCKS, Reading::Bytes),
        },
        Case {
            what: "a region that is read otherwise",
            before: nothing,
            work: &|lab| {
                assert!(!lab.detector.region_add_as(REGION, 64, Reading::Bytes));
            },
        },
        Case {
            what: "a disabled scope",
            before: nothing,
            work: &|lab| lab.detector.disabled_begin(),
        },
        Case {
            what: "a remainder",
            before: block,
            work: &|lab| lab.detector.free_part(BLOCKS + 1024, 1024),
        },
    ];
    for Case { what, before, work } in cases {
        let lab = SparseLab::new();
        before(&lab);
        assert!(!lab.say("status").contains("incomplete"), "{what}");
        without_memory(&lab, work);
        let status = lab.say("status");
        assert!(
            status.contains("unrecorded   1 (ever: 1)"),
            "{what}: {status}"
        );
        assert!(status.contains("incomplete"), "{what}: {status}");
        assert_eq!(lab.detector.check().expect("on").unrecorded, 1, "{what}");
        lab.say("clear");
        let status = lab.say("status");
        assert!(
            status.contains("unrecorded   0 (ever: 1)"),
            "{what}: {status}"
        );
        assert_eq!(lab.warnings(), "", "{what}");
    }
}

/// The second of two ends what began without room.
#[test]
fn the_end_of_what_found_no_room_is_silent() {
    let lab = SparseLab::new();
    without_memory(&lab, &|lab| {
        lab.detector.disabled_begin();
        assert!(!lab.detector.region_add(REGION, 64));
    });
    lab.detector.disabled_end();
    lab.detector.region_remove(REGION);
    assert_eq!(lab.warnings(), "");
    lab.say("clear");
    lab.detector.disabled_end();
    lab.detector.region_remove(REGION);
    let warnings = lab.warnings();
    assert!(warnings.contains("disabled") && warnings.contains("region"));
}

#[test]
fn a_vmalloc_block_whose_area_found_no_room_for_it_needs_one_reference() {
    let lab = SparseLab::new();
    alloc(&lab, AREA, 64, 1);
    // All is there that its record needs, but nothing for a note.
    alloc(&lab, BLOCKS, 4096, 1);
    lab.detector.free(BLOCKS);
    use_up(&lab);
    lab.detector.vmalloc(BLOCKS, 4096, AREA);
    lab.platform().write(AREA + 8, BLOCKS);
    lab.hold(0, AREA);
    lab.hold(1, AREA);
    assert!(!is_lost(&lab));
    assert_eq!(lab.detector.check().expect("on").unrecorded, 1);
}

#[test]
fn a_block_whose_number_of_references_found_no_room_is_lost_with_few() {
    let lab = SparseLab::new();
    alloc(&lab, BLOCKS, 64, 1);
    lab.detector.free(BLOCKS);
    use_up(&lab);
    alloc(&lab, BLOCKS, 64, 9);
    assert!(is_lost(&lab));
    (0..4).for_each(|word| lab.hold(word, BLOCKS));
    assert!(!is_lost(&lab));
    assert_eq!(lab.detector.check().expect("on").unrecorded, 1);
}
