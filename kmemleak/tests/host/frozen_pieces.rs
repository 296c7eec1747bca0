//! Checks of frozen memory: how the words of roots and blocks are asked for, on a kernel that holds the detector to what is said of
//! [`Platform::read_frozen`].

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Mutex;

use kmemleak::{
    AllocOptions, Comm, Context, Detector, Doubt, How, ImageLost, IrqState, Platform, Reading,
    Root, RootCursor, StopError, StoppedCpu, Summary, Words,
};

use crate::lab::pool;
use crate::sparse::{BLOCKS, ROOT, Sparse};

const WORD: usize = size_of::<usize>();
const PAGE: usize = 4096;
/// Words that are asked for at once.
const AT_ONCE: usize = 64;

/// The kernel.
struct Freezing {
    memory: Sparse,
    /// What it does not vouch for.
    unreadable: Mutex<Vec<Range<usize>>>,
}

// SAFETY: as that of its memory.
unsafe impl Platform for Freezing {
    fn now_us(&self) -> u64 {
        self.memory.now_us()
    }

    fn irq_save(&self) -> IrqState {
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

    fn stop_world(&self, work: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        self.memory.stop_world(work)
    }

    fn freeze(&self, at_stop: &(dyn Fn(StoppedCpu) + Sync)) -> Result<u64, StopError> {
        self.memory.freeze(at_stop)
    }

    unsafe fn read_frozen(&self, address: usize, words: &mut [usize]) -> Result<(), ImageLost> {
        let len = size_of_val(words);
        assert!(address.is_multiple_of(WORD) && (1..=AT_ONCE).contains(&words.len()));
        assert_eq!(address / PAGE, (address + len - 1) / PAGE, "in one page");
        assert!(self.readable(address, len), "{address:#x} is not readable");
        // SAFETY: the caller's promise.
        unsafe { self.memory.read_frozen(address, words) }
    }

    fn readable(&self, start: usize, len: usize) -> bool {
        let unreadable = self.unreadable.lock().expect("nobody panics under it");
        let meets = |other: &Range<usize>| start < other.end && other.start < start + len;
        !unreadable.iter().any(meets)
    }

    fn words(&self) -> Words<'_> {
        self.memory.words()
    }
}

struct World(Box<Detector<Freezing>>);

impl World {
    fn new() -> Self {
        let platform = Freezing {
            memory: Sparse::new(),
            unreadable: Mutex::default(),
        };
        Self(Box::new(Detector::new(platform).with_pool(pool::<16>())))
    }

    fn memory(&self) -> &Sparse {
        &self.0.platform().memory
    }

    /// Bytes that nobody vouches for.
    fn make_unreadable(&self, start: usize, len: usize) {
        let mut unreadable = self.0.platform().unreadable.lock().expect("free");
        unreadable.push(start..start + len);
    }

    fn block(&self, start: usize, size: usize) -> usize {
        self.0.alloc(start, size, AllocOptions::new());
        start
    }

    /// Word `index` of the root is this.
    fn hold(&self, index: usize, word: usize) {
        self.memory().write(ROOT + index * WORD, word);
    }

    /// The eight bytes at an address are this number.
    fn store(&self, address: usize, number: usize) {
        let (first, bits) = (address / WORD * WORD, address % WORD * 8);
        self.memory().write(first, number << bits);
        if bits > 0 {
            self.memory().write(first + WORD, number >> (64 - bits));
        }
    }

    fn check(&self) -> Summary {
        self.0.check_frozen().expect("it is on")
    }

    /// What a check of frozen memory lists, by address.
    fn leaks(&self) -> Vec<usize> {
        assert_eq!(self.check().how, How::Frozen);
        self.listed()
    }

    fn listed(&self) -> Vec<usize> {
        let mut starts = Vec::new();
        self.0
            .for_each_unreferenced(&mut |object| starts.push(object.start))
            .expect("asked from outside");
        starts.sort_unstable();
        starts
    }
}

/// A block of packed numbers, to which the root points, around the end of a page; and another block.
fn with_packed() -> (World, usize, usize) {
    let world = World::new();
    let packed = world.block(BLOCKS + PAGE - 256, 512);
    let held = world.block(BLOCKS + 4 * PAGE, 64);
    world.0.read_as(packed, Reading::Bytes);
    world.hold(0, packed);
    (world, BLOCKS + PAGE, held)
}

