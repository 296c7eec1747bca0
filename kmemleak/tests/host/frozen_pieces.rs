//! Checks of frozen memory: how the words of roots and blocks are asked for, and what of them counts.

use kmemleak::{Doubt, How, Reading, Summary};

use crate::sparse::{BLOCKS, ROOT, SparseLab};

const WORD: usize = size_of::<usize>();
const PAGE: usize = 4096;

/// A block of these bytes, at an address.
fn block(lab: &SparseLab, start: usize, size: usize) -> usize {
    lab.alloc(start, size);
    start
}

/// The eight bytes at an address are this number.
fn store(lab: &SparseLab, address: usize, number: usize) {
    let (first, bits) = (address / WORD * WORD, address % WORD * 8);
    lab.platform().write(first, number << bits);
    if bits > 0 {
        lab.platform().write(first + WORD, number >> (64 - bits));
    }
}

fn check(lab: &SparseLab) -> Summary {
    lab.detector.check_frozen().expect("it is on")
}

/// A block of packed numbers, to which the root points, around the end of a page; and another block.
fn with_packed() -> (SparseLab, usize, usize) {
    let lab = SparseLab::new();
    let packed = block(&lab, BLOCKS + PAGE - 256, 512);
    let held = block(&lab, BLOCKS + 4 * PAGE, 64);
    lab.detector.read_as(packed, Reading::Bytes);
    lab.hold(0, packed);
    (lab, BLOCKS + PAGE, held)
}

#[test]
fn a_number_across_two_pages_is_read_in_two_parts() {
    for before in 1..24 {
        let (lab, page, held) = with_packed();
        store(&lab, page - before, held);
        assert_eq!(lab.leaks_when_frozen(), [], "{before} bytes before the end");
    }
}

#[test]
fn what_reaches_into_memory_that_nobody_vouches_for_is_not_read() {
    let (lab, page, held) = with_packed();
    store(&lab, page - 16, held);
    assert_eq!(lab.leaks_when_frozen(), []);
    lab.platform().make_unreadable(page..page + PAGE);
    assert_eq!(lab.leaks_when_frozen(), [held]);
    // A plain block is passed over, too, and is read from where it can be again.
    let large = block(&lab, BLOCKS + 16 * PAGE, 3 * PAGE);
    lab.hold(1, large);
    lab.platform()
        .make_unreadable(large + 1024 + 8..large + 1024 + 8 + PAGE);
    store(&lab, large + 3 * PAGE - WORD, held);
    assert_eq!(lab.leaks_when_frozen(), []);
}

/// And its doubt says how many, as that of a check in a stopped world does.
#[test]
fn where_no_block_can_be_read_nothing_is_certain() {
    for reading in [Reading::Words, Reading::Bytes] {
        let lab = SparseLab::new();
        let blocks = [0, PAGE].map(|offset| block(&lab, BLOCKS + offset, 64));
        for (index, block) in blocks.into_iter().enumerate() {
            lab.detector.read_as(block, reading);
            lab.hold(index, block);
            lab.platform().make_unreadable(block..block + 64);
        }
        let lost = block(&lab, BLOCKS + 2 * PAGE, 64);
        for how in [How::Frozen, How::Stopped] {
            let summary = match how {
                How::Frozen => check(&lab),
                _ => lab.detector.check().expect("it is on"),
            };
            let found = (summary.how, summary.objects, summary.suspects);
            assert_eq!(found, (how, 0, 1), "{reading:?}");
            // Bytes are read a few at a time.
            let pieces = match (reading, how) {
                (Reading::Bytes, How::Frozen) => 4,
                _ => 1,
            };
            assert_eq!(
                summary.doubt(),
                Some(Doubt::Unread(2 * pieces)),
                "{reading:?}"
            );
        }
        assert_eq!(lab.listed(), [lost]);
    }
}

#[test]
fn the_words_that_were_read_are_counted() {
    let lab = SparseLab::new();
    let before = check(&lab).words;
    for (index, size) in [64, 1024, 3 * PAGE].into_iter().enumerate() {
        lab.hold(index, block(&lab, BLOCKS + index * 4 * PAGE, size));
    }
    let words = (64 + 1024 + 3 * PAGE) / WORD;
    assert_eq!(check(&lab).words, before + words as u64);
}

/// Of a block that is read byte by byte, numbers at its ends lie in words of which a part is another's.
#[test]
fn packed_numbers_at_the_ends_of_a_block_are_read_in_a_stopped_world() {
    for (start, len, at) in [
        (BLOCKS + 4, 60, BLOCKS + 4),
        (BLOCKS, 60, BLOCKS + 52),
        (BLOCKS + 4, 56, BLOCKS + 52),
    ] {
        let lab = SparseLab::new();
        let (packed, held) = (block(&lab, start, len), block(&lab, BLOCKS + PAGE, 64));
        lab.detector.read_as(packed, Reading::Bytes);
        lab.hold(0, packed);
        store(&lab, at, held);
        assert_eq!(check(&lab).how, How::Stopped, "{start:#x}+{len}");
    }
}

/// Sixteen bytes each: a bootstrap pool of a few pages has room for a root full of pointers.
#[test]
fn what_roots_hold_is_noted_in_little_memory() {
    let lab = SparseLab::new();
    lab.platform().set_metadata_budget(0);
    let block = block(&lab, BLOCKS, 64);
    (0..PAGE / WORD).for_each(|index| lab.hold(index, block));
    assert_eq!(lab.leaks_when_frozen(), []);
}

/// An area that lies in a root: its pointers to itself do not count, as in a stopped world.
#[test]
fn an_area_in_a_root_does_not_keep_its_block_by_pointing_to_itself() {
    let lab = SparseLab::new();
    let (area, block) = (block(&lab, ROOT + 1024, 64), BLOCKS);
    lab.detector.vmalloc(block, PAGE, area);
    lab.platform().write(area + 16, block);
    lab.platform().write(area + 24, area);
    lab.platform().write(area + 56, area + 8);
    // The area needs one pointer.
    lab.hold(0, area);
    assert_eq!(lab.leaks_when_frozen(), [block]);
    lab.hold(511, area);
    assert_eq!(lab.leaks_when_frozen(), []);
}
