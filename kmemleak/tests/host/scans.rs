//! Single passes of the scan that runs beside others: what they remember, and whom they wait for.

use std::sync::atomic::Ordering;

use kmemleak::AllocOptions;
use kmemleak_emulated::{Place, Stop};

use crate::lab::{Lab, many};
use crate::moments::{at, at_each_moment, lab, scan};

/// Before this moment no pass has judged anything.
const JUDGED: usize = 9;

#[test]
fn the_first_primes_the_second_reports() {
    let lab = lab();
    let block = lab.block(64);
    assert_eq!(scan(&lab), []);
    assert_eq!(scan(&lab), [block]);
    assert_eq!(scan(&lab), [block]);
}

#[test]
fn every_change_delays() {
    let lab = lab();
    let block = lab.block(72);
    assert_eq!(scan(&lab), []);
    for word in 0..9 {
        lab.machine.write(block + word * 8, word + 1);
        assert_eq!(scan(&lab), [], "word {word}");
    }
    // The same words in another order are another content.
    lab.machine.write(block, 2);
    lab.machine.write(block + 8, 1);
    assert_eq!(scan(&lab), []);
    assert_eq!(scan(&lab), [block]);
}

/// What one scan reported the next reports again, until it is referenced.
#[test]
fn what_was_reported_stays_so_young_or_changed() {
    let lab = lab();
    let block = lab.block(72);
    assert_eq!((scan(&lab), scan(&lab)), (vec![], vec![block]));
    lab.machine.write(block, 1);
    assert_eq!(scan(&lab), [block]);
    lab.detector.set_min_age_us(1_000_000_000);
    assert_eq!((scan(&lab), scan(&lab)), (vec![block], vec![block]));
    // It is reported once: to the one who scans by hand, or in the background.
    let summary = lab.detector.scan().expect("on");
    assert_eq!((summary.suspects, summary.unreported_objects), (1, 0));
    lab.hold(0, block);
    assert_eq!(scan(&lab), []);
    lab.hold(0, 0);
    assert_eq!((scan(&lab), scan(&lab)), (vec![], vec![]), "it is young");
    lab.detector.set_min_age_us(0);
    assert_eq!(scan(&lab), [block]);
}

#[test]
fn what_a_changed_one_holds_waits_with_it() {
    let lab = lab();
    let (block, owned) = (lab.block(64), lab.block(64));
    assert_eq!(scan(&lab), []);
    lab.machine.write(block + 8, owned);
    assert_eq!(scan(&lab), []);
    assert_eq!(scan(&lab), [block, owned]);
}

#[test]
fn age_is_measured_from_the_beginning() {
    let lab = Lab::new();
    lab.detector.set_min_age_us(1000);
    let (old, young) = (lab.block(64), lab.block(64));
    lab.machine.write(young, old);
    lab.machine.advance_us(996);
    assert_eq!(scan(&lab), []);
    // By one microsecond.
    assert_eq!(scan(&lab), [], "the young one holds the old one");
    lab.machine.advance_us(1);
    assert_eq!(scan(&lab), [old, young]);
}

#[test]
fn a_check_takes_no_notice_of_age_or_change() {
    let lab = Lab::new();
    let block = lab.block(64);
    assert_eq!(scan(&lab), []);
    lab.machine.write(block, 1);
    assert_eq!(lab.leaks(), [block]);
}

#[test]
fn a_transient_leak_is_excused_once() {
    let lab = lab();
    let block = lab.block(64);
    assert_eq!((scan(&lab), scan(&lab)), (vec![], vec![block]));
    lab.detector.transient_leak(block);
    assert_eq!((scan(&lab), scan(&lab)), (vec![], vec![block]));
    assert_eq!(lab.warnings(), "");
    lab.detector.transient_leak(block + 8);
    assert!(lab.warnings().contains("unknown object"));
}

#[test]
fn update_trace_names_the_new_owner() {
    let lab = lab();
    lab.machine.call_from(&["the_pool"]);
    let block = lab.block(64);
    lab.machine.call_from(&["the_user"]);
    lab.detector.update_trace(block + 8);
    let report = lab.say("scan");
    assert!(report.contains("the_user") && !report.contains("the_pool"));
    lab.detector.update_trace(block + 64);
    assert!(lab.warnings().contains("unknown object"));
}

