//! Blocks that a wrapped allocator resizes: they stay the same objects, and no check sees them halfway.

use std::alloc::{GlobalAlloc, Layout};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use kmemleak::{
    Answer, Detector, Doubt, IrqState, MAX_FRAMES, NoAnswer, Platform, Reading, Root, RootCursor,
    RootKind, StopError, StoppedCpu, Tracked, Unreferenced, Unreported,
};

use crate::lab::pool;

type Action = Box<dyn FnMut() + Send>;

/// A kernel with a few variables, whose clock, call stacks and waiting are the test's.
struct Kernel {
    variables: &'static [AtomicUsize; 4],
    now_us: AtomicU64,
    caller: AtomicUsize,
    can_stop: AtomicBool,
    stops: AtomicUsize,
    at_relax: Mutex<Option<Action>>,
    before_stop: Mutex<Option<Action>>,
}

// SAFETY: the variables live as long as this, blocks come from arrays that are leaked. There are no interrupts; while one thread
// checks, another one waits in the allocator.
unsafe impl Platform for Kernel {
    fn now_us(&self) -> u64 {
        self.now_us.load(SeqCst)
    }

    fn irq_save(&self) -> IrqState {
        IrqState(0)
    }

    fn irq_restore(&self, _: IrqState) {}

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        cursor.index += 1;
        (cursor.index == 1).then(|| Root {
            kind: RootKind::Section,
            start: self.variables.as_ptr().expose_provenance(),
            len: size_of_val(self.variables),
        })
    }

    fn call_stack(&self, frames: &mut [usize; MAX_FRAMES]) -> usize {
        frames[0] = self.caller.load(SeqCst);
        1
    }

    fn stop_world(&self, work: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        if !self.can_stop.load(SeqCst) {
            return Err(StopError::Unsupported);
        }
        let action = self.before_stop.lock().expect("free").take();
        action.into_iter().for_each(|mut action| action());
        self.stops.fetch_add(1, SeqCst);
        work(StoppedCpu {
            index: 0,
            of: 1,
            initiator: true,
        });
        Ok(())
    }

    fn relax(&self) -> ControlFlow<()> {
        let mut action = self.at_relax.lock().expect("nobody panics under it");
        action.iter_mut().for_each(|action| action());
        ControlFlow::Continue(())
    }
}

/// Bytes for each block, so that it can grow to them in place.
const ROOM: usize = 256;
/// Bytes that no block may have.
const TOO_LARGE: usize = 4096;

/// Hands out an array, 256 bytes for a block. What is given back is overwritten.
struct Growing {
    array: *mut u8,
    used: AtomicUsize,
    /// Whether the block that came back last was all zeros.
    came_clear: AtomicBool,
    /// Called in the middle of a `realloc`.
    halfway: Mutex<Option<Action>>,
}

// SAFETY: each block is handed out once.
unsafe impl Sync for Growing {}
// SAFETY: the array is leaked.
unsafe impl Send for Growing {}

// SAFETY: blocks are disjoint parts of the array.
unsafe impl GlobalAlloc for Growing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= TOO_LARGE {
            return std::ptr::null_mut();
        }
        let bytes = layout.size().next_multiple_of(ROOM);
        self.array.wrapping_add(self.used.fetch_add(bytes, SeqCst))
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is nobody's any more.
        let left = unsafe { std::slice::from_raw_parts(block, layout.size()) };
        let clear = left.iter().all(|&byte| byte == 0);
        self.came_clear.store(clear, SeqCst);
        // SAFETY: the block is nobody's any more.
        unsafe { block.write_bytes(0xdd, layout.size()) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let mut new = block;
        if new_size > ROOM {
            // SAFETY: the caller's promise.
            let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
            // SAFETY: the caller's promise.
            new = unsafe { self.alloc(new_layout) };
        }
        if new != block && !new.is_null() {
            // SAFETY: both are at least as large.
            unsafe { block.copy_to_nonoverlapping(new, layout.size()) };
            // SAFETY: the caller's promise.
            unsafe { self.dealloc(block, layout) };
        }
        let mut action = self.halfway.lock().expect("nobody panics under it");
        action.iter_mut().for_each(|action| action());
        new
    }
}

type Heap = Tracked<Growing, Kernel>;

/// A kernel with its heap.
#[derive(Clone, Copy)]
struct World {
    detector: &'static Detector<Kernel>,
    heap: &'static Heap,
}

