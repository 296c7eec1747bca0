//! Freed in part: what remains of a block goes on as blocks of their own.

use kmemleak::AllocOptions;

use crate::lab::Lab;

const PAGE: usize = 4096;

/// Four pages, tracked, with `bytes` of them freed from `offset` on.
fn holed(offset: usize, bytes: usize) -> (Lab, usize) {
    let lab = Lab::new();
    let block = four_pages(&lab, AllocOptions::new());
    lab.machine.advance_us(1);
    lab.detector.free_part(block + offset, bytes);
    assert_eq!(lab.warnings(), "");
    (lab, block)
}

fn four_pages(lab: &Lab, options: AllocOptions) -> usize {
    let block = lab.machine.pages(4 * PAGE);
    lab.machine.advance_us(1);
    lab.detector.alloc(block, 4 * PAGE, options);
    block
}

/// What is lost, in pages from `block` on: first page and number of pages.
fn lost(lab: &Lab, block: usize) -> Vec<(usize, usize)> {
    lab.leaks();
    let mut lost = Vec::new();
    lab.detector
        .for_each_unreferenced(&mut |object| {
            lost.push(((object.start - block) / PAGE, object.size / PAGE));
        })
        .expect("asked from outside");
    lost
}

/// Which of the four pages an address in the middle of keeps what alive: what is still lost then.
fn lost_with_a_pointer_to(lab: &Lab, block: usize, page: usize) -> Vec<(usize, usize)> {
    lab.hold(0, block + page * PAGE + PAGE / 2);
    let lost = lost(lab, block);
    lab.hold(0, 0);
    lost
}

#[test]
fn the_head_goes() {
    let (lab, block) = holed(0, PAGE);
    assert_eq!(lost(&lab, block), [(1, 3)]);
    assert_eq!(lost_with_a_pointer_to(&lab, block, 0), [(1, 3)]);
    assert_eq!(lost_with_a_pointer_to(&lab, block, 1), []);
    assert_eq!(lost_with_a_pointer_to(&lab, block, 3), []);
}

#[test]
fn the_tail_goes() {
    let (lab, block) = holed(2 * PAGE, 2 * PAGE);
    assert_eq!(lost(&lab, block), [(0, 2)]);
    assert_eq!(lost_with_a_pointer_to(&lab, block, 0), []);
    assert_eq!(lost_with_a_pointer_to(&lab, block, 1), []);
    assert_eq!(lost_with_a_pointer_to(&lab, block, 2), [(0, 2)]);
}

#[test]
fn the_middle_goes() {
    let (lab, block) = holed(PAGE, 2 * PAGE);
    assert_eq!(lost(&lab, block), [(0, 1), (3, 1)]);
    assert_eq!(lost_with_a_pointer_to(&lab, block, 0), [(3, 1)]);
    assert_eq!(lost_with_a_pointer_to(&lab, block, 1), [(0, 1), (3, 1)]);
    assert_eq!(lost_with_a_pointer_to(&lab, block, 2), [(0, 1), (3, 1)]);
    assert_eq!(lost_with_a_pointer_to(&lab, block, 3), [(0, 1)]);
    lab.detector.free(block);
    lab.detector.free(block + 3 * PAGE);
    assert_eq!((lab.tracked(), lab.warnings()), (0, String::new()));
}

#[test]
fn all_of_it_goes() {
    for bytes in [4 * PAGE, 5 * PAGE, usize::MAX] {
        let (lab, block) = holed(0, bytes);
        assert_eq!(lab.tracked(), 0);
        lab.detector.free(block);
        assert!(lab.warnings().contains("free of an unknown object"));
    }
}

#[test]
fn nothing_goes() {
    for offset in [0, PAGE, 4 * PAGE - 1] {
        let (lab, block) = holed(offset, 0);
        assert_eq!(lost(&lab, block), [(0, 4)]);
    }
}

#[test]
fn no_more_than_the_block_goes() {
    let lab = Lab::new();
    let arena = lab.machine.arena(8 * PAGE);
    for half in [0, 4 * PAGE] {
        lab.detector
            .alloc(arena + half, 4 * PAGE, AllocOptions::new());
        lab.machine.advance_us(1);
    }
    lab.detector.free_part(arena + 2 * PAGE, 4 * PAGE);
    assert_eq!(lost(&lab, arena), [(0, 2), (4, 4)]);
}

