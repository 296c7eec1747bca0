//! Per-CPU blocks: one object, a copy for each CPU.

use kmemleak_emulated::Machine;

use crate::lab::Lab;

fn percpu(lab: &Lab, size: usize) -> usize {
    let handle = lab.machine.percpu(size);
    lab.machine.advance_us(1);
    lab.detector.alloc_percpu(handle, size);
    handle
}

fn copy(lab: &Lab, handle: usize, cpu: u32) -> usize {
    lab.machine.percpu_copy(handle, cpu).expect("a live block")
}

#[test]
fn counts_once_and_is_lost_once() {
    let lab = Lab::of(Machine::builder().cpus(4));
    let block = percpu(&lab, 48);
    assert_eq!(lab.leaks(), [block]);
    assert_eq!(
        (
            lab.detector.tracking().objects,
            lab.detector.tracking().bytes
        ),
        (1, 48)
    );
}

#[test]
fn its_handle_keeps_it_alive() {
    let lab = Lab::new();
    let block = percpu(&lab, 48);
    lab.hold(0, block + 47);
    assert_eq!(lab.leaks(), []);
    lab.hold(0, block + 48);
    assert_eq!(lab.leaks(), [block]);
}

#[test]
fn any_copy_keeps_it_alive() {
    let lab = Lab::of(Machine::builder().cpus(3));
    let block = percpu(&lab, 48);
    for cpu in 0..3 {
        lab.hold(0, copy(&lab, block, cpu) + 8);
        assert_eq!(lab.leaks(), [], "cpu {cpu}");
    }
}

#[test]
fn all_copies_are_scanned() {
    let lab = Lab::of(Machine::builder().cpus(3));
    let block = percpu(&lab, 24);
    lab.hold(0, block);
    for cpu in 0..3 {
        let owned = lab.block(16);
        lab.machine.write(copy(&lab, block, cpu) + 16, owned);
    }
    assert_eq!(lab.leaks(), []);
    lab.hold(0, 0);
    assert_eq!(lab.leaks().len(), 4);
}

#[test]
fn pointers_between_its_copies_do_not_count() {
    let lab = Lab::new();
    let block = percpu(&lab, 24);
    lab.machine
        .write(copy(&lab, block, 0), copy(&lab, block, 1));
    lab.machine.write(copy(&lab, block, 1), block);
    assert_eq!(lab.leaks(), [block]);
}

#[test]
fn areas_are_those_of_each_copy() {
    let lab = Lab::new();
    let block = percpu(&lab, 24);
    lab.hold(0, block);
    lab.detector.scan_area(block + 8, 8);
    let owned: Vec<usize> = (0..4).map(|_| lab.block(16)).collect();
    for cpu in 0..2 {
        let start = copy(&lab, block, cpu);
        lab.machine.write(start + 8, owned[cpu as usize]);
        lab.machine.write(start + 16, owned[2 + cpu as usize]);
    }
    assert_eq!(lab.leaks(), owned[2..]);
}

#[test]
fn a_freed_one_is_gone_with_all_copies() {
    let lab = Lab::new();
    let block = percpu(&lab, 48);
    let second = copy(&lab, block, 1);
    lab.detector.free_percpu(block);
    lab.machine.free(block);
    assert_eq!((lab.tracked(), lab.warnings()), (0, String::new()));
    assert!(lab.say(&format!("dump={second:#x}")).contains("no object"));
    assert_eq!(percpu(&lab, 48), block);
    assert_eq!(
        lab.warnings(),
        "",
        "no copy is in the way of the next block"
    );
}

#[test]
fn a_copy_is_no_block_to_be_freed() {
    let lab = Lab::new();
    let block = percpu(&lab, 48);
    lab.detector.free(copy(&lab, block, 0));
    assert!(lab.warnings().contains("unknown object"));
    assert_eq!(lab.tracked(), 1);
}

#[test]
fn one_whose_free_was_missed_goes_with_all_copies() {
    let lab = Lab::new();
    let block = percpu(&lab, 48);
    let second = copy(&lab, block, 1);
    lab.machine.free(block);
    // The platform knows nothing of it any more; its memory goes to somebody else.
    lab.detector
        .alloc(second, 48, kmemleak::AllocOptions::new());
    assert_eq!(lab.status("missed frees"), "1");
    let first = second - (second - block) / 2;
    assert!(lab.say(&format!("dump={first:#x}")).contains("no object"));
    assert_eq!(lab.leaks(), [second]);
}

#[test]
fn copies_of_one_that_is_gone_do_no_harm_to_what_has_its_handle_now() {
    let lab = Lab::new();
    let block = percpu(&lab, 48);
    let second = copy(&lab, block, 1);
    // Its free is missed, and the platform knows nothing of its copies any more.
    lab.machine.free(block);
    lab.machine.make_unreadable(block, 48);
    lab.detector.alloc(block, 48, kmemleak::AllocOptions::new());
    lab.machine.advance_us(1);
    lab.detector
        .alloc(second, 48, kmemleak::AllocOptions::new());
    assert_eq!(lab.leaks(), [block, second]);
    assert_eq!(lab.status("missed frees"), "1");
}
