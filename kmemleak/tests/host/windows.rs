//! How often interrupts are turned off, and what is read meanwhile, while other code runs: counted on a kernel that can't stop its world.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use kmemleak::{
    AllocOptions, Detector, ForeignWords, IrqState, Platform, Root, RootCursor, RootKind,
    StopError, StoppedCpu, Words,
};

use crate::lab::pool;

const PAGE: usize = 4096;
const WORD: usize = 8;
/// Words of a page.
const WORDS: usize = PAGE / WORD;

/// A kernel with one root, whose words are those of an array. Blocks hold nothing.
struct Kernel {
    /// Where the root lies.
    at: usize,
    root: Box<[usize]>,
    foreign: bool,
    off: AtomicBool,
    /// How often interrupts were turned off.
    windows: AtomicUsize,
    /// Words of the root that have been read since, and the most that there were.
    read: AtomicUsize,
    most_read: AtomicUsize,
}

// SAFETY: blocks are numbers, which are not read, since nothing vouches for them; one thread, and no interrupts.
unsafe impl Platform for Kernel {
    fn now_us(&self) -> u64 {
        // All that is tracked is older than a pass.
        self.windows.load(Relaxed) as u64
    }

    fn irq_save(&self) -> IrqState {
        let were_off = self.off.swap(true, Relaxed);
        if !were_off {
            self.windows.fetch_add(1, Relaxed);
            self.read.store(0, Relaxed);
        }
        IrqState(usize::from(were_off))
    }

    fn irq_restore(&self, state: IrqState) {
        self.off.store(state.0 != 0, Relaxed);
    }

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        cursor.index += 1;
        (cursor.index == 1).then_some(Root {
            kind: RootKind::Section,
            start: self.at,
            len: size_of_val(&*self.root),
        })
    }

    fn stop_world(&self, _: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        Err(StopError::Unsupported)
    }

    fn readable(&self, _: usize, _: usize) -> bool {
        false
    }

    fn words(&self) -> Words<'_> {
        match self.foreign {
            true => Words::Foreign(self),
            false => Words::Plain,
        }
    }
}

// SAFETY: it looks into the array.
unsafe impl ForeignWords for Kernel {
    unsafe fn read(&self, address: usize) -> usize {
        let read = self.read.fetch_add(1, Relaxed) + 1;
        self.most_read.fetch_max(read, Relaxed);
        self.root[(address - self.at) / WORD]
    }
}

type Subject = Detector<Kernel>;

/// Where blocks lie. Nothing is there.
const BLOCKS: usize = 0xffff_8880_0010_0000;
/// The last pages of the address space, with a root of these words in them.
fn at_the_top(words: usize) -> usize {
    (words * WORD).wrapping_neg()
}

/// A kernel with such words in its root, and such blocks of 64 bytes each.
fn detector(words: Vec<usize>, blocks: &[usize], foreign_at: Option<usize>) -> Box<Subject> {
    let root = words.into_boxed_slice();
    let real = root.as_ptr().expose_provenance();
    let kernel = Kernel {
        at: foreign_at.unwrap_or(real),
        root,
        foreign: foreign_at.is_some() || cfg!(miri),
        off: AtomicBool::new(false),
        windows: AtomicUsize::new(0),
        read: AtomicUsize::new(0),
        most_read: AtomicUsize::new(0),
    };
    let detector = Box::new(Detector::new(kernel).with_pool(pool::<256>()));
    for &start in blocks {
        detector.alloc(start, 64, AllocOptions::new());
    }
    detector
}

/// How many windows a pass takes with these words in its root.
fn windows(words: &[usize], blocks: &[usize]) -> usize {
    let detector = detector(words.to_vec(), blocks, None);
    let windows = &detector.platform().windows;
    let before = windows.load(Relaxed);
    assert_eq!(detector.scan().expect("it is on").suspects, 0);
    windows.load(Relaxed) - before
}

/// How many more of them these words take behind pointers to all blocks.
fn more_windows(words: &[usize], blocks: &[usize]) -> usize {
    let with = |words: Vec<usize>| windows(&[blocks, &words].concat(), blocks);
    with(words.to_vec()) - with(vec![0; words.len()])
}

/// So many blocks, `stride` bytes apart.
fn blocks(count: usize, stride: usize) -> Vec<usize> {
    (0..count).map(|index| BLOCKS + stride * index).collect()
}

#[test]
fn words_that_are_no_pointers_are_read_a_page_at_a_time() {
    const PAGES: usize = 32;
    for foreign_at in [
        None,
        Some(0xffff_ffff_8000_0000),
        Some(at_the_top(PAGES * WORDS)),
    ] {
        let pass = |pages: usize| {
            let at = foreign_at.map(|at| at + (PAGES - pages) * PAGE);
            let detector = detector(vec![0; pages * WORDS], &blocks(2, 64), at);
            detector.scan().expect("it is on");
            detector.platform().windows.load(Relaxed)
        };
        let more = pass(PAGES) - pass(1);
        assert!(
            more <= 2 * PAGES,
            "{more} windows for {PAGES} pages, {foreign_at:x?}"
        );
    }
}

#[test]
fn pointers_to_what_is_marked_take_no_window_of_their_own() {
    let all = blocks(4, 72);
    let words: Vec<usize> = (0..16 * WORDS).map(|index| all[index % 4]).collect();
    let more = more_windows(&words, &all);
    assert!(more <= words.len() / 32, "{more} for {} words", words.len());
}

#[test]
fn numbers_that_lead_nowhere_take_no_window_of_their_own() {
    // In tables with objects and without, in the same chunks as objects not.
    let all = [BLOCKS, BLOCKS + (1 << 30)];
    let words: Vec<usize> = (0..16 * WORDS)
        .map(|index| BLOCKS + PAGE * (1 + index % 64) + (index % 2) * (1 << 28) + 4 * index % 100)
        .collect();
    let more = more_windows(&words, &all);
    assert!(more <= words.len() / 32, "{more} for {} words", words.len());
}

#[test]
fn starts_of_blocks_are_marked_some_in_a_window() {
    let all = blocks(8 * WORDS, 64);
    let windows = windows(&all, &all);
    // That is with those in which they are scanned.
    assert!(
        windows <= all.len() / 2,
        "{windows} for {} blocks",
        all.len()
    );
}

#[test]
fn what_may_point_inside_is_looked_up_in_one_window_each() {
    let all = blocks(2, 64);
    let words: Vec<usize> = (0..8 * WORDS)
        .map(|index| all[index % 2] + 8 + index % 32)
        .collect();
    let more = more_windows(&words, &all);
    assert!(
        more <= words.len() + words.len() / 32,
        "{more} for {}",
        words.len()
    );
}

/// The last words of the address space are searched one at a time.
#[test]
fn a_question_is_shown_few_words_in_a_window_wherever_they_lie() {
    let all = blocks(2, 64);
    for at in [0xffff_ffff_8000_0000, at_the_top(WORDS)] {
        let detector = detector(vec![all[0]; WORDS], &all, Some(at));
        detector.scan().expect("it is on");
        let platform = detector.platform();
        platform.most_read.store(0, Relaxed);
        let mut slots = 0;
        detector
            .holders(all[0], &mut |_| slots += 1)
            .expect("it is tracked");
        assert_eq!(slots, WORDS);
        let most = platform.most_read.load(Relaxed);
        assert!(most <= 16, "{most} pointers in a window, at {at:#x}");
    }
}
