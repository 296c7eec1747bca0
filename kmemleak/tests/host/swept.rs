//! What a sweep reads in the stop in which it confirms suspects, what it looks at, and when it is given up.

use kmemleak::{AllocOptions, How, NotDone};
use kmemleak_emulated::{Machine, Place};

use crate::confirms::{confirm_beside, confirmed, lab, prime};
use crate::lab::{Lab, many};

/// Bytes of a word.
const WORD: usize = size_of::<usize>();
/// Bytes that a chunk of the index is for.
const CHUNK: usize = 512;
/// Words of work between two checkpoints.
const EVERY: usize = 16 << 10;

/// Blocks in a row: where the first one starts, the bytes of each, how far apart they are, how many.
type Row = (usize, usize, usize, usize);

/// One object needs as many references as the blocks have words, another one more. The first is saved by the words of the blocks alone;
/// the second is not saved by all words there are, those between the blocks and behind them included.
#[test]
fn however_blocks_lie_each_of_their_words_is_read_once_and_no_other() {
    let layouts: &[&[Row]] = &[
        &[(0, 64, 64, 24)],
        // Gaps between the blocks, and at both ends of each chunk.
        &[(0, 64, 72, 21)],
        &[(16, 40, 64, 24)],
        &[(8, 8, 8, 62), (CHUNK + 8, 8, 8, 62)],
        &[(0, 24, 24, 21), (CHUNK, 24, 24, 21)],
        &[(8, 24, 24, 21), (CHUNK + 8, 24, 24, 21)],
        // Chunks that are alike, with an empty one between, or another one.
        &[(0, 64, 64, 8), (2 * CHUNK, 64, 64, 8)],
        &[(0, 64, 64, 8), (CHUNK, 32, 32, 16), (2 * CHUNK, 64, 64, 8)],
        &[(64, 64, 64, 6), (CHUNK + 64, 64, 64, 6)],
        // A gap, and no other one over several chunks.
        &[(64, 128, 128, 8)],
        &[(CHUNK - 64, 64, 64, 9), (2 * CHUNK + 64, 64, 64, 15)],
        // One behind the other, but for the last; of several sizes; alone.
        &[(0, 64, 64, 2), (256, 64, 64, 1)],
        &[(0, 16, 16, 1), (24, 32, 32, 1), (64, 8, 8, 1)],
        &[(200, 40, 40, 1)],
        &[(CHUNK - 8, 8, 8, 1), (CHUNK, 8, 8, 1)],
        // Over several chunks, and with others behind it.
        &[(256, 1024, 1024, 1), (1280, 64, 64, 4)],
        &[(0, 512, 512, 3)],
        &[(0, 256, 256, 1)],
        &[(0, 264, 264, 1)],
        &[(0, 520, 528, 2)],
        // The last word is none.
        &[(0, 60, 64, 20)],
        &[(4, 60, 64, 20)],
    ];
    for &layout in layouts {
        let lab = lab(1);
        let arena = lab.machine.arena(1 << 16);
        let starts: Vec<(usize, usize)> = layout
            .iter()
            .flat_map(|&(at, size, apart, count)| {
                (0..count).map(move |number| (arena + at + number * apart, size))
            })
            .collect();
        let table = lab.machine.vmalloc(starts.len() * WORD);
        lab.detector
            .alloc(table, starts.len() * WORD, AllocOptions::new());
        lab.hold(0, table);
        for (index, &(start, size)) in starts.iter().enumerate() {
            lab.detector.alloc(start, size, AllocOptions::new());
            lab.machine.write(table + index * WORD, start);
        }
        let in_blocks = |at: usize| {
            (starts.iter()).any(|&(start, size)| start <= at && at + WORD <= start + size)
        };
        let every: Vec<usize> = (arena..arena + 4 * CHUNK).step_by(WORD).collect();
        let inside: Vec<usize> = every.iter().copied().filter(|&at| in_blocks(at)).collect();
        let needs = |count: usize| lab.block_with(64, AllocOptions::new().min_count(count as i32));
        let (saved, lost) = (needs(inside.len()), needs(inside.len() + 1));
        for (words, points_to) in [(inside, saved), (every, lost)] {
            prime(&lab);
            let left = confirmed(&lab, move |machine, _| {
                words.iter().for_each(|&at| machine.write(at, points_to));
            });
            assert_eq!(left, [lost], "{layout:?}");
        }
    }
}

