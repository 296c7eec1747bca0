//! Addresses of a kernel: what is read there, and nothing else.

use std::sync::atomic::Ordering;

use kmemleak::AllocOptions;

use crate::sparse::{BLOCKS, SparseLab};

fn alloc(lab: &SparseLab, start: usize, size: usize) {
    lab.detector.alloc(start, size, AllocOptions::new());
}

#[test]
fn blocks_of_the_upper_half_are_found_and_lost() {
    let lab = SparseLab::new();
    let (held, owned, lost) = (BLOCKS, BLOCKS + 64, BLOCKS + 128);
    for block in [held, owned, lost] {
        alloc(&lab, block, 64);
    }
    lab.hold(3, held);
    lab.platform().write(held + 56, owned);
    assert_eq!(lab.leaks(), [lost]);
    assert_eq!(lab.tracked(), (3, 192));
    assert_eq!(lab.platform().foreign_reads(&[(BLOCKS, 192)]), []);
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
    alloc(&lab, BLOCKS, 64);
    lab.platform().write(mapped + 4088, BLOCKS);
    assert_eq!(lab.leaks(), []);
    assert_eq!(
        lab.platform()
            .foreign_reads(&[(mapped, 4096), (BLOCKS, 64)]),
        []
    );
}

#[test]
fn all_copies_of_a_percpu_block_are_read() {
    let lab = SparseLab::new();
    let distance = 0x1_0000;
    lab.platform().cpus.store(3, Ordering::Relaxed);
    lab.platform()
        .copy_distance
        .store(distance, Ordering::Relaxed);
    lab.detector.alloc_percpu(BLOCKS, 16);
    lab.hold(0, BLOCKS + 2 * distance);
    alloc(&lab, BLOCKS + 0x8000, 64);
    lab.platform().write(BLOCKS + distance + 8, BLOCKS + 0x8000);
    assert_eq!(lab.leaks(), []);
    lab.platform().call_from(&[0x1111]);
    lab.detector.free_percpu(BLOCKS);
    lab.detector.free_percpu(BLOCKS);
    assert!(lab.warnings().contains("free of an unknown object"));
    assert!(lab.say("dump ffff8880001008").contains("no object"));
}