#[test]
fn of_what_is_not_known_is_told() {
    let lab = Lab::new();
    let stranger = lab.machine.pages(4 * PAGE);
    lab.machine.call_from(&["careless"]);
    lab.detector.free_part(stranger, PAGE);
    let told = lab.warnings();
    assert!(
        told.contains("unknown object") && told.contains("careless"),
        "{told}"
    );
    let block = lab.block(64);
    lab.detector.free_part(block + 64, 64);
    assert_eq!(lab.status("warnings"), "2");
    assert_eq!(lab.leaks(), [block]);
}

#[test]
fn of_odd_starts_and_lengths() {
    let lab = Lab::new();
    let arena = lab.machine.arena(1 << 16);
    lab.detector.alloc(arena + 3, 10_000, AllocOptions::new());
    lab.detector.free_part(arena + 101, 77);
    lab.leaks();
    let mut left = Vec::new();
    lab.detector
        .for_each_unreferenced(&mut |object| left.push((object.start - arena, object.size)))
        .expect("asked from outside");
    assert_eq!(left, [(3, 98), (178, 9825)]);
}

#[test]
fn remains_keep_the_place_in_the_order_and_the_call_stack() {
    let lab = Lab::new();
    lab.machine.call_from(&["the_owner"]);
    let block = four_pages(&lab, AllocOptions::new());
    lab.machine.call_from(&["another"]);
    let later = lab.block(64);
    lab.machine.call_from(&["who_frees"]);
    lab.detector.free_part(block + PAGE, PAGE);
    assert_eq!(lab.leaks(), [block, block + 2 * PAGE, later]);
    let told = lab.say(&format!("dump={:#x}", block + 3 * PAGE));
    assert!(
        told.contains("the_owner") && !told.contains("who_frees"),
        "{told}"
    );
}

#[test]
fn remains_keep_colour_and_no_scan() {
    let lab = Lab::new();
    let gray = four_pages(&lab, AllocOptions::new().min_count(0));
    let black = four_pages(&lab, AllocOptions::new().min_count(-1));
    let twice = four_pages(&lab, AllocOptions::new().min_count(2));
    let silent = four_pages(&lab, AllocOptions::new());
    lab.detector.no_scan(silent);
    lab.hold(0, silent);
    lab.hold(1, silent + 3 * PAGE);
    lab.hold(2, twice);
    lab.hold(3, twice + 3 * PAGE);
    lab.hold(4, twice + 3 * PAGE);
    let owned: Vec<usize> = (0..6).map(|_| lab.block(32)).collect();
    for (pair, block) in owned.chunks(2).zip([gray, black, silent]) {
        lab.machine.write(block, pair[0]);
        lab.machine.write(block + 3 * PAGE, pair[1]);
    }
    for block in [gray, black, twice, silent] {
        lab.detector.free_part(block + PAGE, PAGE);
    }
    assert_eq!(lab.leaks(), [&[twice], &owned[2..]].concat());
}

#[test]
fn areas_go_on_and_what_a_pass_has_noted_does_not() {
    let lab = Lab::new();
    let (block, area) = (
        lab.machine.vmalloc(PAGE),
        four_pages(&lab, AllocOptions::new()),
    );
    lab.detector.vmalloc(block, PAGE, area);
    lab.detector.scan_area(area, 8);
    let owned = lab.block(64);
    lab.machine.write(area + 2 * PAGE, owned);
    // The check notes of the area that it is pointed to.
    lab.hold(0, area);
    assert_eq!(lab.leaks(), [block, owned]);
    lab.detector.free_part(area + PAGE, PAGE);
    lab.hold(0, 0);
    assert_eq!(lab.leaks().len(), 4, "both remains, and what they held");
    lab.hold(0, area + 2 * PAGE);
    lab.hold(1, area);
    // Of the tail nothing is scanned, and the front has one pointer, which is its own.
    assert_eq!(lab.leaks(), [block, owned]);
}

#[test]
fn of_a_percpu_block_is_refused() {
    let lab = Lab::new();
    let block = lab.machine.percpu(64);
    lab.detector.alloc_percpu(block, 64);
    lab.detector.free_part(block, 32);
    let copy = lab.machine.percpu_copy(block, 1).expect("live");
    lab.detector.free_part(copy + 32, 32);
    assert_eq!(lab.status("warnings"), "2");
    lab.hold(0, copy + 63);
    assert_eq!((lab.tracked(), lab.leaks()), (1, vec![]));
}

#[test]
fn a_verdict_of_before_shows_what_is_left() {
    let (lab, block) = holed(0, 0);
    lab.leaks();
    lab.detector.free_part(block, PAGE);
    assert_eq!(lab.listed(), []);
}