impl World {
    fn new(wrap: impl FnOnce(Growing, &'static Detector<Kernel>) -> Heap) -> Self {
        let kernel = Kernel {
            variables: Box::leak(Box::new([const { AtomicUsize::new(0) }; 4])),
            now_us: AtomicU64::new(1000),
            caller: AtomicUsize::new(0x1000),
            can_stop: AtomicBool::new(true),
            stops: AtomicUsize::new(0),
            at_relax: Mutex::new(None),
            before_stop: Mutex::new(None),
        };
        let detector: &_ = Box::leak(Box::new(Detector::new(kernel).with_pool(pool::<128>())));
        detector.set_min_age_us(0);
        let array = vec![0_u64; 32 * ROOM / 8].leak();
        let growing = Growing {
            array: array.as_mut_ptr().cast(),
            used: AtomicUsize::new(0),
            came_clear: AtomicBool::new(false),
            halfway: Mutex::new(None),
        };
        let heap = Box::leak(Box::new(wrap(growing, detector)));
        Self { detector, heap }
    }

    fn plain() -> Self {
        Self::new(Tracked::new)
    }

    fn kernel(&self) -> &'static Kernel {
        self.detector.platform()
    }

    /// A block, allocated from `caller`, a microsecond after the last one.
    fn block(&self, size: usize, caller: usize) -> usize {
        self.kernel().caller.store(caller, SeqCst);
        self.kernel().now_us.fetch_add(1, SeqCst);
        // SAFETY: the size is not zero.
        unsafe { self.heap.alloc(layout(size)) }.expose_provenance()
    }

    /// Resizes a block, from another call site and later.
    fn resize(&self, block: usize, size: usize, new_size: usize) -> usize {
        self.kernel().caller.store(0x9000, SeqCst);
        self.kernel().now_us.fetch_add(100, SeqCst);
        let block = std::ptr::with_exposed_provenance_mut(block);
        // SAFETY: a block of this heap, of this layout.
        unsafe { self.heap.realloc(block, layout(size), new_size) }.expose_provenance()
    }

    fn hold(&self, index: usize, word: usize) {
        self.kernel().variables[index].store(word, SeqCst);
    }

    fn found(&self) -> Vec<Unreferenced> {
        self.detector.check().expect("it is on");
        let mut found = Vec::new();
        let listed = (self.detector).for_each_unreferenced(&mut |object| found.push(object));
        assert_eq!(listed, Ok(()));
        found
    }

    fn leaks(&self) -> Vec<usize> {
        self.found().iter().map(|object| object.start).collect()
    }

    fn at_relax(&self, action: impl FnMut() + Send + 'static) {
        *self.kernel().at_relax.lock().expect("free") = Some(Box::new(action));
    }

    fn halfway(&self, action: impl FnMut() + Send + 'static) {
        *self.heap.halfway.lock().expect("free") = Some(Box::new(action));
    }

    /// What a question sees that is asked while a block which alone points to another is moved: from before it is asked on, or from
    /// right before it stops the world. The block lands when others have been let run `relaxes` times. The block's new place, the
    /// other block, and the answer.
    fn halfway_through<R>(
        &self,
        picked_up: PickedUp,
        relaxes: usize,
        question: impl FnOnce() -> R,
    ) -> (usize, usize, R) {
        let (block, child) = (self.block(64, 1), self.block(48, 2));
        self.hold(0, block);
        write(block, child);
        let (in_flight, told) = mpsc::channel();
        let (let_go, wait) = mpsc::channel();
        self.halfway(move || {
            in_flight.send(()).expect("somebody waits for it");
            wait.recv().expect("somebody lets it go");
        });
        let world = *self;
        let (moved_to, moved) = mpsc::channel();
        let pick_up = move || {
            let mover = thread::spawn(move || {
                let moved = world.resize(block, 64, 1000);
                world.hold(0, moved);
                moved
            });
            told.recv().expect("it is in flight");
            let (let_go, moved_to) = (let_go.clone(), moved_to.clone());
            let (mut left, mut mover) = (relaxes, Some(mover));
            world.at_relax(move || {
                left = left.saturating_sub(1);
                if left == 0
                    && let Some(mover) = mover.take()
                {
                    let_go.send(()).expect("it waits");
                    let moved = mover.join().expect("no panic");
                    moved_to.send(moved).expect("somebody asks");
                }
            });
        };
        match picked_up {
            PickedUp::Before => pick_up(),
            PickedUp::AtTheStop => {
                *self.kernel().before_stop.lock().expect("free") = Some(Box::new(pick_up));
            }
        }
        let answer = question();
        // If it waited for nothing, the block lands now.
        (0..relaxes).for_each(|_| _ = self.kernel().relax());
        (moved.recv().expect("it has moved"), child, answer)
    }
}

