//! Scans on a kernel whose world can't be stopped, so that nothing is looked at again: what changes right before one of the
//! detector's windows, whichever that is. Memory is a map of words.

use std::ops::{ControlFlow, Range};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kmemleak::{
    AllocOptions, Comm, Context, Detector, ForeignWords, IrqState, Platform, Reading, Root,
    RootCursor, RootKind, StopError, StoppedCpu, Words,
};

use crate::lab::{answer, pool};
use crate::sparse::{BLOCKS, ROOT, Sparse};

const WORD: usize = size_of::<usize>();
const PAGE: usize = 4096;
/// Where regions lie.
const REGION: usize = BLOCKS + (1 << 30);

/// The kernel.
struct Unstopped {
    memory: Sparse,
    /// What it does not vouch for.
    unreadable: Mutex<Vec<Range<usize>>>,
    /// Whether stacks may be unmapped while a scan goes on.
    stacks_go: AtomicBool,
    /// How often interrupts went off since others were let run last, and the most of that.
    windows: AtomicUsize,
    most_windows: AtomicUsize,
}

// SAFETY: as that of its memory.
unsafe impl Platform for Unstopped {
    fn now_us(&self) -> u64 {
        self.memory.now_us()
    }

    fn irq_save(&self) -> IrqState {
        let windows = self.windows.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_windows.fetch_max(windows, Ordering::Relaxed);
        self.memory.irq_save()
    }

    fn irq_restore(&self, state: IrqState) {
        self.memory.irq_restore(state);
    }

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        self.memory.next_root(cursor)
    }

    fn context(&self) -> Context {
        self.memory.context()
    }

    fn comm(&self) -> Comm {
        self.memory.comm()
    }

    fn metadata_alloc(&self) -> Option<NonNull<u8>> {
        self.memory.metadata_alloc()
    }

    unsafe fn metadata_free(&self, page: NonNull<u8>) {
        // SAFETY: the caller's promise.
        unsafe { self.memory.metadata_free(page) };
    }

    fn stop_world(&self, _: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        Err(StopError::Unsupported)
    }

    fn relax(&self) -> ControlFlow<()> {
        self.windows.store(0, Ordering::Relaxed);
        ControlFlow::Continue(())
    }

    fn cpus(&self) -> u32 {
        self.memory.cpus()
    }

    fn percpu_copy(&self, handle: usize, cpu: u32) -> usize {
        self.memory.percpu_copy(handle, cpu)
    }

    fn readable(&self, start: usize, len: usize) -> bool {
        let unreadable = self.unreadable.lock().expect("nobody panics under it");
        let meets = |other: &Range<usize>| start < other.end && other.start < start + len;
        !unreadable.iter().any(meets)
    }

    fn stays_readable(&self, _: usize, _: usize) -> bool {
        !self.stacks_go.load(Ordering::Relaxed)
    }

    fn words(&self) -> Words<'_> {
        Words::Foreign(self)
    }
}

// SAFETY: as that of its memory.
unsafe impl ForeignWords for Unstopped {
    unsafe fn read(&self, address: usize) -> usize {
        // SAFETY: the caller's promise.
        unsafe { self.memory.read(address) }
    }
}

/// The kernel with its detector.
#[derive(Clone)]
struct World(Arc<Detector<Unstopped>>);

impl World {
    fn new() -> Self {
        let platform = Unstopped {
            memory: Sparse::new(),
            unreadable: Mutex::default(),
            stacks_go: AtomicBool::new(false),
            windows: AtomicUsize::new(0),
            most_windows: AtomicUsize::new(0),
        };
        let detector = Detector::new(platform).with_pool(pool::<16>());
        detector.set_min_age_us(0);
        Self(Arc::new(detector))
    }

    fn memory(&self) -> &Sparse {
        &self.0.platform().memory
    }

    fn block(&self, start: usize) -> usize {
        self.block_with(start, 64, AllocOptions::new())
    }

    fn block_with(&self, start: usize, size: usize, options: AllocOptions) -> usize {
        self.0.alloc(start, size, options);
        start
    }

    /// Word `index` of the root is this.
    fn hold(&self, index: usize, word: usize) {
        self.memory().write(ROOT + index * WORD, word);
    }

    fn add_root(&self, root: Root) {
        self.memory().roots.lock().expect("free").push(root);
    }

    /// What a scan lists, by address.
    fn scan(&self) -> Vec<usize> {
        self.memory()
            .now_us
            .fetch_add(10_000_000, Ordering::Relaxed);
        self.0.scan().expect("it is on");
        let mut starts = Vec::new();
        self.0
            .for_each_unreferenced(&mut |object| starts.push(object.start))
            .expect("asked from outside");
        starts.sort_unstable();
        starts
    }

