//! Blocks of physical memory: roots by another address. (Here the two addresses are the same.)

use crate::lab::Lab;

const PAGE: usize = 4096;

/// Two pages of memory, tracked, with a block in each of which nothing else knows.
fn two_pages() -> (Lab, usize, [usize; 2]) {
    let lab = Lab::new();
    let memory = lab.machine.arena(2 * PAGE);
    lab.detector.alloc_phys(memory, 2 * PAGE);
    let owned = [lab.block(64), lab.block(64)];
    lab.machine.write(memory + 8, owned[0]);
    lab.machine.write(memory + PAGE + 8, owned[1]);
    (lab, memory, owned)
}

#[test]
fn it_is_scanned_and_never_reported() {
    let (lab, ..) = two_pages();
    assert_eq!(lab.leaks(), []);
    assert_eq!(lab.tracked(), 3);
}

#[test]
fn a_scan_beside_what_runs_takes_it_as_well() {
    let (lab, ..) = two_pages();
    for _ in 0..3 {
        lab.machine.advance_us(10_000_000);
        lab.detector.scan().expect("on");
        assert_eq!(lab.listed(), []);
    }
}

#[test]
fn ignored_it_is_not_scanned() {
    let (lab, memory, owned) = two_pages();
    lab.detector.ignore_phys(memory);
    assert_eq!(lab.leaks(), owned);
    assert_eq!(lab.warnings(), "");
}

#[test]
fn freed_in_part_the_rest_is_scanned() {
    let (lab, memory, owned) = two_pages();
    lab.detector.free_part_phys(memory + PAGE, PAGE);
    assert_eq!(lab.leaks(), [owned[1]]);
    lab.detector.free_part_phys(memory, PAGE);
    assert_eq!(lab.leaks(), owned);
    assert_eq!((lab.tracked(), lab.warnings()), (2, String::new()));
    lab.detector.free_part_phys(memory, PAGE);
    assert!(lab.warnings().contains("unknown object"));
}
