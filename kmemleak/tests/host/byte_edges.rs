//! Memory that is not read as plain words, at its edges and in pieces; and the last numbers that may be addresses.

use std::sync::atomic::Ordering::Relaxed;

use kmemleak::{AllocOptions, Reading, Root, RootKind};
use kmemleak_emulated::{Freeze, Stop};

use crate::lab::Lab;
use crate::sparse::{BLOCKS, SparseLab};

const PAGE: usize = 4096;
const WORD: usize = 8;

/// Where words are foreign only whole words are read, and a block that begins and ends within words has none there that is its own.
#[test]
fn no_word_is_read_that_is_not_the_blocks_own() {
    for first in 0..WORD {
        for last in 0..WORD {
            let lab = SparseLab::new();
            let (start, end) = (BLOCKS + first, BLOCKS + 48 + last);
            lab.alloc(start, end - start);
            lab.alloc(BLOCKS + PAGE, 64);
            lab.hold(0, start);
            // A number across the first two whole words, and one across the last two.
            for (at, offset) in [(BLOCKS + 11, 0), (BLOCKS + 37, 32)] {
                let number = BLOCKS + PAGE + offset;
                let (low, shift) = (at & !(WORD - 1), 8 * (at % WORD) as u32);
                lab.platform().write(low, number << shift);
                lab.platform().write(low + WORD, number >> (64 - shift));
                lab.detector.read_as(start, Reading::Bytes);
                lab.platform().foreign_reads(&[]);
                assert_eq!(lab.leaks(), []);
                assert_eq!(lab.scan(), []);
                let whole = start.next_multiple_of(WORD);
                let own = (whole, (end & !(WORD - 1)) - whole);
                let known = [own, (BLOCKS + PAGE, 64)];
                let others = lab.platform().foreign_reads(&known);
                assert_eq!(others, [], "{first} {last}");
                lab.platform().write(low, 0);
                lab.platform().write(low + WORD, 0);
            }
        }
    }
}

/// Wherever a table begins, a descriptor of it begins at each eighth byte from there, in all its pieces.
#[test]
fn descriptors_are_counted_from_the_start_of_the_table() {
    for stop in [Stop::Works, Stop::Unsupported] {
        for in_first_page in (1..16).filter(|bytes| !cfg!(miri) || bytes % WORD == 0) {
            let lab = Lab::new();
            lab.machine.set_stop(stop);
            let arena = lab.machine.arena(2 * PAGE);
            let table = arena + PAGE - in_first_page;
            let states = [0; 5].map(|_| lab.block(104));
            lab.detector.alloc(table, 128, AllocOptions::new());
            lab.hold(0, table);
            lab.detector.read_as(table, Reading::DescriptorTable);
            for (shift, lost) in [(0, &[][..]), (4, &states)] {
                for (at, state) in (table + shift..).step_by(24).zip(states) {
                    // Of a task state: its address lies in it in pieces.
                    let low =
                        0x67 | (state & 0xff_ffff) << 16 | 0x89 << 40 | (state >> 24 & 0xff) << 56;
                    write(&lab, at, [low, state >> 32]);
                }
                assert_eq!(lab.leaks(), lost, "{in_first_page} {stop:?}");
            }
        }
    }
}

/// Writes two words at any address.
fn write(lab: &Lab, address: usize, words: [usize; 2]) {
    let bytes = words.iter().flat_map(|word| word.to_le_bytes());
    for (at, byte) in (address..).zip(bytes) {
        let (word, shift) = (at & !(WORD - 1), 8 * (at % WORD));
        let others = lab.machine.read(word) & !(0xff << shift);
        lab.machine.write(word, others | usize::from(byte) << shift);
    }
}

/// A piece is read if somebody vouches for all of it.
#[test]
fn a_piece_whose_end_cannot_be_read_is_passed_over() {
    for stop in [Stop::Works, Stop::Unsupported] {
        for reading in [Reading::Bytes, Reading::PHYSICAL] {
            let lab = Lab::new();
            lab.machine.set_stop(stop);
            let (owner, owned) = (lab.block(64), lab.block(32));
            lab.hold(0, owner);
            lab.machine.write(owner + 48, owned);
            lab.detector.read_as(owner, reading);
            assert_eq!(lab.leaks(), []);
            lab.machine.make_unreadable(owner + 60, 4);
            assert_eq!(lab.leaks(), [owned], "{reading:?} {stop:?}");
            if stop == Stop::Works {
                assert!(lab.detector.check().expect("on").unread > 0);
            }
        }
    }
}

