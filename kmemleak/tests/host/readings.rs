//! Blocks and regions whose pointers are not stored as plain words.

use std::sync::Arc;

use kmemleak::{AllocOptions, Detector, Reading};
use kmemleak_emulated::{Machine, Place, Stop};

use crate::lab::{Lab, pool};
use crate::sparse::{BLOCKS, Sparse, SparseLab};

const PAGE: usize = 4096;
const WORD: usize = 8;

/// Where the sparse platform maps physical memory.
const OFFSET: usize = 0xffff_8880_0000_0000;

/// With the world stopped, and while other code runs.
const STOPS: [Stop; 2] = [Stop::Works, Stop::Unsupported];

/// Stores a number at any address, in the words in which its bytes lie.
fn store(machine: &Machine, address: usize, number: usize) {
    for (index, byte) in number.to_le_bytes().into_iter().enumerate() {
        let at = address + index;
        let (word, shift) = (at & !(WORD - 1), 8 * (at % WORD));
        let others = machine.read(word) & !(0xff << shift);
        machine.write(word, others | usize::from(byte) << shift);
    }
}

pub fn holders(lab: &Lab, address: usize) -> Vec<usize> {
    let mut slots = Vec::new();
    let answer = lab
        .detector
        .holders(address, &mut |slot| slots.push(slot.address));
    assert_eq!(answer, Ok(()));
    slots
}

fn path(lab: &Lab, address: usize) -> Vec<usize> {
    let mut slots = Vec::new();
    let answer = lab
        .detector
        .path(address, &mut |slot| slots.push(slot.address));
    assert_eq!(answer, Ok(()));
    slots
}

/// A block that is held, and where the word is that holds it.
fn held_block(lab: &Lab, size: usize) -> (usize, usize) {
    let owner = lab.block(size);
    lab.hold(0, owner);
    (owner, lab.machine.address(Place::Bss(0)))
}

fn scans_find(lab: &Lab, lost: &[usize]) {
    for _ in 0..3 {
        lab.machine.advance_us(10_000_000);
        lab.detector.scan().expect("on");
    }
    assert_eq!(lab.listed(), lost);
}

#[test]
fn bytes_of_a_block_hold_a_pointer_at_each_offset() {
    for stop in STOPS {
        for offset in 0..=56 {
            let lab = Lab::new();
            lab.machine.set_stop(stop);
            let (owner, root) = held_block(&lab, 64);
            let owned = lab.block(32);
            store(&lab.machine, owner + offset, owned);
            if offset % WORD != 0 {
                assert_eq!(lab.leaks(), [owned], "{offset}");
            }
            // Any address in it names the block.
            lab.detector.read_as(owner + 63, Reading::Bytes);
            assert_eq!(lab.leaks(), [], "{offset}");
            let dump = lab.say(&format!("dump {owner:x}"));
            assert!(dump.contains("  read as bytes\n"), "{dump}");
            scans_find(&lab, &[]);
            assert_eq!(holders(&lab, owned), [owner + offset]);
            assert_eq!(path(&lab, owned), [root, owner + offset]);
            lab.detector.read_as(owner, Reading::Words);
            let lost = if offset % WORD == 0 {
                vec![]
            } else {
                vec![owned]
            };
            assert_eq!(lab.leaks(), lost, "{offset}");
            assert_eq!(lab.warnings(), "");
        }
    }
}

/// A pointer that lies in two pages, and the first and the last one of a block that begins and ends within words.
#[test]
fn bytes_are_read_across_pages_and_to_the_edges() {
    for stop in STOPS {
        for (start, size, offset) in [
            (PAGE - 20, 64, 16),
            (100, 8, 0),
            (101, 30, 22),
            (PAGE, 4096, 4088),
        ] {
            let lab = Lab::new();
            lab.machine.set_stop(stop);
            let arena = lab.machine.arena(4 * PAGE);
            lab.detector.alloc(arena + start, size, AllocOptions::new());
            lab.hold(0, arena + start);
            let owned = lab.block(32);
            store(&lab.machine, arena + start + offset, owned);
            lab.detector.read_as(arena + start, Reading::Bytes);
            if cfg!(miri) && start % WORD != 0 {
                // Words are foreign there, and no part of one is read.
                continue;
            }
            assert_eq!(lab.leaks(), [], "{start} {size} {offset} {stop:?}");
            scans_find(&lab, &[]);
        }
    }
}

