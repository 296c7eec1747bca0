//! Large blocks where small ones lay: the map's tables stay, and must not be taken for what is there.

use crate::lab::many;
use crate::sparse::{BLOCKS, SparseLab};

const CHUNK: usize = 512;
/// What one table of the map stands for.
const TABLE: usize = 64 << 10;
const MIB: usize = 1 << 20;
/// At the beginning of a table, and of one of the level above.
const GROUND: usize = BLOCKS & !(32 * MIB - 1);

/// Small blocks lie here for a moment, so far apart.
fn use_ground(lab: &SparseLab, bytes: usize, apart: usize) {
    for start in (GROUND..GROUND + bytes).step_by(apart) {
        lab.alloc(start, 16);
        lab.detector.free(start);
    }
}

/// A large block, which need not be read.
fn alloc_large(lab: &SparseLab, start: usize, size: usize) {
    lab.alloc(start, size);
    lab.detector.no_scan(start);
}

/// Whether a word that points there keeps the only block alive.
fn holds(lab: &SparseLab, word: usize) -> bool {
    lab.hold(0, word);
    lab.leaks().is_empty()
}

#[test]
fn is_found_by_any_of_its_addresses() {
    for (apart, bytes) in [(TABLE, 4 * MIB), (CHUNK, MIB), (3 * CHUNK, MIB)] {
        let lab = SparseLab::new();
        use_ground(&lab, bytes, apart);
        for (offset, size) in [
            (0, bytes),
            (0, TABLE),
            (0, TABLE + 8),
            (16, 2 * TABLE - 16),
            (TABLE - 8, 3 * TABLE),
            (CHUNK, bytes - 2 * CHUNK),
            (TABLE + 40, bytes - 2 * TABLE),
        ] {
            let start = GROUND + offset;
            alloc_large(&lab, start, size);
            for inside in [
                0,
                8,
                CHUNK,
                TABLE - 1,
                TABLE,
                TABLE + CHUNK,
                size / 2,
                size - 1,
            ] {
                let inside = inside.min(size - 1);
                assert!(
                    holds(&lab, start + inside),
                    "{size:#x} at {offset}, {inside}"
                );
            }
            assert!(!holds(&lab, start + size), "{size:#x} at {offset}");
            assert!(!holds(&lab, start - 1), "{size:#x} at {offset}");
            lab.detector.free(start);
            assert_eq!((lab.tracked(), lab.warnings()), ((0, 0), String::new()));
            lab.say(&format!("dump {:x}", start + size / 2));
        }
        // And the small ones again.
        lab.alloc(GROUND + TABLE + 64, 64);
        assert!(holds(&lab, GROUND + TABLE + 64) && !holds(&lab, GROUND + TABLE + 128));
        assert_eq!(lab.warnings(), "");
    }
}

/// The distance to a block's start is kept up to 128 MiB; farther ones are followed in steps.
#[test]
fn is_found_however_far_down_it_starts() {
    let lab = SparseLab::new();
    let size = 600 * MIB;
    for at in [0, 100, 127, 128, 129, 255, 256, 257, 511, 599] {
        let start = GROUND + at * MIB + 4096;
        lab.alloc(start, 16);
        lab.detector.free(start);
    }
    alloc_large(&lab, GROUND + 8, size - 8);
    for at in [1, 100, 127, 128, 129, 255, 256, 257, 400, 511, 599] {
        for near in [0, 4096, TABLE - 1] {
            assert!(holds(&lab, GROUND + at * MIB + near), "{at} MiB");
        }
    }
    assert!(!holds(&lab, GROUND + size));
    lab.detector.free(GROUND + 8);
    for at in [100, 128, 256, 511] {
        assert!(
            lab.say(&format!("dump {:x}", GROUND + at * MIB + 4096))
                .contains("no object")
        );
    }
    assert_eq!((lab.tracked(), lab.warnings()), ((0, 0), String::new()));
}

