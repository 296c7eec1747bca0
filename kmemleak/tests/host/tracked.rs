//! An allocator that is wrapped: what it keeps in itself is in no root.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use kmemleak::{
    BootstrapPool, Detector, IrqState, Platform, Root, RootCursor, RootKind, StopError, StoppedCpu,
};
use kmemleak::{Slot, SlotPlace, Tracked};

/// A kernel with one section of variables.
pub struct Kernel {
    section: AtomicUsize,
    bytes: AtomicUsize,
}

impl Kernel {
    pub const fn new() -> Self {
        Self {
            section: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        }
    }

    fn section_is<T>(&self, section: &T) {
        let start = std::ptr::from_ref(section).expose_provenance();
        self.section.store(start, Ordering::Relaxed);
        self.bytes.store(size_of::<T>(), Ordering::Relaxed);
    }
}

// SAFETY: the section is a variable that lives as long as it is one; blocks come from arrays that live as long. There are no
// interrupts, and one thread.
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
            start: self.section.load(Ordering::Relaxed),
            len: self.bytes.load(Ordering::Relaxed),
        })
    }

    fn stop_world(&self, work: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        work(StoppedCpu {
            index: 0,
            of: 1,
            initiator: true,
        });
        Ok(())
    }

    fn readable(&self, _start: usize, _len: usize) -> bool {
        true
    }
}

const BYTES: usize = 1024;

/// Hands out an array from its start on, and remembers the first and the last block.
#[repr(C, align(8))]
struct Array {
    first: AtomicUsize,
    last: AtomicUsize,
    used: AtomicUsize,
    memory: UnsafeCell<[u8; BYTES]>,
}

// SAFETY: each byte is handed out once.
unsafe impl Sync for Array {}

impl Array {
    const fn new() -> Self {
        Self {
            first: AtomicUsize::new(0),
            last: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            memory: UnsafeCell::new([0; BYTES]),
        }
    }
}

// SAFETY: blocks are disjoint parts of the array, all of them aligned for words.
unsafe impl GlobalAlloc for Array {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = layout.size().next_multiple_of(8);
        let at = self.used.fetch_add(size, Ordering::Relaxed);
        assert!(at + size <= BYTES && layout.align() <= 8);
        let block = self.memory.get().cast::<u8>().wrapping_add(at);
        let start = block.expose_provenance();
        let _ = self
            .first
            .compare_exchange(0, start, Ordering::Relaxed, Ordering::Relaxed);
        self.last.store(start, Ordering::Relaxed);
        block
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

type Heap = Tracked<Array, Kernel>;

fn alloc(heap: &Heap) -> usize {
    // SAFETY: the layout is not of size zero.
    let block = unsafe { heap.alloc(Layout::new::<[u64; 8]>()) };
    block.expose_provenance()
}

pub fn leaks(detector: &Detector<Kernel>) -> Vec<usize> {
    let _ = detector.check();
    let mut starts = Vec::new();
    detector
        .for_each_unreferenced(&mut |object| starts.push(object.start))
        .expect("it is on");
    starts
}

/// Variables of a kernel, its heap among them.
#[repr(C)]
struct Variables {
    before: AtomicUsize,
    heap: Heap,
    after: AtomicUsize,
}

#[test]
fn an_allocators_own_pointers_keep_nothing_alive() {
    static POOL: BootstrapPool<64> = BootstrapPool::new();
    static DETECTOR: Detector<Kernel> = Detector::new(Kernel::new()).with_pool(&POOL);
    static VARIABLES: Variables = Variables {
        before: AtomicUsize::new(0),
        heap: Tracked::new(Array::new(), &DETECTOR),
        after: AtomicUsize::new(0),
    };
    DETECTOR.platform().section_is(&VARIABLES);
    let [first, second, third] = [(); 3].map(|()| alloc(&VARIABLES.heap));
    assert_eq!(leaks(&DETECTOR), [first, second, third]);
    VARIABLES.before.store(third, Ordering::Relaxed);
    assert_eq!(leaks(&DETECTOR), [first, second]);
    VARIABLES.after.store(first, Ordering::Relaxed);
    assert_eq!(leaks(&DETECTOR), [second]);
    // Blocks of an array in the allocator are read as blocks, when something points there.
    let word = std::ptr::with_exposed_provenance::<AtomicUsize>(first);
    // SAFETY: the first word of a block that nobody else uses.
    unsafe { &*word }.store(second, Ordering::Relaxed);
    assert_eq!(leaks(&DETECTOR), []);
    let mut slots = Vec::new();
    let answer = DETECTOR.holders(second, &mut |slot| slots.push(slot));
    assert_eq!(answer, Ok(()));
    let place = SlotPlace::Object {
        start: first,
        size: 64,
    };
    let address = first;
    assert_eq!(slots, [Slot { address, place }]);
    VARIABLES.after.store(0, Ordering::Relaxed);
    assert_eq!(leaks(&DETECTOR), [first, second]);
}

#[test]
fn no_region_brings_them_back() {
    static POOL: BootstrapPool<64> = BootstrapPool::new();
    static DETECTOR: Detector<Kernel> = Detector::new(Kernel::new()).with_pool(&POOL);
    static HEAP: Heap = Tracked::new(Array::new(), &DETECTOR);
    let block = alloc(&HEAP);
    let start = (&raw const HEAP).expose_provenance();
    assert!(DETECTOR.region_add(start, size_of::<Heap>()));
    assert_eq!(leaks(&DETECTOR), [block]);
}

#[test]
fn a_heap_that_moves_leaves_no_hole_in_the_roots() {
    static POOL: BootstrapPool<64> = BootstrapPool::new();
    static DETECTOR: Detector<Kernel> = Detector::new(Kernel::new()).with_pool(&POOL);
    /// A heap whose blocks lie elsewhere, so that it may move.
    struct Elsewhere(&'static Array);
    // SAFETY: the array's.
    unsafe impl GlobalAlloc for Elsewhere {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller's promise.
            unsafe { self.0.alloc(layout) }
        }

        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
    }
    static ARRAY: Array = Array::new();
    let mut places: [Option<Tracked<Elsewhere, Kernel>>; 2] = [None, None];
    let block_of = |heap: &Tracked<Elsewhere, Kernel>| {
        // SAFETY: the layout is not of size zero.
        let block = unsafe { heap.alloc(Layout::new::<[u64; 8]>()) };
        block.expose_provenance()
    };
    let heap = places[0].insert(Tracked::new(Elsewhere(&ARRAY), &DETECTOR));
    let old = std::ptr::from_ref(heap).addr();
    let first = block_of(heap);
    assert!(!DETECTOR.include(old + 8));
    places[1] = places[0].take();
    let heap = places[1].as_ref().expect("it has moved");
    let new = std::ptr::from_ref(heap).addr();
    let second = block_of(heap);
    assert!(!DETECTOR.include(old), "no longer there");
    assert_eq!(leaks(&DETECTOR), [first, second]);
    places[1] = None;
    assert!(!DETECTOR.include(new), "nor there, when it is gone");
}

/// Hands out the block that came back last as it is, and before that an array in which something was left.
#[repr(C, align(8))]
struct Reusing {
    free: AtomicUsize,
    array: Array,
}

impl Reusing {
    const fn new() -> Self {
        let mut array = Array::new();
        array.memory = UnsafeCell::new([0xff; BYTES]);
        Self {
            free: AtomicUsize::new(0),
            array,
        }
    }
}

// SAFETY: all blocks are of one layout; each is one of the array's, or one that has come back.
unsafe impl GlobalAlloc for Reusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        assert_eq!(layout, LAYOUT);
        match self.free.swap(0, Ordering::Relaxed) {
            // SAFETY: the caller's promise.
            0 => unsafe { self.array.alloc(layout) },
            start => std::ptr::with_exposed_provenance_mut(start),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        self.free
            .store(block.expose_provenance(), Ordering::Relaxed);
    }
}

