//! Marked objects that found no room in a queue of the marker: they wait where they are, in the index.
//!
//! Such an object has a flag in its record, its chunk has one in its entry, and the table of that entry is in a list, by a link for which
//! tables have [room](Leaf::link) anyhow. So the list needs no memory, and always has room: each table is in it once at most. And what
//! is found again is what waits, with its neighbours: whoever takes a table looks at its 128 entries, and at the records of those
//! chunks that have the flag, never at the whole index.
//!
//! The table that has waited longest is taken first, so that others of its objects may join meanwhile.
//!
//! # Invariants
//!
//! - If an object waits, the table of its chunk is in the list; or a worker is about to append it, or has taken it and has not come to the
//!   chunk yet.
//! - The list is a pass's own, but links and flags lie in the index, and a pass that is given up leaves some. The next pass
//!   [forgets](forget) the link of a table, and clears the flags, before it finds an object there.
//!
//! # Locks
//!
//! One, taken under the lock of a chunk, with interrupts off, or in a stopped world.
//!
//! # Orderings
//!
//! A worker sets the record's flag, then that of the chunk (AcqRel), then appends the table unless that has a link. Who takes the table
//! out clears its link, then the flag of a chunk (AcqRel), then looks at the records. Of the two changes of the chunk's flag one comes
//! first: either the record's flag is seen, or the link is gone and the table is appended once more. Links are written under the lock. Read
//! without it, one may be a mixture of two; but one that was taken out before is seen as such, and what seems to have none is looked at
//! again under the lock.

use core::sync::atomic::Ordering;

use crate::atomic::{AtomicBool, Lock};
use crate::metadata::hidden::Hidden;
use crate::objects::chunk::{Chunk, info};
use crate::objects::page_map::{Leaf, PageMap, leaf_of};
use crate::objects::record::{RecordRef, flag};

/// The link of a table that is in no list.
const OUT: u64 = 0;
/// The link of the last table.
const LAST: u64 = 1;
/// The link of the table before this one.
const fn before(leaf: usize) -> u64 {
    leaf as u64 + 2
}

/// The list.
pub(crate) struct Spill {
    ends: Lock<Option<Ends>>,
    /// Whether there are any. Stored under the lock with Release, and loaded with Acquire without it, by a worker that looks for work.
    some: AtomicBool,
}

struct Ends {
    /// The number of the first table.
    first: usize,
    /// Where the last one lies.
    last: Hidden,
}

impl Spill {
    pub(crate) const fn new() -> Self {
        Self {
            ends: Lock::new(None),
            some: AtomicBool::new(false),
        }
    }

    /// Notes that a marked object waits, which starts here and has this record, in this chunk, which is open.
    pub(crate) fn add(&self, start: usize, record: RecordRef, chunk: Chunk) {
        record.set(flag::PENDING);
        chunk.info().fetch_or(info::SPILLED, Ordering::AcqRel);
        let leaf = Leaf::of(chunk);
        if leaf.link() == OUT {
            self.append(leaf_of(start), leaf);
        }
    }

    fn append(&self, number: usize, leaf: Leaf) {
        let mut ends = self.ends.lock();
        if leaf.link() != OUT {
            return;
        }
        leaf.set_link(LAST);
        match &mut *ends {
            Some(ends) => {
                // SAFETY: the place of a table, and no metadata is given back while a pass goes on.
                let last = unsafe { Leaf::from_place(ends.last) };
                last.set_link(before(number));
                ends.last = leaf.place();
            }
            none => {
                *none = Some(Ends {
                    first: number,
                    last: leaf.place(),
                });
            }
        }
        self.some.store(true, Ordering::Release);
    }

    /// Whether objects wait.
    pub(crate) fn is_any_waiting(&self) -> bool {
        self.some.load(Ordering::Acquire)
    }

    /// Takes the table out of the list that has waited longest, and returns it with its number. Interrupts are off.
    pub(crate) fn take(&self, map: &PageMap) -> Option<(usize, Leaf)> {
        if !self.is_any_waiting() {
            return None;
        }
        let mut ends = self.ends.lock();
        let Ends { first, last } = ends.take()?;
        let leaf = map.leaf(first).ok()?;
        let next = leaf.link().checked_sub(before(0));
        *ends = next.map(|next| Ends {
            first: next as usize,
            last,
        });
        leaf.set_link(OUT);
        self.some.store(next.is_some(), Ordering::Release);
        Some((first, leaf))
    }
}

impl Chunk {
    /// Clears the flag that objects wait here. Their records are looked at next.
    pub(crate) fn take_spilled(self) {
        self.info().fetch_and(!info::SPILLED, Ordering::AcqRel);
    }
}

/// Forgets that a table is in the list of a pass that was given up.
pub(crate) fn forget(leaf: Leaf) {
    if leaf.link() != OUT {
        leaf.set_link(OUT);
    }
}