#[test]
fn percpu_blocks_are_judged_by_all_copies() {
    let lab = lab();
    let handle = lab.machine.percpu(64);
    lab.detector.alloc_percpu(handle, 64);
    assert_eq!(scan(&lab), []);
    let second = lab.machine.percpu_copy(handle, 1).expect("live");
    lab.machine.write(second + 56, 7);
    assert_eq!((scan(&lab), scan(&lab)), (vec![], vec![handle]));
    lab.hold(0, second + 8);
    assert_eq!(scan(&lab), []);
}

#[test]
fn blocks_that_can_not_be_read_are_reported() {
    let lab = lab();
    let block = lab.block(64);
    lab.machine.make_unreadable(block, 64);
    assert_eq!((scan(&lab), scan(&lab)), (vec![], vec![block]));
}

#[test]
fn long_chains_and_wide_fans_are_followed() {
    let lab = lab();
    let table = lab.machine.vmalloc(1 << 17);
    lab.detector.alloc(table, 1 << 17, AllocOptions::new());
    lab.hold(0, table);
    let blocks: Vec<usize> = (0..many(8000)).map(|_| lab.block(16)).collect();
    for (index, &block) in blocks.iter().enumerate() {
        lab.machine.write(table + index * 8, block);
    }
    let chain: Vec<usize> = (0..many(3000)).map(|_| lab.block(16)).collect();
    for pair in chain.windows(2) {
        lab.machine.write(pair[0], pair[1] + 8);
    }
    lab.machine.write(blocks[0], chain[0]);
    assert_eq!((scan(&lab), scan(&lab)), (vec![], vec![]));
    lab.machine.write(blocks[0], 0);
    assert_eq!((scan(&lab), scan(&lab)), (vec![], chain));
}

#[test]
fn each_word_of_one_that_starts_anywhere_is_read() {
    let lab = lab();
    let arena = lab.machine.arena(1 << 16);
    for odd in [1, 7, 8, 12] {
        let block = arena + odd;
        lab.detector.alloc(block, 20_000, AllocOptions::new());
        lab.hold(0, block);
        let owned = lab.block(16);
        assert_eq!((scan(&lab), scan(&lab)), (vec![], vec![owned]));
        let first = block.next_multiple_of(8);
        for word in (first..block + 20_000 - 7).step_by(8) {
            let near_an_edge = (word + 16) % 4096 < 32 || (word - first + 16) % 4096 < 32;
            if !near_an_edge {
                continue;
            }
            lab.machine.write(word, owned);
            assert_eq!(scan(&lab), [], "{odd}: {:#x}", word - arena);
            lab.machine.write(word, 0);
        }
        assert_eq!(scan(&lab), [owned]);
        lab.free(owned);
        lab.detector.free(block);
    }
}

/// A block that a first scan has found unreferenced, so that the next one would report it.
fn primed(lab: &Lab) -> usize {
    let block = lab.block(64);
    assert_eq!(scan(lab), []);
    block
}

#[test]
fn what_is_born_meanwhile_holds_what_it_points_to() {
    at_each_moment(|moment| {
        let lab = lab();
        let owned = primed(&lab);
        lab.hold(0, owned);
        let done = at(&lab, moment, move |machine, detector| {
            let start = machine.slab(64);
            detector.alloc(start, 64, AllocOptions::new());
            machine.write(start + 56, owned);
            machine.store(Place::Bss(0), 0);
        });
        let lost = scan(&lab);
        assert_eq!(lost, [], "moment {moment}");
        done.load(Ordering::Relaxed)
    });
}

#[test]
fn a_black_one_that_is_born_meanwhile_holds_nothing() {
    at_each_moment(|moment| {
        let lab = lab();
        let owned = primed(&lab);
        let done = at(&lab, moment, move |machine, detector| {
            let start = machine.slab(64);
            machine.write(start, owned);
            detector.alloc(start, 64, AllocOptions::new().min_count(-1));
        });
        assert_eq!(scan(&lab), [owned], "moment {moment}");
        done.load(Ordering::Relaxed)
    });
}

