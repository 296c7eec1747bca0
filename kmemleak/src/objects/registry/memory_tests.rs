//! What the registry remembers of memory whose blocks come and go: records, service, births, and in the end nothing.

extern crate std;

use core::sync::atomic::Ordering::Relaxed;
use std::boxed::Box;
use std::vec::Vec;

use super::{Marked, Refused};
use crate::AllocOptions;
use crate::metadata::work_tests;
use crate::objects::chunk::{Chunk, info};
use crate::objects::object::alias_record;
use crate::objects::page_map::{CHUNK, Leaf, Look, chunk_of};
use crate::objects::record::Record;
use crate::platform::address::{Address, Extent};
use crate::platform::bare::Bare;
use crate::stacks::depot::StackId;
use crate::tracker::Tracker;

type Subject = Tracker<Bare>;

const BASE: usize = 0xffff_8880_0000_0000;

fn subject() -> Box<Subject> {
    Box::new(Tracker::new(Bare))
}

/// Records a block that the short paths leave alone.
fn alloc(subject: &Subject, start: usize, size: usize) {
    subject.alloc(start, size, AllocOptions::new().min_count(2));
}

fn chunk(subject: &Subject, address: usize) -> Chunk {
    match subject.registry().map.look(chunk_of(address)) {
        Look::Entry(chunk) => chunk,
        _ => panic!("no chunk at {address:#x}"),
    }
}

/// The freed block whose memory an address was, as far as that is remembered.
fn freed(subject: &Subject, address: usize) -> Option<usize> {
    let found = subject.registry().freed_at_or_before(address);
    found.map(|(start, ..)| start)
}

#[test]
fn an_empty_chunk_has_the_right_records_for_blocks_of_the_size_of_before() {
    let subject = subject();
    // They lie closer than their size says.
    for _ in 0..3 {
        for start in [BASE, BASE + 24] {
            alloc(&subject, start, 24);
        }
        assert_eq!(chunk(&subject, BASE).spacing(), 1);
        for start in [BASE, BASE + 24] {
            subject.free(start);
        }
        alloc(&subject, BASE, 24);
        assert_eq!(chunk(&subject, BASE).spacing(), 1);
        subject.free(BASE);
    }
}

#[test]
fn who_had_the_memory_is_known_whatever_is_recorded_beside_it() {
    let subject = subject();
    for start in [0, 64, 128] {
        alloc(&subject, BASE + start, 64);
    }
    subject.free(BASE + 64);
    for start in [192, 320, 448] {
        alloc(&subject, BASE + start, 64);
        assert_eq!(freed(&subject, BASE + 64), Some(BASE + 64));
    }
    subject.free(BASE);
    assert_eq!(freed(&subject, BASE), Some(BASE));
}

#[test]
fn who_had_the_memory_is_not_told_by_records_of_other_memory() {
    let subject = subject();
    // Of the same place in another chunk, as far as a record can say.
    let other = BASE + (1 << 32);
    for start in [0, 8, 16, 24] {
        alloc(&subject, BASE + start, 8);
    }
    for start in [0, 8, 16, 24] {
        subject.free(BASE + start);
    }
    assert_eq!(freed(&subject, BASE + 24), Some(BASE + 24));
    // The records are given back for one at a coarser spacing, and the other chunk takes them.
    alloc(&subject, BASE, 512);
    for start in [0, 8] {
        alloc(&subject, other + start, 8);
    }
    assert_eq!(chunk(&subject, other).spacing(), 0);
    assert_eq!(freed(&subject, other + 31), None);
}

#[test]
fn only_an_empty_chunk_waits_and_it_waits_once() {
    let subject = subject();
    for start in [0, 64] {
        alloc(&subject, BASE + start, 64);
    }
    let entry = chunk(&subject, BASE);
    subject.free(BASE + 64);
    assert!(!entry.has(info::WAITS), "there is a block");
    // However often another one becomes empty, it drives none out of service.
    subject.free(BASE);
    for _ in 0..1000 {
        alloc(&subject, BASE + CHUNK, 64);
        subject.free(BASE + CHUNK);
    }
    assert!(entry.has(info::WAITS) && entry.has(info::SERVES));
}

/// The pass looks at such a chunk once more.
#[test]
fn what_comes_during_a_pass_is_noted_at_its_chunk_however_it_lies() {
    // Each changes something in one chunk.
    let ways: [fn(&Subject); 4] = [
        |subject| alloc(subject, BASE, 64),
        |subject| alloc(subject, BASE + 3, 64),
        // The front stays, and is another object now.
        |subject| subject.free_part(BASE + CHUNK + 40, 500),
        // The tail takes the note of an object at no multiple of eight.
        |subject| subject.free_part(BASE + 2 * CHUNK + 3, 38),
    ];
    for (way, change) in ways.into_iter().enumerate() {
        for during in [false, true] {
            let subject = subject();
            alloc(&subject, BASE + CHUNK, 500);
            alloc(&subject, BASE + 2 * CHUNK + 3, 100);
            if during {
                subject.begin_pass();
            }
            change(&subject);
            let born: Vec<usize> = [0, 1, 2]
                .into_iter()
                .filter(|number| {
                    let look = subject.registry().map.look(chunk_of(BASE + number * CHUNK));
                    matches!(look, Look::Entry(chunk) if chunk.has(info::BORN))
                })
                .collect();
            let place = [0, 0, 1, 2][way];
            let expected: &[usize] = if during { &[place] } else { &[] };
            assert_eq!(born, expected, "way {way}");
        }
    }
}

