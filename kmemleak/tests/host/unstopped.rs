//! Scans on a kernel whose world can't be stopped, so that nothing is looked at again: what changes right before one of the
//! detector's windows, whichever that is.

use std::sync::atomic::Ordering;

use kmemleak::{AllocOptions, Platform, Reading, Root, RootKind};

use crate::sparse::{BLOCKS, ROOT, SparseLab};

const WORD: usize = size_of::<usize>();
const PAGE: usize = 4096;
/// Where regions lie.
const REGION: usize = BLOCKS + (1 << 30);

/// A lab whose world can't be stopped.
fn unstopped() -> SparseLab {
    let lab = SparseLab::new();
    lab.platform().never_stops.store(true, Ordering::Relaxed);
    lab.detector.set_min_age_us(0);
    lab
}

fn block(lab: &SparseLab, start: usize) -> usize {
    block_with(lab, start, 64, AllocOptions::new())
}

fn block_with(lab: &SparseLab, start: usize, size: usize, options: AllocOptions) -> usize {
    lab.detector.alloc(start, size, options);
    start
}

fn add_root(lab: &SparseLab, root: Root) {
    lab.platform().roots.lock().expect("free").push(root);
}

/// What two scans list: what is unreferenced when it is first seen is no suspect.
fn suspects(lab: &SparseLab) -> Vec<usize> {
    lab.scan();
    lab.scan()
}

/// Does something with a lab in which `change` happens before one of the windows of a scan, for each window.
fn at_each_moment(
    make: impl Fn() -> SparseLab,
    change: impl Fn(&SparseLab) + Send + Copy + 'static,
    look: impl Fn(&SparseLab, usize, &[usize]),
) {
    for moment in 0.. {
        let lab = make();
        let other = lab.clone();
        lab.platform().preempt(moment, move || change(&other));
        let listed = lab.scan();
        if lab.platform().take_preemption() {
            assert!(moment > 10, "{moment} windows");
            return;
        }
        look(&lab, moment, &listed);
    }
}

/// Regions of both kinds: those that are read as their union, and those that are read on their own.
#[test]
fn a_region_that_was_removed_is_not_read() {
    for reading in [Reading::Words, Reading::Bytes] {
        at_each_moment(
            || {
                let lab = unstopped();
                block(&lab, BLOCKS);
                for offset in [0, 3 * PAGE] {
                    assert!(
                        lab.detector
                            .region_add_as(REGION + offset, PAGE, Reading::Words)
                    );
                }
                for offset in [5 * PAGE, 7 * PAGE] {
                    assert!(lab.detector.region_add_as(REGION + offset, PAGE, reading));
                }
                lab
            },
            |lab| {
                for offset in [0, 3 * PAGE, 5 * PAGE] {
                    lab.detector.region_remove(REGION + offset);
                }
                lab.platform().foreign_reads(&[]);
            },
            |lab, moment, _| {
                // The last one stays.
                let known = [(BLOCKS, 64), (REGION + 7 * PAGE, PAGE)];
                assert_eq!(lab.platform().foreign_reads(&known), [], "moment {moment}");
            },
        );
    }
}

/// A region that ends in the middle of a word, and what goes on there.
fn with_two_that_touch() -> SparseLab {
    let lab = unstopped();
    block(&lab, BLOCKS);
    lab.platform().write(REGION + 32, BLOCKS);
    lab.scan();
    assert!(lab.detector.region_add(REGION, 36));
    assert!(lab.detector.region_add(REGION + 36, 28));
    lab
}

#[test]
fn a_word_across_two_regions_that_touch_is_read() {
    let lab = with_two_that_touch();
    assert_eq!(suspects(&lab), []);
    lab.detector.region_remove(REGION + 36);
    assert_eq!(suspects(&lab), [BLOCKS]);
}

#[test]
fn where_one_of_two_that_touch_goes_the_words_of_the_other_are_read() {
    for [goes, stays] in [[0, 36], [36, 0]] {
        at_each_moment(
            || {
                let lab = with_two_that_touch();
                let block = block(&lab, BLOCKS + 4096);
                lab.platform()
                    .write(REGION + if stays == 0 { 24 } else { 40 }, block);
                lab
            },
            match goes {
                0 => |lab: &SparseLab| lab.detector.region_remove(REGION),
                _ => |lab: &SparseLab| lab.detector.region_remove(REGION + 36),
            },
            |_, moment, listed| {
                assert!(!listed.contains(&(BLOCKS + 4096)), "moment {moment}");
            },
        );
    }
}

#[test]
fn what_its_caller_vouches_for_is_read_and_nothing_else_that_the_platform_does_not() {
    for reading in [Reading::Words, Reading::Bytes] {
        let lab = unstopped();
        block(&lab, BLOCKS);
        lab.platform().write(REGION + 16, BLOCKS);
        let unreadable = REGION..REGION + 64;
        lab.platform().make_unreadable(unreadable);
        // SAFETY: words of the map.
        assert!(unsafe { lab.detector.region_add_vouched(REGION, 64, reading) });
        assert_eq!(suspects(&lab), [], "{reading:?}");
        lab.detector.region_remove(REGION);
        assert!(lab.detector.region_add_as(REGION, 64, reading));
        assert_eq!(suspects(&lab), [BLOCKS], "{reading:?}");
    }
}