#[test]
fn one_that_is_no_leak_from_some_moment_on_is_not_reported() {
    at_each_moment(|moment| {
        let lab = lab();
        let blocks = [lab.block(64), primed(&lab)];
        let done = at(&lab, moment, move |_, detector| {
            detector.not_leak(blocks[0]);
            detector.ignore(blocks[1]);
        });
        let lost = scan(&lab);
        // In the last moments the pass has judged already.
        assert!(lost.is_empty() || moment >= JUDGED, "moment {moment}");
        let done = done.load(Ordering::Relaxed);
        assert!(!done || scan(&lab).is_empty(), "moment {moment}");
        done
    });
}

#[test]
fn what_one_points_to_that_is_no_leak_from_some_moment_on_is_alive() {
    at_each_moment(|moment| {
        let lab = lab();
        let (owned, block) = (lab.block(64), primed(&lab));
        lab.machine.write(block, owned);
        assert_eq!((scan(&lab), scan(&lab)), (vec![], vec![owned, block]));
        let done = at(&lab, moment, move |_, detector| detector.not_leak(block));
        let lost = scan(&lab);
        assert!(lost.is_empty() || moment >= JUDGED, "moment {moment}");
        let done = done.load(Ordering::Relaxed);
        assert!(!done || scan(&lab).is_empty(), "moment {moment}");
        done
    });
}

#[test]
fn the_remains_of_one_that_is_freed_in_part_hold_what_they_point_to() {
    at_each_moment(|moment| {
        let lab = lab();
        let owned = primed(&lab);
        let block = lab.machine.pages(4 * 4096);
        lab.machine.advance_us(1);
        lab.detector.alloc(block, 4 * 4096, AllocOptions::new());
        lab.hold(0, block);
        lab.machine.write(block + 8, owned);
        let done = at(&lab, moment, move |machine, detector| {
            detector.free_part(block + 4096, 4096);
            machine.free_part(block, 4096, 4096);
        });
        let lost = scan(&lab);
        assert!(!lost.contains(&owned), "moment {moment}: {lost:x?}");
        done.load(Ordering::Relaxed)
    });
}

#[test]
fn what_follows_a_freed_block_is_not_taken_for_a_part_of_the_next_one() {
    at_each_moment(|moment| {
        let lab = lab();
        let owned = primed(&lab);
        let block = lab.machine.arena(4 * 4096);
        lab.machine.advance_us(1);
        lab.detector.alloc(block, 4 * 4096, AllocOptions::new());
        lab.hold(0, block);
        // Freed and used again for less. Behind the new block lies another's memory, which is no object.
        let done = at(&lab, moment, move |machine, detector| {
            detector.free(block);
            machine.write(block + 8192, owned);
            machine.write(block + 3 * 4096, owned);
            detector.alloc(block, 4096, AllocOptions::new());
        });
        assert_eq!(scan(&lab), [owned], "moment {moment}");
        done.load(Ordering::Relaxed)
    });
}

#[test]
fn off_ends_it() {
    at_each_moment(|moment| {
        let lab = lab();
        let block = primed(&lab);
        lab.hold(0, block);
        let before = (lab.say("scan"), lab.say("report"));
        let done = at(&lab, moment, move |machine, _| machine.ask_to_stop());
        lab.machine.advance_us(1);
        let ended = lab.detector.scan().is_err();
        let done = done.load(Ordering::Relaxed);
        assert!(done || !ended);
        if ended {
            assert_eq!(lab.say("report"), before.1, "the last verdict stays");
        }
        done
    });
}

#[test]
fn one_that_is_given_up_half_way_leaves_no_suspects_behind() {
    at_each_moment(|moment| {
        let lab = lab();
        lab.machine.set_stop(Stop::Unsupported);
        lab.block(64);
        let done = at(&lab, moment, move |machine, _| machine.ask_to_stop());
        let ended = lab.detector.check().is_err();
        if ended {
            assert_eq!(lab.listed(), [], "moment {moment}");
            assert!(
                lab.say("report")
                    .starts_with("kmemleak: no check so far, or none since the last clear")
            );
            assert!(lab.say("clear").contains(" 0 reported"));
        }
        done.load(Ordering::Relaxed)
    });
}

