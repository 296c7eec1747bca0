//! Tests of how much of the map a callback looks at: they count entries, not time.

extern crate std;

mod walk_tests;

use core::cell::Cell;
use core::ptr::NonNull;
use std::boxed::Box;

use crate::metadata::work_tests;
use crate::objects::access::Locked;
use crate::platform::bare::leaked_page;
use crate::stacks::task_names::NamesInUse;
use crate::tracker::Tracker;
use crate::{AllocOptions, IrqState, Platform, Root, RootCursor};

type Work = Box<dyn FnOnce()>;

std::thread_local! {
    /// What another CPU does when a run is about to be cleared.
    static MEANWHILE: Cell<Option<Work>> = const { Cell::new(None) };
    /// How often interrupts have been switched off.
    static IRQS_OFF: Cell<usize> = const { Cell::new(0) };
    static WALKS: Cell<usize> = const { Cell::new(0) };
    /// The [`work_done`] when interrupts went off.
    static WHEN_OFF: Cell<usize> = const { Cell::new(0) };
    /// The most that was done with interrupts off.
    static LONGEST: Cell<usize> = const { Cell::new(0) };
    /// What an interrupt handler does as soon as interrupts are on again.
    static HANDLER: Cell<Option<Handler>> = const { Cell::new(None) };
}

type Handler = fn();

/// Called when a run has been found, and is about to be cleared.
pub(super) fn interrupt() {
    if let Some(work) = MEANWHILE.take() {
        work();
    }
}

/// Called when a walk through the tables begins.
pub(super) fn count_walk() {
    WALKS.set(WALKS.get() + 1);
}

/// Walks so far, and what was looked at.
fn work_done() -> usize {
    WALKS.get() + work_tests::done()
}

/// How many entries `work` looks at, and records of their objects.
fn entries(work: impl FnOnce()) -> usize {
    let before = work_tests::done();
    work();
    work_tests::done() - before
}

/// A kernel without memory of its own.
struct Bare;

// SAFETY: there are no roots and no interrupts; metadata pages are boxes that are never given back.
unsafe impl Platform for Bare {
    fn now_us(&self) -> u64 {
        0
    }

    fn irq_save(&self) -> IrqState {
        if IRQS_OFF.replace(IRQS_OFF.get() + 1) == 0 {
            WHEN_OFF.set(work_done());
        }
        IrqState(0)
    }

    fn irq_restore(&self, _: IrqState) {
        IRQS_OFF.set(IRQS_OFF.get() - 1);
        if IRQS_OFF.get() == 0 {
            LONGEST.set(LONGEST.get().max(work_done() - WHEN_OFF.get()));
            // No handler interrupts itself.
            if let Some(handler) = HANDLER.take() {
                handler();
                HANDLER.set(Some(handler));
            }
        }
    }

    fn next_root(&self, _: &mut RootCursor) -> Option<Root> {
        None
    }

    fn metadata_alloc(&self) -> Option<NonNull<u8>> {
        Some(leaked_page())
    }
}

type Subject = Tracker<Bare>;

const BASE: usize = 0xffff_8880_0000_0000;
const CHUNK: usize = super::CHUNK;
/// Bytes that a table of the lowest level stands for.
const TABLE: usize = super::LEAF * CHUNK;
/// An upper limit of the entries that are looked at for the two ends of a block, and for chunks that were emptied a moment ago.
const ENDS: usize = 4 * super::LEAF + 2 * 64 * super::LEAF;

fn alloc(detector: &Subject, start: usize, size: usize) {
    detector.alloc(start, size, AllocOptions::new());
}

/// A detector in which each chunk of `tables` tables has had a small block, which was freed.
fn used(tables: usize) -> Box<Subject> {
    let detector = Box::new(Tracker::new(Bare));
    for chunk in 0..tables * super::LEAF {
        let start = BASE + chunk * CHUNK;
        alloc(&detector, start, 64);
        detector.free(start);
    }
    detector
}

#[test]
fn a_large_block_where_small_ones_lay_costs_a_step_for_each_table() {
    const TABLES: usize = 512;
    let detector = used(TABLES);
    let size = TABLES * TABLE;
    for (start, size) in [(BASE, size), (BASE + 8, size - 16), (BASE + 4096, size / 2)] {
        let alloc = entries(|| alloc(&detector, start, size));
        let free = entries(|| detector.free(start));
        assert_eq!(detector.tracking().objects, 0);
        for touched in [alloc, free] {
            assert!(touched <= 4 * TABLES + ENDS, "{touched} entries");
        }
    }
}

