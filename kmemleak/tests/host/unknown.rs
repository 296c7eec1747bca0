//! Callbacks for what is not tracked: told, counted, survived.

use kmemleak::{AllocOptions, Reading};

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
fn a_double_free_shows_who_freed_the_block_first_if_that_is_asked_for() {
    let lab = Lab::new();
    let free_twice = |first: &str, second: &str| {
        lab.machine.call_from(&["the_owner"]);
        let block = lab.block(64);
        lab.machine.call_from(&[first]);
        lab.detector.free(block);
        lab.machine.call_from(&[second]);
        lab.detector.free(block);
        lab.warnings()
    };
    assert!(!free_twice("one", "two").contains("freed last from"));
    for (switch, told) in [("on", true), ("off", false)] {
        let parameter = format!("kmemleak.free_stacks={switch}");
        assert_eq!(lab.detector.boot_parameter(&parameter), Ok(()));
        let warning = free_twice(&format!("first_{switch}"), &format!("second_{switch}"));
        let first = warning.split_once("  freed last from (crc ");
        assert_eq!(first.is_some(), told, "{warning}");
        if let Some((before, freed)) = first {
            assert!(freed.contains("first_on"), "{warning}");
            assert!(before.contains("second_on") && before.contains("the_owner"));
        }
    }
    // Another object in the same place: who freed the one before says nothing of it.
    let block = lab.block(64);
    lab.detector.free(block + 8);
    assert!(!lab.warnings().contains("freed last from"));
    assert_eq!(lab.leaks(), [block]);
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
    let callbacks: [(&str, &dyn Fn()); 10] = [
        ("not_leak", &|| lab.detector.not_leak(stranger)),
        ("ignore", &|| lab.detector.ignore(stranger)),
        ("no_scan", &|| lab.detector.no_scan(stranger)),
        ("scan_area", &|| lab.detector.scan_area(stranger, 8)),
        ("read_as", &|| {
            lab.detector.read_as(stranger, Reading::Bytes)
        }),
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
    let last_page = usize::MAX - 4095;
    lab.detector.alloc(last_page, 4097, AllocOptions::new());
    assert!(lab.warnings().contains("address space"));
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
