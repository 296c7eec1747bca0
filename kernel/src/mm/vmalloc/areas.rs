//! The mapped areas: which virtual addresses are taken, and for what.

use core::fmt;
use core::ptr::{self, NonNull};

use intrusive_collections::{KeyAdapter, RBTree, RBTreeAtomicLink, UnsafeRef, intrusive_adapter};

use crate::mm::PAGE;
use crate::mm::buddy::{self, Tracking};
use crate::mm::frame::{self, NO_FRAME};
use crate::mm::slab::{SlabCache, Trace};
use crate::sync::{LocalIrqDisabled, SpinLock};

/// Lowest address at which blocks are mapped.
pub(super) const START: usize = 0xffff_c900_0000_0000;
/// End of the addresses at which blocks are mapped: 32 TiB after [`START`].
pub(super) const END: usize = 0xffff_e900_0000_0000;

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
pub(super) enum State {
    InUse,
    /// Taken from its user, but still mapped.
    Retired,
    /// Freed and unmapped, but TLBs may still hold the mapping. The number counts all frees: while one task purges, an
    /// address may be purged, used and freed again, and the number tells the two frees apart.
    Lazy(u64),
}

/// A mapped block. It changes only while it is out of the tree, with the lock held.
pub(super) struct Area {
    link: RBTreeAtomicLink,
    /// Address of the block; a guard page lies before it.
    pub(super) start: usize,
    /// Mapped pages; a guard page lies after them.
    pub(super) pages: usize,
    pub(super) kind: Kind,
    pub(super) state: State,
    /// The first of its chained frames; [`NO_FRAME`] if the allocator does not own them (a device).
    pub(super) first_frame: u32,
}

intrusive_adapter!(pub(super) AreaAdapter = UnsafeRef<Area>: Area { link => RBTreeAtomicLink });

impl<'a> KeyAdapter<'a> for AreaAdapter {
    type Key = usize;
    fn get_key(&self, area: &'a Area) -> usize {
        area.start
    }
}

impl Area {
    pub(super) fn end(&self) -> usize {
        self.start + self.pages * PAGE
    }
}

pub(super) struct Areas {
    pub(super) tree: RBTree<AreaAdapter>,
    pub(super) lazy_pages: usize,
    /// How many areas were freed since boot.
    pub(super) freed: u64,
}

pub(super) static AREAS: SpinLock<Areas, LocalIrqDisabled> = SpinLock::new(Areas {
    tree: RBTree::new(AreaAdapter::NEW),
    lazy_pages: 0,
    freed: 0,
});

/// Memory for the areas, which the leak detector is not told of.
pub(super) static AREA_CACHE: SlabCache = SlabCache::new(
    "vmalloc-area",
    size_of::<Area>().next_power_of_two(),
    Trace::NoLeakTrace,
);

impl Areas {
    /// The lowest multiple of `align` at which `pages` pages fit between guard pages.
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

    pub(super) fn insert(
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
        // SAFETY: the area stays there until it has left the tree.
        self.tree
            .insert(unsafe { UnsafeRef::from_raw(memory.as_ptr()) });
        Some(start)
    }

    /// Takes the area at `start` out of the tree and runs `change` on it, which says whether it goes back or is freed.
    pub(super) fn change(&mut self, start: usize, change: impl FnOnce(&mut Area) -> Keep) {
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

pub(super) enum Keep {
    Yes,
    No,
}

/// Allocates a frame for each of `pages` pages and chains them: all, or none if memory is short.
pub(super) fn take_frames(pages: usize) -> Option<u32> {
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

pub(super) fn give_frames(mut first: u32) {
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
