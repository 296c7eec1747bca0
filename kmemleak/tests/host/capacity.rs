//! How much metadata is enough: the rule of [`Load`], held by detectors that have exactly so much.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use kmemleak::{
    AllocOptions, Detector, IrqState, Load, MAX_FRAMES, METADATA_PAGE, Platform, Root, RootCursor,
    RootKind,
};

use crate::lab::answer;

/// Bytes of the memory that the tests' blocks lie in.
const ARENA: usize = 8 << 20;

/// A kernel whose metadata is what was lent, and which holds its blocks or loses them.
struct Kernel {
    held: Vec<usize>,
    caller: AtomicUsize,
}

// SAFETY: the root lives as long as this; blocks lie in an arena that lives longer. There are no interrupts, and one thread.
unsafe impl Platform for Kernel {
    fn now_us(&self) -> u64 {
        1
    }

    fn irq_save(&self) -> IrqState {
        IrqState(0)
    }

    fn irq_restore(&self, _: IrqState) {}

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        cursor.index += 1;
        (cursor.index == 1).then(|| Root {
            kind: RootKind::Section,
            start: self.held.as_ptr().expose_provenance(),
            len: size_of_val(&*self.held),
        })
    }

    fn call_stack(&self, frames: &mut [usize; MAX_FRAMES]) -> usize {
        let caller = self.caller.load(Relaxed);
        let frame = |depth: usize| 0xffff_ffff_8000_0000 + caller * 16 + depth * 0x10_000;
        *frames = std::array::from_fn(frame);
        MAX_FRAMES
    }

    fn readable(&self, _start: usize, _len: usize) -> bool {
        true
    }
}

/// Blocks: how many, how large, how far apart, from how many call sites.
#[derive(Clone, Copy, Debug)]
struct Case {
    objects: usize,
    size: usize,
    apart: usize,
    call_stacks: usize,
    is_lost: bool,
}

impl Case {
    fn load(self) -> Load {
        Load {
            objects: self.objects,
            heap_bytes: self.objects * self.apart,
            smallest_bytes: self.size,
            call_stacks: self.call_stacks,
            leaks: if self.is_lost { self.objects } else { 0 },
            cpus: 1,
        }
    }

    /// Has all that a detector does done with so much metadata. What was said of missing memory, and the bytes that were used.
    fn run(self, bytes: usize) -> (Vec<String>, usize) {
        let arena = Arc::new(vec![0_u64; ARENA / 8]);
        assert!(self.objects * self.apart <= ARENA);
        let start = arena.as_ptr().expose_provenance();
        let places = (0..self.objects).map(|object| start + object * self.apart);
        let kernel = Kernel {
            held: if self.is_lost {
                vec![]
            } else {
                places.clone().collect()
            },
            caller: AtomicUsize::new(0),
        };
        let detector = Detector::new(kernel);
        let memory = vec![0; bytes + METADATA_PAGE - 1].leak();
        assert_eq!(detector.add_metadata(memory), bytes);
        for (number, place) in places.enumerate() {
            let caller = number % self.call_stacks;
            detector.platform().caller.store(caller, Relaxed);
            detector.alloc(place, self.size, AllocOptions::new());
        }
        let mut short = Vec::new();
        for line in [
            "scan",
            "mark",
            "sites",
            "report --all",
            "interior",
            "stack-only",
            "status",
            "scan",
        ] {
            let answer = answer(&detector, line);
            let sites = format!(" of {} call site", self.call_stacks.min(self.objects));
            if line == "sites" && !answer.contains(&sites) {
                short.push(format!("not{sites}s: {answer}"));
            }
            let is_short = |line: &&str| {
                line.contains("memory") && !line.contains("metadata ")
                    || line.contains("missing")
                    || line.starts_with("unrecorded") && !line.contains(" 0 (ever: 0)")
            };
            short.extend(answer.lines().filter(is_short).map(String::from));
        }
        detector.set_min_age_us(0);
        (0..3).for_each(|_| _ = detector.scan().expect("on"));
        (short, detector.metadata().bytes)
    }
}

/// Sizes and distances of blocks: dense, odd, sparse.
const SHAPES: [(usize, usize); 10] = [
    (8, 8),
    (16, 16),
    (24, 24),
    (48, 48),
    (64, 64),
    (100, 112),
    (512, 512),
    (32, 1040),
    (16, 512),
    (4000, 4096),
];

fn cases() -> impl Iterator<Item = Case> {
    let counts = if cfg!(miri) {
        vec![20]
    } else {
        vec![1, 50, 300, 3000]
    };
    counts.into_iter().flat_map(|objects| {
        SHAPES.into_iter().flat_map(move |(size, apart)| {
            let stacks = [1, 40, objects].map(|stacks: usize| stacks.min(objects));
            let lost = stacks.map(|call_stacks| (call_stacks, call_stacks == 40));
            lost.map(|(call_stacks, is_lost)| Case {
                objects: objects.min(ARENA / apart),
                size,
                apart,
                call_stacks,
                is_lost,
            })
        })
    })
}

#[test]
fn so_much_is_enough() {
    for case in cases() {
        let (short, used) = case.run(case.load().bytes());
        assert_eq!(short, [""; 0], "{case:?} of {used} bytes");
    }
}

/// The rule is no wild guess: a fifth of it is not enough for many blocks, and an eighth where small blocks lie alone, which the
/// rule can't know.
#[test]
fn much_less_is_not_enough() {
    for case in cases().filter(|case| case.objects >= 300) {
        let lie_alone = case.apart >= 512 && case.size < case.apart / 2;
        let pages = case.load().pages() / if lie_alone { 8 } else { 5 };
        let (short, _) = case.run(pages * METADATA_PAGE);
        assert!(!short.is_empty(), "{case:?} fits {pages} pages");
    }
}
