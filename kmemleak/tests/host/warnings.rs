//! The ring of warnings: what is wrong is told once per call stack, and counted each time.

use crate::lab::Lab;

#[test]
fn the_same_from_the_same_place_is_told_once() {
    let lab = Lab::new();
    lab.machine.call_from(&["careless"]);
    (0..10).for_each(|_| lab.detector.free(lab.machine.slab(64)));
    let told = lab.warnings();
    assert_eq!(told.matches("free of an unknown object").count(), 1);
    assert_eq!(lab.status("warnings"), "10");
    lab.detector.free(lab.machine.slab(64));
    assert_eq!(lab.warnings(), "", "not after it was told, either");
}

#[test]
fn another_thing_from_the_same_place_is_told() {
    let lab = Lab::new();
    lab.machine.call_from(&["careless"]);
    lab.detector.free(lab.machine.slab(64));
    lab.detector.no_scan(lab.machine.slab(64));
    let told = lab.warnings();
    assert!(told.contains("free of an unknown object"));
    assert!(told.contains("kmemleak: unknown object"));
}

#[test]
fn those_that_find_no_room_are_counted() {
    let lab = Lab::new();
    for place in 0..40 {
        lab.machine.call_from(&[&format!("place_{place}")]);
        lab.detector.free(lab.machine.slab(64));
    }
    let told = lab.warnings();
    assert_eq!(told.matches("free of an unknown object").count(), 32);
    assert!(
        told.ends_with("kmemleak: 8 more warnings were lost: there was no room to keep them\n")
    );
    assert!(told.contains("place_0") && told.contains("place_31"));
    assert_eq!(lab.warnings(), "");
}

#[test]
fn the_ring_goes_round() {
    let lab = Lab::new();
    for place in 0..100 {
        let name = format!("place_{place}");
        lab.machine.call_from(&[&name]);
        lab.detector.free(lab.machine.slab(64));
        assert!(lab.warnings().contains(&name));
    }
}

#[test]
fn the_text_of_one() {
    let lab = Lab::new();
    lab.machine.call_from(&["deep_inside", "further_out"]);
    let stranger = lab.machine.slab(64);
    lab.detector.free(stranger);
    let told = lab.warnings();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines[0],
        format!("kmemleak: free of an unknown object: {stranger:#018x}")
    );
    assert!(lines[1].starts_with("  called from (crc "));
    assert_eq!(lines[2..], ["    deep_inside", "    further_out"]);
}
