//! This test's own executable: a relocated image, in the layout of the host's linker.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use kmemleak::elf::Image;
use kmemleak::{BootstrapPool, Detector, IrqState, Platform, Root, RootCursor, Tracked};

use crate::roots;

// SAFETY: the host's linkers load the headers, and nothing unmaps them.
static IMAGE: Image = unsafe { Image::running() };

/// In `.data`.
static DATA: AtomicUsize = AtomicUsize::new(7);
/// In `.bss`.
static BSS: AtomicUsize = AtomicUsize::new(0);
/// Has addresses, so it is written when the image is relocated, and never again: in `.data.rel.ro`.
static RELOCATED: [&AtomicUsize; 2] = [&DATA, &BSS];
/// In `.rodata`.
static NUMBERS: [usize; 4] = [1, 2, 3, 4];

fn times_named<T: ?Sized>(it: &T) -> usize {
    let start = ptr::from_ref(it).addr();
    let end = start + size_of_val(it);
    let holds = |root: &&(usize, usize)| root.0 <= start && end <= root.1;
    roots(&IMAGE).iter().filter(holds).count()
}

#[test]
fn variables_of_this_executable_are_in_its_roots_and_constants_are_not() {
    assert_eq!(IMAGE.check(), Ok(()));
    assert_eq!((times_named(&DATA), times_named(&BSS)), (1, 1));
    let relocated = black_box(&RELOCATED);
    assert_eq!(
        (times_named(relocated), times_named(black_box(&NUMBERS))),
        (0, 0)
    );
    assert_eq!(times_named(&*Box::new(0)), 0);
}

#[test]
fn all_that_is_named_is_mapped() {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the mappings of this process");
    let readable: Vec<Range<usize>> = maps.lines().filter_map(readable).collect();
    for root in roots(&IMAGE) {
        let (mut at, end) = root;
        while at < end {
            let mapping = readable.iter().find(|mapping| mapping.contains(&at));
            at = mapping
                .unwrap_or_else(|| panic!("{at:#x} of {root:x?} is not mapped:\n{maps}"))
                .end;
        }
    }
}

/// The addresses of a line of `/proc/self/maps`, if they can be read.
fn readable(line: &str) -> Option<Range<usize>> {
    let (addresses, rest) = line.split_once(' ')?;
    let (start, end) = addresses.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    rest.starts_with('r')
        .then_some(number(start)?..number(end)?)
}

static TICKS: AtomicU64 = AtomicU64::new(0);

struct Process;

// SAFETY: the image's segments are mapped; no interrupts; the blocks of the test's one thread come from HEAP.
unsafe impl Platform for Process {
    fn now_us(&self) -> u64 {
        TICKS.fetch_add(1, Relaxed)
    }

    fn irq_save(&self) -> IrqState {
        IrqState(0)
    }

    fn irq_restore(&self, _: IrqState) {}

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        IMAGE.next_root(cursor)
    }
}

static POOL: BootstrapPool<64> = BootstrapPool::new();
static KMEMLEAK: Detector<Process> = Detector::new(Process).with_pool(&POOL);
static HEAP: Tracked<System, Process> = Tracked::new(System, &KMEMLEAK);

#[test]
fn a_detector_needs_no_more_than_that() {
    for variable in [&DATA, &BSS] {
        // SAFETY: the layout is not of size zero.
        let block = unsafe { HEAP.alloc(Layout::new::<[u64; 8]>()) };
        variable.store(block.expose_provenance(), Relaxed);
        assert_eq!(KMEMLEAK.check().map(|verdict| verdict.objects), Ok(0));
        variable.store(0, Relaxed);
        assert_eq!(KMEMLEAK.check().map(|verdict| verdict.objects), Ok(1));
        // SAFETY: it was allocated with this layout, and nobody uses it.
        unsafe { HEAP.dealloc(block, Layout::new::<[u64; 8]>()) };
    }
}
