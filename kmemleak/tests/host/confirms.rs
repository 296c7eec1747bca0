//! The stop in which a background scan confirms its suspects: what has changed by then, and how it is abandoned.

use kmemleak::{AllocOptions, Doubt, How, ParameterError, Summary};
use kmemleak_emulated::{Machine, Place, Stop};

use crate::interior::interior;
use crate::lab::{Lab, Subject, many};

/// Bytes of a word.
const WORD: usize = size_of::<usize>();

/// A lab on so many CPUs whose scans report whatever its age.
pub fn lab(cpus: u32) -> Lab {
    let lab = Lab::of(Machine::builder().cpus(cpus));
    lab.detector.set_min_age_us(0);
    lab
}

/// A first pass, so that the next one has suspects.
pub fn prime(lab: &Lab) -> Summary {
    lab.machine.advance_us(1);
    lab.detector.scan().expect("on")
}

fn confirm(lab: &Lab) -> Summary {
    lab.machine.advance_us(1);
    lab.detector.scan_and_confirm().expect("on")
}

/// A scan that confirms its suspects, if this happens just before the world stops.
pub fn confirm_beside(lab: &Lab, action: impl Fn(&Machine, &Subject) + Send + 'static) -> Summary {
    let detector = std::sync::Arc::downgrade(&lab.detector);
    lab.machine.at_stop(move |machine| {
        machine.advance_us(1);
        action(machine, &detector.upgrade().expect("it scans"));
    });
    let summary = confirm(lab);
    lab.machine.at_stop(|_| ());
    assert_eq!((summary.how, summary.doubt()), (How::Confirmed, None));
    assert_eq!(summary.objects, lab.listed().len());
    summary
}

/// What it confirms.
pub fn confirmed(lab: &Lab, action: impl Fn(&Machine, &Subject) + Send + 'static) -> Vec<usize> {
    confirm_beside(lab, action);
    lab.listed()
}