/// The last byte of the pointer is the next block's.
#[test]
fn bytes_beyond_the_block_are_not_read() {
    for stop in STOPS {
        let lab = Lab::new();
        lab.machine.set_stop(stop);
        let arena = lab.machine.arena(PAGE);
        let options = AllocOptions::new();
        lab.detector.alloc(arena + 32, 31, options);
        lab.hold(0, arena + 32);
        let owned = lab.block(32);
        for at in [arena + 32 + 24, arena + 31] {
            store(&lab.machine, at, owned);
            lab.detector.read_as(arena + 32, Reading::Bytes);
            assert_eq!(lab.leaks(), [owned], "{stop:?}");
        }
    }
}

#[test]
fn a_number_counts_once_whatever_it_is_read_as() {
    let readings = [
        Reading::Bytes,
        // Physical addresses are the same here.
        Reading::PHYSICAL,
        Reading::PAGE_TABLE,
    ];
    for reading in readings {
        let lab = Lab::new();
        let (owner, _) = held_block(&lab, 64);
        let page = lab.machine.pages(PAGE);
        lab.detector
            .alloc(page, PAGE, AllocOptions::new().min_count(2));
        lab.machine.write(owner + 8, page);
        lab.detector.read_as(owner, reading);
        assert_eq!(lab.leaks(), [page], "{reading:?}");
        lab.hold(1, page);
        assert_eq!(lab.leaks(), [], "{reading:?}");
    }
}

#[test]
fn only_small_memory_is_read_as_bytes() {
    let lab = Lab::new();
    lab.machine.call_from(&["careless"]);
    let page = lab.machine.arena(2 * PAGE);
    lab.detector.alloc(page, PAGE + 1, AllocOptions::new());
    lab.hold(0, page);
    let owned = lab.block(32);
    store(&lab.machine, page + 4, owned);
    lab.detector.read_as(page, Reading::Bytes);
    let told = lab.warnings();
    assert!(
        told.contains("more than 4096 bytes") && told.contains("careless"),
        "{told}"
    );
    assert_eq!(lab.leaks(), [owned]);
    let region = lab.machine.arena(2 * PAGE);
    lab.machine.call_from(&["heedless"]);
    assert!(!lab.detector.region_add_as(region, PAGE + 1, Reading::Bytes));
    let told = lab.warnings();
    assert!(
        told.contains("more than 4096 bytes") && told.contains("heedless"),
        "{told}"
    );
    assert!(lab.detector.region_add_as(region, PAGE, Reading::Bytes));
    lab.detector.region_remove(region);
    assert_eq!(lab.warnings(), "");
    assert!(!lab.say("status").contains("incomplete"));
}

/// A sparse platform with a window on physical memory, and three blocks: one to be read otherwise, which is held, and two pages.
fn physical() -> (SparseLab, usize, [usize; 2]) {
    let lab = SparseLab::new();
    let offset = &lab.platform().physical_offset;
    offset.store(OFFSET, std::sync::atomic::Ordering::Relaxed);
    let pages = [BLOCKS + 0x10_0000, BLOCKS + 0x20_0000];
    lab.alloc(BLOCKS, 2 * PAGE);
    pages.into_iter().for_each(|page| lab.alloc(page, PAGE));
    lab.hold(0, BLOCKS);
    (lab, BLOCKS, pages)
}

#[test]
fn physical_addresses_are_those_of_blocks() {
    let (lab, table, pages) = physical();
    // An entry with flags at both ends, in each page of the table.
    for (entry, page) in [0, 1023].into_iter().zip(pages) {
        let word = (page - OFFSET) | (1 << 63) | 0x867;
        lab.platform().write(table + entry * WORD, word);
    }
    assert_eq!(lab.leaks(), pages);
    lab.detector.read_as(table, Reading::PAGE_TABLE);
    assert_eq!(lab.leaks(), []);
    assert_eq!(lab.scan(), []);
    let mut slots = Vec::new();
    let answer = lab
        .detector
        .holders(pages[1], &mut |slot| slots.push(slot.address));
    assert_eq!((answer, slots), (Ok(()), vec![table + 1023 * WORD]));
    // With the flags the words are no addresses.
    lab.detector.read_as(table, Reading::PHYSICAL);
    assert_eq!(lab.leaks(), pages);
}

