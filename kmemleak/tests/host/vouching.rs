//! What is read: what the platform vouches for, whatever numbers the callbacks get.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use kmemleak::{
    AllocOptions, BootstrapPool, Detector, Doubt, ForeignWords, IrqState, Platform, Reading, Root,
    RootCursor, RootKind, Tracked, Words,
};

static VARIABLES: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// All that a platform must have, and no more.
struct Plain;

// SAFETY: the root is a static; there are no interrupts, and one thread; nothing is vouched for.
unsafe impl Platform for Plain {
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
            start: VARIABLES.as_ptr().expose_provenance(),
            len: size_of_val(&VARIABLES),
        })
    }
}

/// Strips tags from pointers, and has no more than it must beside that.
struct Tagging;

// SAFETY: as of `Plain`.
unsafe impl Platform for Tagging {
    fn now_us(&self) -> u64 {
        Plain.now_us()
    }

    fn irq_save(&self) -> IrqState {
        Plain.irq_save()
    }

    fn irq_restore(&self, state: IrqState) {
        Plain.irq_restore(state);
    }

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        Plain.next_root(cursor)
    }

    fn words(&self) -> Words<'_> {
        Words::Foreign(self)
    }
}

// SAFETY: it reads.
unsafe impl ForeignWords for Tagging {
    unsafe fn read(&self, address: usize) -> usize {
        let word = std::ptr::with_exposed_provenance::<usize>(address);
        // SAFETY: the caller's promise.
        unsafe { word.read_volatile() }
    }

    fn untag(&self, word: usize) -> usize {
        word & !(0xff << 56)
    }
}

/// Leaves it to the detector to read words, and says what their tags are.
struct Stripping;

// SAFETY: as of `Plain`.
unsafe impl Platform for Stripping {
    fn now_us(&self) -> u64 {
        Plain.now_us()
    }

    fn irq_save(&self) -> IrqState {
        Plain.irq_save()
    }

    fn irq_restore(&self, state: IrqState) {
        Plain.irq_restore(state);
    }

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        Plain.next_root(cursor)
    }

    fn words(&self) -> Words<'_> {
        Words::Tagged(|word| ((word << 8) as isize >> 8) as usize)
    }
}

#[test]
fn no_call_of_a_safe_function_reads_what_nobody_vouches_for() {
    static POOL: BootstrapPool<256> = BootstrapPool::new();
    static DETECTOR: Detector<Plain> = Detector::new(Plain).with_pool(&POOL);
    reads_nothing(&DETECTOR);
}

#[test]
fn who_strips_tags_vouches_for_nothing() {
    static POOL: BootstrapPool<256> = BootstrapPool::new();
    static DETECTOR: Detector<Tagging> = Detector::new(Tagging).with_pool(&POOL);
    reads_nothing(&DETECTOR);
}

/// Calls everything with numbers at which nothing is mapped: each of them would end the process if it was read.
fn reads_nothing(detector: &'static Detector<impl Platform>) {
    const NOWHERE: [usize; 4] = [0x1_0000, 0x1234_5678_0000, 0x7fff_ffff_0000, !0 << 44];
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    detector.set_min_age_us(0);
    let gray = AllocOptions::new().min_count(0);
    for start in NOWHERE {
        detector.alloc(start, 64, gray);
        detector.alloc(start + 64, 64, AllocOptions::new());
        detector.scan_area(start + 64, 32);
        detector.alloc_percpu(start + 4096, 64);
        detector.vmalloc(start + 8192, 64, start);
        detector.alloc_phys(start >> 20, 64);
        detector.region_add(start + 16384, 64);
        detector.region_add_as(start + 16640, 64, Reading::Bytes);
        detector.read_as(start + 64, Reading::PHYSICAL);
    }
    VARIABLES[0].store(NOWHERE[1] + 64, Ordering::Relaxed);
    for _ in 0..3 {
        let _ = detector.check();
        let _ = detector.scan();
    }
    let mut text = String::new();
    for command in [
        "report --all",
        "mark",
        "new",
        "sites",
        "interior",
        "selftest",
    ] {
        let _ = detector.command(command, &mut text);
    }
    for start in NOWHERE {
        for command in ["dump", "holders", "path"] {
            let _ = detector.command(&format!("{command} {:x}", start + 64), &mut text);
        }
    }
    assert!(!text.contains("hex dump"), "{text}");
    // Roots are what the platform names, and are read.
    let mut lost = Vec::new();
    let _ = detector.check();
    detector
        .for_each_unreferenced(&mut |object| lost.push(object.start))
        .expect("it is on");
    assert!(!lost.contains(&(NOWHERE[1] + 64)) && lost.contains(&(NOWHERE[2] + 64)));
}

