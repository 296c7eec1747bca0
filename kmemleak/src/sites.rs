//! What is alive at each call site, and how that has changed since a mark: for memory that is never lost, only never given back.
//!
//! A site is a call stack. Nothing is counted while objects come and go; who asks has all of them walked over.
//!
//! # Locks
//!
//! One, held while the objects are walked over, by who has the claim: so nobody waits for it.

use crate::depot::Trace;
use crate::detector::Detector;
use crate::memory::Source;
use crate::paged::heapsort;
use crate::platform::Platform;
use crate::traces::Traces;

/// Words of a site's row.
const ROW: usize = 6;
const BYTES: usize = 1;
const BLOCKS: usize = 2;
const MARKED_BYTES: usize = 3;
const MARKED_BLOCKS: usize = 4;
/// The site that stands in this place of the order.
const ORDER: usize = 5;

/// A call site, and what is alive of what it allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site<'a> {
    /// Return addresses of its call stack, innermost first. Empty for what has none.
    pub call_stack: &'a [usize],
    /// Live bytes.
    pub bytes: usize,
    /// Live blocks.
    pub blocks: usize,
    /// Bytes that came since the last mark, less those that went; all where there is no mark.
    pub growth_bytes: i64,
    /// The same in blocks.
    pub growth_blocks: i64,
}

/// All sites. Used by one at a time.
pub(crate) struct Sites {
    table: Traces<ROW>,
}

impl Sites {
    pub(crate) const fn new() -> Self {
        Self {
            table: Traces::new(),
        }
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&mut self) {
        self.table.empty();
    }

    fn set_all(&self, words: [usize; 2], value: impl Fn(usize, usize) -> u64) {
        for row in 0..self.table.rows.len() {
            for word in words {
                self.table.rows.set(row, word, value(row, word));
            }
        }
    }

    /// One block more.
    fn add(&mut self, trace: Trace, bytes: usize, source: &Source<'_>) -> bool {
        let Some(row) = self.table.find_or_add(trace, source) else {
            return false;
        };
        let rows = &self.table.rows;
        rows.set(row, BYTES, rows.get(row, BYTES) + bytes as u64);
        rows.set(row, BLOCKS, rows.get(row, BLOCKS) + 1);
        true
    }

    fn sort(&self) {
        let rows = &self.table.rows;
        let weight = |place| {
            let row = rows.get(place, ORDER) as usize;
            (
                rows.get(row, BYTES),
                rows.get(row, BLOCKS),
                core::cmp::Reverse(row),
            )
        };
        (0..rows.len()).for_each(|place| rows.set(place, ORDER, place as u64));
        heapsort(
            rows.len(),
            &|one, other| weight(one) < weight(other),
            &mut |one, other| {
                let (a, b) = (rows.get(one, ORDER), rows.get(other, ORDER));
                rows.set(one, ORDER, b);
                rows.set(other, ORDER, a);
            },
        );
    }
}

impl<P: Platform, const BOOTSTRAP: usize> Detector<P, BOOTSTRAP> {
    /// Counts what is alive. False where there was no memory to count all of it. The caller has the claim.
    fn count_sites(&self) -> bool {
        let sites = &mut *self.sites.lock();
        sites.set_all([BYTES, BLOCKS], |_, _| 0);
        let mut all = true;
        self.each_tracked(&mut |object, source| {
            let bytes = self.registry.size(object.start, object.record);
            all &= sites.add(object.record.read().trace(), bytes, source);
        });
        all
    }

    /// Notes what is alive. The caller has the claim.
    pub(crate) fn mark_sites(&self) -> bool {
        let all = self.count_sites();
        let sites = self.sites.lock();
        sites.set_all([MARKED_BYTES, MARKED_BLOCKS], |row, word| {
            sites.table.rows.get(row, word - MARKED_BYTES + BYTES)
        });
        all
    }

    /// Forgets what was noted. The caller has the claim.
    pub(crate) fn unmark_sites(&self) {
        self.sites.lock().table.clear();
    }

    /// Shows each call site with what is alive of what it allocated and how that has changed since the last [`mark`](Self::mark), in the order of
    /// live bytes, the most first; those of which nothing is alive any more come last. False where there was no memory to count all. Task
    /// context, with no lock held; `look` may allocate.
    pub fn for_each_site(&self, look: &mut dyn FnMut(Site<'_>)) -> bool {
        let _claim = self.claim();
        self.each_site(look)
    }

    /// The same, for who has the claim.
    pub(crate) fn each_site(&self, look: &mut dyn FnMut(Site<'_>)) -> bool {
        let all = self.count_sites();
        // The claim keeps them; the lock is not held while somebody looks, who may be out of memory and want to know why.
        let len = {
            let sites = self.sites.lock();
            sites.sort();
            sites.table.rows.len()
        };
        for place in 0..len {
            let (trace, row) = {
                let sites = self.sites.lock();
                let row = sites.table.rows.get(place, ORDER) as usize;
                (sites.table.trace(row), sites.table.rows.row(row))
            };
            let growth = |now: usize, marked: usize| row[now].wrapping_sub(row[marked]) as i64;
            let frames = self.depot.get(trace);
            let site = Site {
                call_stack: frames.as_slice(),
                bytes: row[BYTES] as usize,
                blocks: row[BLOCKS] as usize,
                growth_bytes: growth(BYTES, MARKED_BYTES),
                growth_blocks: growth(BLOCKS, MARKED_BLOCKS),
            };
            if site.blocks > 0 || site.growth_blocks != 0 {
                look(site);
            }
        }
        all
    }
}
