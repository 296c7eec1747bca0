//! Numbers that are addresses of blocks, and those that are none: what is recorded, told and read.
//!
//! A number that is no address must not be taken for one by leaving bits out of it: that would be another block's. Each
//! entry of the detector is tried with such, and so are scanned words; nothing may be read but roots and blocks.

use std::sync::atomic::Ordering;

use kmemleak::{AllocOptions, LiveObject, ObjectFilter};

use crate::sparse::{BLOCKS, SparseLab};

/// Of [`BLOCKS`], with its upper bits gone, with other ones, and with the lowest of them alone.
const STRANGE: [usize; 4] = [
    BLOCKS & 0xffff_ffff_ffff,
    BLOCKS & 0xffff_ffff_ffff | 0x1234 << 48,
    BLOCKS & !(1 << 63),
    BLOCKS & !(1 << 48),
];

const LAST_PAGE: usize = usize::MAX - 4095;

/// The first number that is no address, and the first after these.
const HOLE: usize = 1 << 47;
const UPPER_HALF: usize = !(HOLE - 1);

fn number(number: usize) -> String {
    format!("{number:#018x}")
}

#[test]
fn blocks_of_the_upper_half_are_found_and_lost() {
    let lab = SparseLab::new();
    let (held, owned, lost) = (BLOCKS, BLOCKS + 64, BLOCKS + 128);
    for block in [held, owned, lost] {
        lab.alloc(block, 64);
    }
    lab.hold(3, held);
    lab.platform().write(held + 56, owned);
    assert_eq!(lab.leaks(), [lost]);
    assert_eq!(lab.tracked(), (3, 192));
    assert_eq!(lab.platform().foreign_reads(&[(BLOCKS, 192)]), []);
}

#[test]
fn between_the_halves_there_are_no_blocks() {
    let lab = SparseLab::new();
    let blocks = [HOLE - 64, UPPER_HALF];
    for block in blocks {
        lab.alloc(block, 64);
    }
    assert_eq!(lab.tracked(), (2, 128));
    let mut shown = Vec::new();
    let look = &mut |object: LiveObject<'_>| shown.push(object.start);
    lab.detector
        .for_each_object(&ObjectFilter::ALL, look)
        .expect("it is on");
    assert_eq!(shown, blocks);
}

#[test]
fn a_callback_for_no_address_is_told_of_and_changes_nothing() {
    type Callback = fn(&SparseLab, usize);
    let callbacks: [Callback; 14] = [
        |lab, number| lab.detector.free(number),
        |lab, number| lab.detector.free_part(number, 8),
        |lab, number| lab.detector.free_percpu(number),
        |lab, number| lab.detector.free_part_phys(number, 8),
        |lab, number| lab.detector.ignore(number),
        |lab, number| lab.detector.ignore_percpu(number),
        |lab, number| lab.detector.ignore_phys(number),
        |lab, number| lab.detector.not_leak(number),
        |lab, number| lab.detector.no_scan(number),
        |lab, number| lab.detector.scan_area(number, 8),
        |lab, number| lab.detector.transient_leak(number),
        |lab, number| lab.detector.update_trace(number),
        |lab, number| lab.detector.region_remove(number),
        |lab, number| lab.detector.vmalloc(BLOCKS + 0x8000, 8, number),
    ];
    for unrecorded in [0, 1] {
        let lab = SparseLab::new();
        lab.alloc(BLOCKS, 64);
        // As long as a block is not recorded, a free of the unknown is not reported; but no block has such a number.
        lab.detector.exhaust_metadata(true);
        for block in 0..unrecorded {
            lab.alloc(BLOCKS + 0x10_0000 * (block + 1), 64);
        }
        lab.detector.exhaust_metadata(false);
        lab.hold(0, BLOCKS);
        lab.hold(1, BLOCKS + 0x8000);
        lab.hold(2, BLOCKS + 0x8000);
        for (index, callback) in callbacks.iter().enumerate() {
            for (which, strange) in [0, 8].iter().chain(&STRANGE).enumerate() {
                lab.platform().call_from(&[0x1000 + index * 64 + which]);
                callback(&lab, *strange);
                let told = lab.warnings();
                assert!(
                    told.contains(&number(*strange)),
                    "{index} {strange:#x}: {told}"
                );
                lab.detector.free(BLOCKS + 0x8000);
                lab.warnings();
                assert_eq!(lab.tracked(), (1, 64), "{index} {strange:#x}");
            }
        }
        assert_eq!(lab.leaks(), []);
        lab.hold(0, 0);
        assert_eq!(lab.leaks(), [BLOCKS]);
        assert_eq!(lab.platform().foreign_reads(&[(BLOCKS, 64)]), []);
    }
}