#[test]
fn a_step_of_the_walk_for_names_ends_where_no_objects_lie() {
    let detector = used(512);
    let mut steps = 0;
    let mut from = Some(0);
    while let Some(chunk) = from {
        let touched = entries(|| from = detector.registry().numbers(chunk, &mut |_| {}));
        assert!(touched <= 256, "{touched} entries");
        steps += 1;
    }
    assert!(steps < 100, "{steps} steps");
}

#[test]
fn a_chunk_that_is_used_over_and_over_stays_in_service() {
    let detector = used(1);
    let pair = || {
        alloc(&detector, BASE, 64);
        detector.free(BASE);
    };
    pair();
    let chunk = super::chunk_of(BASE);
    let super::Look::Entry(entry) = detector.registry().map.look(chunk) else {
        panic!("there is a table");
    };
    let waits =
        || entry.has(crate::objects::chunk::info::WAITS | crate::objects::chunk::info::SERVES);
    for _ in 0..1000 {
        pair();
        assert!(waits());
    }
}

#[test]
fn what_is_in_the_way_of_a_large_block_is_found_in_one_walk() {
    let walk = |tables: usize| {
        let detector = used(1);
        for table in 0..tables {
            alloc(&detector, BASE + table * TABLE + TABLE / 2, 64);
        }
        let touched = entries(|| alloc(&detector, BASE, tables * TABLE));
        assert_eq!(detector.tracking().objects, 1);
        touched
    };
    let (few, many) = (walk(256), walk(1024));
    // If the walk began anew after each, the steps past what has been cleared would grow with the square.
    assert!(many < 5 * few, "{few} and {many} entries");
}

#[test]
fn a_run_that_another_cpu_divides_while_it_is_to_be_cleared_stays_divided() {
    let detector: &Subject = Box::leak(Box::new(Tracker::new(Bare)));
    alloc(detector, BASE, 4 * TABLE);
    // The front that remains ends in the middle of a run, which stays.
    let end = BASE + TABLE + TABLE / 2;
    detector.free_part(end, 4 * TABLE);
    let behind = end + 4096;
    MEANWHILE.set(Some(Box::new(move || alloc(detector, behind, 64))));
    detector.free(BASE);
    assert!(MEANWHILE.take().is_none(), "the run was cleared");
    assert_eq!(detector.tracking().objects, 1);
    // What lay there before is forgotten.
    alloc(detector, BASE + TABLE, 4096);
    assert_eq!(detector.tracking().objects, 2);
    detector.free(behind);
    detector.free(BASE + TABLE);
    assert_eq!(detector.tracking().objects, 0);
}

#[test]
fn a_table_that_another_cpu_makes_for_what_is_being_freed_keeps_no_note_of_it() {
    let detector: &Subject = Box::leak(Box::new(Tracker::new(Bare)));
    alloc(detector, BASE, 4 * TABLE);
    let end = BASE + TABLE + TABLE / 2;
    detector.free_part(end, 4 * TABLE);
    // It looked where the front ends before that was freed.
    let chunks = [BASE + TABLE, BASE, end - 1].map(super::chunk_of);
    let divide = move || {
        let [chunk, first, last] = chunks;
        let map = &detector.registry().map;
        let divided = detector.without_interrupts(|meta| map.divide_run(chunk, first, last, meta));
        assert!(divided && map.reaching(last) == Some(first));
    };
    MEANWHILE.set(Some(Box::new(divide)));
    detector.free(BASE);
    assert!(MEANWHILE.take().is_none(), "the run was cleared");
    for chunk in (super::chunk_of(BASE)..).take(4 * super::LEAF) {
        assert_eq!(detector.registry().map.reaching(chunk), None, "{chunk:#x}");
    }
}

/// The most walks and entries with interrupts off while `work` runs.
fn longest(work: impl FnOnce()) -> usize {
    LONGEST.set(0);
    work();
    LONGEST.get()
}

