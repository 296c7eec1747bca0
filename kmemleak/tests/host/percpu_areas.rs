//! Per-CPU blocks that describe another block, and pointers to their copies; blocks that describe each other.

use kmemleak::AllocOptions;
use kmemleak_emulated::Machine;

use crate::lab::Lab;

const PAGE: usize = 4096;
const WORD: usize = 8;

/// A per-CPU block and its copies, and a block whose area it is. The second word of the first copy points to that block.
fn with_area() -> (Lab, usize, [usize; 2], usize) {
    let lab = Lab::of(Machine::builder().cpus(2));
    let handle = lab.machine.percpu(64);
    lab.detector.alloc_percpu(handle, 64);
    let copies = [0, 1].map(|cpu| lab.machine.percpu_copy(handle, cpu).expect("two CPUs"));
    let block = lab.machine.vmalloc(2 * PAGE);
    lab.machine.advance_us(1);
    lab.machine.write(copies[0] + WORD, block);
    lab.detector.vmalloc(block, 2 * PAGE, handle);
    assert_eq!(lab.warnings(), "");
    (lab, handle, copies, block)
}

#[test]
fn each_pointer_to_a_copy_counts_for_the_area() {
    for offset in [0, 8] {
        let (lab, handle, copies, block) = with_area();
        lab.hold(0, copies[1] + offset);
        assert_eq!(lab.leaks(), [block], "the first is the area's own");
        // To the same byte, to another copy, to the handle.
        for second in [copies[1] + offset, copies[0], handle] {
            lab.hold(1, second);
            assert_eq!(lab.leaks(), [], "{second:#x}");
        }
    }
}

#[test]
fn pointers_between_its_copies_count_for_nothing() {
    let (lab, handle, copies, block) = with_area();
    lab.machine.write(copies[0] + 2 * WORD, copies[1]);
    lab.machine.write(copies[1] + WORD, copies[0] + 8);
    lab.machine.write(copies[1] + 2 * WORD, handle);
    assert_eq!(lab.leaks(), [handle, block]);
    lab.hold(0, handle);
    assert_eq!(lab.leaks(), [block]);
    lab.hold(1, handle);
    assert_eq!(lab.leaks(), []);
}

/// Whatever pointer the marker sees first.
#[test]
fn a_pointer_to_the_start_of_a_copy_is_enough() {
    for order in [[0, 1], [1, 0]] {
        let lab = Lab::new();
        let handle = lab.machine.percpu(64);
        lab.detector.alloc_percpu(handle, 64);
        let copy = lab.machine.percpu_copy(handle, 1).expect("two CPUs");
        let mut interior = 0;
        let mut count = |lab: &Lab| {
            interior = 0;
            lab.detector
                .for_each_interior(&mut |_| interior += 1)
                .expect("on");
            interior
        };
        lab.hold(order[0], copy + 8);
        assert_eq!((lab.leaks(), count(&lab)), (vec![], 1));
        lab.hold(order[1], copy);
        assert_eq!((lab.leaks(), count(&lab)), (vec![], 0), "{order:?}");
    }
}

/// A kernel that errs: each of some blocks is the area of the next, and the last one that of the first. (Where no
/// block can lie there is no new one, so the links of the one at that address stay.)
#[test]
fn a_pointer_does_not_go_round_for_ever() {
    for len in 2..=5 {
        let lab = Lab::new();
        let blocks: Vec<usize> = (0..len).map(|_| lab.machine.vmalloc(PAGE)).collect();
        lab.detector.alloc(blocks[0], PAGE, AllocOptions::new());
        for pair in blocks.windows(2) {
            lab.machine.advance_us(1);
            lab.detector.vmalloc(pair[1], PAGE, pair[0]);
        }
        lab.detector.vmalloc(blocks[0], usize::MAX, blocks[len - 1]);
        // The first one needs a pointer to it, the others two each; what goes round is one more.
        for slot in 0..2 * len {
            let held = slot.div_ceil(2);
            assert_eq!(lab.leaks(), blocks[held..], "{slot} pointers");
            lab.hold(slot, blocks[0]);
        }
        assert_eq!(lab.leaks(), [], "{len} blocks");
    }
}
