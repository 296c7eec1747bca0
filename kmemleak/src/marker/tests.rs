//! Tests of what the marker does with interrupts off while other code runs: they count what it looks at, not time.

extern crate std;

use core::cell::Cell;
use core::ptr::NonNull;
use std::boxed::Box;
use std::vec::Vec;

use crate::metadata::work_tests::done;
use crate::{AllocOptions, Detector, IrqState, METADATA_PAGE, Platform, Reading, Root, RootCursor};
use crate::{RootKind, StopError, StoppedCpu};

pub(super) mod noting;

std::thread_local! {
    /// How often interrupts were turned off, and what had been done when they were turned off first.
    static OFF: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    /// The most that was looked at in one window.
    static MOST: Cell<usize> = const { Cell::new(0) };
}

/// Entries, records and notes that are looked at in a window at most.
const MOST_LOOKS: usize = 80;

/// A machine with a root, in which the detector's windows are watched. It can't be stopped.
struct Watched {
    roots: &'static [usize],
}

#[repr(align(4096))]
struct Page(#[expect(dead_code, reason = "the detector's")] [u8; METADATA_PAGE]);

// SAFETY: the root and the metadata pages are boxes that are never given back, and there are no interrupts.
unsafe impl Platform for Watched {
    fn now_us(&self) -> u64 {
        // All that is tracked is older than a pass.
        done() as u64
    }

    fn irq_save(&self) -> IrqState {
        let (depth, _) = OFF.get();
        if depth == 0 {
            OFF.set((1, done()));
        } else {
            OFF.set((depth + 1, OFF.get().1));
        }
        IrqState(depth)
    }

    fn irq_restore(&self, state: IrqState) {
        let (_, before) = OFF.replace((state.0, OFF.get().1));
        if state.0 == 0 {
            MOST.set(MOST.get().max(done() - before));
        }
    }

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        cursor.index += 1;
        (cursor.index == 1).then(|| Root {
            kind: RootKind::Section,
            start: self.roots.as_ptr().expose_provenance(),
            len: size_of_val(self.roots),
        })
    }

    fn metadata_alloc(&self) -> Option<NonNull<u8>> {
        let page = NonNull::from(Box::leak(Box::new(Page([0; METADATA_PAGE]))));
        page.expose_provenance();
        Some(page.cast())
    }

    fn stop_world(&self, _: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        Err(StopError::Unsupported)
    }

    fn readable(&self, _: usize, _: usize) -> bool {
        true
    }
}

type Subject = Detector<Watched>;

fn detector(roots: Vec<usize>) -> Box<Subject> {
    let roots = Vec::leak(roots);
    let detector = Box::new(Detector::new(Watched { roots }));
    detector.set_min_age_us(0);
    detector
}

/// The most that is looked at in a window of some passes.
fn most_looks(detector: &Subject) -> usize {
    MOST.set(0);
    for _ in 0..3 {
        detector.scan().expect("it is on");
    }
    MOST.get()
}

/// Words of memory, which is never given back; where they begin.
fn memory(words: usize) -> (&'static mut [usize], usize) {
    let memory = Vec::leak(std::vec![0; words]);
    let start = memory.as_mut_ptr().expose_provenance();
    (memory, start)
}

#[test]
fn a_page_of_interior_pointers_is_not_looked_up_in_one_window() {
    const OBJECTS: usize = 4096;
    let (_, start) = memory(8 * OBJECTS);
    let (pointers, holder) = memory(OBJECTS);
    for (number, pointer) in pointers.iter_mut().enumerate() {
        *pointer = start + 64 * number + 8;
    }
    for roots in [pointers.to_vec(), std::vec![holder]] {
        let detector = detector(roots);
        detector.alloc(holder, 8 * OBJECTS, AllocOptions::new());
        for number in 0..OBJECTS {
            detector.alloc(start + 64 * number, 64, AllocOptions::new());
        }
        let most = most_looks(&detector);
        assert!(most <= MOST_LOOKS, "{most}");
    }
}

#[test]
fn a_chunk_full_of_objects_is_not_looked_at_in_one_window() {
    for (stride, shift) in [(8, 0), (4, 1), (1, 0)] {
        let (_, start) = memory(1024);
        let detector = detector(std::vec![]);
        let starts = (start + shift..start + 4096).step_by(stride);
        for (number, start) in starts.enumerate() {
            let options = AllocOptions::new().min_count([1, 0, -1, 2, 5][number % 5]);
            detector.alloc(start, 1, options);
        }
        let most = most_looks(&detector);
        assert!(most <= MOST_LOOKS, "{most} at each {stride} bytes");
    }
}

