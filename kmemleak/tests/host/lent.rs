//! A detector that takes no room in a kernel's image, and memory that a kernel lends it.

use std::sync::Arc;

use kmemleak::{AllocOptions, BootstrapPool, Detector, METADATA_PAGE};
use kmemleak_emulated::{Emulated, Machine};

use crate::lab::{Lab, many, pool};

/// A lab whose platform gives no metadata, and whose detector has no pool.
fn bare() -> Lab {
    let machine = Machine::new();
    machine.set_metadata_budget(0);
    let detector = Arc::new(Detector::new(Emulated::of(&machine)));
    Lab { machine, detector }
}

/// So many bytes for good, `offset` bytes after the beginning of a page.
fn bytes(offset: usize, len: usize) -> &'static mut [u8] {
    let all = vec![0; METADATA_PAGE + offset + len].leak();
    let page = all.as_ptr().align_offset(METADATA_PAGE);
    &mut all[page + offset..][..len]
}

/// The linker's names tell where variables lie that have no bytes in the file.
#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn a_new_detector_has_no_bytes_in_the_image() {
    use crate::tracked::Kernel;

    unsafe extern "C" {
        safe static __bss_start: u8;
        safe static _end: u8;
    }
    static DETECTOR: Detector<Kernel> = Detector::new(Kernel::new());
    static POOL: BootstrapPool<16> = BootstrapPool::new();
    let address = |byte: &u8| std::ptr::from_ref(byte).addr();
    let bss = address(&__bss_start)..=address(&_end);
    for (start, size) in [
        (std::ptr::from_ref(&DETECTOR).addr(), size_of_val(&DETECTOR)),
        (std::ptr::from_ref(&POOL).addr(), size_of_val(&POOL)),
    ] {
        assert!(
            bss.contains(&start) && bss.contains(&(start + size)),
            "{size} bytes at {start:#x} are not in {bss:#x?}"
        );
    }
}

#[test]
fn whole_pages_are_taken_from_memory_of_any_alignment() {
    for (offset, len, pages) in [
        (0, 3 * METADATA_PAGE, 3),
        (0, 3 * METADATA_PAGE + 100, 3),
        (1, 3 * METADATA_PAGE, 2),
        (100, METADATA_PAGE, 0),
        (4095, METADATA_PAGE + 1, 1),
        (7, 5, 0),
        (0, 0, 0),
    ] {
        let lab = bare();
        let used = lab.detector.add_metadata(bytes(offset, len));
        assert_eq!(used, pages * METADATA_PAGE, "{len} bytes at {offset}");
    }
}

#[test]
fn all_that_is_lent_is_used() {
    let lab = bare();
    (0..10).for_each(|_| _ = lab.block(64));
    assert_eq!(lab.tracked(), 0, "there is no memory");
    let mut lent = 0;
    for pages in [5, 1, 8] {
        lent += lab
            .detector
            .add_metadata(bytes(64, (pages + 1) * METADATA_PAGE));
    }
    assert_eq!(lent, 14 * METADATA_PAGE);
    for number in 0..many(10_000) {
        lab.machine.call_from(&[&format!("place_{number}")]);
        lab.block(64);
    }
    assert_eq!(lab.detector.metadata().bytes, lent);
    assert!(lab.tracked() >= 100 && lab.machine.metadata_pages() == 0);
}

#[test]
fn the_platform_is_asked_before_lent_memory_is_used() {
    let lab = bare();
    lab.machine.set_metadata_budget(20);
    assert!(lab.detector.add_metadata(bytes(0, 8 * METADATA_PAGE)) > 0);
    (0..100).for_each(|_| _ = lab.block(64));
    let given = lab.machine.metadata_pages();
    // The platform's pages are logged in one more.
    assert!((4..20).contains(&given), "{given}");
    assert_eq!(lab.detector.metadata().bytes, given * METADATA_PAGE);
}

#[test]
fn lent_memory_is_in_no_root() {
    let lab = bare();
    let memory = bytes(0, 32 * METADATA_PAGE);
    let start = memory.as_ptr().expose_provenance();
    lab.machine.add_root(start, memory.len());
    lab.detector.add_metadata(memory);
    let held = lab.block(64);
    let before = lab.detector.check().expect("on").words;
    lab.machine.remove_root(start);
    assert_eq!(lab.detector.check().expect("on").words, before);
    assert_eq!(lab.listed(), [held]);
}

