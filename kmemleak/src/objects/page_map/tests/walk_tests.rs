//! Walks over chunks and tables: what they pass, what they stop at, and how often they begin at the root.

extern crate std;

use std::vec::Vec;

use super::{BASE, Subject, TABLE, WALKS, alloc, object_at, used};
use crate::objects::access::Locked;
use crate::objects::object::Object;
use crate::objects::page_map::{LEAF, Look, WalkCache, chunk_of};
use crate::objects::registry::Refused;
use crate::tracker::Tracker;

/// The starts of the objects from one address to another, as a walk over the chunks shows them.
fn starts(detector: &Subject, from: usize, to: usize) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut note = |object: Object<'_>| starts.push(object.start);
    detector.registry().each_in(Locked, from..to, &mut note);
    starts
}

#[test]
fn a_walk_goes_on_behind_what_a_block_covers() {
    for detector in [used(0), used(6)] {
        let behind = BASE + 5 * TABLE + 4096;
        for (start, size) in [(BASE, 64), (BASE + TABLE, 4 * TABLE), (behind, 64)] {
            alloc(&detector, start, size);
        }
        let all = starts(&detector, BASE, behind + 1);
        assert_eq!(all, [BASE, BASE + TABLE, behind]);
        // It stops only where objects start.
        let map = &detector.registry().map;
        let (from, end) = (chunk_of(BASE) + 1, chunk_of(behind) + 1);
        let next = |from| map.next(from, end).map(|(chunk, _)| chunk);
        assert_eq!(next(from), Some(chunk_of(BASE + TABLE)));
        assert_eq!(next(from + 2 * LEAF), Some(end - 1));
    }
}

#[test]
fn memory_that_a_block_covers_is_not_free() {
    for detector in [used(0), used(6)] {
        alloc(&detector, BASE, 6 * TABLE);
        let (first, last) = (chunk_of(BASE + TABLE), BASE + 3 * TABLE);
        let Err(Refused::Overlaps(other)) = detector.registry().look_beyond(first, last) else {
            panic!("it is taken");
        };
        assert_eq!(object_at(&detector, other), Some(BASE));
    }
}

#[test]
fn a_walk_over_all_chunks_finds_the_way_to_each_table_once() {
    const TABLES: usize = 40;
    let detector = used(TABLES);
    for table in 0..TABLES {
        alloc(&detector, BASE + table * TABLE, 64);
    }
    let before = WALKS.get();
    assert_eq!(detector.registry().chunks(0).count(), TABLES);
    let walks = WALKS.get() - before;
    assert!(walks <= TABLES, "{walks} walks");
}

#[test]
fn the_way_from_the_last_table_leads_to_the_entries_of_its_memory_alone() {
    let detector = Tracker::new(super::Bare);
    let near = [BASE, BASE + 512, BASE + TABLE, BASE + (15 << 30)];
    let far = [34, 39, 40, 43].map(|bit| BASE + (1 << bit));
    for start in near.into_iter().chain(far) {
        alloc(&detector, start, 64);
    }
    let map = &detector.registry().map;
    let mut cache = WalkCache::new();
    assert!(cache.entry(BASE).is_none(), "there was no walk yet");
    cache.look(map, chunk_of(BASE + TABLE));
    let walks = WALKS.get();
    let found = near.map(|address| cache.entry(address));
    assert_eq!(WALKS.get(), walks);
    for (address, found) in near.into_iter().zip(found) {
        let Look::Entry(entry) = map.look(chunk_of(address)) else {
            panic!("a block starts there");
        };
        assert_eq!(found, Some(entry), "{address:#x}");
    }
    for address in far.into_iter().chain([BASE - 1, BASE + 2 * TABLE]) {
        assert_eq!(cache.entry(address), None, "{address:#x}");
    }
}

#[test]
fn a_walk_over_a_range_looks_at_nothing_behind_it() {
    let work = |blocks: &[usize]| {
        let detector = Tracker::new(super::Bare);
        for &start in blocks {
            alloc(&detector, start, 64);
        }
        super::entries(|| assert_eq!(starts(&detector, BASE, BASE + super::CHUNK), [BASE]))
    };
    assert_eq!(work(&[BASE]), work(&[BASE, BASE + super::CHUNK]));
}