/// There is room for so many numbers at once; of this block each is one.
#[test]
fn a_block_full_of_numbers_is_read_in_pieces_beside_other_code() {
    let page_of = |reading| {
        let lab = Lab::new();
        let (owner, owned) = (lab.machine.pages(PAGE), lab.block(64));
        lab.detector.alloc(owner, PAGE, AllocOptions::new());
        lab.hold(0, owner);
        for at in (owner..owner + PAGE).step_by(WORD) {
            lab.machine.write(at, owned + 8);
        }
        lab.detector.read_as(owner, reading);
        lab
    };
    for reading in [Reading::Bytes, Reading::PHYSICAL, Reading::PAGE_TABLE] {
        let lab = page_of(reading);
        lab.machine.set_stop(Stop::Unsupported);
        assert_eq!(lab.leaks(), [], "{reading:?}");
        let lab = page_of(reading);
        lab.machine.image.set_freeze(Freeze::Works);
        lab.detector.check_frozen().expect("on");
        assert_eq!(lab.listed(), [], "{reading:?}");
    }
}

/// What a pass of this kind counts: candidates, and hits.
fn figures(lab: &SparseLab, kind: &str) -> (u64, u64) {
    lab.platform().now_us.fetch_add(10_000_000, Relaxed);
    let summary = match kind {
        "check" => lab.detector.check(),
        _ => lab.detector.scan(),
    };
    let summary = summary.expect("on");
    (summary.candidates, summary.hits)
}

/// One past the last byte of all objects is no address in one, and is not looked up.
#[test]
fn the_end_of_the_last_object_is_no_candidate() {
    const TOP: usize = usize::MAX - (PAGE - 1);
    for passes in ["check", "scan"] {
        let lab = SparseLab::new();
        // A root whose last word is that of the address space.
        lab.platform()
            .roots
            .lock()
            .expect("nobody panics under it")
            .push(Root {
                kind: RootKind::Section,
                start: TOP,
                len: PAGE,
            });
        lab.alloc(BLOCKS, 64);
        // At the end of what a table of the index stands for: as much counts as used by blocks.
        let end = BLOCKS + (64 << 10);
        lab.alloc(end - 64, 64);
        lab.hold(0, BLOCKS);
        lab.detector.read_as(BLOCKS, Reading::Bytes);
        let figures = || figures(&lab, passes);
        for at in [
            crate::sparse::ROOT + 8,
            TOP,
            TOP + (PAGE - WORD),
            BLOCKS + 16,
        ] {
            let (candidates, hits) = figures();
            lab.platform().write(at, end);
            assert_eq!(figures(), (candidates, hits), "{at:#x} in a {passes}");
            lab.platform().write(at, end - 1);
            assert_eq!(figures(), (candidates + 1, hits + 1), "{at:#x}");
            lab.platform().write(at, 0);
        }
    }
}

/// Whatever leads nowhere is a miss: to memory without objects, beside an object, between the objects of a chunk.
#[test]
fn hits_and_misses_are_counted() {
    for passes in ["check", "scan"] {
        let lab = SparseLab::new();
        for start in [BLOCKS, BLOCKS + 128, BLOCKS + (1 << 30)] {
            lab.alloc(start, 64);
        }
        let figures = || figures(&lab, passes);
        assert_eq!(figures(), (0, 0));
        let words = [
            (BLOCKS, 1),
            (BLOCKS + 64, 0),
            (BLOCKS + 65, 0),
            (BLOCKS + 130, 1),
            (BLOCKS + 1024, 0),
            (BLOCKS + PAGE, 0),
            (BLOCKS + (1 << 20), 0),
            (BLOCKS + (1 << 30) - 1, 0),
            (BLOCKS + (1 << 30), 1),
        ];
        let (mut candidates, mut hits) = (0, 0);
        for (index, (word, hit)) in words.into_iter().enumerate() {
            lab.hold(index, word);
            (candidates, hits) = (candidates + 1, hits + hit);
            assert_eq!(figures(), (candidates, hits), "{word:#x} in a {passes}");
        }
    }
}
