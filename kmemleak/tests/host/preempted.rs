//! Callbacks and readers that are preempted right before they turn interrupts off, by who turns the detector off and takes
//! its metadata away.

use std::sync::Arc;

use kmemleak::{AllocOptions, Detector, Reading};

use crate::sparse::{BLOCKS, Sparse};

/// Without a bootstrap pool: all of its pages come from the platform, and go back.
type Subject = Detector<Sparse>;

type Work<'w> = &'w dyn Fn(&Subject);

const BLOCK: usize = 4096;
const PERCPU: usize = BLOCKS + (1 << 30);
const REGION: usize = BLOCKS + (2 << 30);
const LARGE: usize = BLOCKS + (4 << 30);

/// A detector that knows some blocks, a region and a disabled scope, and has something to warn of.
fn knowing() -> Arc<Subject> {
    let detector = Subject::new(Sparse::new());
    for index in 0..8 {
        let start = BLOCKS + index * 2 * BLOCK;
        detector.alloc(start, BLOCK, AllocOptions::new());
        detector.scan_area(start, 64);
    }
    detector.alloc_percpu(PERCPU, 64);
    detector.alloc(LARGE, 2 * BLOCK, AllocOptions::new());
    assert!(detector.region_add(REGION, 64));
    detector.free(BLOCKS + 8);
    detector.disabled_begin();
    Arc::new(detector)
}

/// Does something again and again, preempted at each moment at which interrupts are about to go off.
fn preempted_everywhere(what: &str, work: Work<'_>) {
    let mut moment = 0;
    loop {
        let detector = knowing();
        let platform = detector.platform();
        let other = Arc::clone(&detector);
        platform.preempt(moment, move || {
            let mut answer = String::new();
            for command in ["off", "clear"] {
                other.command(command, &mut answer).expect("text takes all");
            }
            assert!(answer.contains("metadata freed"), "{answer}");
        });
        work(&detector);
        if platform.take_preemption() {
            break;
        }
        let left = (platform.words_written_too_late(), detector.metadata().bytes);
        assert_eq!(left, (0, 0), "{what}, preempted at moment {moment}");
        moment += 1;
    }
    assert!(moment > 0, "{what} turns interrupts off");
}

#[test]
fn no_callback_touches_metadata_that_is_gone() {
    let new = BLOCKS + (3 << 30);
    let callbacks: &[(&str, Work<'_>)] = &[
        ("alloc", &|one| one.alloc(new, 64, AllocOptions::new())),
        ("alloc of many references", &|one| {
            one.alloc(new, 64, AllocOptions::new().min_count(200));
        }),
        ("alloc of a huge block", &|one| {
            one.alloc(new, 1 << 33, AllocOptions::new());
        }),
        ("alloc on top", &|one| {
            one.alloc(BLOCKS, 64, AllocOptions::new());
        }),
        ("free", &|one| one.free(BLOCKS)),
        ("free of a stranger", &|one| one.free(new)),
        ("free_part", &|one| one.free_part(BLOCKS + 1024, 1024)),
        ("alloc_percpu", &|one| one.alloc_percpu(new, 64)),
        ("free_percpu", &|one| one.free_percpu(PERCPU)),
        ("ignore_percpu", &|one| one.ignore_percpu(PERCPU)),
        ("vmalloc", &|one| one.vmalloc(new, 64, BLOCKS)),
        ("alloc_phys", &|one| one.alloc_phys(new, 64)),
        ("not_leak", &|one| one.not_leak(BLOCKS)),
        ("no_scan", &|one| one.no_scan(BLOCKS)),
        ("scan_area", &|one| one.scan_area(BLOCKS, 8)),
        ("scan_area too large", &|one| one.scan_area(BLOCKS, 8192)),
        ("read_as", &|one| one.read_as(BLOCKS, Reading::PHYSICAL)),
        ("read_as too large", &|one| {
            one.read_as(LARGE, Reading::Bytes)
        }),
        ("transient_leak", &|one| one.transient_leak(BLOCKS)),
        ("update_trace", &|one| one.update_trace(BLOCKS)),
        ("region_add", &|one| _ = one.region_add(new, 64)),
        ("region_add_as", &|one| {
            _ = one.region_add_as(new, 64, Reading::Bytes);
        }),
        ("region_remove", &|one| one.region_remove(REGION)),
        ("region_remove of none", &|one| one.region_remove(new)),
        ("disabled_begin", &|one| one.disabled_begin()),
        ("disabled_end", &|one| one.disabled_end()),
    ];
    for (what, work) in callbacks {
        preempted_everywhere(what, work);
    }
}

#[test]
fn nobody_reads_metadata_that_is_gone() {
    let readers: &[(&str, Work<'_>)] = &[
        ("tracking", &|one| _ = one.tracking()),
        ("warnings", &|one| one.drain_warnings(&mut String::new())),
        ("top sites", &|one| _ = one.for_top_sites(3, &mut |_| {})),
    ];
    for (what, work) in readers {
        preempted_everywhere(what, work);
    }
}