#[test]
fn a_word_that_is_no_address_is_no_reference() {
    let lab = SparseLab::new();
    // Blocks in both halves, so that all between them is held against the blocks.
    let lower = 0x4444_4444_0000;
    lab.alloc(BLOCKS, 64);
    lab.alloc(lower, 64);
    let mut words = STRANGE.to_vec();
    words.extend([lower | 1 << 47, lower | 0x7fff << 48, lower | 1 << 48]);
    // Also after words that are: the way to their tables is known then.
    for (index, word) in words.iter().enumerate() {
        lab.hold(2 * index, *word);
    }
    assert_eq!(lab.leaks(), [lower, BLOCKS]);
    for _ in 0..3 {
        lab.scan();
    }
    assert_eq!(lab.listed(), [lower, BLOCKS]);
    for (index, word) in words.iter().enumerate() {
        lab.hold(2 * index, [lower, BLOCKS][index % 2]);
        lab.hold(2 * index + 1, *word);
    }
    assert_eq!(lab.leaks(), []);
    for (index, _) in words.iter().enumerate() {
        lab.hold(2 * index, BLOCKS);
    }
    assert_eq!(lab.leaks(), [lower]);
    for question in ["dump", "holders", "path"] {
        for strange in STRANGE {
            let answer = lab.say(&format!("{question} {strange:x}"));
            assert!(answer.contains("no object"), "{question}: {answer}");
        }
    }
}

#[test]
fn where_no_block_can_be_none_is_recorded() {
    let lab = SparseLab::new();
    let minus_12 = 0_usize.wrapping_sub(12);
    for start in [0, 8, 4095, minus_12, LAST_PAGE + 1, HOLE, UPPER_HALF - 64]
        .iter()
        .chain(&STRANGE[1..])
    {
        lab.platform().call_from(&[*start]);
        lab.alloc(*start, 64);
        let told = lab.warnings();
        let as_told = told.contains("no object can be") && told.contains(&number(*start));
        assert!(as_told, "{start:#x}: {told}");
        lab.platform().call_from(&[*start, 1]);
        lab.detector.alloc_percpu(*start, 64);
        assert!(lab.warnings().contains("no object can be"), "{start:#x}");
    }
    for (start, size) in [
        (HOLE - 4096, UPPER_HALF - HOLE + 8192),
        (HOLE - 4096, 4097),
        (BLOCKS, usize::MAX),
        (BLOCKS, 0_usize.wrapping_sub(BLOCKS) + 1),
        (BLOCKS, 0_usize.wrapping_sub(64)),
        (4096, usize::MAX - 4095),
        (LAST_PAGE, 4097),
    ] {
        lab.platform().call_from(&[start, size]);
        lab.alloc(start, size);
        let told = lab.warnings();
        let as_told = told.contains("address space") && told.contains(&number(start));
        assert!(as_told, "{start:#x} {size:#x}: {told}");
    }
    lab.alloc(BLOCKS, 64);
    lab.hold(0, 8);
    assert_eq!(lab.leaks(), [BLOCKS]);
    assert_eq!(lab.tracked(), (1, 64));
    assert_eq!(lab.platform().foreign_reads(&[(BLOCKS, 64)]), []);
}

#[test]
fn the_platform_says_where_blocks_lie() {
    let lab = SparseLab::new();
    *lab.platform().block_addresses.lock().expect("free") = UPPER_HALF..=usize::MAX;
    let users = 0x7f00_0000_1000;
    lab.alloc(users, 64);
    assert!(lab.warnings().contains(&number(users)));
    lab.platform().call_from(&[1]);
    lab.detector.vmalloc(users, 64, BLOCKS);
    assert!(lab.warnings().contains(&number(users)));
    // Numbers of physical memory are others.
    lab.detector.alloc_phys(0, 4096);
    // So may be a handle; its copies are blocks.
    lab.platform()
        .copy_distance
        .store(BLOCKS - 0x2000, Ordering::Relaxed);
    lab.platform().call_from(&[2]);
    lab.detector.alloc_percpu(0x2000, 64);
    assert!(lab.warnings().contains(&number(0x2000)), "CPU 0's copy");
    assert_eq!(lab.tracked(), (1, 4096));
    lab.alloc(LAST_PAGE, 4096);
    lab.alloc(UPPER_HALF, 64);
    assert_eq!((lab.warnings(), lab.tracked().0), (String::new(), 3));
}