/// A kernel may take it from its heap.
#[test]
fn a_block_that_is_lent_is_in_use() {
    let lab = bare();
    lab.detector.add_metadata(bytes(0, 32 * METADATA_PAGE));
    let memory = bytes(100, 8 * METADATA_PAGE);
    let (start, size) = (memory.as_ptr().expose_provenance(), memory.len());
    lab.detector.alloc(start, size, AllocOptions::new());
    assert_eq!(lab.leaks(), [start]);
    let used = lab.detector.add_metadata(memory);
    assert_eq!(used, 7 * METADATA_PAGE);
    assert_eq!(lab.leaks(), []);
    lab.hold(0, start);
    let before = lab.detector.check().expect("on").words;
    lab.hold(0, 0);
    assert_eq!(lab.detector.check().expect("on").words, before);
}

/// What its owner keeps of it is read.
#[test]
fn the_rest_of_a_block_that_is_lent_in_part_is_read() {
    let lab = bare();
    lab.detector.add_metadata(bytes(0, 32 * METADATA_PAGE));
    let memory = bytes(0, 8 * METADATA_PAGE);
    let start = memory.as_ptr().expose_provenance();
    lab.detector.alloc(start, memory.len(), AllocOptions::new());
    let (kept, lent) = memory.split_at_mut(16);
    let held = lab.block(64);
    kept[..8].copy_from_slice(&held.to_ne_bytes());
    lab.detector.add_metadata(lent);
    assert_eq!(lab.leaks(), []);
    kept.fill(0);
    assert_eq!(lab.leaks(), [held]);
}

#[test]
fn lent_memory_never_goes_to_the_platform() {
    let lab = bare();
    lab.detector.add_metadata(bytes(0, 16 * METADATA_PAGE));
    lab.block(64);
    lab.machine.set_metadata_budget(4);
    for number in 0..many(10_000) {
        lab.machine.call_from(&[&format!("place_{number}")]);
        lab.block(64);
    }
    assert_eq!(lab.machine.metadata_pages(), 4);
    // The machine panics at a page that it has not given.
    lab.say("off");
    lab.say("clear");
    assert_eq!(lab.machine.metadata_pages(), 0);
    assert_eq!(lab.detector.add_metadata(bytes(0, METADATA_PAGE)), 0);
}

#[test]
fn a_pool_gives_its_pages_once() {
    let machine = Machine::new();
    let pool = pool::<16>();
    let detector = Detector::new(Emulated::of(&machine)).with_pool(pool);
    detector.alloc(machine.slab(64), 64, AllocOptions::new());
    let used = detector.metadata().bytes;
    assert_eq!(pool.take().len(), 16 * METADATA_PAGE - used);
    assert_eq!(pool.take().len(), 0);
    assert_eq!(machine.metadata_pages(), 0);
}

#[test]
fn a_report_says_how_much_memory_is_missing() {
    // So many that it matters little where the host has put the machine's memory.
    const BLOCKS: usize = 20_000;
    const FEW: usize = 64;
    let run = |pages: usize| {
        let lab = bare();
        lab.detector.add_metadata(bytes(0, pages * METADATA_PAGE));
        (0..BLOCKS).for_each(|_| _ = lab.block(64));
        let taken = lab.detector.metadata().bytes;
        (lab.detector.check().expect("on"), lab, taken)
    };
    let (summary, enough, taken) = run(512);
    assert_eq!((summary.unrecorded, summary.missing_bytes), (0, 0));
    assert!(!enough.say("status").contains("missing  "));
    let (summary, short, _) = run(FEW);
    assert!(summary.unrecorded > 100);
    let needed = taken - FEW * METADATA_PAGE;
    let missing = summary.missing_bytes;
    assert!(
        (needed / 2..needed * 2).contains(&missing),
        "{missing} of {needed}"
    );
    let told =
        format!("about {missing} more bytes of metadata are needed: from Platform::metadata_alloc");
    assert!(short.report().contains(&told));
    assert!(short.status("missing").starts_with(&told));
    assert!(
        short
            .say("report --json")
            .contains(&format!("\"missing_bytes\":{missing},"))
    );
    // As much more, and a little, is enough.
    let (summary, ..) = run(FEW + missing / METADATA_PAGE * 3 / 2);
    assert_eq!(summary.unrecorded, 0);
}