#[test]
fn a_table_of_pointers_to_more_suspects_than_are_looked_at_at_once_saves_all() {
    const SUSPECTS: usize = many(1000);
    let lab = lab(1);
    let bytes = SUSPECTS * WORD;
    let table = lab.machine.vmalloc(bytes);
    lab.detector.alloc(table, bytes, AllocOptions::new());
    lab.hold(0, table);
    let suspects: Vec<usize> = (0..SUSPECTS).map(|_| lab.block(64)).collect();
    let lost = lab.block(64);
    prime(&lab);
    let left = confirmed(&lab, move |machine, _| {
        for (index, &suspect) in suspects.iter().enumerate() {
            machine.write(table + index * WORD, suspect);
        }
    });
    assert_eq!(left, [lost]);
}

/// A word that points to no suspect costs next to nothing.
#[test]
fn only_words_that_point_to_where_suspects_lie_are_looked_at() {
    let lab = lab(1);
    let arena = lab.machine.arena(1 << 20);
    let block = |start| lab.detector.alloc(start, 64, AllocOptions::new());
    let suspects = [arena + (256 << 10), arena + (768 << 10)];
    suspects.into_iter().for_each(block);
    // Pointed to from a root: above all suspects. From a block: between them.
    let count = 40;
    let table = lab.machine.vmalloc(count * WORD);
    lab.detector.alloc(table, count * WORD, AllocOptions::new());
    lab.hold(count, table);
    for index in 0..count {
        let (above, between) = (
            arena + (800 << 10) + index * 64,
            arena + (512 << 10) + index * 64,
        );
        block(above);
        lab.hold(index, above);
        block(between);
        lab.machine.write(table + index * WORD, between);
    }
    let pass = prime(&lab);
    let both = confirm_beside(&lab, |_, _| ());
    assert_eq!((pass.candidates, lab.listed().len()), (81, 2));
    if !cfg!(miri) {
        assert_eq!(both.candidates, pass.candidates);
    }
}

/// The figures of a verdict that a sweep has confirmed are those of the pass and of the sweep.
#[test]
fn what_a_pass_and_its_sweep_have_read_is_added_up() {
    let lab = lab(1);
    let (held, doubtful, lost) = (lab.block(64), lab.block(64), lab.block(64));
    lab.hold(0, held);
    let in_section = lab.machine.address(Place::Data(8));
    lab.detector.alloc(in_section, 64, AllocOptions::new());
    // What is seen unreferenced for the first time is read.
    prime(&lab);
    let pass = prime(&lab);
    assert_eq!((pass.hits, pass.in_sections, pass.tracked), (1, 1, 4));
    let both = confirm_beside(&lab, move |machine, _| machine.write(held, doubtful));
    assert_eq!(lab.listed(), [lost]);
    assert_eq!((both.in_sections, both.tracked), (1, 4));
    assert_eq!(
        both.hits, 2,
        "of the root's in the pass, of the block's in the sweep"
    );
    // The sweep has read what is held, too, and what it has saved.
    assert_eq!(both.words, 2 * pass.words + 64 / 8);
}

#[test]
fn a_pointer_to_any_copy_of_a_suspected_per_cpu_block_saves_it() {
    for cpu in 0..3 {
        let lab = Lab::of(Machine::builder().cpus(3));
        lab.detector.set_min_age_us(0);
        let (block, lost) = (lab.machine.percpu(64), lab.block(64));
        lab.detector.alloc_percpu(block, 64);
        prime(&lab);
        let copy = lab.machine.percpu_copy(block, cpu).expect("it is live");
        let left = confirmed(&lab, move |machine, _| machine.store(Place::Bss(0), copy));
        assert_eq!(left, [lost], "CPU {cpu}");
    }
}

/// A pointer that an area in use does not need counts for its block. The area lies far from all suspects.
#[test]
fn a_second_pointer_to_an_area_in_use_saves_its_suspected_block() {
    let lab = lab(1);
    let arena = lab.machine.arena(1 << 20);
    let (block, area) = (arena, arena + (1 << 19));
    lab.detector.alloc(area, 64, AllocOptions::new());
    lab.machine.write(area + 16, block);
    lab.machine.advance_us(1);
    lab.detector.vmalloc(block, 4096, area);
    lab.hold(0, area);
    prime(&lab);
    assert_eq!(confirmed(&lab, |_, _| ()), [block]);
    prime(&lab);
    let left = confirmed(&lab, move |machine, _| machine.store(Place::Bss(1), area));
    assert_eq!(left, []);
}

/// It is in use as any other block, whatever points to it.
#[test]
fn a_new_block_that_is_pointed_to_is_read_once() {
    let lab = lab(1);
    let arena = lab.machine.arena(1 << 12);
    let needy = arena;
    lab.detector
        .alloc(needy, 64, AllocOptions::new().min_count(2));
    // So that the new one lies among suspects.
    let other = arena + 1024;
    lab.detector.alloc(other, 64, AllocOptions::new());
    prime(&lab);
    let new = arena + 512;
    let left = confirmed(&lab, move |machine, detector| {
        detector.alloc(new, 64, AllocOptions::new());
        machine.store(Place::Bss(0), new);
        machine.write(new + 8, needy);
    });
    assert_eq!(left, [needy, other]);
}

