//! Room for one block, for code that goes on when there is none.
//!
//! `Box::new` and `Arc::new` end the machine if there is no memory, and the standard library's constructors that return an error
//! are not stable yet. So who can do without asks for [`Room`] first: a block is allocated and freed again, which leaves it on
//! top of this CPU's magazine; as long as interrupts are off, nobody else takes it, and the next block of that size is certain.
//! (Where freed blocks are poisoned, other blocks wait in quarantine; this one, which nobody has used, does not.)

use alloc::alloc::alloc;
use core::alloc::Layout;
use core::fmt;
use core::hint::black_box;
use core::sync::atomic::AtomicUsize;

use crate::sync::IrqGuard;

/// There is no memory for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no memory")
    }
}

/// As long as this lives, the first block of a layout is certain to be had on this CPU, and interrupts are off.
#[derive(Debug)]
pub struct Room {
    _no_interrupts: IrqGuard,
}

impl Room {
    /// Room for a box of a value of type `T`, of 8192 bytes at most (less than that if it is aligned to more than 16). Any context.
    #[inline]
    pub fn for_box<T>() -> Result<Self, NoMemory> {
        Self::of(Layout::new::<T>())
    }

    /// Room for an `Arc` of a value of type `T`, which is in one block with two counts. Any context.
    #[inline]
    pub fn for_arc<T>() -> Result<Self, NoMemory> {
        let counts = Layout::new::<[AtomicUsize; 2]>();
        let (layout, _) = counts.extend(Layout::new::<T>()).map_err(|_| NoMemory)?;
        Self::of(layout.pad_to_align())
    }

    fn of(layout: Layout) -> Result<Self, NoMemory> {
        let size = layout.size();
        assert!(
            super::class(layout).is_some(),
            "room for {layout:?}: no slab has blocks like that"
        );
        let room = Self {
            _no_interrupts: IrqGuard::new(),
        };
        if size != 0 {
            // SAFETY: the size is not zero. (The compiler would leave out a block that nobody uses.)
            let block = black_box(unsafe { alloc(layout) });
            if block.is_null() {
                return Err(NoMemory);
            }
            // SAFETY: the block that was allocated with this layout.
            unsafe { super::free_unused(block, layout) };
        }
        Ok(room)
    }
}