#[test]
fn many_named_ranges_are_not_looked_through_in_one_window() {
    const RANGES: usize = 3000;
    /// Links of a few walks through a tree of ranges, each of which has as many levels as an address has bits.
    const MOST_LINKS: usize = 6 * usize::BITS as usize;
    let detector = detector(std::vec![]);
    let (_, start) = memory(3 * RANGES * 16);
    for (number, at) in (start..).step_by(128).take(3 * RANGES).enumerate() {
        let noted = match number % 3 {
            0 => detector.region_add(at, 64),
            1 => detector.region_add_as(at, 64, Reading::Bytes),
            _ => detector.exclude(at, 64),
        };
        assert!(noted);
    }
    let most = most_looks(&detector);
    assert!(most <= MOST_LOOKS + MOST_LINKS, "{most}");
    MOST.set(0);
    for (number, at) in (start..).step_by(128).take(3 * RANGES).enumerate() {
        match number % 3 {
            0 | 1 => detector.region_remove(at),
            _ => assert!(detector.include(at)),
        }
    }
    assert!(MOST.get() <= MOST_LINKS, "{}", MOST.get());
}

/// What a pass looks at in a graph in which much is found before it is scanned, of so many teeth, if there is no memory for a queue.
fn looks_without_queue(teeth: usize) -> usize {
    const FIRST: usize = 7;
    const TOOTH: usize = 1 + FIRST + 8 * FIRST;
    let objects = teeth * TOOTH;
    let (words, start) = memory(8 * objects);
    // Numbered from above: a pass that walked upwards over the index would find the next tooth behind it each time.
    let at = |object: usize| start + 64 * (objects - 1 - object);
    let mut point = |from: usize, word: usize, to: usize| {
        if to < objects {
            words[8 * (objects - 1 - from) + word] = at(to);
        }
    };
    for tooth in (0..objects).step_by(TOOTH) {
        (0..FIRST).for_each(|first| point(tooth, first, tooth + 1 + first));
        point(tooth, FIRST, tooth + TOOTH);
        for (number, object) in (tooth + 1..tooth + TOOTH).skip(FIRST).enumerate() {
            point(tooth + 1 + number / 8, number % 8, object);
        }
    }
    let detector = detector(std::vec![at(0)]);
    (0..objects).for_each(|object| detector.alloc(at(object), 64, AllocOptions::new()));
    detector.exhaust_metadata(true);
    let before = done();
    let found = detector.scan().expect("it is on");
    assert_eq!((found.objects, found.suspects), (0, 0));
    done() - before
}

#[test]
fn without_a_queue_a_pass_looks_at_what_waits_and_not_at_all_each_time() {
    let (few, many) = (looks_without_queue(40), looks_without_queue(160));
    assert!(many <= 5 * few, "{few} and {many}");
}

/// Xorshift64 (Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn no_window_of_a_random_heap_is_long() {
    const WORDS: usize = 16 << 10;
    for seed in 1..9 {
        let mut random = Random(seed);
        let (words, start) = memory(WORDS);
        for word in words.iter_mut() {
            if random.below(3) > 0 {
                *word = start + random.below(8 * WORDS);
            }
        }
        let roots = (0..2048).map(|_| start + random.below(8 * WORDS));
        let detector = detector(roots.collect());
        let mut at = start;
        while at < start + 8 * WORDS - 9000 {
            let size = match random.below(40) {
                0 => 8192,
                1..4 => 600,
                other => 8 * other,
            };
            fill(&detector, at, size, &mut random);
            at += size + [0, 0, 8, 3, 700][random.below(5)];
            if random.below(30) > 0 {
                at = at.next_multiple_of(8);
            }
        }
        let most = most_looks(&detector);
        assert!(most <= MOST_LOOKS, "{most} in heap {seed}");
    }
}

/// Tells of an object of some kind.
fn fill(detector: &Subject, start: usize, size: usize, random: &mut Random) {
    let min_count = [1, 1, 1, 1, 1, 1, 0, -1, 2, 5][random.below(10)];
    let options = AllocOptions::new().min_count(min_count);
    detector.alloc(start, size, options);
    match random.below(60) {
        0 => detector.scan_area(start + size / 2, size / 4),
        1 => _ = detector.region_add(start, size),
        2 => _ = detector.region_add_as(start, size, Reading::Bytes),
        3 => detector.no_scan(start),
        4 => detector.read_as(start, Reading::Bytes),
        5 => detector.free(start),
        _ => {}
    }
}