/// The words of a block that is no leak whatever points to it are read, wherever it lay before.
#[test]
fn a_block_whose_root_is_gone_is_read_for_itself() {
    for min_count in [0, 1] {
        let lab = lab(1);
        let block = lab.block_with(64, AllocOptions::new().min_count(min_count));
        lab.hold(0, block);
        assert!(lab.detector.region_add(block, 64));
        let (saved, lost) = (lab.block(64), lab.block(64));
        prime(&lab);
        let left = confirmed(&lab, move |machine, detector| {
            detector.region_remove(block);
            machine.write(block + 8, saved);
        });
        assert_eq!(left, [lost], "{min_count}");
    }
}

#[test]
fn a_suspect_that_is_declared_to_be_no_leak_holds_what_it_points_to() {
    let lab = lab(1);
    let (declared, owned, lost) = (lab.block(64), lab.block(64), lab.block(64));
    lab.machine.write(declared + 8, owned);
    prime(&lab);
    let left = confirmed(&lab, move |_, detector| detector.not_leak(declared));
    assert_eq!(left, [lost]);
}

/// How many checkpoints a scan has that confirms a suspect, beside a block of this size in use.
fn checkpoints_beside(bytes: usize) -> usize {
    let lab = lab(1);
    let block = lab.machine.vmalloc(bytes);
    lab.detector.alloc(block, bytes, AllocOptions::new());
    lab.hold(0, block);
    lab.block(64);
    prime(&lab);
    lab.machine.checkpoints.go_on();
    confirm_beside(&lab, |_, _| ());
    lab.machine.checkpoints.count()
}

/// A block is read piece by piece, by the pass and by the sweep.
#[test]
fn while_a_large_block_is_read_there_are_checkpoints() {
    let bytes = 1 << 22;
    let there = checkpoints_beside(bytes) - checkpoints_beside(64);
    let expected = 2 * bytes / WORD / EVERY;
    assert!((expected - 4..2 * expected).contains(&there), "{there}");
}

/// Who asks to stop is not answered by a scan that goes on without the stop. The verdict before stays, until the new one is begun; then the
/// scan goes on to its end.
#[test]
fn a_scan_that_is_asked_to_stop_in_its_sweep_is_given_up() {
    for cpus in [1, 2] {
        let mut given_up = 0;
        for number in 1.. {
            let lab = Lab::of(Machine::builder().cpus(cpus));
            lab.detector.set_min_age_us(0);
            let told = lab.block(64);
            prime(&lab);
            prime(&lab);
            assert_eq!(lab.listed(), [told]);
            let lost = lab.block(64);
            prime(&lab);
            lab.machine.checkpoints.stop_at(number);
            lab.machine.advance_us(1);
            let answer = lab.detector.scan_and_confirm();
            let there = lab.machine.checkpoints.count() >= number;
            lab.machine.checkpoints.go_on();
            match answer {
                Ok(summary) => {
                    assert_eq!(summary.how, How::Confirmed, "checkpoint {number}");
                    assert_eq!(lab.listed(), [told, lost]);
                }
                Err(error) => {
                    assert_eq!((error, lab.listed()), (NotDone::Stopped, vec![told]));
                    given_up += 1;
                }
            }
            assert_eq!(lab.leaks(), [told, lost]);
            if !there {
                break;
            }
        }
        assert!(given_up > 5, "{given_up} times on {cpus} CPUs");
    }
}

/// A clock may stand still while the world is stopped. Then a stop is as long as the work that is done in it: 50 words are read in a
/// microsecond.
#[test]
fn without_a_clock_a_stop_has_as_many_words_as_can_be_read_in_its_time() {
    let lab = lab(1);
    let len = 1 << 20;
    let table = lab.machine.vmalloc(len);
    lab.detector.alloc(table, len, AllocOptions::new());
    lab.hold(0, table);
    lab.block(64);
    prime(&lab);
    let us_of_table = (len / WORD / 50) as u64;
    for (max_us, done) in [(us_of_table / 2, false), (2 * us_of_table, true)] {
        lab.detector.set_stop_max_us(max_us);
        lab.machine.advance_us(1);
        let summary = lab.detector.scan_and_confirm().expect("on");
        assert_eq!(summary.how == How::Confirmed, done, "{summary:?}");
    }
}
