//! Checks and questions that are given up at a checkpoint, at each there is: with one CPU and with several, in a stopped world and
//! beside other code.

use std::collections::BTreeSet;

use kmemleak::{AllocOptions, CommandError, NoAnswer, NotDone};
use kmemleak_emulated::{Machine, Stop};

use crate::lab::{Lab, many, try_to};

/// Bytes of a word.
const WORD: usize = size_of::<usize>();

/// Objects of the graph: enough for some checkpoints between the barriers.
const OBJECTS: usize = many(1500);

/// A machine whose detector has reported a leak, `told`. Since then it was held again, and `news` was lost.
struct Graph {
    lab: Lab,
    told: usize,
    news: usize,
    /// At the end of a chain, of which each link but the first is held by an interior pointer.
    end: usize,
}

impl Graph {
    fn new(cpus: u32, stop: Stop) -> Self {
        let lab = Lab::of(Machine::builder().cpus(cpus));
        lab.detector.set_min_age_us(0);
        let chain: Vec<usize> = (0..8).map(|_| lab.block(64)).collect();
        for pair in chain.windows(2) {
            lab.machine.write(pair[0] + 8, pair[1] + 16);
        }
        lab.hold(0, chain[0]);
        // A table of pointers, two for each of its blocks, of which some need both.
        let len = 2 * OBJECTS * WORD;
        let table = lab.machine.vmalloc(len);
        lab.detector.alloc(table, len, AllocOptions::new());
        lab.hold(1, table);
        for index in 0..OBJECTS {
            let needed = 1 + i32::from(index % 5 == 0);
            let block = lab.block_with(64, AllocOptions::new().min_count(needed));
            lab.machine.write(table + 2 * index * WORD, block);
            lab.machine.write(table + (2 * index + 1) * WORD, block);
        }
        let told = lab.block(64);
        lab.machine.set_stop(stop);
        assert!(lab.say("scan").contains(" 1 "), "it is reported");
        assert_eq!(lab.listed(), [told]);
        lab.hold(3, told);
        let news = lab.block(64);
        Self {
            lab,
            told,
            news,
            end: chain[7],
        }
    }

    /// A check that goes to its end finds what is lost, that it is new, and that what was reported is held again.
    fn judge_again(&self) {
        self.lab.machine.checkpoints.go_on();
        assert_eq!(self.lab.leaks(), [self.news]);
        let summary = self.lab.detector.check().expect("on");
        let listed = (
            summary.objects + summary.suspects,
            summary.unreported_objects,
        );
        assert_eq!(listed, (1, 1));
        self.lab.hold(3, 0);
        assert_eq!(self.lab.leaks(), [self.told, self.news]);
        let summary = self.lab.detector.check().expect("on");
        assert_eq!(summary.unreported_objects, 2, "it was held in between");
    }
}

/// Calls `ask` for each checkpoint at which the machine may ask to stop, with so many CPUs. It tells whether it was given up.
fn at_each_checkpoint(cpus: &[u32], stop: Stop, ask: &dyn Fn(&Graph) -> bool) {
    for &cpus in cpus {
        let mut given_up = 0;
        // Passes beside other code are many, and alike.
        let step = if stop == Stop::Works { 1 } else { 7 };
        for number in (1..).step_by(step) {
            let graph = Graph::new(cpus, stop);
            graph.lab.machine.checkpoints.stop_at(number);
            given_up += usize::from(ask(&graph));
            let there = graph.lab.machine.checkpoints.count() >= number;
            graph.judge_again();
            if !there {
                break;
            }
        }
        assert!(given_up > 0, "{given_up} times on {cpus} CPUs");
    }
}

/// Until the new verdict is begun, the last one stays; from then on the check goes on to its end.
fn check(graph: &Graph) -> bool {
    let before = graph.lab.say("report --all");
    graph.lab.machine.advance_us(1);
    match graph.lab.detector.check() {
        Err(error) => {
            assert_eq!(error, NotDone::Stopped);
            assert_eq!(graph.lab.say("report --all"), before);
            true
        }
        Ok(_) => {
            assert_eq!(graph.lab.listed(), [graph.news]);
            false
        }
    }
}

#[test]
fn a_stopped_check_is_given_up_by_all_cpus_and_leaves_nothing_behind() {
    at_each_checkpoint(&[1, 2, 4], Stop::Works, &check);
}

#[test]
fn so_is_one_beside_other_code() {
    at_each_checkpoint(&[1], Stop::Unsupported, &check);
}