    /// What two scans list: what is unreferenced when it is first seen is no suspect.
    fn suspects(&self) -> Vec<usize> {
        self.scan();
        self.scan()
    }
}

/// Does something with a world in which `change` happens before one of the windows of a scan, for each window.
fn at_each_moment(
    make: impl Fn() -> World,
    change: impl Fn(&World) + Send + Copy + 'static,
    look: impl Fn(&World, usize, &[usize]),
) {
    for moment in 0.. {
        let world = make();
        let other = world.clone();
        world.memory().preempt(moment, move || change(&other));
        let listed = world.scan();
        if world.memory().take_preemption() {
            assert!(moment > 10, "{moment} windows");
            return;
        }
        look(&world, moment, &listed);
    }
}

/// Regions of both kinds: those that are read as their union, and those that are read on their own.
#[test]
fn a_region_that_was_removed_is_not_read() {
    for reading in [Reading::Words, Reading::Bytes] {
        at_each_moment(
            || {
                let world = World::new();
                world.block(BLOCKS);
                for offset in [0, 3 * PAGE] {
                    assert!(world.0.region_add_as(REGION + offset, PAGE, Reading::Words));
                }
                for offset in [5 * PAGE, 7 * PAGE] {
                    assert!(world.0.region_add_as(REGION + offset, PAGE, reading));
                }
                world
            },
            |world| {
                for offset in [0, 3 * PAGE, 5 * PAGE] {
                    world.0.region_remove(REGION + offset);
                }
                world.memory().foreign_reads(&[]);
            },
            |world, moment, _| {
                // The last one stays.
                let known = [(BLOCKS, 64), (REGION + 7 * PAGE, PAGE)];
                assert_eq!(world.memory().foreign_reads(&known), [], "moment {moment}");
            },
        );
    }
}

/// A region that ends in the middle of a word, and what goes on there.
fn with_two_that_touch() -> World {
    let world = World::new();
    world.block(BLOCKS);
    world.memory().write(REGION + 32, BLOCKS);
    world.scan();
    assert!(world.0.region_add(REGION, 36));
    assert!(world.0.region_add(REGION + 36, 28));
    world
}

#[test]
fn a_word_across_two_regions_that_touch_is_read() {
    let world = with_two_that_touch();
    assert_eq!(world.suspects(), []);
    world.0.region_remove(REGION + 36);
    assert_eq!(world.suspects(), [BLOCKS]);
}

#[test]
fn where_one_of_two_that_touch_goes_the_words_of_the_other_are_read() {
    for [goes, stays] in [[0, 36], [36, 0]] {
        at_each_moment(
            || {
                let world = with_two_that_touch();
                let block = world.block(BLOCKS + 4096);
                world
                    .memory()
                    .write(REGION + if stays == 0 { 24 } else { 40 }, block);
                world
            },
            match goes {
                0 => |world: &World| world.0.region_remove(REGION),
                _ => |world: &World| world.0.region_remove(REGION + 36),
            },
            |_, moment, listed| {
                assert!(!listed.contains(&(BLOCKS + 4096)), "moment {moment}");
            },
        );
    }
}

#[test]
fn what_its_caller_vouches_for_is_read_and_nothing_else_that_the_platform_does_not() {
    for reading in [Reading::Words, Reading::Bytes] {
        let world = World::new();
        world.block(BLOCKS);
        world.memory().write(REGION + 16, BLOCKS);
        let unreadable = REGION..REGION + 64;
        world
            .0
            .platform()
            .unreadable
            .lock()
            .expect("free")
            .push(unreadable);
        // SAFETY: words of the map.
        assert!(unsafe { world.0.region_add_vouched(REGION, 64, reading) });
        assert_eq!(world.suspects(), [], "{reading:?}");
        world.0.region_remove(REGION);
        assert!(world.0.region_add_as(REGION, 64, reading));
        assert_eq!(world.suspects(), [BLOCKS], "{reading:?}");
    }
}

