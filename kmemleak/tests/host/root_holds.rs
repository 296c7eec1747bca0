//! What lies in a root: blocks by their addresses, and not what only has such a number.

use std::sync::atomic::Ordering::Relaxed;

use kmemleak::{AllocOptions, Root, RootKind};
use kmemleak_emulated::{Place, Stop};

use crate::lab::Lab;
use crate::snapshots::snapshot;
use crate::sparse::SparseLab;

const PAGE: usize = 4096;

/// A block in two roots that lie beside each other is shown once, with that in which it starts.
#[test]
fn a_block_across_two_roots_is_held_by_the_first() {
    for stop in [Stop::Works, Stop::Unsupported] {
        // Across pages of the first root or within its last one; and all of it, or its last byte, in the second.
        for start in [PAGE - 100, 2 * PAGE - 40] {
            for beyond in [1, 40] {
                let lab = Lab::new();
                lab.machine.set_stop(stop);
                let arena = lab.machine.arena(4 * PAGE);
                lab.machine.add_root(arena, 2 * PAGE);
                assert!(lab.detector.region_add(arena + 2 * PAGE, PAGE));
                let block = arena + start;
                let size = 2 * PAGE + beyond - start;
                lab.detector.alloc(block, size, AllocOptions::new());
                assert_eq!(lab.leaks(), []);
                let held = snapshot(&lab.detector).held;
                let starts: Vec<usize> = held.iter().map(|(start, _)| *start).collect();
                assert_eq!(starts, [block], "{start} {beyond} {stop:?}");
            }
        }
    }
}

#[test]
fn a_handle_is_no_address_in_a_root() {
    let lab = Lab::new();
    let handle = lab.machine.percpu(64);
    lab.detector.alloc_percpu(handle, 64);
    let region = handle & !(PAGE - 1);
    lab.machine.add_root(region, PAGE);
    lab.hold(0, handle);
    assert_eq!(lab.leaks(), []);
    let heap = snapshot(&lab.detector);
    let word = (lab.machine.address(Place::Bss(0)), handle, 0);
    assert!(heap.roots.contains(&word), "{heap:?}");
    assert!(heap.held.is_empty(), "{heap:?}");
    lab.hold(0, 0);
    assert_eq!(lab.leaks(), [handle], "it lies in no root");
    assert!(snapshot(&lab.detector).reached().is_empty());
}

/// A physical address may be the number of a root's byte. The block's own words are elsewhere, and are read there.
#[test]
fn a_physical_address_is_no_address_in_a_root() {
    const OFFSET: usize = 0xffff_8880_0000_0000;
    const PHYSICAL: usize = 0x20_0000;
    let lab = SparseLab::new();
    lab.platform().physical_offset.store(OFFSET, Relaxed);
    let root = Root {
        kind: RootKind::Section,
        start: PHYSICAL - PAGE,
        len: 3 * PAGE,
    };
    lab.platform()
        .roots
        .lock()
        .expect("nobody panics under it")
        .push(root);
    lab.detector.alloc_phys(PHYSICAL, PAGE);
    let owned = OFFSET + (1 << 30);
    lab.alloc(owned, 64);
    assert_eq!(lab.leaks(), [owned]);
    lab.platform().write(OFFSET + PHYSICAL + 16, owned);
    assert_eq!(lab.leaks(), []);
    assert_eq!(lab.scan(), []);
}