/// When a block is picked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PickedUp {
    Before,
    AtTheStop,
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("a layout")
}

fn write(at: usize, word: usize) {
    // SAFETY: a word of a block that this thread uses alone.
    unsafe { std::ptr::with_exposed_provenance_mut::<usize>(at).write(word) };
}

/// The words there.
fn words<const LEN: usize>(at: usize) -> [usize; LEN] {
    let at = std::ptr::with_exposed_provenance::<[usize; LEN]>(at);
    // SAFETY: words of the heap's array.
    unsafe { at.read() }
}

#[test]
fn a_resized_block_keeps_its_age_and_call_stack() {
    let world = World::plain();
    let block = world.block(64, 0x1234);
    let before = world.found()[0];
    let larger = world.resize(block, 64, 200);
    assert_eq!(larger, block, "the allocator grows it where it is");
    let moved = world.resize(block, 200, 1000);
    assert_ne!(moved, block);
    let expected = Unreferenced {
        start: moved,
        size: 1000,
        ..before
    };
    assert_eq!(world.found(), [expected]);
    let smaller = world.resize(moved, 1000, 20);
    assert_eq!(
        (world.found()[0].size, world.found()[0].start),
        (20, smaller)
    );
    assert_eq!(world.detector.tracking().objects, 1);
}

#[test]
fn a_resized_block_keeps_what_was_said_of_it() {
    let world = World::plain();
    let block = world.block(64, 1);
    world.detector.not_leak(block);
    let [first, second, third] = [2, 3, 4].map(|caller| world.block(48, caller));
    [first, second, third]
        .into_iter()
        .enumerate()
        .for_each(|(word, child)| write(block + 8 * word, child));
    world.detector.scan_area(block, 8);
    world.detector.scan_area(block + 8, 8);
    assert_eq!(world.leaks(), [third]);
    let moved = world.resize(block, 64, 600);
    assert_eq!(world.leaks(), [third], "gray, and scanned where it was");
    let small = world.resize(moved, 600, 8);
    assert_eq!(world.leaks(), [second, third]);
    let large = world.resize(small, 8, 200);
    assert_eq!(world.leaks(), [second, third], "the area is cut");
    world.detector.free(large);
    assert_eq!(world.leaks(), [first, second, third]);
}

#[test]
fn a_resized_block_is_read_as_before() {
    let world = World::plain();
    let block = world.block(64, 1);
    let child = world.block(48, 2);
    world.detector.not_leak(block);
    // Half of the pointer is in one word, half in the next.
    write(block, child << 32);
    write(block + 8, child >> 32);
    assert_eq!(world.leaks(), [child]);
    world.detector.read_as(block, Reading::Bytes);
    let mut block = block;
    for (before, after) in [(64, 128), (128, 600), (600, 16)] {
        assert_eq!(world.leaks(), [], "{before} bytes");
        block = world.resize(block, before, after);
    }
    assert_eq!(world.leaks(), []);
}

#[test]
fn a_block_that_can_not_be_resized_stays_as_it_was() {
    let world = World::plain();
    let block = world.block(64, 1);
    let child = world.block(48, 2);
    write(block + 8, child);
    world.detector.scan_area(block, 8);
    let before = world.found();
    assert_eq!(before.len(), 2);
    let mut text = String::new();
    world
        .detector
        .command("scan", &mut text)
        .expect("text takes all");
    assert_eq!(world.resize(block, 64, TOO_LARGE), 0);
    assert_eq!(world.found(), before);
    let mut warnings = String::new();
    world.detector.drain_warnings(&mut warnings);
    assert_eq!(warnings, "");
}

#[test]
fn a_check_waits_until_a_block_has_been_moved() {
    for (picked_up, stops) in [(PickedUp::Before, 1), (PickedUp::AtTheStop, 2)] {
        let world = World::plain();
        let (moved, child, found) = world.halfway_through(picked_up, 1, || world.found());
        assert_eq!(found, [], "{picked_up:?}");
        assert_eq!(world.kernel().stops.load(SeqCst), stops, "{picked_up:?}");
        world.hold(0, 0);
        assert_eq!(world.leaks(), [moved, child]);
    }
}

