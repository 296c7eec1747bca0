//! What interior pointers alone keep alive: nothing that a chain of start pointers leads to from a root.

use std::collections::BTreeSet;

use kmemleak::{AllocOptions, Detector};
use kmemleak_emulated::{Machine, Stop};

use crate::lab::{Lab, many, pool};
use crate::one_cpu::{FAR, OneCpu};

pub fn interior(lab: &Lab) -> Vec<usize> {
    let mut starts = Vec::new();
    lab.detector
        .for_each_interior(&mut |block| starts.push(block.start))
        .expect("asked from outside");
    starts
}

/// In a check by several CPUs, by one, in passes, and in the scan.
fn each_way(work: impl Fn(&Lab, &dyn Fn() -> Vec<usize>)) {
    for cpus in [1, 3] {
        let lab = Lab::of(Machine::builder().cpus(cpus));
        work(&lab, &|| lab.leaks());
    }
    let lab = Lab::new();
    lab.machine.set_stop(Stop::Unsupported);
    work(&lab, &|| lab.leaks());
    let lab = Lab::new();
    lab.detector.set_min_age_us(0);
    work(&lab, &|| {
        for _ in 0..2 {
            lab.machine.advance_us(1);
            lab.detector.scan().expect("on");
        }
        lab.listed()
    });
}

/// What is held so first-hand.
fn first_hand(lab: &Lab) -> Vec<usize> {
    let mut starts = Vec::new();
    lab.detector
        .for_each_interior(&mut |block| {
            if block.first_hand {
                starts.push(block.start);
            }
        })
        .expect("asked from outside");
    starts
}

fn twice(lab: &Lab) -> usize {
    lab.block_with(64, AllocOptions::new().min_count(2))
}

#[test]
fn with_all_that_is_reached_from_there() {
    each_way(|lab, leaks| {
        let chain: Vec<usize> = (0..5).map(|_| lab.block(64)).collect();
        lab.hold(0, chain[0]);
        lab.machine.write(chain[0], chain[1] + 63);
        for pair in chain[1..].windows(2) {
            lab.machine.write(pair[0] + 8, pair[1]);
        }
        assert_eq!(leaks(), []);
        assert_eq!(interior(lab), chain[1..]);
        // One start pointer from what is reached by start pointers, late in the chain.
        lab.machine.write(chain[0] + 8, chain[3]);
        assert_eq!(leaks(), []);
        assert_eq!(interior(lab), chain[1..3]);
        lab.machine.write(chain[0] + 8, 0);
        lab.machine.write(chain[0], chain[1]);
        assert_eq!(leaks(), []);
        assert_eq!(interior(lab), []);
    });
}

#[test]
fn first_hand_is_what_an_outer_pointer_to_the_middle_holds() {
    each_way(|lab, leaks| {
        // A table that points to boxes, which point to each other, to their middles as well.
        let (table, boxes) = (lab.block(512), [(); 50].map(|()| lab.block(16)));
        let all: Vec<usize> = [table].into_iter().chain(boxes).collect();
        for (index, &one) in boxes.iter().enumerate() {
            lab.machine.write(table + 8 * index, one);
            lab.machine.write(one, boxes[(index + 1) % boxes.len()] + 8);
            lab.machine.write(one + 8, table);
        }
        lab.hold(0, table + 480);
        assert_eq!(leaks(), []);
        let mut by_address = all.clone();
        by_address.sort_unstable();
        assert_eq!(interior(lab), by_address);
        assert_eq!(first_hand(lab), [table]);
        // A box that a root points into is held first-hand, although the table points to its start.
        lab.hold(1, boxes[30] + 8);
        assert_eq!(leaks(), []);
        let mut two = [table, boxes[30]];
        two.sort_unstable();
        assert_eq!(first_hand(lab), two);
        // Not any more once a root points to its start: then all is held well.
        lab.hold(2, boxes[30]);
        assert_eq!(leaks(), []);
        assert_eq!(interior(lab), []);
        lab.hold(1, 0);
        lab.hold(2, 0);
        assert_eq!(leaks(), []);
        assert_eq!(first_hand(lab), [table]);
        // And what was held so once is lost as anything else.
        lab.hold(0, 0);
        assert_eq!(leaks(), all);
        assert_eq!(interior(lab), []);
    });
}

#[test]
fn what_has_waited_in_one_check_is_lost_in_the_next() {
    each_way(|lab, leaks| {
        let (block, other) = (lab.block(16), lab.block(16));
        lab.hold(0, block + 8);
        lab.hold(1, block);
        lab.hold(2, other);
        assert_eq!(leaks(), []);
        // Its neighbour waits now.
        lab.hold(0, other + 8);
        lab.hold(1, 0);
        lab.hold(2, 0);
        assert_eq!(leaks(), [block]);
        assert_eq!(first_hand(lab), [other]);
    });
}