/// Whatever is given up, at whatever moment: the verdict before stays readable, or the new one is whole; and what was reported
/// is known as such.
#[test]
fn what_is_given_up_leaves_the_verdict_before_and_what_was_told() {
    let check: fn(&Lab) -> bool = |lab| lab.detector.check().is_ok();
    let scan: fn(&Lab) -> bool = |lab| lab.detector.scan().is_ok();
    let step: fn(&Lab) -> bool = |lab| {
        lab.machine.advance_us(600_000_000);
        lab.detector.background_step(&mut String::new());
        false
    };
    for (what, begin) in [("check", check), ("scan", scan), ("background", step)] {
        at_each_moment(|moment| {
            let lab = lab();
            lab.machine.set_stop(Stop::Unsupported);
            let told = [lab.block(64), lab.block(64), lab.block(64)];
            let before = lab.say("scan --all");
            assert!(before.contains("3 suspects"));
            lab.block(64);
            // So that the background's first pass has something to confirm.
            scan(&lab);
            let report = lab.say("report --all");
            let done = at(&lab, moment, move |machine, _| machine.ask_to_stop());
            let whole = begin(&lab);
            let after = lab.say("report --all");
            if whole {
                assert!(after.contains("4 suspects"), "{after}");
            } else if what != "background" || !after.contains("4 suspects") {
                // The first pass of the background is a verdict, if it comes so far.
                assert_eq!(after, report, "{what}, moment {moment}");
            }
            lab.machine.at_relax(|_| ());
            lab.machine.ask_no_more();
            let summary = lab.detector.check().expect("on");
            assert_eq!(summary.suspects, 4, "moment {moment}");
            assert!(
                summary.unreported_objects <= 1,
                "moment {moment}: {summary:?}"
            );
            lab.hold(0, told[1]);
            lab.machine.advance_us(600_000_000);
            let mut log = String::new();
            lab.detector.background_step(&mut log);
            assert!(
                log.contains(&format!(
                    "object {:#018x} (size 64) is referenced again",
                    told[1]
                )),
                "moment {moment}: {log}"
            );
            done.load(Ordering::Relaxed)
        });
    }
}

#[test]
fn off_from_another_task_waits_for_its_end() {
    let lab = lab();
    lab.block(64);
    let (started, waiting) = std::sync::mpsc::channel();
    lab.machine.at_relax(move |_| _ = started.send(()));
    std::thread::scope(|scope| {
        let scanner = scope.spawn(|| while lab.detector.scan().is_ok() {});
        waiting.recv().expect("it scans");
        lab.say("off");
        scanner.join().expect("no panic");
    });
    assert_eq!(lab.detector.scan(), Err(kmemleak::NotDone::Off));
    assert_eq!(lab.say("clear"), "kmemleak: metadata freed\n");
    assert_eq!(lab.machine.metadata_pages(), 0);
}

#[test]
fn revived_ones_are_announced_by_the_background_task() {
    let lab = lab();
    let blocks: Vec<usize> = (0..40).map(|_| lab.block(64)).collect();
    let step = || {
        let mut log = String::new();
        lab.machine.advance_us(600_000_001);
        lab.detector.background_step(&mut log);
        log
    };
    let told = step() + &step();
    assert!(told.contains("40 new unreferenced objects"), "{told}");
    blocks
        .iter()
        .enumerate()
        .for_each(|(index, &block)| lab.hold(index, block));
    lab.hold(1, 0);
    let told = step() + &step();
    assert_eq!(told.matches("is referenced again").count(), 32, "{told}");
    assert!(
        told.contains("7 more objects are referenced again"),
        "{told}"
    );
    lab.hold(0, 0);
    let told = step() + &step();
    assert!(
        told.contains("1 new unreferenced object (64 bytes)"),
        "{told}"
    );
}

#[test]
fn one_that_is_declared_no_leak_is_not_announced_as_referenced() {
    let lab = lab();
    let blocks = [lab.block(64), lab.block(64)];
    let step = || {
        let mut log = String::new();
        lab.machine.advance_us(600_000_001);
        lab.detector.background_step(&mut log);
        log
    };
    assert!((step() + &step()).contains("2 new"));
    lab.detector.not_leak(blocks[0]);
    lab.detector.ignore(blocks[1]);
    assert_eq!(step() + &step(), "");
}