#[test]
fn what_a_pass_suspects_is_confirmed_and_not_told_yet() {
    let lab = lab(2);
    let held = lab.block(64);
    lab.hold(0, held);
    let lost = lab.block(64);
    prime(&lab);
    let summary = confirm(&lab);
    assert_eq!((summary.how, summary.doubt()), (How::Confirmed, None));
    assert_eq!(
        (summary.objects, summary.suspects, summary.tracked),
        (1, 0, 2)
    );
    assert_eq!(summary.unreported_objects, 1);
    assert_eq!(summary.cpus, 2);
    assert_eq!(lab.listed(), [lost]);
    assert!(
        lab.report()
            .ends_with("kmemleak: 1 unreferenced object (64 bytes)\n")
    );
    assert!(
        lab.say("report --json")
            .contains(r#""how":"confirmed","passes":1,"reason":null"#)
    );
    assert!(lab.status("last check").contains("world stopped for 0 us"));
}

/// What is pointed to by then is no leak, nor what that points to. What is pointed to from a suspect is one.
#[test]
fn a_pointer_that_comes_back_before_the_stop_saves_all_behind_it() {
    for place in [Place::Bss(0), Place::Stack(3), Place::Register(1)] {
        let lab = lab(3);
        let chain: Vec<usize> = (0..4).map(|_| lab.block(64)).collect();
        for pair in chain.windows(2) {
            lab.machine.write(pair[0] + 8, pair[1]);
        }
        prime(&lab);
        let first_left = chain[1];
        let left = confirmed(&lab, move |machine, _| machine.store(place, first_left));
        assert_eq!(left, [chain[0]], "{place:?}");
        assert_eq!(lab.leaks(), left);
    }
}

#[test]
fn what_is_allocated_before_the_stop_holds_what_it_points_to_and_is_no_leak() {
    let lab = lab(1);
    let (saved, lost) = (lab.block(64), lab.block(64));
    prime(&lab);
    // With many around it, in the same chunk and in others; one is large, one begins at no multiple of eight.
    for (size, odd) in [(16, 0), (64, 0), (40, 4), (100_000, 0), (200_000, 0)] {
        let left = confirmed(&lab, move |machine, detector| {
            let mut all = Vec::new();
            for number in 0..40 {
                let start = match size {
                    ..8000 => machine.slab(size + odd) + odd,
                    large => machine.vmalloc(large),
                };
                detector.alloc(start, size, AllocOptions::new());
                all.push(start);
                if number == 17 {
                    machine.write((start + size - 8) & !7, saved);
                }
            }
        });
        assert_eq!(left, [lost], "{size} {odd}");
        // The next pass has them as suspects, which hold the first one.
        prime(&lab);
        assert_eq!(confirm(&lab).objects, 2 + 40);
        let leaks = lab.leaks();
        for start in leaks
            .into_iter()
            .filter(|&start| start != saved && start != lost)
        {
            lab.detector.free(start);
        }
        prime(&lab);
    }
}

#[test]
fn what_is_freed_before_the_stop_is_no_suspect_nor_what_takes_its_place() {
    let lab = lab(2);
    let (freed, replaced, lost) = (lab.block(64), lab.block(64), lab.block(64));
    prime(&lab);
    let left = confirmed(&lab, move |_, detector| {
        detector.free(freed);
        detector.free(replaced);
        detector.alloc(replaced, 64, AllocOptions::new());
    });
    assert_eq!(left, [lost]);
}

/// Of a block that needs two references, each word is counted once: one in an object that has become part of a root by then,
/// or that a root was removed from.
#[test]
fn a_word_in_a_root_and_in_an_object_is_one_reference() {
    for (before, after) in [(false, true), (true, false), (true, true)] {
        let lab = lab(2);
        let holder = lab.block(64);
        lab.hold(0, holder);
        let needy = lab.block_with(64, AllocOptions::new().min_count(2));
        lab.machine.write(holder + 16, needy);
        let add = move |detector: &Subject| _ = detector.region_add(holder, 64);
        if before {
            add(&lab.detector);
        }
        prime(&lab);
        let left = confirmed(&lab, move |_, detector| match (before, after) {
            (true, false) => detector.region_remove(holder),
            (false, true) => add(detector),
            _ => {}
        });
        assert_eq!(left, [needy]);
        let second = lab.block(64);
        lab.hold(1, second);
        prime(&lab);
        let left = confirmed(&lab, move |machine, _| machine.write(second, needy));
        assert_eq!(left, []);
        assert_eq!(lab.leaks(), []);
        // Nothing is left behind that would hide a leak.
        lab.hold(0, 0);
        if after {
            lab.detector.region_remove(holder);
        }
        assert_eq!(lab.leaks(), [holder, needy]);
    }
}

/// However blocks lie: each of their words is read once, and no word between them.
#[test]
fn each_word_of_what_is_in_use_is_read_once_and_no_other() {
    let mut number = 0x9e37_79b9_7f4a_7c15_usize;
    let mut below = |limit: usize| {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        (number >> 11) % limit
    };
    let (mut read, mut unread) = (0, 0);
    for round in 0..many(400) {
        const BYTES: usize = 1 << 18;
        let lab = lab(1 + round as u32 % 3);
        // At any place of a table of 64 KiB, and of a chunk.
        let arena = lab.machine.arena(2 * BYTES) + WORD * below(1 << 13);
        let mut blocks = Vec::new();
        let mut at = arena;
        while at < arena + BYTES {
            // Some of one size, one behind the other or not, with gaps now and then.
            let size: usize = [8, 16, 24, 64, 96, 60, 512, 520, 1024, 5000, 70_000][below(11)];
            let stride = size.next_multiple_of(WORD) + [0, 0, 0, 8, 64][below(5)];
            for _ in 0..1 + below(40) {
                if below(8) > 0 && at + size <= arena + BYTES {
                    lab.detector.alloc(at, size, AllocOptions::new());
                    blocks.push(at..at + size);
                }
                at += stride;
            }
        }
        let table = lab.machine.vmalloc(blocks.len() * WORD);
        lab.detector
            .alloc(table, blocks.len() * WORD, AllocOptions::new());
        lab.hold(0, table);
        for (index, block) in blocks.iter().enumerate() {
            lab.machine.write(table + index * WORD, block.start);
        }
        let [one, two] =
            [1, 2].map(|needed| lab.block_with(64, AllocOptions::new().min_count(needed)));
        prime(&lab);
        let places = [(); 2].map(|()| arena + WORD * below(BYTES / WORD));
        let holds = |place: usize| {
            blocks
                .iter()
                .any(|block| block.start <= place && place + WORD <= block.end)
        };
        let left = confirmed(&lab, move |machine, _| {
            machine.write(places[0], one);
            machine.write(places[1], two);
        });
        let wanted: Vec<usize> = if holds(places[0]) {
            vec![two]
        } else {
            vec![one, two]
        };
        assert_eq!(left, wanted, "round {round}");
        match holds(places[0]) {
            true => read += 1,
            false => unread += 1,
        }
        assert_eq!(lab.leaks(), wanted, "round {round}");
    }
    assert!(read > many(100) && unread > many(50), "{read} {unread}");
}

/// Blocks that lie side by side are read as one stretch. Where nobody vouches for one of them, the others are read.
#[test]
fn beside_memory_that_can_not_be_read_all_else_is_read() {
    let lab = lab(1);
    let arena = lab.machine.arena(1 << 16);
    let all: Vec<usize> = (0..64).map(|number| arena + number * 64).collect();
    for (number, &start) in all.iter().enumerate() {
        lab.detector.alloc(start, 64, AllocOptions::new());
        lab.hold(number, start);
    }
    let lost = [lab.block(64), lab.block(64)];
    prime(&lab);
    lab.machine.make_unreadable(all[30], 64);
    let (unreadable, readable) = (all[30] + 8, all[31] + 56);
    let left = confirmed(&lab, move |machine, _| {
        machine.write(unreadable, lost[0]);
        machine.write(readable, lost[1]);
    });
    assert_eq!(left, [lost[0]]);
}

/// The machine's time goes on by one at each checkpoint: so the stop is abandoned at each of them, until it has fewer. Then passes decide,
/// and nothing is lost.
#[test]
fn a_stop_that_takes_too_long_is_abandoned_at_any_checkpoint() {
    for cpus in [1, 3] {
        let mut abandoned = 0;
        for max_us in 1.. {
            let lab = lab(cpus);
            let table = lab.machine.vmalloc(1 << 20);
            lab.detector.alloc(table, 1 << 20, AllocOptions::new());
            lab.hold(2, table);
            let told = lab.block(64);
            let chain: Vec<usize> = (0..40)
                .map(|_| lab.block_with(64, AllocOptions::new().min_count(2)))
                .collect();
            for pair in chain.windows(2) {
                lab.machine.write(pair[0] + 8, pair[1]);
                lab.machine.write(pair[0] + 16, pair[1] + 8);
            }
            assert!(lab.say("scan").contains("unreferenced"));
            prime(&lab);
            lab.detector.set_stop_max_us(max_us);
            lab.machine.checkpoints.take_us(1);
            let summary = confirm(&lab);
            lab.machine.checkpoints.take_us(0);
            let expected = [&[told], &chain[..]].concat();
            assert_eq!(lab.listed(), expected, "{max_us} us");
            assert_eq!(summary.leaders, Some(2));
            let done = summary.how == How::Confirmed;
            if !done {
                assert_eq!(summary.doubt(), Some(Doubt::Unconfirmed));
                assert!(
                    matches!(summary.how, How::Scanned { passes: 3 }),
                    "{summary:?}"
                );
                assert!(summary.stopped_us > max_us && summary.settled);
                let why = "confirmed: a stop was abandoned after 1 ms (stop_max_ms)\n";
                assert!(lab.report().contains(why), "{}", lab.report());
                abandoned += 1;
            }
            // One is held again: a check says so, and what it marks is not what the sweep has left.
            lab.hold(0, chain[20]);
            lab.hold(1, chain[20]);
            assert_eq!(lab.leaks(), [&[told], &chain[..20]].concat());
            lab.detector.set_stop_max_us(1_000_000);
            prime(&lab);
            assert_eq!(confirm(&lab).how, How::Confirmed);
            assert_eq!(lab.listed(), [&[told], &chain[..20]].concat());
            if done {
                break;
            }
        }
        assert!(abandoned > 5, "{abandoned} times on {cpus} CPUs");
    }
}

/// A clock may stand still while the world is stopped. Then a stop is as long as the work that is done in it.
#[test]
fn with_a_clock_that_stands_still_a_stop_is_bounded_by_work() {
    let lab = lab(2);
    let len = 1 << 20;
    let table = lab.machine.vmalloc(len);
    lab.detector.alloc(table, len, AllocOptions::new());
    lab.hold(0, table);
    let lost = lab.block(64);
    prime(&lab);
    // In a microsecond some words can be read, but not a megabyte.
    lab.detector.set_stop_max_us(20);
    let summary = confirm(&lab);
    assert!(matches!(summary.how, How::Scanned { .. }), "{summary:?}");
    assert_eq!((summary.suspects, lab.listed()), (1, vec![lost]));
    let us_of_all = (len / WORD) as u64;
    lab.detector.set_stop_max_us(us_of_all);
    assert_eq!(confirm(&lab).how, How::Confirmed);
}

#[test]
fn where_no_stop_is_allowed_or_possible_passes_decide() {
    let lab = lab(2);
    let lost = lab.block(64);
    prime(&lab);
    lab.machine.at_stop(|_| panic!("the world is stopped"));
    assert_eq!(
        lab.say("stop_max_ms=0"),
        "kmemleak: a background scan never stops the world\n"
    );
    let summary = confirm(&lab);
    assert_eq!(
        (summary.how, summary.stopped_us),
        (How::Scanned { passes: 3 }, 0)
    );
    assert_eq!((summary.suspects, lab.listed()), (1, vec![lost]));
    lab.machine.at_stop(|_| ());
    assert_eq!(
        lab.detector.boot_parameter("kmemleak.stop_max_ms=7"),
        Ok(())
    );
    lab.machine.set_stop(Stop::Missing(1));
    assert_eq!(confirm(&lab).how, How::Scanned { passes: 3 });
    lab.machine.set_stop(Stop::Works);
    assert_eq!(confirm(&lab).how, How::Confirmed);
    for wrong in ["kmemleak.stop_max_ms", "kmemleak.stop_max_ms=soon"] {
        let answer = lab.detector.boot_parameter(wrong);
        assert_eq!(answer, Err(ParameterError::Value), "{wrong}");
    }
}

/// What interior pointers alone hold is a question about a whole pass, which a sweep is not: it leaves what was in use as the pass
/// before has seen it.
#[test]
fn interior_answers_for_a_whole_pass_after_a_sweep() {
    for cpus in [1, 2] {
        let lab = lab(cpus);
        let (held, owned, used, lost) =
            (lab.block(64), lab.block(64), lab.block(64), lab.block(64));
        lab.machine.write(held, owned);
        lab.hold(1, used);
        prime(&lab);
        let left = confirmed(&lab, move |machine, _| {
            machine.store(Place::Bss(0), held + 8);
            machine.store(Place::Bss(1), used + 8);
        });
        assert_eq!(left, [lost]);
        let mut interior = interior(&lab);
        interior.sort_unstable();
        assert_eq!(interior, [held, owned, used]);
    }
}
