//! What an address is: in a guard page, in a block, readable or not.

use core::fmt;
use core::ops::Range;

use intrusive_collections::Bound;

use super::areas::{AREAS, Area, END, Kind, START, State};
use crate::arch::memory;
use crate::mm::{PAGE, frame, paging};

/// What lies next to a guard page that was accessed.
#[derive(Clone, Copy, Debug)]
pub enum GuardPage {
    /// A stack has grown into it.
    Overflow(Neighbour),
    /// An access past the end of one block, or before the start of the other.
    Astray {
        /// The block before the guard page.
        below: Option<Neighbour>,
        /// The block after the guard page.
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

    /// Whether this is a stack that has grown into its guard page: `stack_pointer` is in that page or at the stack's lowest word.
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

/// The guard page that `address` lies in. Neighbouring blocks share one; `stack_pointer`, of the moment of the fault, tells
/// whether the block above is a stack that has overflowed. `None` also while the lock is held. Any context.
pub fn guard_page(address: usize, stack_pointer: usize) -> Option<GuardPage> {
    // Called after a fault: this CPU may hold the lock already.
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

/// Whether `len` bytes at `start` can be read: they are mapped permanently, or by vmalloc. Any context.
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

/// Whether `len` bytes at `start` are mapped permanently: in the kernel's image, or in the window on existing physical
/// memory. Any context.
#[inline]
pub fn is_permanent(start: usize, len: usize) -> bool {
    let Some(end) = start.checked_add(len) else {
        return false;
    };
    let image = memory::image();
    (start >= image.start && end <= image.end) || frame::are_memory(start, end)
}

/// A page next to a block that is mapped, and ought to be a guard page. The lock is held for one block at a time. Any context.
pub fn missing_guard() -> Option<usize> {
    let mut from = START;
    loop {
        let areas = AREAS.lock();
        let area = areas.tree.lower_bound(Bound::Included(&from)).get()?;
        let guards = [area.start - PAGE, area.end()];
        if let Some(guard) = guards.into_iter().find(|&page| paging::is_mapped(page)) {
            return Some(guard);
        }
        from = area.end();
    }
}

/// Shows where the buffers lie that are in use: not stacks, nor devices. The lock is held for one at a time. Any context.
pub fn each_buffer(look: &mut dyn FnMut(Range<usize>)) {
    let mut from = START;
    loop {
        let areas = AREAS.lock();
        let found = areas.tree.lower_bound(Bound::Included(&from));
        let Some(area) = found.get() else {
            return;
        };
        if area.kind == Kind::Data && area.state == State::InUse {
            look(area.start..area.end());
        }
        from = area.end();
    }
}
