//! Blocks that are contiguous in virtual memory only, between guard pages.
//!
//! A block's frames come one by one from the untracked entry of the buddy allocator and are chained
//! through their descriptors. Before and after each block one page stays unmapped: who runs past the end of a
//! stack or a buffer faults at once.
//!
//! # Giving back
//!
//! A freed block is unmapped at once, but CPUs may remember the mapping. So its addresses and its frames are
//! kept until all CPUs have forgotten it, which costs an interrupt on each; that is done for a batch of blocks
//! together.
//!
//! # What the leak detector sees
//!
//! The blocks. The bookkeeping is in a cache it is not told of, so one pointer to a block keeps it alive.
//!
//! # Locks
//!
//! One, over the areas, with interrupts off. Slab caches' and the buddy allocator's are taken under it.

use core::fmt;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use intrusive_collections::{
    Bound, KeyAdapter, RBTree, RBTreeAtomicLink, UnsafeRef, intrusive_adapter,
};

use super::buddy::{self, Tracking};
use super::frame::{self, NO_FRAME};
use super::misuse::Misuse;
use super::paging::{self, Access};
use super::release::{Allocator, Audience, Retired, release};
use super::slab::{SlabCache, Trace};
use super::{PAGE, Wipe, wipe};
use crate::arch::{memory, tlb};
use crate::leak;
use crate::sync::{LocalIrqDisabled, SpinLock};

/// Where blocks are mapped.
const START: usize = 0xffff_c900_0000_0000;
/// The end of that: 32 TiB further.
const END: usize = 0xffff_e900_0000_0000;

/// Pages of freed blocks that are kept before all CPUs are made to forget them.
const LAZY_PAGES: usize = 256;

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A buffer.
    Data,
    /// A task's stack.
    Stack,
    /// A device's registers; never freed.
    Device,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "buffer",
            Self::Stack => "stack",
            Self::Device => "device",
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    InUse,
    /// Taken from its user, and mapped yet.
    Retired,
    /// Freed and unmapped, but CPUs may remember it. With its number among all that were ever freed: an address may be
    /// purged, used and freed again, with the same frames, while somebody purges, and then it is not the same.
    Lazy(u64),
}

/// A mapped block. Changed under the lock only, while it is out of the tree or in its place.
struct Area {
    link: RBTreeAtomicLink,
    /// Address of the block; a guard page lies before it.
    start: usize,
    /// Mapped pages; a guard page lies after them.
    pages: usize,
    kind: Kind,
    state: State,
    /// The first of its frames, which are chained; none where they are not ours.
    first_frame: u32,
}

intrusive_adapter!(AreaAdapter = UnsafeRef<Area>: Area { link => RBTreeAtomicLink });

impl<'a> KeyAdapter<'a> for AreaAdapter {
    type Key = usize;
    fn get_key(&self, area: &'a Area) -> usize {
        area.start
    }
}

impl Area {
    fn end(&self) -> usize {
        self.start + self.pages * PAGE
    }
}

struct Areas {
    tree: RBTree<AreaAdapter>,
    lazy_pages: usize,
    /// Areas that were ever freed.
    freed: u64,
}

static AREAS: SpinLock<Areas, LocalIrqDisabled> = SpinLock::new(Areas {
    tree: RBTree::new(AreaAdapter::NEW),
    lazy_pages: 0,
    freed: 0,
});

/// The areas: the bookkeeping that the leak detector does not see.
static AREA_CACHE: SlabCache = SlabCache::new(
    "vmalloc-area",
    size_of::<Area>().next_power_of_two(),
    Trace::NoLeakTrace,
);

static PAGES: AtomicUsize = AtomicUsize::new(0);

/// Pages of all blocks in use.
pub fn pages() -> usize {
    PAGES.load(Ordering::Relaxed)
}

impl Areas {
    /// The lowest multiple of `align` at which so many pages fit between guard pages.
    fn find_place(&self, pages: usize, align: usize) -> Option<usize> {
        let needed = pages * PAGE + PAGE;
        let fits = |start: usize, end| start <= END && start + needed <= end;
        let mut start = (START + PAGE).checked_next_multiple_of(align)?;
        for area in &self.tree {
            if fits(start, area.start) {
                break;
            }
            start = start.max((area.end() + PAGE).checked_next_multiple_of(align)?);
        }
        fits(start, END).then_some(start)
    }

