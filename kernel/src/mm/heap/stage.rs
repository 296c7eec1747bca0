//! The stages of the heap: where blocks come from in each, and the reserve for the last one.

use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use linked_list_allocator::Heap;

use crate::mm::PAGE;
use crate::mm::buddy::{self, Tracking};
use crate::sync::{LocalIrqDisabled, SpinLock};

/// Order of the emergency reserve: 8 MiB, since naming the lines of a call stack may take more than 4.
const EMERGENCY_ORDER: u32 = 11;
/// The reserve takes at most one part in so many of the memory, which counts on small machines.
const EMERGENCY_SHARE: usize = 16;

/// Where blocks come from: a [`Stage`].
static STAGE: AtomicU32 = AtomicU32::new(Stage::Boot as u32);

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Stage {
    /// From the boot heap.
    Boot,
    /// From the slabs and the buddy allocator.
    Ordinary,
    /// From the slabs and the buddy allocator; but the confined code that runs gets its blocks from its arena.
    Confined,
    /// From the emergency reserve.
    Ending,
}

impl Stage {
    #[inline]
    pub(super) fn now() -> Self {
        match STAGE.load(Ordering::Relaxed) {
            1 => Self::Ordinary,
            0 => Self::Boot,
            2 => Self::Confined,
            _ => Self::Ending,
        }
    }

    /// Changes the stage from `from` to `to`, if it is still `from`.
    fn change(from: Self, to: Self) {
        // If the exchange fails, the machine is ending.
        let _ =
            STAGE.compare_exchange(from as u32, to as u32, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[unsafe(link_section = ".heap_arena")]
static RESERVE: SpinLock<Heap, LocalIrqDisabled> = SpinLock::new(Heap::empty());

/// Allocates a block from the emergency reserve. Called when the machine ends.
pub fn from_reserve(layout: Layout) -> Option<NonNull<u8>> {
    RESERVE.lock().allocate_first_fit(layout).ok()
}

/// Frees a block of the emergency reserve; does nothing for any other block.
///
/// # Safety
///
/// The block has this layout, and is not used any more.
pub unsafe fn give_to_reserve(block: NonNull<u8>, layout: Layout) {
    let mut reserve = RESERVE.lock();
    if (reserve.bottom()..reserve.top()).contains(&block.as_ptr()) {
        // SAFETY: the block lies in the reserve; the rest is the caller's promise.
        unsafe { reserve.deallocate(block, layout) };
    }
}

/// Sets the emergency reserve aside, and makes blocks come from the slabs, which work by now.
pub(super) fn init() {
    let most = buddy::total_pages() / EMERGENCY_SHARE;
    let mut orders = (0..=EMERGENCY_ORDER)
        .rev()
        .filter(|order| 1 << order <= most);
    let reserve =
        orders.find_map(|order| Some((buddy::alloc(order, Tracking::Untracked)?, PAGE << order)));
    if let Some((start, len)) = reserve {
        // SAFETY: allocated for the reserve, and never freed; the heap has no memory yet.
        unsafe { RESERVE.lock().init(start.as_ptr(), len) };
    }
    Stage::change(Stage::Boot, Stage::Ordinary);
}

/// Makes blocks come from the emergency reserve from now on. Called by the CPU that ends the machine.
pub fn use_emergency_reserve() {
    STAGE.store(Stage::Ending as u32, Ordering::Relaxed);
}

/// Whether confined code begins or ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Confinement {
    Begins,
    Ends,
}

/// Changes the stage when confined code begins or ends. Called by the task that runs it, one at a time.
pub fn set_confined(what: Confinement) {
    match what {
        Confinement::Begins => Stage::change(Stage::Ordinary, Stage::Confined),
        Confinement::Ends => Stage::change(Stage::Confined, Stage::Ordinary),
    }
}