#[test]
fn what_was_not_freed_makes_room_and_a_small_one_takes_it_back() {
    let lab = SparseLab::new();
    use_ground(&lab, MIB, CHUNK);
    for at in 0..16 {
        lab.alloc(GROUND + at * TABLE + 0x8000 + at, 24);
    }
    alloc_large(&lab, GROUND, MIB);
    assert_eq!(lab.tracked(), (1, MIB));
    assert_eq!(lab.status("missed frees"), "16");
    lab.alloc(GROUND + 5 * TABLE + 77, 24);
    assert_eq!(lab.tracked(), (1, 24));
    assert_eq!(lab.status("missed frees"), "17");
    assert!(!holds(&lab, GROUND + 5 * TABLE + 76));
    assert!(holds(&lab, GROUND + 5 * TABLE + 77));
}

#[test]
fn what_remains_of_it_is_found() {
    let lab = SparseLab::new();
    use_ground(&lab, 2 * MIB, CHUNK);
    alloc_large(&lab, GROUND, 2 * MIB);
    lab.detector.free_part(GROUND + 3 * TABLE + 8, MIB);
    assert_eq!(lab.tracked(), (2, MIB));
    let (end, begin) = (GROUND + 3 * TABLE + 8, GROUND + 3 * TABLE + 8 + MIB);
    lab.hold(1, end - 1);
    assert_eq!(lab.leaks(), [begin]);
    lab.hold(1, begin + 9 * TABLE);
    assert_eq!(lab.leaks(), [GROUND]);
    lab.alloc(end + 100, 64);
    assert_eq!(lab.tracked(), (3, MIB + 64));
    lab.detector.free(GROUND);
    lab.detector.free(begin);
    assert_eq!((lab.tracked(), lab.warnings()), ((1, 64), String::new()));
}

/// Numbers that depend on one another and on nothing else. (Xorshift, Marsaglia 2003.)
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// Blocks of all sizes come and go on one ground; the detector knows what a list knows.
#[test]
fn blocks_of_all_sizes_on_one_ground() {
    let space = 64 * TABLE;
    for seed in 1..=many(20).max(1) as u64 {
        let lab = SparseLab::new();
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut blocks: Vec<(usize, usize)> = Vec::new();
        for step in 0..200 {
            let bits = 3 + random.below(20);
            let size = 1 + random.below(1 << bits);
            let align = [1, 8, 16, CHUNK, TABLE][random.below(5)];
            let start = GROUND + random.below(space / align) * align;
            let meets =
                |&(other, bytes): &(usize, usize)| start < other + bytes && other < start + size;
            if !blocks.iter().any(meets) {
                alloc_large(&lab, start, size);
                blocks.push((start, size));
            }
            while blocks.len() > 1 && random.below(3) == 0 {
                let (start, size) = blocks.swap_remove(random.below(blocks.len()));
                if size > TABLE && random.below(3) == 0 {
                    let hole = 1 + random.below(size - 2);
                    let len = 1 + random.below(size - hole);
                    lab.detector.free_part(start + hole, len);
                    blocks.push((start, hole));
                    if hole + len < size {
                        blocks.push((start + hole + len, size - hole - len));
                    }
                } else {
                    lab.detector.free(start);
                }
            }
            if step % 10 != 0 {
                continue;
            }
            let bytes = blocks.iter().map(|(_, size)| size).sum();
            assert_eq!(lab.tracked(), (blocks.len(), bytes), "seed {seed}, {step}");
            // Some are held, by any of their bytes.
            let mut lost = Vec::new();
            for (index, &(start, size)) in blocks.iter().enumerate() {
                let held = random.below(2) == 0;
                let word = if held {
                    start + random.below(size)
                } else {
                    start + size
                };
                let elsewhere = !held && blocks.iter().any(|&(other, _)| other == word);
                lab.hold(index, if elsewhere { 0 } else { word });
                if !held {
                    lost.push(start);
                }
            }
            (blocks.len()..256).for_each(|index| lab.hold(index, 0));
            lost.sort_unstable();
            assert_eq!(lab.leaks(), lost, "seed {seed}, {step}");
        }
        assert_eq!(lab.warnings(), "", "seed {seed}");
    }
}