    fn insert(
        &mut self,
        pages: usize,
        align: usize,
        kind: Kind,
        first_frame: u32,
    ) -> Option<usize> {
        let memory = AREA_CACHE.alloc(size_of::<Area>())?.cast::<Area>();
        let Some(start) = self.find_place(pages, align) else {
            AREA_CACHE.free(memory.cast());
            return None;
        };
        let link = RBTreeAtomicLink::new();
        let area = Area {
            link,
            start,
            pages,
            kind,
            state: State::InUse,
            first_frame,
        };
        // SAFETY: fresh memory of a cache whose objects are large enough, and aligned to their size.
        unsafe { memory.write(area) };
        // SAFETY: it stays there until it has left the tree.
        self.tree
            .insert(unsafe { UnsafeRef::from_raw(memory.as_ptr()) });
        Some(start)
    }

    /// Takes an area out of the tree, hands it to `change`, and puts it back if that says so.
    fn change(&mut self, start: usize, change: impl FnOnce(&mut Area) -> Keep) {
        let Some(area) = self.tree.find_mut(&start).remove() else {
            return;
        };
        let raw = UnsafeRef::into_raw(area);
        // SAFETY: out of the tree, so it is ours alone.
        let keep = change(unsafe { &mut *raw });
        match keep {
            // SAFETY: the same area, still in its memory.
            Keep::Yes => drop(self.tree.insert(unsafe { UnsafeRef::from_raw(raw) })),
            Keep::No => {
                if let Some(memory) = NonNull::new(raw) {
                    AREA_CACHE.free(memory.cast());
                }
            }
        }
    }
}

enum Keep {
    Yes,
    No,
}

/// Takes frames for so many pages and chains them. All or none.
fn take_frames(pages: usize) -> Option<u32> {
    let mut first = NO_FRAME;
    for _ in 0..pages {
        let page = buddy::alloc(0, Tracking::Untracked)
            .and_then(|page| frame::number_of(page.addr().get()));
        let Some(number) = page else {
            give_frames(first);
            return None;
        };
        frame::frames()[number as usize].set_next(first);
        first = number;
    }
    Some(first)
}

fn give_frames(mut first: u32) {
    while first != NO_FRAME {
        let frame = &frame::frames()[first as usize];
        let page = NonNull::new(ptr::with_exposed_provenance_mut(frame::address_of(first)));
        first = frame.next();
        frame.set_next(NO_FRAME);
        if let Some(page) = page {
            buddy::free(page, 0, Tracking::Untracked);
        }
    }
}

/// Takes a block of `len` bytes, rounded up to pages, zeroed. Task context.
#[unsafe(link_section = ".text.hooks")]
#[inline(never)] // Inlined, it would not be among the hooks.
pub fn vmalloc(len: usize, kind: Kind) -> Option<NonNull<u8>> {
    vmalloc_aligned(len, PAGE, kind)
}

/// The same, of which the address is a multiple of `align`, a power of two and a page at least. Task context.
#[unsafe(link_section = ".text.hooks")]
#[inline(never)]
pub fn vmalloc_aligned(len: usize, align: usize, kind: Kind) -> Option<NonNull<u8>> {
    let start = map_block(len, align, kind)?;
    let block = NonNull::new(ptr::with_exposed_provenance_mut::<u8>(start))?;
    // SAFETY: mapped just now, and nobody else's.
    unsafe { block.write_bytes(0, len.next_multiple_of(PAGE)) };
    leak::alloc(start, len);
    Some(block)
}

fn map_block(len: usize, align: usize, kind: Kind) -> Option<usize> {
    let pages = len.div_ceil(PAGE);
    if pages == 0 {
        return None;
    }
    let first_frame = take_frames(pages)?;
    let mut areas = AREAS.lock();
    let Some(start) = areas.insert(pages, align, kind, first_frame) else {
        drop(areas);
        give_frames(first_frame);
        return None;
    };
    let mut number = first_frame;
    for page in 0..pages {
        let physical = u64::from(number) * PAGE as u64;
        if paging::map(start + page * PAGE, physical, Access::Data).is_err() {
            // What is mapped so far was never used, so no CPU remembers it.
            (0..page).for_each(|page| paging::unmap(start + page * PAGE));
            areas.change(start, |_| Keep::No);
            drop(areas);
            give_frames(first_frame);
            return None;
        }
        number = frame::frames()[number as usize].next();
    }
    PAGES.fetch_add(pages, Ordering::Relaxed);
    Some(start)
}