#[test]
fn so_are_questions() {
    for (cpus, stop) in [(&[1, 2][..], Stop::Works), (&[1], Stop::Unsupported)] {
        at_each_checkpoint(cpus, stop, &|graph| {
            let mut slots = 0;
            let held = graph.lab.detector.holders(graph.end, &mut |_| slots += 1);
            assert!(held == Ok(()) && slots == 1 || held == Err(NoAnswer::Stopped));
            held.is_err()
        });
        at_each_checkpoint(cpus, stop, &|graph| {
            let mut slots = 0;
            let path = graph.lab.detector.path(graph.end, &mut |_| slots += 1);
            assert!(path == Ok(()) && slots == 8 || path == Err(NoAnswer::Stopped));
            path.is_err()
        });
        at_each_checkpoint(cpus, stop, &|graph| {
            let why = graph.lab.detector.why(graph.news, &mut |_| ());
            assert!(matches!(why, Ok(_) | Err(NoAnswer::Stopped)));
            why.is_err()
        });
        at_each_checkpoint(cpus, stop, &|graph| {
            let lab = &graph.lab;
            let before = (lab.detector.metadata(), lab.machine.metadata_pages());
            let (done, text) = try_to(&lab.detector, "snapshot");
            let now = (lab.detector.metadata(), lab.machine.metadata_pages());
            assert_eq!(now, before, "all pages were given back");
            let stopped = text.contains(r#""kind":"error","code":"stopped""#);
            assert_eq!(done.is_err(), stopped, "{text}");
            stopped
        });
    }
}

#[test]
fn the_command_says_that_it_was_asked_to_stop() {
    let graph = Graph::new(2, Stop::Works);
    for line in ["scan", "mark", "new", "selftest"] {
        graph.lab.machine.checkpoints.stop_at(1);
        let mut answer = String::new();
        let done = graph.lab.detector.command(line, &mut answer);
        assert_eq!(answer, "kmemleak: asked to stop\n", "{line}");
        assert_eq!(done, Err(CommandError::NotDone), "{line}");
    }
    graph.judge_again();
}

/// A check that finds call stacks which a suppression matches, and was not told so before, is done again. Then the last verdict is gone
/// already: what is suppressed must not take its place.
#[test]
fn what_a_suppression_hides_is_not_reported_when_a_check_is_given_up() {
    at_each_checkpoint(&[1, 2], Stop::Works, &|graph| {
        let lab = &graph.lab;
        lab.machine.call_from(&["known", "caller"]);
        let known = lab.block(64);
        lab.machine.call_from(&["fresh", "caller"]);
        lab.detector.suppress("known").expect("memory");
        let before = lab.listed();
        let given_up = lab.detector.check().is_err();
        let expected = if given_up { before } else { vec![graph.news] };
        assert_eq!(lab.listed(), expected);
        lab.free(known);
        given_up
    });
}

/// What interior pointers alone hold is a question about the last pass. If that was given up, the answer must not be half of it.
#[test]
fn interior_answers_for_a_whole_pass() {
    let interior = |graph: &Graph| {
        let mut starts = Vec::new();
        let asked = graph
            .lab
            .detector
            .for_each_interior(&mut |object| starts.push(object.start));
        asked.map(|()| starts)
    };
    for (cpus, stop) in [(&[1, 2][..], Stop::Works), (&[1], Stop::Unsupported)] {
        at_each_checkpoint(cpus, stop, &|graph| {
            let number = graph.lab.machine.checkpoints.asked();
            graph.lab.machine.checkpoints.go_on();
            let expected = interior(graph).expect("on");
            assert_eq!(expected.len(), 7);
            graph.lab.machine.checkpoints.stop_at(number);
            let given_up = graph.lab.detector.check().is_err();
            // It asks once, so not the next question.
            assert_eq!(interior(graph), Ok(expected));
            given_up
        });
    }
}

#[test]
fn what_waited_without_room_in_a_queue_is_forgotten() {
    for (cpus, stop) in [(1, Stop::Works), (3, Stop::Works), (1, Stop::Unsupported)] {
        let mut given_up = 0;
        // As above.
        let step = if stop == Stop::Works { 1 } else { 7 };
        for number in (1..).step_by(step) {
            let lab = Lab::of(Machine::builder().cpus(cpus));
            lab.detector.set_min_age_us(0);
            let blocks: Vec<usize> = (0..many(4000)).map(|_| lab.block(64)).collect();
            // Two trees side by side: of the blocks with even numbers, and of the others.
            for (index, &block) in blocks.iter().enumerate() {
                for child in 0..8 {
                    if let Some(&below) = blocks.get(8 * (index & !1) + 2 * (child + 1) + index % 2)
                    {
                        lab.machine.write(block + child * WORD, below);
                    }
                }
            }
            lab.hold(0, blocks[0]);
            lab.hold(1, blocks[1]);
            lab.machine.set_stop(stop);
            lab.detector.exhaust_metadata(true);
            lab.machine.checkpoints.stop_at(number);
            given_up += usize::from(lab.detector.check() == Err(NotDone::Stopped));
            let there = lab.machine.checkpoints.count() >= number;
            lab.machine.checkpoints.go_on();
            // What waited in the other tree does not wait any more, and is lost.
            let half = blocks.len() / 2;
            for (root, other) in [(0, 1), (1, 0)] {
                lab.hold(other, 0);
                lab.hold(root, blocks[root]);
                let lost: BTreeSet<usize> = lab.leaks().into_iter().collect();
                let expected = blocks.iter().skip(other).step_by(2).copied();
                let right = lost.len() == half && expected.clone().all(|one| lost.contains(&one));
                assert!(right, "{cpus} {stop:?} {number}: {}", lost.len());
            }
            if !there {
                break;
            }
        }
        assert!(given_up > 0);
    }
}