#[test]
fn the_copy_of_another_block_stays_and_so_does_what_is_no_copy() {
    let subject = subject();
    let (handle, other) = (BASE + CHUNK, BASE + 2 * CHUNK);
    let insert = |start: usize, record: &Record| {
        let start = Address::new(start).expect("an address");
        let extent = Extent::of_object(start, 64).expect("it ends there");
        subject.without_interrupts(|meta| {
            (subject.registry()).insert(extent, record, Marked::No, || None, meta)
        })
    };
    let remove = |start: usize, owner: usize| {
        let start = Address::new(start).expect("an address");
        subject.without_interrupts(|meta| subject.registry().remove_alias(start, owner, meta))
    };
    let alias = alias_record(handle, 64);
    assert_eq!(insert(BASE, &alias), Ok(()));
    // Born at a time that looks like the handle.
    let birth_us = alias.birth_us();
    let plain = Record::new(64, StackId::NONE, birth_us, 1, 0);
    assert_eq!(insert(BASE + 64, &plain), Ok(()));
    assert!(!remove(BASE, other) && !remove(BASE + 64, handle));
    assert_eq!(insert(BASE, &alias), Err(Refused::Overlaps(BASE)));
    assert!(remove(BASE, handle) && !remove(BASE, handle));
    let starts = chunk(&subject, BASE).starts().load(Relaxed);
    assert_eq!(starts, 1 << 8, "the plain one is still there");
}

#[test]
fn the_short_path_knows_a_table_where_blocks_may_start_everywhere() {
    let subject = subject();
    alloc(&subject, BASE, 64);
    let start = Address::new(BASE).expect("an address");
    let extent = Extent::of_object(start, 64).expect("it ends there");
    let (first, last) = Leaf::range_of(BASE);
    for (lowest, highest, expected) in [
        (first, last, true),
        (first - 1, last + 1, true),
        (first + 1, last, false),
        (first, last - 1, false),
        (first + 1, last + 1, false),
        (first - 1, last - 1, false),
    ] {
        let table = subject.registry().short_table(extent, lowest, highest);
        assert_eq!(table.is_some(), expected, "{lowest:#x} to {highest:#x}");
    }
}

#[test]
fn the_short_path_takes_a_block_though_another_lies_at_the_chunks_other_end() {
    let subject = subject();
    alloc(&subject, BASE + 128, 64);
    // It reaches into the next chunk.
    alloc(&subject, BASE + 480, 64);
    let record = Record::new(0, StackId::NONE, 0, 1, 0);
    let short = |start: usize| {
        let registry = subject.registry();
        (registry.insert_short(chunk(&subject, start), start, 64, record)).is_ok()
    };
    assert!(short(BASE));
    assert!(!short(BASE) && !short(BASE + 72), "they overlap others");
}

#[test]
fn the_short_path_looks_at_no_other_record_where_all_blocks_have_one_size() {
    for size in [8, 24, 64, 72, 128, 256] {
        let subject = subject();
        let starts = (BASE..=BASE + CHUNK - size).step_by(size);
        for start in starts.clone() {
            alloc(&subject, start, size);
        }
        // All places but the ends have neighbours on both sides.
        for start in starts {
            subject.free(start);
            let entry = chunk(&subject, start);
            let record = Record::new(0, StackId::NONE, 0, 1, 0);
            let before = work_tests::done();
            let recorded = subject.registry().insert_short(entry, start, size, record);
            assert!(recorded.is_ok(), "{size} at {start:#x}");
            assert_eq!(work_tests::done() - before, 1, "{size} at {start:#x}");
        }
    }
}

/// What is looked at while blocks without notes are freed and moved, where so many others have notes.
fn work_beside(noted: usize) -> usize {
    const BLOCKS: usize = 100;
    let subject = subject();
    for number in 0..BLOCKS.max(noted) {
        let start = BASE + number * CHUNK;
        for start in [start, start + 128, start + 256] {
            alloc(&subject, start, 64);
        }
        if number < noted {
            subject.scan_area(start + 256, 8);
        }
    }
    let before = work_tests::done();
    for number in 0..BLOCKS {
        let start = BASE + number * CHUNK;
        subject.free(start);
        let start = Address::new(start + 128).expect("an address");
        let taken = subject.without_interrupts(|meta| {
            let taken = subject.registry().take_with_notes(start, meta);
            taken.map(|(_, size, notes)| (size, notes.is_empty()))
        });
        assert_eq!(taken, Some((64, true)));
    }
    work_tests::done() - before
}

#[test]
fn a_block_without_notes_goes_without_a_look_at_those_of_others() {
    assert_eq!(work_beside(100), work_beside(0));
}

#[test]
fn nothing_leads_to_memory_that_is_given_back() {
    let subject = subject();
    for start in [BASE, BASE + (1 << 40)] {
        alloc(&subject, start, 64);
    }
    let registry = subject.registry();
    assert_eq!(registry.leaves().len(), (1 << 24) + 1);
    registry.empty();
    assert!(registry.leaves().is_empty());
    assert_eq!(registry.span().1, 0);
    assert!(matches!(registry.map.look(chunk_of(BASE)), Look::Nothing));
    // And the chunks that wait are forgotten: the first one anew is the only one.
    alloc(&subject, BASE, 64);
    subject.free(BASE);
    assert!(chunk(&subject, BASE).has(info::WAITS));
}
