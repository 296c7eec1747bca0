//! Tests of the side table alone, against a search through all notes.

extern crate std;

use std::collections::BTreeMap;
use std::vec::Vec;

use super::{Area, SideTable};
use crate::metadata::kept::Kept;
use crate::metadata::pool::BootstrapPool;
use crate::metadata::tests::with_meta;
use crate::metadata::work_tests::done;
use crate::objects::page_map::{CHUNK, chunk_of};
use crate::objects::record::Record;
use crate::stacks::depot::StackId;

fn record() -> Record {
    Record::new(1, StackId::NONE, 0, 1, 0)
}

#[test]
fn notes_are_found_while_buckets_are_divided() {
    const OBJECTS: usize = 6000;
    static POOL: BootstrapPool<400> = BootstrapPool::new();
    with_meta(&POOL, |meta| {
        let table = SideTable::new();
        // Two in a granule, then one in each seventh.
        let starts: Vec<usize> = (0..OBJECTS)
            .map(|number| 1 + 4 * number * [1, 13][number % 2])
            .collect();
        let mut areas = BTreeMap::<usize, Vec<usize>>::new();
        for (number, &start) in starts.iter().enumerate() {
            assert_eq!(table.add_unaligned(start, &record(), 0, meta), Kept::Yes);
            let of = starts[number / 2];
            let area = Area {
                offset: number,
                len: 1,
            };
            assert_eq!(table.add_area(of, area, meta), Kept::Yes);
            areas.entry(of).or_default().insert(0, number);
        }
        assert!(table.buckets.lock().len() > 10_000);
        let before = done();
        for (&start, offsets) in &areas {
            for (number, &offset) in offsets.iter().enumerate() {
                assert_eq!(
                    table.area(start, number).map(|area| area.offset),
                    Some(offset)
                );
            }
            assert!(table.area(start, offsets.len()).is_none());
        }
        let looks = (done() - before) / OBJECTS;
        assert!(looks < 12, "{looks}");
        let mut sorted = starts.clone();
        sorted.sort_unstable();
        for &start in sorted.iter().step_by(17) {
            for address in [start - 1, start, start + 1, start + 40] {
                let chunk = chunk_of(address);
                let in_chunk = sorted.iter().copied().filter(|&one| chunk_of(one) == chunk);
                let last = in_chunk.clone().rfind(|&one| one <= address);
                let first = in_chunk.clone().find(|&one| one >= address);
                let found = table.unaligned_at_or_before(chunk, address);
                assert_eq!(found.map(|one| one.start), last, "{address}");
                let found = table.unaligned_from(chunk, address);
                assert_eq!(found.map(|one| one.start), first, "{address}");
            }
        }
        for &start in &starts {
            table.drop_unaligned(start, meta);
            table.drop_all(start, meta);
        }
        let beyond = chunk_of(sorted[OBJECTS - 1]) + 1;
        assert!((0..beyond).all(|chunk| !table.has_unaligned(chunk)));
        assert!(beyond > 64 << 10 >> CHUNK.ilog2());
    });
}

#[test]
fn the_last_granule_of_the_address_space_is_one_like_others() {
    static POOL: BootstrapPool<2> = BootstrapPool::new();
    with_meta(&POOL, |meta| {
        let table = SideTable::new();
        let start = usize::MAX - 2;
        assert_eq!(table.add_unaligned(start, &record(), 0, meta), Kept::Yes);
        let chunk = chunk_of(start);
        let last = table.unaligned_at_or_before(chunk, usize::MAX);
        let first = table.unaligned_from(chunk, 0);
        assert_eq!(
            [last, first].map(|one| one.map(|one| one.start)),
            [Some(start); 2]
        );
        table.drop_unaligned(start, meta);
    });
}
