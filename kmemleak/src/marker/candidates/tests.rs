//! What pointers count for that an object does not need.

extern crate std;

use std::vec::Vec;

use crate::AllocOptions;
use crate::marker::tests::noting::{Bench, memory, stopped};
use crate::metadata::WORD;
use crate::metadata::kept::Kept;
use crate::objects::access::Locked;
use crate::objects::record::flag;

/// Bytes of each block.
const SIZE: usize = 64;

/// Blocks that pass on what they do not need to the next one, and the last one to the first, as callbacks do not leave them unless they
/// run at the same time. All pointers go to the first one: each block takes one, and what is left goes round and ends.
#[test]
fn a_pointer_that_goes_round_comes_to_an_end() {
    for (count, more) in [1, 2, 3, 5, 8]
        .map(|count| [(count, 0), (count, 3)])
        .concat()
    {
        let (_, blocks) = memory(count * SIZE / WORD);
        let block = |number: usize| blocks + number % count * SIZE;
        let (root, root_start) = memory(count + more);
        root.fill(block(0));
        let bench = Bench::with_root(root_start..root_start + root.len() * WORD);
        let registry = bench.tracker.registry();
        for number in 0..count {
            bench
                .tracker
                .alloc(block(number), SIZE, AllocOptions::new());
            bench.tracker.without_interrupts(|meta| {
                let (start, next) = (block(number), block(number + 1));
                let kept = registry.side_table.add_excess(start, next, meta);
                assert_eq!(kept, Kept::Yes);
                let seen = registry.starting_at(Locked, start, |block| {
                    block.set(flag::NOTES | flag::EXCESS);
                });
                assert_eq!(seen, Some(()));
            });
        }
        bench.pass(stopped(), count);
        let arrived = |number| {
            registry
                .side_table
                .arrivals(block(number))
                .expect("noted")
                .number
        };
        let arrived: Vec<u64> = (0..count).map(arrived).collect();
        if more == 0 {
            let wanted: Vec<u64> = (1..=count as u64).rev().collect();
            assert_eq!(arrived, wanted);
        }
        assert!(arrived.iter().all(|&number| number > 0), "{arrived:?}");
    }
}