/// What a `GlobalAlloc` has handed out is memory: nobody else need vouch for it.
#[test]
fn blocks_of_a_wrapped_allocator_are_read_with_the_defaults() {
    static POOL: BootstrapPool<256> = BootstrapPool::new();
    static DETECTOR: Detector<Plain> = Detector::new(Plain).with_pool(&POOL);
    static HEAP: Tracked<System, Plain> = Tracked::new(System, &DETECTOR);
    let layout = Layout::new::<[usize; 4]>();
    // SAFETY: the layout is not of size zero.
    let allocate = || unsafe { HEAP.alloc_zeroed(layout) }.cast::<usize>();
    let (first, second) = (allocate(), allocate());
    let word = first.wrapping_add(1);
    // SAFETY: a word of the first block.
    unsafe { word.write(second.expose_provenance()) };
    VARIABLES[1].store(first.expose_provenance(), Ordering::Relaxed);
    let summary = DETECTOR.check().expect("it is on");
    assert_eq!((summary.listed(), summary.doubt()), (0, None));
    VARIABLES[1].store(0, Ordering::Relaxed);
    let summary = DETECTOR.check().expect("it is on");
    assert_eq!((summary.objects, summary.doubt()), (2, None));
}

/// Without a stack among the roots, what only a stack holds seems lost; so the report says that there is none.
#[test]
fn a_report_without_stacks_says_so() {
    static POOL: BootstrapPool<256> = BootstrapPool::new();
    static DETECTOR: Detector<Plain> = Detector::new(Plain).with_pool(&POOL);
    static HEAP: Tracked<System, Plain> = Tracked::new(System, &DETECTOR);
    static REGION: [AtomicUsize; 1] = [AtomicUsize::new(0)];
    let says = || {
        let mut report = String::new();
        DETECTOR.command("scan", &mut report).expect("text");
        report.contains("the platform has named no stack")
    };
    assert!(!says(), "nothing is listed");
    // SAFETY: the layout is not of size zero.
    assert!(!unsafe { HEAP.alloc_zeroed(Layout::new::<[usize; 4]>()) }.is_null());
    assert!(says());
    DETECTOR
        .command("stack=off", &mut String::new())
        .expect("text");
    assert!(!says(), "they were not asked for");
    DETECTOR
        .command("stack=on", &mut String::new())
        .expect("text");
    // SAFETY: a static.
    let added = unsafe {
        DETECTOR.region_add_vouched(REGION.as_ptr().expose_provenance(), 8, Reading::Words)
    };
    assert!(added && !says(), "a region may be a stack");
}

