//! What an address between the blocks, or in one, is.

use core::fmt;

use intrusive_collections::Bound;

use super::areas::{AREAS, Area, END, Kind, START, State};
use crate::arch::memory;
use crate::mm::{PAGE, frame, paging};

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

/// Whether `len` bytes at `start` can be read: permanently, or mapped by vmalloc. Any context.
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

/// Whether `len` bytes at `start` can be read permanently: in the kernel's image, or in the window on the memory that
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