#[test]
fn text_tells_what_is_held_first_hand_and_counts_the_rest() {
    let lab = Lab::new();
    let (table, below) = (lab.block(64), lab.block(16));
    lab.hold(0, table + 8);
    lab.machine.write(table, below);
    assert_eq!(lab.leaks(), []);
    let sum = "\nkmemleak: 1 object (64 bytes) alive through interior pointers only, and 1 object (16 bytes) behind them\n";
    let short = lab.say("interior");
    assert!(short.ends_with(sum), "{short}");
    // The table's heading, one line, the reason why there are no call stacks, the sum.
    assert_eq!(short.lines().count(), 4, "{short}");
    let text = lab.say("interior --full");
    // By address.
    for object in [
        format!("object {table:#018x} (size 64):\n"),
        format!("object {below:#018x} (size 16), behind another:\n"),
    ] {
        assert!(text.contains(&object), "{text}");
    }
    assert!(text.ends_with(sum), "{text}");
    let json = lab.say("interior --json");
    for (object, first_hand) in [(table, true), (below, false)] {
        let mut lines = json
            .lines()
            .filter(|line| line.contains(&format!("\"address\":\"{object:#018x}\"")));
        let line = lines.next().expect("a line");
        assert!(
            line.ends_with(&format!(",\"first_hand\":{first_hand}}}")),
            "{line}"
        );
    }
    let sums = "\"objects\":2,\"bytes\":80,\"first_hand_objects\":1,\"first_hand_bytes\":64,";
    assert!(json.contains(sums), "{json}");
}

#[test]
fn of_two_references_one_to_the_start_is_enough() {
    each_way(|lab, leaks| {
        let block = twice(lab);
        let below = lab.block(64);
        lab.machine.write(block, below);
        for (first, second, expected) in [
            (0, 0, vec![]),
            (0, 8, vec![]),
            (8, 0, vec![]),
            (8, 16, vec![block, below]),
        ] {
            lab.hold(0, block + first);
            lab.hold(1, block + second);
            assert_eq!(leaks(), []);
            assert_eq!(interior(lab), expected, "{first} and {second}");
        }
        lab.hold(1, 0);
        assert_eq!(leaks(), [block, below]);
        assert_eq!(interior(lab), []);
    });
}

#[test]
fn a_start_pointer_counts_from_what_start_pointers_reach_alone() {
    each_way(|lab, leaks| {
        let (middle, block, below) = (lab.block(64), twice(lab), lab.block(64));
        lab.hold(0, middle + 8);
        lab.hold(1, block + 8);
        lab.machine.write(middle, block);
        lab.machine.write(block, below);
        assert_eq!(leaks(), []);
        assert_eq!(interior(lab), [middle, block, below]);
        // The start from a root, the middle from an interior-only object.
        lab.hold(1, block);
        lab.machine.write(middle, block + 8);
        assert_eq!(leaks(), []);
        assert_eq!(interior(lab), [middle]);
    });
}

#[test]
fn copies_of_percpu_blocks() {
    each_way(|lab, leaks| {
        let handle = lab.machine.percpu(32);
        lab.detector.alloc_percpu(handle, 32);
        lab.machine.advance_us(1);
        let last = lab.machine.cpus() - 1;
        let copy = lab.machine.percpu_copy(handle, last).expect("live");
        let below = lab.block(64);
        lab.machine.write(copy + 16, below);
        for (word, only) in [
            (handle, false),
            (copy, false),
            (copy + 8, true),
            (handle + 31, true),
        ] {
            lab.hold(0, word);
            assert_eq!(leaks(), []);
            let found = interior(lab);
            let expected = if only { vec![handle, below] } else { vec![] };
            assert_eq!(found.len(), expected.len(), "{word:#x}");
            assert!(expected.iter().all(|block| found.contains(block)));
        }
    });
}