#[test]
fn the_last_page_is_memory_to_its_last_byte() {
    let lab = SparseLab::new();
    let last_word = usize::MAX - 7;
    lab.alloc(LAST_PAGE, 4096);
    lab.alloc(BLOCKS, 64);
    assert_eq!(lab.tracked(), (2, 4160));
    assert_eq!(lab.leaks(), [BLOCKS, LAST_PAGE]);
    lab.hold(0, usize::MAX);
    lab.platform().write(last_word, BLOCKS);
    assert_eq!(lab.leaks(), []);
    let path = lab.say(&format!("path {BLOCKS:x}"));
    assert!(path.contains("+0xff8"), "{path}");
    let holders = lab.say(&format!("holders {BLOCKS:x}"));
    assert!(holders.contains("1 holder"), "{holders}");
    // Also while other code runs, where a change of the last word is a change.
    lab.hold(0, 0);
    lab.hold(1, BLOCKS);
    for word in 1..5 {
        lab.platform().write(last_word, word);
        assert_eq!(lab.scan(), []);
    }
    assert_eq!(lab.scan(), [LAST_PAGE]);
    lab.hold(1, 0);
    lab.platform().write(last_word, BLOCKS);
    assert_eq!(lab.leaks(), [BLOCKS, LAST_PAGE]);
    let leader = lab.say("report");
    assert!(leader.contains("owns 1"), "{leader}");
    // Parts of it. What remains where an error code is can be no block, but it may hold pointers.
    for size in [1, 8, 63, 4095] {
        lab.detector.free_part(LAST_PAGE, 4096 - size);
        assert_eq!(lab.tracked(), (1, 64));
        assert_eq!(lab.status("unrecorded").split(' ').next(), Some("1"));
        lab.say("clear");
        lab.alloc(LAST_PAGE, 4096);
    }
    assert_eq!(lab.warnings(), "");
    lab.detector.free_part(LAST_PAGE + 64, usize::MAX);
    assert_eq!(lab.tracked(), (2, 128));
    lab.detector.free(LAST_PAGE);
    assert_eq!((lab.tracked(), lab.warnings()), ((1, 64), String::new()));
    assert_eq!(
        lab.platform()
            .foreign_reads(&[(BLOCKS, 64), (LAST_PAGE, 4096)]),
        []
    );
}

#[test]
fn a_frozen_block_ends_with_the_address_space() {
    let lab = SparseLab::new();
    lab.alloc(BLOCKS, 64);
    lab.alloc(LAST_PAGE, 4096);
    lab.hold(0, LAST_PAGE);
    assert_eq!(lab.leaks_when_frozen(), [BLOCKS]);
    lab.platform().write(usize::MAX - 7, BLOCKS);
    assert_eq!(lab.leaks_when_frozen(), []);
    assert_eq!(lab.warnings(), "");
}

#[test]
fn an_area_and_a_region_end_with_the_address_space() {
    let lab = SparseLab::new();
    let last_word = usize::MAX - 7;
    lab.alloc(LAST_PAGE, 4096);
    lab.detector.scan_area(last_word, 8);
    lab.hold(0, LAST_PAGE);
    lab.alloc(BLOCKS, 64);
    lab.platform().write(last_word - 8, BLOCKS);
    assert_eq!(lab.leaks(), [BLOCKS]);
    lab.platform().write(last_word, BLOCKS);
    assert_eq!(lab.leaks(), []);
    lab.detector.free(LAST_PAGE);
    assert!(lab.detector.region_add(last_word, 8));
    assert_eq!(lab.leaks(), []);
    lab.detector.region_remove(last_word);
    assert_eq!(lab.leaks(), [BLOCKS]);
    assert_eq!(lab.warnings(), "");
}