/// Tags are stripped in roots, in blocks, and in blocks that are not read as words; nothing else is asked of the platform.
#[test]
fn tags_are_stripped_wherever_pointers_are_found() {
    static POOL: BootstrapPool<256> = BootstrapPool::new();
    static DETECTOR: Detector<Stripping> = Detector::new(Stripping).with_pool(&POOL);
    static HEAP: Tracked<System, Stripping> = Tracked::new(System, &DETECTOR);
    static ROOT: AtomicUsize = AtomicUsize::new(0);
    const TAG: usize = 0xa5 << 56;
    let layout = Layout::new::<[usize; 4]>();
    // SAFETY: the layout is not of size zero.
    let allocate = || unsafe { HEAP.alloc_zeroed(layout) }.cast::<u8>();
    let blocks = [allocate(), allocate(), allocate()];
    let tagged = blocks.map(|block| block.expose_provenance() | TAG);
    // SAFETY: a word of the first block.
    unsafe { blocks[0].wrapping_add(8).cast::<usize>().write(tagged[1]) };
    let packed = blocks[1].wrapping_add(11).cast::<usize>();
    // SAFETY: eight bytes of the second block.
    unsafe { packed.write_unaligned(tagged[2]) };
    // SAFETY: a static.
    let added = unsafe {
        DETECTOR.region_add_vouched(ROOT.as_ptr().expose_provenance(), 8, Reading::Words)
    };
    assert!(added);
    let lost = || DETECTOR.check().expect("it is on").listed();
    assert_eq!(lost(), 3);
    ROOT.store(tagged[0], Ordering::Relaxed);
    assert_eq!(lost(), 1);
    DETECTOR.read_as(tagged[1] & !TAG, Reading::Bytes);
    assert_eq!(lost(), 0);
    // Another number of eight bits beside it, and it is no address.
    ROOT.store(tagged[0] ^ 1 << 50, Ordering::Relaxed);
    assert_eq!(lost(), 3);
}

/// A region for which its caller vouches is read without asking the platform, and leaves the word of a wrapped allocator as it is.
#[test]
fn who_registers_a_region_may_vouch_for_it() {
    static POOL: BootstrapPool<256> = BootstrapPool::new();
    static DETECTOR: Detector<Plain> = Detector::new(Plain).with_pool(&POOL);
    static HEAP: Tracked<System, Plain> = Tracked::new(System, &DETECTOR);
    static REGION: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
    let layout = Layout::new::<[usize; 4]>();
    // SAFETY: the layout is not of size zero.
    let block = unsafe { HEAP.alloc_zeroed(layout) };
    REGION[1].store(block.expose_provenance(), Ordering::Relaxed);
    let start = REGION.as_ptr().expose_provenance();
    let answer = || {
        let summary = DETECTOR.check().expect("it is on");
        (summary.listed(), summary.doubt())
    };
    assert_eq!(answer(), (1, None));
    for reading in [Reading::Words, Reading::Bytes] {
        // SAFETY: a static.
        assert!(unsafe { DETECTOR.region_add_vouched(start, 16, reading) });
        assert_eq!(answer(), (0, None), "{reading:?}");
        DETECTOR.region_remove(start);
        assert_eq!(answer(), (1, None), "{reading:?}");
    }
    // The platform vouches for nothing, and is asked from here on; but not for this region.
    assert!(DETECTOR.region_add(start, 16));
    assert_eq!(answer().0, 1);
    // SAFETY: a static.
    assert!(unsafe { DETECTOR.region_add_vouched(start, 16, Reading::Words) });
    assert_eq!(answer().0, 0);
}

/// Where hooks tell of blocks and nobody vouches for them, nothing is certain, and the report says what is missing.
#[test]
fn where_nothing_is_vouched_for_nothing_is_called_a_leak() {
    static POOL: BootstrapPool<256> = BootstrapPool::new();
    static DETECTOR: Detector<Plain> = Detector::new(Plain).with_pool(&POOL);
    static BLOCKS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
    let start = BLOCKS.as_ptr().expose_provenance();
    let lost = 0x5555_0000_0000;
    DETECTOR.alloc(start, 8, AllocOptions::new().min_count(0));
    DETECTOR.alloc(lost, 64, AllocOptions::new());
    BLOCKS[0].store(lost, Ordering::Relaxed);
    let summary = DETECTOR.check().expect("it is on");
    assert_eq!((summary.objects, summary.suspects), (0, 1));
    assert_eq!(summary.doubt(), Some(Doubt::Unread(1)));
    let mut text = String::new();
    DETECTOR.report(&mut text).expect("text takes all");
    assert!(text.contains("Platform::readable"), "{text}");
}