#[test]
fn a_physical_address_may_name_any_byte_and_any_mask_may_be_given() {
    let (lab, ring, pages) = physical();
    lab.detector.read_as(ring, Reading::PHYSICAL);
    lab.platform().write(ring, pages[0] - OFFSET + 100);
    assert_eq!(lab.leaks(), [pages[1]]);
    // A length in the upper half of the word.
    let mask = 0xffff_ffff;
    lab.detector.read_as(ring, Reading::Physical { mask });
    lab.platform()
        .write(ring + 8, (pages[1] - OFFSET) | (64 << 32));
    assert_eq!(lab.leaks(), []);
}

#[test]
fn beside_physical_addresses_there_may_be_plain_pointers() {
    let (lab, ring, pages) = physical();
    lab.platform().write(ring, (pages[0] - OFFSET) | 3);
    lab.platform().write(ring + 8, pages[1] + 8);
    lab.detector.read_as(ring, Reading::PAGE_TABLE);
    assert_eq!(lab.leaks(), []);
}

/// In the lower half a plain pointer is a number that might be a physical address as well.
#[test]
fn a_plain_pointer_in_the_lower_half_counts_wherever_its_number_is_mapped() {
    const HEAP: usize = 0x4444_4444_0000;
    let (lab, ring, _) = physical();
    lab.alloc(HEAP, 64);
    // So the number's mapping lies between blocks.
    lab.alloc(OFFSET + HEAP + (1 << 30), 64);
    lab.platform().write(ring, HEAP + 8);
    lab.detector.read_as(ring, Reading::PHYSICAL);
    assert!(!lab.leaks().contains(&HEAP));
}

#[test]
fn numbers_that_are_no_physical_addresses_are_not_asked_for() {
    let (lab, ring, pages) = physical();
    // The platform adds the offset whatever it is asked, so these would all lead to a page.
    for (index, number) in [1 << 47, 1 << 51, 1 << 63].into_iter().enumerate() {
        let word = (pages[0] - OFFSET).wrapping_add(number);
        lab.platform().write(ring + index * WORD, word);
    }
    let offset = &lab.platform().physical_offset;
    for number in [1 << 47, 1 << 51, 1 << 63] {
        offset.store(
            OFFSET.wrapping_sub(number),
            std::sync::atomic::Ordering::Relaxed,
        );
        lab.detector.read_as(ring, Reading::PHYSICAL);
        assert_eq!(lab.leaks(), pages, "{number:#x}");
    }
}

#[test]
fn each_copy_of_a_per_cpu_block_is_read_so() {
    let lab = Lab::new();
    let block = lab.machine.percpu(104);
    lab.detector.alloc_percpu(block, 104);
    lab.hold(0, block);
    let stacks = [lab.block(256), lab.block(256)];
    let copies = [0, 1].map(|cpu| lab.machine.percpu_copy(block, cpu).expect("it has one"));
    for (copy, stack) in copies.into_iter().zip(stacks) {
        store(&lab.machine, copy + 36, stack + 256);
    }
    assert_eq!(lab.leaks(), stacks);
    lab.detector.read_as(copies[1], Reading::TaskState);
    assert_eq!(lab.leaks(), []);
    scans_find(&lab, &[]);
}

#[test]
fn areas_limit_what_is_read() {
    let lab = Lab::new();
    let (owner, _) = held_block(&lab, 64);
    let (inside, outside) = (lab.block(32), lab.block(32));
    store(&lab.machine, owner + 20, inside);
    store(&lab.machine, owner + 36, outside);
    lab.detector.scan_area(owner + 16, 16);
    lab.detector.read_as(owner, Reading::Bytes);
    assert_eq!(lab.leaks(), [outside]);
    assert_eq!(holders(&lab, outside), [owner + 36], "scanned or not");
}

#[test]
fn what_was_lost_with_a_block_is_owned_by_it() {
    let lab = Lab::new();
    let (owner, owned) = (lab.block(64), lab.block(32));
    store(&lab.machine, owner + 3, owned);
    lab.detector.read_as(owner, Reading::Bytes);
    assert_eq!(lab.leaks(), [owner, owned]);
    let report = lab.report();
    assert!(report.contains("owns 1 object (32 bytes)"), "{report}");
}