#[test]
fn more_than_the_queues_hold() {
    for (cpus, exhausted) in [(1, false), (3, false), (1, true), (3, true)] {
        let lab = Lab::of(Machine::builder().cpus(cpus));
        let blocks: Vec<usize> = (0..many(4000)).map(|_| lab.block(64)).collect();
        // A tree by start pointers, and one by interior pointers that has a start pointer in each second node.
        let (starts, others) = blocks.split_at(blocks.len() / 2);
        for (number, &block) in starts.iter().enumerate() {
            for child in 0..2 {
                if let Some(&below) = starts.get(2 * number + 1 + child) {
                    lab.machine.write(block + 8 * child, below);
                }
            }
        }
        for (number, &block) in others.iter().enumerate() {
            for child in 0..4 {
                if let Some(&below) = others.get(4 * number + 1 + child) {
                    lab.machine
                        .write(block + 8 * child, below + 8 * (child % 2));
                }
            }
        }
        // By number, in order.
        let found = || {
            let interior: BTreeSet<usize> = interior(&lab).into_iter().collect();
            let all = blocks.iter().enumerate();
            let found: Vec<usize> = all
                .filter(|(_, block)| interior.contains(block))
                .map(|(number, _)| number)
                .collect();
            assert_eq!(found.len(), interior.len());
            found
        };
        let half = starts.len();
        let compare = |expected: Vec<usize>| {
            let found = found();
            let first = found
                .iter()
                .zip(&expected)
                .find(|(one, other)| one != other);
            let lens = (found.len(), expected.len());
            assert!(found == expected, "{cpus} {exhausted}: {lens:?}, {first:?}");
        };
        lab.hold(0, starts[0]);
        lab.machine
            .write(*starts.last().expect("one"), others[0] + 1);
        if exhausted {
            lab.detector.exhaust_metadata(true);
        }
        assert_eq!(lab.leaks(), [], "{cpus} {exhausted}");
        compare((half..blocks.len()).collect());
        lab.machine.write(starts[1] + 40, others[0]);
        assert_eq!(lab.leaks(), []);
        let by_start = |mut number: usize| {
            while number > 0 {
                if (number - 1) % 4 % 2 == 1 {
                    return false;
                }
                number = (number - 1) / 4;
            }
            true
        };
        let expected = (0..others.len()).filter(|&number| !by_start(number));
        compare(expected.map(|number| half + number).collect());
    }
}

/// What is walked over are objects, not the memory that they take: a huge block costs no more than a small one, wherever it
/// begins.
#[test]
fn a_huge_block_is_a_step_like_another() {
    const HUGE: usize = 1 << 36;
    let pieces = |start: usize, size: usize| {
        let detector: Detector<OneCpu> = Detector::new(OneCpu::new()).with_pool(pool::<16>());
        detector.alloc(start, size, AllocOptions::new());
        detector.alloc(start + HUGE, 64, AllocOptions::new());
        detector.platform().hold(start + HUGE + 8);
        detector.check().expect("on");
        let before = detector.platform().pieces();
        let mut found = Vec::new();
        detector
            .for_each_interior(&mut |block| found.push((block.start, block.size)))
            .expect("asked from outside");
        assert_eq!(found, [(start + HUGE, 64)]);
        detector.platform().pieces() - before
    };
    for start in [FAR, FAR + 4096, FAR + (1 << 25) - 512] {
        assert_eq!(pieces(start, HUGE), pieces(start, 64));
    }
}

/// A pass beside other code reads a block page by page; of one that nobody vouches for, it passes over many pages at once.
#[test]
fn a_huge_block_that_cannot_be_read_takes_few_windows() {
    let windows = |size: usize| {
        let detector: Detector<OneCpu> = Detector::new(OneCpu::new()).with_pool(pool::<16>());
        detector.alloc(FAR, size, AllocOptions::new());
        detector.platform().hold(FAR);
        let before = detector.platform().pieces();
        detector.scan().expect("on");
        detector.platform().pieces() - before
    };
    const PAGES: usize = 100_000;
    let more = windows(PAGES * 4096) - windows(64);
    // A pass goes over it, and its sum is taken.
    assert!(more < PAGES / 8, "{more} windows for {PAGES} pages");
}

/// Two CPUs find the two pointers that a block needs at the same moment, one to its start and one into it: whichever is
/// counted first, the start has been pointed to.
#[test]
fn a_start_that_is_found_as_the_count_grows_is_no_interior_pointer() {
    const PAGE: usize = 4096;
    const WORDS: usize = PAGE / 8;
    const PAIRS: usize = many(64);
    let lab = Lab::new();
    let blocks = lab.machine.arena(PAIRS * WORDS * 16);
    let pointers = lab.machine.arena(2 * PAIRS * PAGE);
    lab.machine.add_root(pointers, 2 * PAIRS * PAGE);
    // A page with pointers to starts, one with pointers into the same blocks, and so on: each CPU takes one.
    for number in 0..PAIRS * WORDS {
        let block = blocks + 16 * number;
        let twice = AllocOptions::new().min_count(2);
        lab.detector.alloc(block, 16, twice);
        let slot = pointers + number / WORDS * 2 * PAGE + number % WORDS * 8;
        lab.machine.write(slot, block);
        lab.machine.write(slot + PAGE, block + 8);
    }
    for _ in 0..many(50) {
        assert_eq!(lab.leaks(), []);
        assert_eq!(interior(&lab), []);
    }
}
