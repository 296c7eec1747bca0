//! Callbacks for what is not tracked: told, counted, survived.

use kmemleak::AllocOptions;

use crate::lab::Lab;

#[test]
fn free_of_an_unknown_block() {
    let lab = Lab::new();
    lab.detector.free(lab.machine.slab(64));
    assert!(
        lab.warnings()
            .starts_with("kmemleak: free of an unknown object: 0x")
    );
    assert_eq!(lab.status("warnings"), "1");
}

#[test]
fn free_of_no_address_at_all() {
    let lab = Lab::new();
    for address in [0, 1, 4095, usize::MAX, usize::MAX - 7, 1 << 47, 1 << 63] {
        lab.machine.call_from(&[&format!("{address:x}")]);
        lab.detector.free(address);
    }
    assert_eq!(lab.status("warnings"), "7");
}

#[test]
fn a_double_free_shows_who_had_the_block() {
    let lab = Lab::new();
    lab.machine.call_from(&["the_owner"]);
    let block = lab.block(64);
    lab.machine.call_from(&["the_first_free"]);
    lab.detector.free(block);
    assert_eq!(lab.warnings(), "");
    lab.machine.call_from(&["the_second_free"]);
    lab.detector.free(block);
    let told = lab.warnings();
    assert!(
        told.contains("the_second_free") && told.contains("the_owner"),
        "{told}"
    );
    assert_eq!(lab.tracked(), 0);
}

#[test]
fn free_of_the_middle_of_a_block_leaves_it() {
    let lab = Lab::new();
    let block = lab.block(64);
    lab.detector.free(block + 8);
    assert!(lab.warnings().contains("unknown object"));
    assert_eq!(lab.leaks(), [block]);
}

#[test]
fn each_other_callback() {
    let lab = Lab::new();
    let stranger = lab.machine.slab(64);
    let callbacks: [(&str, &dyn Fn()); 9] = [
        ("not_leak", &|| lab.detector.not_leak(stranger)),
        ("ignore", &|| lab.detector.ignore(stranger)),
        ("no_scan", &|| lab.detector.no_scan(stranger)),
        ("scan_area", &|| lab.detector.scan_area(stranger, 8)),
        ("free_percpu", &|| lab.detector.free_percpu(stranger)),
        ("ignore_percpu", &|| lab.detector.ignore_percpu(stranger)),
        ("free_part", &|| lab.detector.free_part(stranger, 8)),
        ("transient_leak", &|| lab.detector.transient_leak(stranger)),
        ("update_trace", &|| lab.detector.update_trace(stranger)),
    ];
    for (name, callback) in callbacks {
        lab.machine.call_from(&[name]);
        callback();
        let told = lab.warnings();
        assert!(
            told.contains("unknown object") && told.contains(name),
            "{told}"
        );
    }
}

#[test]
fn a_block_that_goes_round_the_end_of_memory() {
    let lab = Lab::new();
    lab.detector.alloc(usize::MAX - 8, 64, AllocOptions::new());
    assert!(lab.warnings().contains("larger than the address space"));
    assert_eq!(lab.tracked(), 0);
}

#[test]
fn a_block_of_no_bytes_can_be_freed() {
    let lab = Lab::new();
    let block = lab.block_with(0, AllocOptions::new());
    lab.hold(0, block);
    assert_eq!(lab.leaks(), []);
    lab.detector.free(block);
    assert_eq!((lab.warnings(), lab.tracked()), (String::new(), 0));
}