#[test]
fn a_number_across_two_pages_is_read_in_two_parts() {
    for before in 1..24 {
        let (world, page, held) = with_packed();
        world.store(page - before, held);
        assert_eq!(world.leaks(), [], "{before} bytes before the end");
    }
}

#[test]
fn what_reaches_into_memory_that_nobody_vouches_for_is_not_read() {
    let (world, page, held) = with_packed();
    world.store(page - 16, held);
    assert_eq!(world.leaks(), []);
    world.make_unreadable(page, PAGE);
    assert_eq!(world.leaks(), [held]);
    // A plain block is passed over, too, and is read from where it can be again.
    let large = world.block(BLOCKS + 16 * PAGE, 3 * PAGE);
    world.hold(1, large);
    world.make_unreadable(large + 1024 + 8, PAGE);
    world.store(large + 3 * PAGE - WORD, held);
    assert_eq!(world.leaks(), []);
}

/// And its doubt says how many, as that of a check in a stopped world does.
#[test]
fn where_no_block_can_be_read_nothing_is_certain() {
    for reading in [Reading::Words, Reading::Bytes] {
        let world = World::new();
        let blocks = [0, PAGE].map(|offset| world.block(BLOCKS + offset, 64));
        for (index, block) in blocks.into_iter().enumerate() {
            world.0.read_as(block, reading);
            world.hold(index, block);
            world.make_unreadable(block, 64);
        }
        let lost = world.block(BLOCKS + 2 * PAGE, 64);
        for how in [How::Frozen, How::Stopped] {
            let summary = match how {
                How::Frozen => world.check(),
                _ => world.0.check().expect("it is on"),
            };
            let found = (summary.how, summary.objects, summary.suspects);
            assert_eq!(found, (how, 0, 1), "{reading:?}");
            // Bytes are read a few at a time.
            let pieces = match (reading, how) {
                (Reading::Bytes, How::Frozen) => 4,
                _ => 1,
            };
            assert_eq!(
                summary.doubt(),
                Some(Doubt::Unread(2 * pieces)),
                "{reading:?}"
            );
        }
        assert_eq!(world.listed(), [lost]);
    }
}

#[test]
fn the_words_that_were_read_are_counted() {
    let world = World::new();
    let before = world.check().words;
    for (index, size) in [64, 1024, 3 * PAGE].into_iter().enumerate() {
        world.hold(index, world.block(BLOCKS + index * 4 * PAGE, size));
    }
    let words = (64 + 1024 + 3 * PAGE) / WORD;
    assert_eq!(world.check().words, before + words as u64);
}

/// Of a block that is read byte by byte, numbers at its ends lie in words of which a part is another's.
#[test]
fn packed_numbers_at_the_ends_of_a_block_are_read_in_a_stopped_world() {
    for (start, len, at) in [
        (BLOCKS + 4, 60, BLOCKS + 4),
        (BLOCKS, 60, BLOCKS + 52),
        (BLOCKS + 4, 56, BLOCKS + 52),
    ] {
        let world = World::new();
        let (packed, held) = (world.block(start, len), world.block(BLOCKS + PAGE, 64));
        world.0.read_as(packed, Reading::Bytes);
        world.hold(0, packed);
        world.store(at, held);
        assert_eq!(world.check().how, How::Stopped, "{start:#x}+{len}");
    }
}

/// Sixteen bytes each: a bootstrap pool of a few pages has room for a root full of pointers.
#[test]
fn what_roots_hold_is_noted_in_little_memory() {
    let world = World::new();
    world.memory().set_metadata_budget(0);
    let block = world.block(BLOCKS, 64);
    (0..PAGE / WORD).for_each(|index| world.hold(index, block));
    assert_eq!(world.leaks(), []);
}

/// An area that lies in a root: its pointers to itself do not count, as in a stopped world.
#[test]
fn an_area_in_a_root_does_not_keep_its_block_by_pointing_to_itself() {
    let world = World::new();
    let (area, block) = (world.block(ROOT + 1024, 64), BLOCKS);
    world.0.vmalloc(block, PAGE, area);
    world.memory().write(area + 16, block);
    world.memory().write(area + 24, area);
    world.memory().write(area + 56, area + 8);
    // The area needs one pointer.
    world.hold(0, area);
    assert_eq!(world.leaks(), [block]);
    world.hold(511, area);
    assert_eq!(world.leaks(), []);
}