const LAYOUT: Layout = Layout::new::<[usize; 8]>();

/// Leaves a pointer to one block in another, gives that back, and takes it again. The lost block, and what the words of the other
/// were when it had come back.
fn lose_behind_a_pointer_left(
    heap: &Tracked<Reusing, Kernel>,
    section: &AtomicUsize,
) -> (usize, [usize; 8]) {
    // SAFETY: the layout is not of size zero.
    let alloc = || unsafe { heap.alloc(LAYOUT) };
    let (lost, container) = (alloc(), alloc().cast::<[usize; 8]>());
    let mut words = [!0; 8];
    words[5] = lost.expose_provenance();
    // SAFETY: a block of this layout.
    unsafe { container.write(words) };
    // SAFETY: the block is given back once.
    unsafe { heap.dealloc(container.cast(), LAYOUT) };
    // SAFETY: the block's memory is the array's, which lives on.
    let left = unsafe { container.read() };
    assert_eq!(alloc(), container.cast(), "it is used again");
    section.store(container.expose_provenance(), Ordering::Relaxed);
    (lost.addr(), left)
}

#[test]
fn what_was_left_in_a_block_hides_a_leak() {
    static POOL: BootstrapPool<64> = BootstrapPool::new();
    static DETECTOR: Detector<Kernel> = Detector::new(Kernel::new()).with_pool(&POOL);
    static SECTION: AtomicUsize = AtomicUsize::new(0);
    static HEAP: Tracked<Reusing, Kernel> = Tracked::new(Reusing::new(), &DETECTOR);
    DETECTOR.platform().section_is(&SECTION);
    let (lost, left) = lose_behind_a_pointer_left(&HEAP, &SECTION);
    assert_eq!((leaks(&DETECTOR), left[5]), (vec![], lost));
}

#[test]
fn wiping_hides_no_leak() {
    static POOL: BootstrapPool<64> = BootstrapPool::new();
    static DETECTOR: Detector<Kernel> = Detector::new(Kernel::new()).with_pool(&POOL);
    static SECTION: AtomicUsize = AtomicUsize::new(0);
    static HEAP: Tracked<Reusing, Kernel> = Tracked::new(Reusing::new(), &DETECTOR).wiping();
    DETECTOR.platform().section_is(&SECTION);
    let (lost, left) = lose_behind_a_pointer_left(&HEAP, &SECTION);
    assert_eq!((leaks(&DETECTOR), left), (vec![lost], [0; 8]));
    // What was never given back is cleared, too.
    // SAFETY: the layout is not of size zero.
    let fresh = unsafe { HEAP.alloc(LAYOUT) }.cast::<[usize; 8]>();
    // SAFETY: a block of this layout.
    assert_eq!(unsafe { fresh.read() }, [0; 8]);
}

/// What the allocator itself can do is done through its wrapper.
#[test]
fn an_allocator_is_reached_through_its_wrapper() {
    static POOL: BootstrapPool<64> = BootstrapPool::new();
    static DETECTOR: Detector<Kernel> = Detector::new(Kernel::new()).with_pool(&POOL);
    static HEAP: Tracked<Reusing, Kernel> = Tracked::new(Reusing::new(), &DETECTOR);
    // SAFETY: the layout is not of size zero.
    let block = unsafe { HEAP.array.alloc(LAYOUT) };
    assert!(!block.is_null());
    assert_eq!(HEAP.array.used.load(Ordering::Relaxed), LAYOUT.size());
    assert_eq!(DETECTOR.check().expect("it is on").tracked, 0);
}