#[test]
fn the_parts_of_a_block_are_read_as_the_whole_was() {
    // The front, the middle, the tail goes.
    for (hole, left) in [(0, [1, 2].as_slice()), (1, &[0, 2]), (2, &[0, 1])] {
        let (lab, table, _) = physical();
        lab.detector.free(table);
        lab.alloc(table, 3 * PAGE);
        lab.detector.read_as(table, Reading::PAGE_TABLE);
        let pages = [0, 1, 2].map(|page| BLOCKS + 0x100_0000 + page * PAGE);
        for (index, page) in pages.into_iter().enumerate() {
            lab.alloc(page, PAGE);
            lab.hold(index, table + index * PAGE + 8);
            let at = table + index * PAGE + 16;
            lab.platform().write(at, (page - OFFSET) | 7);
        }
        lab.detector.free_part(table + hole * PAGE, PAGE);
        let lost: Vec<usize> = lab
            .leaks()
            .into_iter()
            .filter(|start| pages.contains(start))
            .collect();
        assert_eq!(lost, [pages[hole]], "{left:?} are left");
    }
}

/// Each request for memory of the detector's own fails in turn: then what the tail points to may seem lost, but is no leak.
#[test]
fn without_memory_for_a_parts_reading_the_verdict_says_so() {
    for request in 0.. {
        let (lab, table, pages) = physical();
        lab.detector.free(table);
        lab.alloc(table, 3 * PAGE);
        lab.detector.read_as(table, Reading::PAGE_TABLE);
        lab.hold(1, table + 2 * PAGE);
        for (index, page) in pages.into_iter().enumerate() {
            let at = table + 2 * index * PAGE + 8;
            lab.platform().write(at, (page - OFFSET) | 3);
        }
        lab.detector.refuse_metadata(request..request + 1);
        lab.detector.free_part(table + PAGE, PAGE);
        let requests = lab.detector.metadata_requests();
        let lost = lab.leaks();
        let unrecorded = lab.detector.check().expect("on").unrecorded;
        assert!(
            lost.is_empty() || unrecorded > 0,
            "request {request}: {lost:x?}"
        );
        if request >= requests {
            assert!(request > 0 && unrecorded == 0);
            return;
        }
    }
}

#[test]
fn a_freed_blocks_reading_is_gone_with_it() {
    let lab = Lab::new();
    let (owner, _) = held_block(&lab, 64);
    lab.detector.read_as(owner, Reading::Bytes);
    lab.detector.free(owner);
    lab.detector.alloc(owner, 64, AllocOptions::new());
    let owned = lab.block(32);
    store(&lab.machine, owner + 1, owned);
    assert_eq!(lab.leaks(), [owned]);
}

#[test]
fn a_region_is_read_so_though_it_lies_in_a_section() {
    for stop in STOPS {
        let lab = Lab::new();
        lab.machine.set_stop(stop);
        let start = lab.machine.address(Place::Data(8));
        let owned = lab.block(32);
        let twice = lab.block_with(32, AllocOptions::new().min_count(2));
        store(&lab.machine, start + 5, owned);
        lab.machine.write(start + 16, twice);
        assert_eq!(lab.leaks(), [owned, twice]);
        assert!(lab.detector.region_add_as(start, 64, Reading::Bytes));
        assert_eq!(lab.leaks(), [twice], "{stop:?}: it counts once");
        assert_eq!(holders(&lab, owned), [start + 5]);
        assert_eq!(path(&lab, owned), [start + 5]);
        lab.detector.region_remove(start);
        assert_eq!(lab.leaks(), [owned, twice], "{stop:?}");
        assert_eq!(lab.warnings(), "");
    }
}

#[test]
fn a_region_across_pages_is_read_as_a_whole() {
    for stop in STOPS {
        let lab = Lab::new();
        lab.machine.set_stop(stop);
        let arena = lab.machine.arena(2 * PAGE);
        let owned = lab.block(32);
        store(&lab.machine, arena + PAGE - 3, owned);
        assert!(
            lab.detector
                .region_add_as(arena + PAGE - 32, 64, Reading::Bytes)
        );
        assert_eq!(lab.leaks(), [], "{stop:?}");
        assert_eq!(holders(&lab, owned), [arena + PAGE - 3]);
        // What can't be read is passed over.
        lab.machine.make_unreadable(arena + PAGE, PAGE);
        assert_eq!(lab.leaks(), [owned], "{stop:?}");
    }
}