#[test]
fn a_long_block_lets_interrupts_in_wherever_it_lies() {
    const TABLES: usize = 512;
    // A look-up by start or by end, and the first and the last chunk, come on top of a step.
    const STEP: usize = 3 * super::Budget::STEP + 64;
    let detector = used(TABLES);
    let size = TABLES * TABLE;
    for (start, size) in [
        (BASE, size),
        (BASE + 8, size - 16),
        (BASE + 4096, size / 2),
        (BASE + 3, 2 * TABLE),
        // Where nothing lay before.
        (BASE + (1 << 40) + 4096, 100 << 30),
    ] {
        for min_count in [1, 0, 200] {
            let options = AllocOptions::new().min_count(min_count);
            let alloc = longest(|| detector.alloc(start, size, options));
            assert_eq!(detector.tracking().objects, 1);
            let noted = detector.registry().side_table.references(start);
            assert_eq!(noted, (min_count == 200).then_some((200, 0)));
            let free = longest(|| detector.free(start));
            assert_eq!(detector.tracking().objects, 0);
            assert!(
                alloc <= STEP && free <= STEP,
                "{alloc} and {free} walks and entries"
            );
        }
    }
}

std::thread_local! {
    static SUBJECT: Cell<Option<&'static Subject>> = const { Cell::new(None) };
    /// How often an address in the block was looked up, and its block was found.
    static FOUND: Cell<usize> = const { Cell::new(0) };
    static NOT_FOUND: Cell<usize> = const { Cell::new(0) };
}

const LONG: usize = 200 * TABLE + 1000;

#[test]
fn what_interrupts_a_long_block_finds_it_or_does_not_and_may_allocate() {
    let detector: &'static Subject = Box::leak(used(200));
    SUBJECT.set(Some(detector));
    let handler = || {
        let detector = SUBJECT.get().expect("set above");
        let behind = BASE + LONG.next_multiple_of(TABLE);
        let small = behind + FOUND.get() % 64 * CHUNK;
        alloc(detector, small, 64);
        for inside in [0, TABLE / 2, 100 * TABLE + 7, LONG - 1] {
            let found = detector
                .registry()
                .containing(Locked, BASE + inside, |object| object.start);
            let count = match found {
                Some(start) => {
                    assert_eq!(start, BASE);
                    &FOUND
                }
                None => &NOT_FOUND,
            };
            count.set(count.get() + 1);
        }
        detector.free(small);
    };
    HANDLER.set(Some(handler));
    for _ in 0..3 {
        alloc(detector, BASE, LONG);
        HANDLER.take();
        for inside in (0..LONG).step_by(CHUNK).chain([LONG - 1]) {
            let found = detector
                .registry()
                .containing(Locked, BASE + inside, |object| object.start);
            assert_eq!(found, Some(BASE));
        }
        HANDLER.set(Some(handler));
        detector.free(BASE);
    }
    HANDLER.take();
    assert_eq!(detector.tracking().objects, 0);
    assert!(FOUND.get() > 10 && NOT_FOUND.get() > 10);
}

/// The start of the object that an address lies in.
fn object_at(detector: &Subject, address: usize) -> Option<usize> {
    detector
        .registry()
        .containing(Locked, address, |object| object.start)
}

/// Whether all of the table of an address is noted to be covered.
fn is_covered(detector: &Subject, address: usize) -> bool {
    match detector.registry().map.look(super::chunk_of(address)) {
        super::Look::Entry(entry) => entry.is_covered(),
        _ => false,
    }
}

#[test]
fn a_table_is_covered_by_what_reaches_to_its_last_byte() {
    for missing in [0, 1, 8, 511] {
        let detector = used(3);
        let end = BASE + 2 * TABLE - missing;
        alloc(&detector, BASE + 8, end - (BASE + 8));
        assert_eq!(
            is_covered(&detector, end - 1),
            missing == 0,
            "all but {missing}"
        );
        if missing > 0 {
            alloc(&detector, end, missing);
            assert_eq!(
                object_at(&detector, end),
                Some(end),
                "behind all but {missing}"
            );
        }
        assert_eq!(object_at(&detector, end - 1), Some(BASE + 8));
    }
}

#[test]
fn a_table_is_covered_by_the_front_that_reaches_to_its_last_byte() {
    for missing in [0, 1, 8, 511] {
        let detector = used(4);
        alloc(&detector, BASE + 8, 4 * TABLE - 8);
        let end = BASE + 2 * TABLE - missing;
        detector.free_part(end, 4 * TABLE);
        assert_eq!(
            is_covered(&detector, end - 1),
            missing == 0,
            "all but {missing}"
        );
        if missing > 0 {
            alloc(&detector, end, missing);
            assert_eq!(
                object_at(&detector, end),
                Some(end),
                "behind all but {missing}"
            );
        }
        assert_eq!(object_at(&detector, end - 1), Some(BASE + 8));
    }
}