/// Gives a block back. An address where none begins is told, and nothing else happens.
/// Task context, with interrupts on and no spinlock held: all CPUs may have to be interrupted.
#[unsafe(link_section = ".text.hooks")]
pub fn vfree(block: *mut u8) {
    let lazy_pages = release(&Blocks, block.addr());
    if lazy_pages.is_some_and(|pages| pages > LAZY_PAGES) {
        purge();
    }
}

/// Blocks, as they come back.
struct Blocks;

/// A block that was taken from its user.
struct Mapped {
    start: usize,
    pages: usize,
}

impl Allocator for Blocks {
    type Block = Mapped;
    /// Pages of all freed blocks that CPUs may remember.
    type Done = usize;

    fn name(&self) -> &'static str {
        "vmalloc"
    }

    fn audience(&self) -> Audience {
        Audience::Detector
    }

    fn retire(&self, start: usize) -> Result<Mapped, Misuse> {
        let mut areas = AREAS.lock();
        let (pages, state, kind) = {
            let area = areas.tree.find(&start);
            let area = area.get().ok_or(Misuse::NotABlock)?;
            (area.pages, area.state, area.kind)
        };
        match (state, kind) {
            (State::Lazy(_) | State::Retired, _) => return Err(Misuse::DoubleFree),
            (_, Kind::Device) => return Err(Misuse::NotABlock),
            (State::InUse, _) => {}
        }
        areas.change(start, |area| {
            area.state = State::Retired;
            Keep::Yes
        });
        Ok(Mapped { start, pages })
    }

    #[inline(always)]
    fn tell(&self, retired: &Retired<Mapped>) {
        leak::free(retired);
    }

    fn put(&self, Mapped { start, pages }: Mapped) -> usize {
        if wipe() == Wipe::OnFree {
            let block: *mut u8 = ptr::with_exposed_provenance_mut(start);
            // SAFETY: mapped until the next lines, and its user has given it up.
            unsafe { block.write_bytes(0, pages * PAGE) };
        }
        let mut areas = AREAS.lock();
        (0..pages).for_each(|page| paging::unmap(start + page * PAGE));
        areas.freed += 1;
        let state = State::Lazy(areas.freed);
        areas.change(start, |area| {
            area.state = state;
            Keep::Yes
        });
        areas.lazy_pages += pages;
        PAGES.fetch_sub(pages, Ordering::Relaxed);
        areas.lazy_pages
    }
}

/// Makes all CPUs forget the freed blocks, and gives their addresses and frames back. Task context, with
/// interrupts on and no spinlock held.
pub fn purge() {
    // What is freed from here on may be remembered yet: it waits for the next time.
    let mut batch = arrayvec::ArrayVec::<(usize, State), 64>::new();
    loop {
        {
            let areas = AREAS.lock();
            let lazy = |area: &&Area| matches!(area.state, State::Lazy(_));
            let lazy = areas.tree.iter().filter(lazy);
            batch.extend(lazy.map(|area| (area.start, area.state)).take(64));
        }
        if batch.is_empty() {
            return;
        }
        tlb::flush_all_cpus();
        for (start, state) in batch.drain(..) {
            let mut areas = AREAS.lock();
            let mut ours = false;
            let (mut pages, mut first_frame) = (0, NO_FRAME);
            areas.change(start, |area| {
                // Somebody else may have purged it, and the address be in use again, or have been: then what was
                // remembered of it since is not forgotten yet.
                ours = area.state == state;
                (pages, first_frame) = (area.pages, area.first_frame);
                if ours { Keep::No } else { Keep::Yes }
            });
            if ours {
                areas.lazy_pages -= pages;
                drop(areas);
                give_frames(first_frame);
            }
        }
    }
}

/// Maps `len` bytes of a device's registers at physical address `physical`, page-aligned; for good.
///
/// # Panics
///
/// Where there is no memory for it: the kernel asks for its devices at boot.
pub fn map_device(physical: u64, len: usize) -> *mut u8 {
    let pages = len.div_ceil(PAGE);
    let mut areas = AREAS.lock();
    let start = areas
        .insert(pages, PAGE, Kind::Device, NO_FRAME)
        .expect("no memory to map a device");
    for page in 0..pages {
        let physical = physical + (page * PAGE) as u64;
        paging::map(start + page * PAGE, physical, Access::Device)
            .expect("no memory to map a device");
    }
    ptr::with_exposed_provenance_mut(start)
}