/// A region that is read on its own goes, and another one that the platform does not vouch for comes to its place.
#[test]
fn what_takes_the_place_of_a_region_is_read_as_its_own_caller_says() {
    at_each_moment(
        || {
            let lab = unstopped();
            block(&lab, REGION + 64);
            // SAFETY: words of the map.
            assert!(unsafe { lab.detector.region_add_vouched(REGION, 64, Reading::Bytes) });
            let unreadable = REGION + 8..REGION + 64;
            lab.platform().make_unreadable(unreadable);
            lab
        },
        |lab| {
            lab.detector.region_remove(REGION);
            assert!(lab.detector.region_add_as(REGION, 24, Reading::Bytes));
            assert!(
                lab.detector
                    .region_add_as(REGION + 64, 16, Reading::DescriptorTable)
            );
            lab.platform().foreign_reads(&[]);
        },
        |lab, moment, _| {
            let reads = lab.platform().foreign_reads(&[(REGION + 64, 64)]);
            assert_eq!(reads, [], "moment {moment}");
        },
    );
}

/// A stack may go before it is read, or come when the stacks have been read: so nothing else is left to it.
#[test]
fn no_word_elsewhere_is_left_to_a_stack() {
    let stack = Root {
        kind: RootKind::Stack(7),
        start: REGION + 32,
        len: 64,
    };
    for in_region in [true, false] {
        at_each_moment(
            || {
                let lab = unstopped();
                let others = [REGION + 24, REGION + 40, REGION + 120]
                    .map(|slot| (slot, block(&lab, BLOCKS + 8 * (slot - REGION))));
                // Between two blocks that lie in regions in part.
                for (word, start) in [(2, REGION - PAGE), (3, REGION + PAGE)] {
                    lab.hold(word, block(&lab, start));
                    assert!(lab.detector.region_add(start + 32, 8));
                }
                // Where a region and a section overlap, it is asked what lies in roots.
                assert!(lab.detector.region_add(ROOT + 1024, WORD));
                if !in_region {
                    block_with(&lab, REGION, 128, AllocOptions::new());
                    lab.detector.scan_area(REGION, 128);
                }
                lab.scan();
                others
                    .iter()
                    .for_each(|&(slot, block)| lab.platform().write(slot, block));
                match in_region {
                    true => assert!(lab.detector.region_add(REGION, 128)),
                    false => lab.hold(1, REGION),
                }
                lab
            },
            move |lab| add_root(lab, stack),
            |_, moment, listed| assert_eq!(listed, [], "moment {moment}"),
        );
    }
}

/// So many blocks wait that it is read before the roots have been.
#[test]
fn words_of_a_copy_that_are_left_to_a_region_are_read_when_that_goes() {
    at_each_moment(
        || {
            let lab = unstopped();
            lab.detector.alloc_percpu(BLOCKS, 64);
            lab.detector.not_leak(BLOCKS);
            let gray = AllocOptions::new().min_count(0);
            for number in 0..280 {
                block_with(&lab, BLOCKS + 16 * PAGE + number * 64, 64, gray);
            }
            let held = block(&lab, BLOCKS + 64 * PAGE);
            lab.scan();
            let copy = BLOCKS + PAGE;
            lab.platform().write(copy + 40, held);
            assert!(lab.detector.region_add(copy + 32, 32));
            lab
        },
        |lab| lab.detector.region_remove(BLOCKS + PAGE + 32),
        |_, moment, listed| assert_eq!(listed, [], "moment {moment}"),
    );
}

/// Where stacks are unmapped when their tasks end, that of a tracked block can be read until its free.
#[test]
fn a_stack_in_a_tracked_block_is_read_and_one_that_may_go_is_not() {
    for (tracked, stays) in [(true, true), (true, false), (false, true), (false, false)] {
        let lab = unstopped();
        block(&lab, BLOCKS);
        lab.platform().write(REGION + 16, BLOCKS);
        add_root(
            &lab,
            Root {
                kind: RootKind::Stack(7),
                start: REGION,
                len: 64,
            },
        );
        if tracked {
            lab.detector
                .alloc(REGION, 64, AllocOptions::new().min_count(-1));
        }
        lab.platform().stacks_go.store(!stays, Ordering::Relaxed);
        // What a section holds is read all the same.
        lab.hold(0, block(&lab, BLOCKS + PAGE));
        let lost: &[usize] = match tracked || stays {
            true => &[],
            false => &[BLOCKS],
        };
        assert_eq!(suspects(&lab), lost, "{tracked} {stays}");
    }
}

#[test]
fn a_question_lets_others_run_however_far_apart_objects_lie() {
    const TABLE: usize = 64 << 10;
    const MOST: usize = 300;
    let lab = unstopped();
    let blocks: Vec<usize> = (0..1000)
        .map(|table| block(&lab, BLOCKS + table * TABLE))
        .collect();
    suspects(&lab);
    for question in ["why", "holders", "path"] {
        let platform = lab.platform();
        _ = platform.relax();
        platform.most_windows.store(0, Ordering::Relaxed);
        lab.say(&format!("{question} {:x}", blocks[500]));
        let most = platform.most_windows.load(Ordering::Relaxed);
        assert!(most <= MOST, "{question}: {most} windows");
    }
}
