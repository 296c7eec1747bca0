//! A kernel that says where its stack lies, and nothing more: the detector itself leaves out its own frames, and reads those of
//! its callers.

use std::hint::black_box;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};

use kmemleak::{
    AllocOptions, BootstrapPool, Detector, ForeignWords, IrqState, Platform, Root, RootCursor,
    RootKind, Slot, SlotPlace, StopError, StoppedCpu, Words,
};

/// Bytes of the part of a thread's stack that counts as the stack.
pub const STACK: usize = 1 << 20;

/// How the kernel stops its world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum World {
    Stops,
    Runs,
}

/// What the kernel says of its stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Says {
    /// Where it lies.
    Bounds,
    /// That all of it is a root, besides.
    BoundsAndRoot,
}

/// A kernel with one CPU, whose stack is a part of a thread's.
struct Kernel {
    stack: Range<usize>,
    says: Says,
    world: World,
    /// The start of a region whose words are read slowly; zero for none.
    slow: AtomicUsize,
    /// Whether a word of that region is being read.
    reading: AtomicBool,
    /// Walks over the roots that have begun and not ended, and all.
    walks: AtomicU32,
    ever: AtomicU32,
}

// SAFETY: the stack is the thread's that uses the detector; blocks are the test's own memory. No interrupts.
unsafe impl Platform for Kernel {
    fn now_us(&self) -> u64 {
        1
    }

    fn irq_save(&self) -> IrqState {
        IrqState(0)
    }

    fn irq_restore(&self, _: IrqState) {}

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        assert_eq!(self.walks.load(Relaxed), 1, "between begin and end");
        cursor.index += 1;
        (cursor.index == 1 && self.says == Says::BoundsAndRoot).then(|| Root {
            kind: RootKind::Stack(0),
            start: self.stack.start,
            len: self.stack.len(),
        })
    }

    fn stack_bounds(&self) -> Option<Range<usize>> {
        Some(self.stack.clone())
    }

    fn stop_world(&self, work: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        if self.world == World::Runs {
            return Err(StopError::Unsupported);
        }
        work(StoppedCpu {
            index: 0,
            of: 1,
            initiator: true,
        });
        Ok(())
    }

    fn roots_begin(&self) {
        assert_eq!(self.walks.fetch_add(1, Relaxed), 0, "not nested");
        self.ever.fetch_add(1, Relaxed);
    }

    fn roots_end(&self) {
        assert_eq!(self.walks.fetch_sub(1, Relaxed), 1);
    }

    fn readable(&self, _: usize, _: usize) -> bool {
        true
    }

    fn words(&self) -> Words<'_> {
        match self.slow.load(Relaxed) {
            0 => Words::Plain,
            _ => Words::Foreign(self),
        }
    }
}

/// Bytes of the region.
const SLOW: usize = 64;