/// Maps the page at a physical address at the same virtual one, to run code there. Before other CPUs run.
pub fn identity_map(physical: u64) {
    if !paging::is_mapped(physical as usize) {
        paging::map(physical as usize, physical, Access::Code).expect("no memory for a page table");
    }
}

/// Takes that mapping away again.
pub fn unmap_identity(physical: u64) {
    paging::unmap(physical as usize);
    tlb::flush_all_cpus();
}

/// What lies at a guard page that somebody has run into.
#[derive(Clone, Copy, Debug)]
pub enum GuardPage {
    /// A stack has grown into it.
    Overflow(Neighbour),
    /// Somebody has gone astray, from the one block or the other.
    Astray {
        /// The block that it ends.
        below: Option<Neighbour>,
        /// The block that begins behind it.
        above: Option<Neighbour>,
    },
}

/// A block next to a guard page.
#[derive(Clone, Copy, Debug)]
pub struct Neighbour {
    kind: Kind,
    start: usize,
    len: usize,
    state: State,
}

impl Neighbour {
    fn of(area: &Area) -> Self {
        Self {
            kind: area.kind,
            start: area.start,
            len: area.pages * PAGE,
            state: area.state,
        }
    }

    /// Whether it is a stack that has grown into its guard page: `stack_pointer` has left it, or was about to.
    fn overflows(&self, stack_pointer: usize) -> bool {
        let left = self.start - PAGE..self.start + size_of::<usize>();
        self.kind == Kind::Stack && left.contains(&stack_pointer)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InUse => "in use",
            Self::Retired | Self::Lazy(_) => "freed",
        })
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the {} of {} bytes at {:#018x} ({:?})",
            self.kind, self.len, self.start, self.state
        )
    }
}

impl fmt::Display for GuardPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overflow(stack) => write!(f, "overflow of {stack}"),
            Self::Astray { below, above } => {
                if let Some(below) = below {
                    write!(f, "past the end of {below}")?;
                }
                if let (Some(_), Some(_)) = (below, above) {
                    f.write_str(", or ")?;
                }
                if let Some(above) = above {
                    write!(f, "before the start of {above}")?;
                }
                Ok(())
            }
        }
    }
}

/// The guard page that `address` lies in. Blocks that follow each other share one; whose it was that was overrun, the stack
/// pointer of that moment tells, if it was a stack that grew too far down. Any context.
pub fn guard_page(address: usize, stack_pointer: usize) -> Option<GuardPage> {
    // Called when something has gone wrong: the lock may be ours.
    let areas = AREAS.try_lock()?;
    let above = areas.tree.lower_bound(Bound::Excluded(&address));
    let above = above.get().filter(|area| address >= area.start - PAGE);
    let below = areas.tree.upper_bound(Bound::Included(&address));
    let below = below
        .get()
        .filter(|area| address >= area.end() && address < area.end() + PAGE);
    match (below.map(Neighbour::of), above.map(Neighbour::of)) {
        (None, None) => None,
        (_, Some(above)) if above.overflows(stack_pointer) => Some(GuardPage::Overflow(above)),
        (below, above) => Some(GuardPage::Astray { below, above }),
    }
}

/// Whether `len` bytes at `start` can be read: for good, or mapped by vmalloc. Any context.
pub fn readable(start: usize, len: usize) -> bool {
    if is_permanent(start, len) {
        return true;
    }
    let Some(end) = start.checked_add(len) else {
        return false;
    };
    if start < START || end > END {
        return false;
    }
    let first = start & !(PAGE - 1);
    (first..end).step_by(PAGE).all(paging::is_mapped)
}

/// Whether `len` bytes at `start` can be read for good: in the kernel's image, or in the window on the memory that
/// there is. Any context.
#[inline]
pub fn is_permanent(start: usize, len: usize) -> bool {
    let Some(end) = start.checked_add(len) else {
        return false;
    };
    let window = memory::window(0)..frame::address_of(frame::frames().len() as u32);
    let image = memory::image();
    (window.contains(&start) && end <= window.end) || (start >= image.start && end <= image.end)
}
