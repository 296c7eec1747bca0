//! Handles: short numbers of the groups and objects that were listed, by which people ask about them.
//!
//! Numbers start at one, with the groups of the verdict in the order in which they are reported; whatever is listed beside them
//! takes the next number. A thing keeps its number until the first report of another verdict: not until the next check, since a
//! check in the background would take the numbers away from one who reads an older report.
//!
//! A handle names a group by its call stack, and an object by its address and birth: so it is known whether the object is still
//! there, and what the last verdict says of either. Without memory a thing has no handle.

use crate::metadata::MetaAlloc;
use crate::metadata::hidden::Hidden;
use crate::metadata::keyed_table::{Key, KeyedTable};
use crate::stacks::depot::StackId;
use crate::verdict::groups::Groups;

/// A number that people type behind `#`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShortHandle(pub(crate) u32);

/// What has a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    /// The objects that this call stack allocated.
    Group(StackId),
    /// The object that was allocated there at this time.
    Object { start: Hidden, birth_us: u64 },
}

impl Key for Thing {
    fn bits(self) -> u32 {
        let bits = match self {
            Self::Group(stack_id) => u64::from(stack_id.0),
            Self::Object { start, birth_us } => start.bits() >> 3 ^ birth_us,
        };
        (bits ^ bits >> 32) as u32
    }
}

/// The things that have handles. A row's number is one less than its handle.
pub(crate) struct Handles {
    things: KeyedTable<Thing, ()>,
    /// The number of the verdict whose groups come first.
    of_verdict: u32,
}

impl Handles {
    pub(crate) const fn new() -> Self {
        Self {
            things: KeyedTable::new(),
            of_verdict: 0,
        }
    }

    /// How many there are; the last one has this number.
    pub(crate) fn len(&self) -> usize {
        self.things.len()
    }

    /// Called before a verdict is reported: its groups get the first numbers, unless it has been reported before.
    pub(crate) fn begin(&mut self, of_verdict: u32, groups: &Groups, meta: &MetaAlloc<'_>) {
        if self.of_verdict == of_verdict {
            return;
        }
        self.things.clear();
        self.of_verdict = of_verdict;
        groups.each(&mut |_, stack_id| {
            self.of(Thing::Group(stack_id), meta);
        });
    }

    /// The handle of a thing, which is a new one if it had none. `None` without memory.
    pub(crate) fn of(&mut self, thing: Thing, meta: &MetaAlloc<'_>) -> Option<ShortHandle> {
        let row = self.things.find_or_add(thing, meta).ok()?;
        Some(ShortHandle(u32::try_from(row).ok()?.checked_add(1)?))
    }

    /// What has this handle.
    pub(crate) fn thing(&self, handle: ShortHandle) -> Option<Thing> {
        self.things.key((handle.0 as usize).checked_sub(1)?)
    }

    /// Forgets everything; its owner gives the memory back.
    pub(crate) fn empty(&mut self) {
        self.things.empty();
        self.of_verdict = 0;
    }
}