// SAFETY: reads memory, and waits.
unsafe impl ForeignWords for Kernel {
    unsafe fn read(&self, address: usize) -> usize {
        if address.wrapping_sub(self.slow.load(Relaxed)) < SLOW {
            self.reading.store(true, Relaxed);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        // SAFETY: the caller's promise.
        let word = unsafe { std::ptr::with_exposed_provenance::<usize>(address).read_volatile() };
        self.reading.store(false, Relaxed);
        word
    }
}

/// Runs `test` on a thread, with an address at which its stack is in use down from: four times [`STACK`] lie below.
pub fn on_thread(test: impl FnOnce(usize) + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(4 * STACK);
    let thread = thread.spawn(move || {
        let top = 0_usize;
        let end = core::ptr::from_ref(black_box(&top)).expose_provenance();
        test(end);
    });
    thread.expect("threads").join().expect("passes");
}

/// Runs `test` on a thread whose stack is known, in each kind of kernel.
fn on_known_stacks(test: fn(&Detector<Kernel>)) {
    for says in [Says::Bounds, Says::BoundsAndRoot] {
        for world in [World::Stops, World::Runs] {
            on_thread(move |end| on_stack(end, says, world, test));
        }
    }
}

#[inline(never)]
fn on_stack(end: usize, says: Says, world: World, test: fn(&Detector<Kernel>)) {
    let kernel = Kernel {
        stack: end - STACK..end,
        says,
        world,
        slow: AtomicUsize::new(0),
        reading: AtomicBool::new(false),
        walks: AtomicU32::new(0),
        ever: AtomicU32::new(0),
    };
    let pool: &'static BootstrapPool<64> = Box::leak(Box::new(BootstrapPool::new()));
    let detector = Detector::new(kernel).with_pool(pool);
    test(&detector);
    assert_eq!(detector.platform().walks.load(Relaxed), 0);
}

/// A block of the test's, inside an allocation, to whose start the frames of the thread may have old pointers. Only the block's
/// address, inverted, is kept.
#[inline(never)]
pub fn plant<P: Platform>(detector: &Detector<P>) -> usize {
    let allocation = Box::leak(Box::new([0_usize; 4096]));
    let block = &mut allocation[2048..2056];
    let start = block.as_mut_ptr().expose_provenance();
    detector.alloc(start, size_of_val(block), AllocOptions::new());
    !start
}

#[inline(never)]
pub fn listed<P: Platform>(detector: &Detector<P>, hidden: usize) -> bool {
    detector.check().expect("on");
    let mut found = false;
    let mut look = |leak: kmemleak::Unreferenced| found |= leak.start == !hidden;
    detector.for_each_unreferenced(&mut look).expect("on");
    found
}

/// Leaves the address in frames that have returned, 16 KiB below its caller's. What lies above would be left in parts of frames
/// to which a later call does not write: in those of the test it could be found.
#[inline(never)]
fn leave_below(hidden: usize) {
    let above = [0_usize; 2048];
    leave(200, hidden);
    black_box(&above);
}

/// Leaves the address in frames that have returned, less than 1 KiB below its caller's: where the frames of its next call will lie, but
/// for the first one, which is small.
#[inline(never)]
fn leave_near(hidden: usize) {
    let mut above = [0_usize; 64];
    black_box(&mut above);
    leave(200, hidden);
    black_box(&mut above);
}

#[inline(never)]
fn leave(depth: usize, hidden: usize) {
    let frame = [!hidden; 64];
    if depth > 0 {
        leave(depth - 1, hidden);
    }
    black_box(&frame);
}

fn say(detector: &Detector<Kernel>, line: &str) -> String {
    let mut answer = String::new();
    detector.command(line, &mut answer).expect("text");
    answer
}

#[test]
fn the_selftest_passes() {
    on_known_stacks(|detector| {
        for _ in 0..3 {
            let answer = say(detector, "selftest");
            assert!(answer.contains("passed"), "{answer}");
        }
    });
}

#[test]
fn dead_frames_keep_nothing_alive_and_live_ones_do() {
    on_known_stacks(|detector| {
        let lost = plant(detector);
        leave_below(lost);
        assert!(listed(detector, lost), "only words below the stack pointer");
        let held = plant(detector);
        leave_below(held);
        let mut local = black_box(!held);
        black_box(&mut local);
        assert!(!listed(detector, held), "a word of the caller's frame");
        local = 0;
        black_box(&mut local);
        leave_below(held);
        assert!(listed(detector, held), "the word is gone");
    });
}

/// Words of calls that have returned, where the detector's own frames will lie.
#[test]
fn what_the_detectors_own_frames_leave_unwritten_keeps_nothing_alive() {
    on_known_stacks(|detector| {
        let lost = plant(detector);
        leave_near(lost);
        let verdict = detector.check();
        assert_eq!(verdict.expect("on").listed(), 1, "by a check");
        let mut answer = String::new();
        leave_near(lost);
        let written = detector.command("scan", &mut answer);
        written.expect("text");
        assert!(answer.contains(" 64 B "), "{answer}");
    });
}

/// Nor do they to a question, whether it is asked by address or by number: each says that nothing leads to the block.
#[test]
fn nor_is_it_found_by_a_question() {
    on_known_stacks(|detector| {
        let lost = plant(detector);
        leave_near(lost);
        say(detector, "scan");
        for (line, expected) in [
            ("why #1 --json", "\"near_misses\":0,"),
            ("why #1", "in the last report as a leader"),
            ("path #1", "no root leads there"),
            ("holders #1", "kmemleak: 0 holders"),
            ("holders #1 --full", "kmemleak: 0 holders"),
            ("snapshot", "\"edges\":0,\"roots\":0,"),
            ("mark", " 1 unreferenced object"),
        ] {
            let mut answer = String::new();
            leave_near(lost);
            let _ = detector.command(line, &mut answer);
            let answer = answer.replace("suspect", "unreferenced object");
            assert!(answer.contains(expected), "{line}: {answer}");
        }
    });
}

#[test]
fn what_holds_a_block_is_named() {
    on_known_stacks(|detector| {
        let held = plant(detector);
        let mut local = black_box(!held);
        let slot_of_local = !core::ptr::from_ref(black_box(&local)).addr();
        let (mut slots, mut in_stack) = (0, true);
        let mut look = |slot: Slot| {
            slots += usize::from(slot.address == !slot_of_local);
            in_stack &=
                matches!(slot.place, SlotPlace::Root(root) if root.kind == RootKind::Stack(0));
        };
        detector.holders(!held, &mut look).expect("there");
        assert_eq!(
            (slots, in_stack),
            (1, true),
            "once, whoever names the stack"
        );
        detector.path(!held, &mut |_| {}).expect("reached");
        black_box(&mut local);
    });
}

#[test]
fn a_block_that_holds_the_stack_is_alive_and_its_dead_part_is_not_read() {
    on_known_stacks(|detector| {
        let stack = detector.platform().stack.clone();
        detector.alloc(stack.start, stack.len(), AllocOptions::new());
        let lost = plant(detector);
        leave_below(lost);
        assert!(
            listed(detector, lost),
            "a word in the dead part of the block"
        );
        assert!(!listed(detector, !stack.start), "the stack is in use");
        let held = plant(detector);
        let mut local = black_box(!held);
        assert!(!listed(detector, held), "a word in the live part");
        black_box(&mut local);
    });
}

/// The command, with the address in text: no word ever holds it.
fn why(detector: &Detector<Kernel>, hidden: usize) -> String {
    let digit = |place: usize| 15 - (hidden >> (60 - 4 * place) & 15);
    let digits: String = (0..16)
        .filter_map(|place| char::from_digit(digit(place) as u32, 16))
        .collect();
    say(detector, &format!("why {digits} --json"))
}

#[test]
fn why_says_what_is_seen_and_does_not_see_itself() {
    on_known_stacks(|detector| {
        let stack = detector.platform().stack.clone();
        detector.alloc(stack.start, stack.len(), AllocOptions::new());
        let answer = why(detector, !stack.start);
        assert!(answer.contains("\"answer\":\"in_root\""), "{answer}");
        assert!(answer.contains("task 0 stack+0x0"), "{answer}");
        let lost = plant(detector);
        leave_below(lost);
        let answer = why(detector, lost);
        assert!(answer.contains("\"answer\":\"no_verdict\""), "{answer}");
        assert!(answer.contains("\"near_misses\":0,"), "{answer}");
        let mut local = black_box(!lost);
        black_box(&mut local);
        let answer = why(detector, lost);
        assert!(answer.contains("\"answer\":\"held_by_stack\""), "{answer}");
        black_box(&mut local);
    });
}

#[test]
fn each_pass_is_one_walk() {
    on_known_stacks(|detector| {
        let ever = || detector.platform().ever.load(Relaxed);
        detector.scan().expect("on");
        assert_eq!(ever(), 1);
        detector.check().expect("on");
        let checked = ever();
        match detector.platform().world {
            World::Stops => assert_eq!(checked, 2),
            World::Runs => assert!(checked > 3, "several passes"),
        }
        let hidden = plant(detector);
        let _ = detector.holders(!hidden, &mut |_| {});
        assert!(ever() > checked);
    });
}

#[test]
fn a_region_is_not_read_when_its_removal_has_returned() {
    on_known_stacks(|detector| {
        if detector.platform().world == World::Stops {
            return;
        }
        let region = Box::leak(Box::new([0_usize; SLOW / 8]));
        let start = core::ptr::from_mut(region).expose_provenance();
        assert!(detector.region_add(start, size_of_val(region)));
        detector.platform().slow.store(start, Relaxed);
        let reads = || detector.platform().reading.load(Relaxed);
        std::thread::scope(|threads| {
            threads.spawn(move || {
                while !reads() {
                    std::hint::spin_loop();
                }
                detector.region_remove(start);
                assert!(!reads(), "it waits");
            });
            detector.scan().expect("on");
        });
    });
}

/// A stack's lowest page is often a guard page, which is no block; and a stack may lie in several blocks.
#[test]
fn blocks_that_hold_parts_of_the_stack_are_alive_and_its_dead_part_is_not_read() {
    const GUARD: usize = 4096;
    on_known_stacks(|detector| {
        let stack = detector.platform().stack.clone();
        let blocks = [
            (stack.start + GUARD, STACK / 4),
            (stack.start + STACK / 2, STACK / 2),
        ];
        for (start, size) in blocks {
            detector.alloc(start, size, AllocOptions::new());
        }
        for (start, _) in blocks {
            assert!(!listed(detector, !start), "it is in use");
        }
        let lost = plant(detector);
        leave_below(lost);
        assert!(listed(detector, lost), "a word in the dead part of a block");
    });
}

/// Without stacks as roots, the caller's is none; the block that holds it is in use all the same.
#[test]
fn without_stacks_as_roots_the_callers_is_none() {
    on_known_stacks(|detector| {
        say(detector, "stack=off");
        let held = plant(detector);
        let mut local = black_box(!held);
        assert!(listed(detector, held), "a word of the caller's frame");
        black_box(&mut local);
        let stack = detector.platform().stack.clone();
        detector.alloc(stack.start, stack.len(), AllocOptions::new());
        assert!(listed(detector, held), "nor in the block");
        assert!(!listed(detector, !stack.start), "it is in use");
        black_box(&mut local);
        say(detector, "stack=on");
        assert!(!listed(detector, held), "a word of the caller's frame");
        black_box(&mut local);
    });
}

/// It holds a part of the stack, and begins outside of it. The one below holds nothing of the stack.
#[test]
fn a_block_that_begins_below_the_stack_and_goes_on_in_it_is_in_use() {
    const BELOW: usize = 4096;
    on_known_stacks(|detector| {
        // The addresses of the blocks are on this stack.
        say(detector, "stack=off");
        let start = detector.platform().stack.start - BELOW;
        detector.alloc(start, BELOW + STACK / 2, AllocOptions::new());
        let beside = start - BELOW;
        detector.alloc(beside, BELOW, AllocOptions::new());
        assert!(!listed(detector, !start), "it is in use");
        assert!(listed(detector, !beside));
    });
}