#[test]
fn of_two_readings_of_a_place_the_one_added_last_counts() {
    let lab = Lab::new();
    let arena = lab.machine.arena(PAGE);
    let blocks = [lab.block(32), lab.block(32), lab.block(32)];
    for (index, &block) in blocks.iter().enumerate() {
        store(&lab.machine, arena + 100 * index + 5, block);
    }
    let detector = &lab.detector;
    assert!(detector.region_add(arena, 300));
    assert_eq!(lab.leaks(), blocks);
    assert!(detector.region_add_as(arena, 300, Reading::Bytes));
    assert_eq!(lab.leaks(), []);
    // Nothing in the middle is a descriptor, and behind it bytes go on.
    assert!(detector.region_add_as(arena + 96, 64, Reading::DescriptorTable));
    assert_eq!(lab.leaks(), [blocks[1]]);
    detector.region_remove(arena + 96);
    assert_eq!(lab.leaks(), []);
    detector.region_remove(arena);
    assert_eq!(lab.leaks(), blocks);
}

/// A block in a region is alive, and each of its numbers counts once.
#[test]
fn a_block_in_a_region_is_read_there() {
    for stop in STOPS {
        let lab = Lab::new();
        lab.machine.set_stop(stop);
        let block = lab.block(64);
        let twice = lab.block_with(32, AllocOptions::new().min_count(2));
        let once = lab.block(32);
        lab.machine.write(block + 16, twice);
        store(&lab.machine, block + 27, once);
        lab.detector.read_as(block, Reading::Bytes);
        assert!(lab.detector.region_add_as(block, 64, Reading::Bytes));
        assert_eq!(lab.leaks(), [twice], "{stop:?}");
        lab.detector.region_remove(block);
        // A part of it is enough for the numbers in that part, which are not read in the block as well.
        store(&lab.machine, block + 27, twice);
        lab.machine.write(block + 16, once);
        assert!(lab.detector.region_add_as(block + 24, 16, Reading::Bytes));
        assert_eq!(lab.leaks(), [block, twice, once], "{stop:?}");
        lab.hold(0, block);
        assert_eq!(lab.leaks(), [twice], "{stop:?}");
        lab.hold(1, twice);
        assert_eq!(lab.leaks(), [], "{stop:?}");
    }
}

#[test]
fn a_scan_that_goes_on_sees_a_reading_that_is_set_meanwhile() {
    for moment in 0..20 {
        let lab = Lab::new();
        let (owner, _) = held_block(&lab, 64);
        let owned = lab.block(32);
        store(&lab.machine, owner + 9, owned);
        let detector = Arc::downgrade(&lab.detector);
        let mut left = moment;
        lab.machine.at_relax(move |_| {
            if left == 0 {
                let detector = detector.upgrade().expect("it scans");
                detector.read_as(owner, Reading::Bytes);
            }
            left -= 1_i32;
        });
        lab.machine.advance_us(1);
        lab.detector.scan().expect("on");
        scans_find(&lab, &[]);
    }
}

/// Whenever it is removed, nothing of it is read afterwards.
#[test]
fn a_region_that_was_removed_is_not_read() {
    const REGION: usize = BLOCKS + (1 << 30);
    for moment in 0.. {
        let detector = Arc::new(Detector::new(Sparse::new()).with_pool(pool::<16>()));
        let platform = detector.platform();
        detector.alloc(BLOCKS, 64, AllocOptions::new());
        for (offset, reading) in [(0, Reading::DescriptorTable), (3 * PAGE, Reading::Bytes)] {
            assert!(detector.region_add_as(REGION + offset, PAGE, reading));
        }
        let other = Arc::clone(&detector);
        platform.preempt(moment, move || {
            other.region_remove(REGION);
            other.region_remove(REGION + 3 * PAGE);
            other.platform().foreign_reads(&[]);
        });
        detector.scan().expect("on");
        let reads = platform.foreign_reads(&[(BLOCKS, 64)]);
        if platform.take_preemption() {
            assert!(moment > 0 && reads.len() > 2 * 511, "both were read");
            return;
        }
        assert_eq!(reads, [], "moment {moment}");
    }
}