#[test]
fn an_unaligned_block_takes_the_place_of_one_that_covers_its_table() {
    let detector = used(3);
    alloc(&detector, BASE, 3 * TABLE);
    let start = BASE + TABLE + TABLE / 2 + 3;
    assert!(is_covered(&detector, start));
    alloc(&detector, start, 5);
    assert_eq!(object_at(&detector, start), Some(start));
    assert_eq!(detector.tracking().objects, 1);
}

#[test]
fn a_block_is_found_from_as_far_as_an_entry_can_say() {
    let detector = Tracker::new(Bare);
    let start = BASE + 3 * CHUNK + 256;
    // Where it starts, the block before ends.
    alloc(&detector, BASE, start - BASE);
    for beyond in [-1, 0, 1] {
        let last_chunk = BASE / CHUNK + (3 + super::MAX_REACH).wrapping_add_signed(beyond);
        let size = last_chunk * CHUNK + 100 - start;
        alloc(&detector, start, size);
        for back in 0..3 {
            assert_eq!(
                object_at(&detector, (last_chunk - back) * CHUNK),
                Some(start)
            );
        }
        assert_eq!(object_at(&detector, start + size - 1), Some(start));
        assert_eq!(object_at(&detector, start + size), None);
        detector.free(start);
    }
}

#[test]
fn a_table_that_small_blocks_have_just_left_is_covered() {
    // All its chunks are empty, and half of them still in service.
    let detector = used(2);
    alloc(&detector, BASE + 8, 2 * TABLE - 8);
    assert!(is_covered(&detector, BASE + TABLE));
}

#[test]
fn the_front_of_a_block_is_noted_up_to_its_last_byte_when_another_comes_behind_it() {
    for start in [BASE, BASE + 8, BASE + 3] {
        let detector = Tracker::new(Bare);
        alloc(&detector, start, 4 * TABLE);
        // It ends in a run, which stays until something is recorded behind it.
        let end = BASE + TABLE + TABLE / 2;
        detector.free_part(end, 4 * TABLE);
        alloc(&detector, end + 4096, 64);
        assert_eq!(object_at(&detector, BASE + TABLE), Some(start));
        assert_eq!(object_at(&detector, end - 1), Some(start));
        let map = &detector.registry().map;
        assert!(map.reaching(super::chunk_of(end - 1)).is_some());
        assert_eq!(map.reaching(super::chunk_of(end)), None);
    }
}

/// How often interrupts are on again while `work` runs.
fn windows(work: impl FnOnce()) -> usize {
    std::thread_local! {
        static WINDOWS: Cell<usize> = const { Cell::new(0) };
    }
    WINDOWS.set(0);
    HANDLER.set(Some(|| WINDOWS.set(WINDOWS.get() + 1)));
    work();
    HANDLER.take();
    WINDOWS.get()
}

#[test]
fn what_a_step_takes_back_is_freed_without_a_pause() {
    let detector = Tracker::new(Bare);
    let free = |chunks: usize| {
        alloc(&detector, BASE, chunks * CHUNK);
        windows(|| detector.free(BASE))
    };
    // The chunk that it starts in needs no note.
    let step = super::Budget::STEP + 1;
    assert_eq!([1, 2, step - 1, step].map(free), [1; 4]);
    assert!(free(step + 1) > 1);
}

#[test]
fn who_had_memory_that_a_block_covers_is_not_looked_for_among_no_records() {
    let detector = Tracker::new(Bare);
    let head = BASE + (super::MAX_REACH / super::LEAF + 2) * TABLE;
    // There is a table, whose first chunk never had records.
    alloc(&detector, head + 4096, 64);
    detector.free(head + 4096);
    alloc(&detector, BASE, head + 2 * TABLE - BASE);
    assert!(is_covered(&detector, head));
    let super::Look::Entry(entry) = detector.registry().map.look(super::chunk_of(head)) else {
        panic!("there is a table");
    };
    assert!(!entry.has_records());
    assert_eq!(detector.registry().freed_at_or_before(head + 8), None);
}