#[test]
fn a_scan_waits_until_a_block_has_been_moved() {
    let world = World::plain();
    world.kernel().can_stop.store(false, SeqCst);
    let check = || world.detector.check().expect("on");
    // So often all passes together let others run when no block is in flight. Before them, the check waits for a stop, but less.
    let blocks = [world.block(64, 1), world.block(48, 2)];
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    world.at_relax(move || _ = counted.fetch_add(1, SeqCst));
    assert_eq!(check().suspects, 2);
    blocks
        .into_iter()
        .for_each(|block| world.detector.free(block));
    let all = count.load(SeqCst);
    let (moved, child, summary) = world.halfway_through(PickedUp::Before, all + 100, check);
    assert_eq!((summary.suspects, summary.in_flight), (0, 0));
    world.hold(0, 0);
    assert_eq!(world.leaks(), [moved, child]);
}

#[test]
fn a_block_that_never_lands_makes_doubts() {
    for can_stop in [true, false] {
        let world = World::plain();
        let (block, child) = (world.block(64, 1), world.block(48, 2));
        world.hold(0, block);
        write(block, child);
        world.kernel().can_stop.store(can_stop, SeqCst);
        world.halfway(move || {
            let summary = world.detector.check().expect("on");
            assert_eq!((summary.objects, summary.suspects), (0, 1));
            assert_eq!(summary.doubt(), Some(Doubt::InFlight(1)));
            let mut report = String::new();
            world.detector.report(&mut report).expect("text takes all");
            assert!(
                report.contains("1 block was being reallocated all the time"),
                "{report}"
            );
            if can_stop {
                // Not that nothing leads there.
                let in_flight = Err(NoAnswer::InFlight);
                assert_eq!(world.detector.path(child, &mut |_| {}), in_flight);
                assert_eq!(world.detector.holders(child, &mut |_| {}), in_flight);
                assert_eq!(
                    world.detector.why(child, &mut |_| {}).err(),
                    in_flight.err()
                );
            }
        });
        world.resize(block, 64, 100);
        assert!(world.leaks().is_empty());
        assert!(world.kernel().stops.load(SeqCst) > 1 || !can_stop);
    }
}

#[test]
fn wiping_leaves_nothing_where_a_block_was() {
    let world = World::new(|growing, detector| Tracked::new(growing, detector).wiping());
    let block = world.block(64, 0x1234);
    let before = world.found()[0];
    let content = [1, 2, 3, 4, 5, 6, 7, 8].map(|word: usize| !word);
    (0..8).for_each(|word| write(block + 8 * word, content[word]));
    let moved = world.resize(block, 64, 128);
    assert!(world.heap.came_clear.load(SeqCst));
    let kept: [usize; 8] = words(moved);
    assert_eq!((kept, words(moved + 64)), (content, [0; 8]));
    let expected = Unreferenced {
        start: moved,
        size: 128,
        ..before
    };
    assert_eq!(world.found(), [expected]);
    assert_eq!(world.resize(moved, 128, TOO_LARGE), 0);
    assert_eq!(world.found(), [expected]);
}

#[test]
fn an_unknown_block_is_known_when_it_was_resized() {
    let world = World::plain();
    world.detector.exhaust_metadata(true);
    let block = world.block(64, 1);
    world.detector.exhaust_metadata(false);
    let moved = world.resize(block, 64, 1000);
    assert_eq!(world.found()[0].start, moved);
    let mut warnings = String::new();
    world.detector.drain_warnings(&mut warnings);
    assert_eq!(warnings, "");
}

#[test]
fn off_in_the_middle_of_a_resize_is_survived() {
    let world = World::plain();
    let block = world.block(64, 1);
    world.detector.scan_area(block, 8);
    world.halfway(move || {
        for line in ["off", "clear"] {
            let mut answer = String::new();
            world
                .detector
                .command(line, &mut answer)
                .expect("text takes all");
        }
    });
    assert_ne!(world.resize(block, 64, 1000), block);
    assert_eq!(world.detector.metadata().bytes, 0);
}

/// What the verdict before the last one said of a block that was in flight at the last one is not said any more.
#[test]
fn a_block_that_no_verdict_saw_is_not_in_the_last_one() {
    let world = World::plain();
    let block = world.block(64, 1);
    assert_eq!(world.leaks(), [block]);
    let mut report = String::new();
    world.detector.report(&mut report).expect("text takes all");
    world.halfway(move || assert_eq!(world.leaks(), []));
    assert_eq!(world.resize(block, 64, TOO_LARGE), 0);
    world.halfway(|| ());
    let why = world.detector.why(block, &mut |_| ()).expect("an answer");
    assert_eq!(why.answer, Answer::Unreported(Unreported::LostSince));
    let summary = world.detector.check().expect("on");
    assert_eq!((summary.objects, summary.unreported_objects), (1, 1));
}