#[test]
fn an_object_that_describes_a_block_ends_with_the_address_space() {
    // As elsewhere.
    for area in [BLOCKS + 0x1_0000, LAST_PAGE] {
        let lab = SparseLab::new();
        let last_word = area + 4088;
        lab.alloc(area, 4096);
        assert!(lab.detector.region_add(area, 4096));
        lab.detector.vmalloc(BLOCKS, 64, area);
        // Its pointers to itself don't count, the last one neither.
        lab.platform().write(last_word - 8, BLOCKS);
        lab.platform().write(last_word, area);
        assert_eq!(lab.leaks(), [BLOCKS], "{area:#x}");
        lab.hold(0, area);
        assert_eq!(lab.leaks(), [BLOCKS], "{area:#x}");
        lab.hold(1, area);
        assert_eq!(lab.leaks(), [], "{area:#x}");
        lab.platform().write(last_word - 8, 0);
        assert_eq!(lab.leaks(), [BLOCKS], "{area:#x}");
        lab.platform().write(last_word, BLOCKS);
        assert_eq!(lab.leaks(), [], "{area:#x}");
    }
}

#[test]
fn what_is_no_memory_is_no_region() {
    let lab = SparseLab::new();
    for (index, (start, len)) in [
        (0, 64),
        (4095, 8),
        (STRANGE[1], 64),
        (HOLE - 64, 128),
        (LAST_PAGE, 4097),
        (BLOCKS, usize::MAX),
    ]
    .into_iter()
    .enumerate()
    {
        lab.platform().call_from(&[index + 1]);
        assert!(!lab.detector.region_add(start, len), "{start:#x}");
        assert!(lab.warnings().contains(&number(start)), "{start:#x}");
    }
    lab.alloc(BLOCKS, 64);
    assert_eq!(lab.leaks(), [BLOCKS]);
    assert_eq!(lab.platform().foreign_reads(&[(BLOCKS, 64)]), []);
}

#[test]
fn physical_memory_is_read_where_it_is_mapped() {
    const PHYSICAL: usize = 0x10_0000;
    let lab = SparseLab::new();
    let mapped = BLOCKS + 0x10_0000;
    let offset = mapped - PHYSICAL;
    lab.platform()
        .physical_offset
        .store(offset, Ordering::Relaxed);
    lab.detector.alloc_phys(PHYSICAL, 4096);
    lab.detector.alloc_phys(0, 4096);
    lab.alloc(BLOCKS, 64);
    lab.platform().write(mapped + 4088, BLOCKS);
    assert_eq!(lab.leaks(), []);
    let memory = [(mapped, 4096), (offset, 4096), (BLOCKS, 64)];
    assert_eq!(lab.platform().foreign_reads(&memory), []);
    lab.detector.free_part_phys(0, 4096);
    assert_eq!((lab.tracked().0, lab.warnings()), (2, String::new()));
}

#[test]
fn physical_memory_that_is_mapped_nowhere_is_not_read() {
    let lab = SparseLab::new();
    for (start, mapped) in [(0x20_0000, 0), (0x30_0000, HOLE), (0x40_0000, HOLE - 64)] {
        lab.platform()
            .physical_offset
            .store(usize::wrapping_sub(mapped, start), Ordering::Relaxed);
        lab.detector.alloc_phys(start, 4096);
        assert_eq!(lab.leaks(), []);
        lab.scan();
        lab.say(&format!("dump {start:x}"));
        lab.detector.free_part_phys(start, 4096);
    }
    assert_eq!(lab.platform().foreign_reads(&[]), []);
    // And where none is.
    lab.detector.alloc_phys(HOLE - 4096, 8192);
    assert!(lab.warnings().contains(&number(HOLE - 4096)));
    lab.platform().call_from(&[1]);
    lab.detector.alloc_phys(BLOCKS, 4096);
    assert!(lab.warnings().contains(&number(BLOCKS)));
    assert_eq!(lab.tracked(), (0, 0));
}

#[test]
fn options_do_not_matter_to_where_blocks_can_be() {
    let lab = SparseLab::new();
    for min_count in [-1, 0, 2] {
        let options = AllocOptions::new().min_count(min_count);
        lab.detector.alloc(0, 4096, options);
    }
    assert_eq!((lab.leaks(), lab.tracked()), (vec![], (0, 0)));
    assert_eq!(lab.platform().foreign_reads(&[]), []);
    assert_eq!(lab.status("warnings"), "3");
}