/// A region that is read on its own goes, and another one that the platform does not vouch for comes to its place.
#[test]
fn what_takes_the_place_of_a_region_is_read_as_its_own_caller_says() {
    at_each_moment(
        || {
            let world = World::new();
            world.block(REGION + 64);
            // SAFETY: words of the map.
            assert!(unsafe { world.0.region_add_vouched(REGION, 64, Reading::Bytes) });
            let unreadable = REGION + 8..REGION + 64;
            world
                .0
                .platform()
                .unreadable
                .lock()
                .expect("free")
                .push(unreadable);
            world
        },
        |world| {
            world.0.region_remove(REGION);
            assert!(world.0.region_add_as(REGION, 24, Reading::Bytes));
            assert!(
                world
                    .0
                    .region_add_as(REGION + 64, 16, Reading::DescriptorTable)
            );
            world.memory().foreign_reads(&[]);
        },
        |world, moment, _| {
            let reads = world.memory().foreign_reads(&[(REGION + 64, 64)]);
            assert_eq!(reads, [], "moment {moment}");
        },
    );
}

/// A stack may go before it is read, or come when the stacks have been read: so nothing else is left to it.
#[test]
fn no_word_elsewhere_is_left_to_a_stack() {
    let stack = Root {
        kind: RootKind::Stack(7),
        start: REGION + 32,
        len: 64,
    };
    for in_region in [true, false] {
        at_each_moment(
            || {
                let world = World::new();
                let others = [REGION + 24, REGION + 40, REGION + 120]
                    .map(|slot| (slot, world.block(BLOCKS + 8 * (slot - REGION))));
                // Between two blocks that lie in regions in part.
                for (word, start) in [(2, REGION - PAGE), (3, REGION + PAGE)] {
                    world.hold(word, world.block(start));
                    assert!(world.0.region_add(start + 32, 8));
                }
                // Where a region and a section overlap, it is asked what lies in roots.
                assert!(world.0.region_add(ROOT + 1024, WORD));
                if !in_region {
                    world.block_with(REGION, 128, AllocOptions::new());
                    world.0.scan_area(REGION, 128);
                }
                world.scan();
                others
                    .iter()
                    .for_each(|&(slot, block)| world.memory().write(slot, block));
                match in_region {
                    true => assert!(world.0.region_add(REGION, 128)),
                    false => world.hold(1, REGION),
                }
                world
            },
            move |world| world.add_root(stack),
            |_, moment, listed| assert_eq!(listed, [], "moment {moment}"),
        );
    }
}

/// So many blocks wait that it is read before the roots have been.
#[test]
fn words_of_a_copy_that_are_left_to_a_region_are_read_when_that_goes() {
    at_each_moment(
        || {
            let world = World::new();
            world.0.alloc_percpu(BLOCKS, 64);
            world.0.not_leak(BLOCKS);
            let gray = AllocOptions::new().min_count(0);
            for number in 0..280 {
                world.block_with(BLOCKS + 16 * PAGE + number * 64, 64, gray);
            }
            let held = world.block(BLOCKS + 64 * PAGE);
            world.scan();
            let copy = BLOCKS + PAGE;
            world.memory().write(copy + 40, held);
            assert!(world.0.region_add(copy + 32, 32));
            world
        },
        |world| world.0.region_remove(BLOCKS + PAGE + 32),
        |_, moment, listed| assert_eq!(listed, [], "moment {moment}"),
    );
}

/// Where stacks are unmapped when their tasks end, that of a tracked block can be read until its free.
#[test]
fn a_stack_in_a_tracked_block_is_read_and_one_that_may_go_is_not() {
    for (tracked, stays) in [(true, true), (true, false), (false, true), (false, false)] {
        let world = World::new();
        world.block(BLOCKS);
        world.memory().write(REGION + 16, BLOCKS);
        world.add_root(Root {
            kind: RootKind::Stack(7),
            start: REGION,
            len: 64,
        });
        if tracked {
            world.0.alloc(REGION, 64, AllocOptions::new().min_count(-1));
        }
        world
            .0
            .platform()
            .stacks_go
            .store(!stays, Ordering::Relaxed);
        // What a section holds is read all the same.
        world.hold(0, world.block(BLOCKS + PAGE));
        let lost: &[usize] = match tracked || stays {
            true => &[],
            false => &[BLOCKS],
        };
        assert_eq!(world.suspects(), lost, "{tracked} {stays}");
    }
}

#[test]
fn a_question_lets_others_run_however_far_apart_objects_lie() {
    const TABLE: usize = 64 << 10;
    const MOST: usize = 300;
    let world = World::new();
    let blocks: Vec<usize> = (0..1000)
        .map(|table| world.block(BLOCKS + table * TABLE))
        .collect();
    world.suspects();
    for question in ["why", "holders", "path"] {
        let platform = world.0.platform();
        _ = platform.relax();
        platform.most_windows.store(0, Ordering::Relaxed);
        answer(&world.0, &format!("{question} {:x}", blocks[500]));
        let most = platform.most_windows.load(Ordering::Relaxed);
        assert!(most <= MOST, "{question}: {most} windows");
    }
}
