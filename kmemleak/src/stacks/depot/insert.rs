//! How a call stack gets into the depot.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::metadata::hidden::Hidden;
use crate::metadata::page::{Links, NewPage, NoMemory, Page, PageSource};
use crate::stacks::depot::entry::{Entries, PAGE_UNITS, Shape, StackEntry};
use crate::stacks::depot::walked::Walked;
use crate::stacks::depot::{BUCKETS, Depot, FAN_OUT, Frames, SPREAD, StackId};

/// An entry that nobody sees yet.
struct Unseen {
    entry: StackEntry,
    number: u32,
    units: u32,
}

impl Depot {
    /// The entry of a call stack. A missing one is made. `None` if the stack is empty, or there is no memory.
    #[inline(never)]
    pub(super) fn find_or_insert(
        &self,
        walked: &Walked,
        meta: &impl PageSource,
    ) -> Option<(StackId, StackEntry)> {
        let addresses = walked.addresses();
        if addresses.is_empty() {
            return None;
        }
        let base = self.chosen_base();
        let hash = hash(addresses);
        let bucket = &self.buckets[(hash >> 32) as usize % BUCKETS];
        let hash = hash as u32;
        let mut first = bucket.load(Acquire);
        let found = self.find(first, 0, hash, addresses, base);
        if found.is_some() {
            return found;
        }
        let unseen = self.keep(walked, hash, base, meta).ok()?;
        let (entry, number) = (unseen.entry, unseen.number);
        loop {
            entry.next().store(first, Relaxed);
            match bucket.compare_exchange(first, number, Release, Acquire) {
                Ok(_) => {
                    self.stacks.fetch_add(1, Relaxed);
                    return Some((StackId(number), entry));
                }
                Err(now) => {
                    let found = self.find(now, first, hash, addresses, base);
                    if found.is_some() {
                        self.unreserve(unseen);
                        return found;
                    }
                    first = now;
                }
            }
        }
    }

    /// The entry with these addresses, if it is in the chain from the entry `number` on and before the entry `end`.
    fn find(
        &self,
        mut number: u32,
        end: u32,
        hash: u32,
        addresses: &[usize],
        base: usize,
    ) -> Option<(StackId, StackEntry)> {
        while number != end {
            let entry = self.entry(number)?;
            if entry.hash().load(Relaxed) == hash
                && let Some(frames) = entry.frames()
                && frames.len() == addresses.len()
                && frames.addresses(base).eq(addresses.iter().copied())
            {
                return Some((StackId(number), entry));
            }
            number = entry.next().load(Relaxed);
        }
        None
    }

    /// Writes a new entry.
    fn keep(
        &self,
        walked: &Walked,
        hash: u32,
        base: usize,
        meta: &impl PageSource,
    ) -> Result<Unseen, NoMemory> {
        let shape = Shape::of(walked.addresses(), base);
        let units = shape.units();
        let number = self.reserve(units, meta)?;
        let entry = self.place(number).ok_or(NoMemory)?;
        entry
            .write(shape, walked, base, hash, number)
            .ok_or(NoMemory)?;
        Ok(Unseen {
            entry,
            number,
            units,
        })
    }

    /// Takes room for an entry: units of one page. A missing page is taken.
    fn reserve(&self, units: u32, meta: &impl PageSource) -> Result<u32, NoMemory> {
        let mut used = self.used.load(Relaxed);
        loop {
            let mut start = used.max(1);
            if start % PAGE_UNITS + units > PAGE_UNITS {
                start = start.next_multiple_of(PAGE_UNITS);
            }
            self.ensure_page((start / PAGE_UNITS) as usize, meta)?;
            match self
                .used
                .compare_exchange(used, start + units, Acquire, Relaxed)
            {
                Ok(_) => return Ok(start),
                Err(now) => used = now,
            }
        }
    }

    /// Gives back the room of an entry that nobody saw. If other room was taken since, it is lost.
    fn unreserve(&self, unseen: Unseen) {
        let end = unseen.number + unseen.units;
        let _ = self
            .used
            .compare_exchange(end, unseen.number, Release, Relaxed);
    }

    /// Takes a page for this number, if there is none.
    pub(super) fn ensure_page(&self, page: usize, meta: &impl PageSource) -> Result<(), NoMemory> {
        let table = self.tables.get(page / FAN_OUT).ok_or(NoMemory)?;
        let table = match table.get() {
            Some(table) => table,
            None => match table.fill(self.take(meta)?) {
                Ok(table) => table,
                Err(spare) => {
                    // Another CPU was first.
                    let table = table.get().ok_or(NoMemory)?;
                    add_page(table, page, spare);
                    table
                }
            },
        };
        if table.link(page % FAN_OUT).is_empty() {
            add_page(table, page, self.take(meta)?);
        }
        Ok(())
    }

    pub(super) fn take(&self, meta: &impl PageSource) -> Result<NewPage, NoMemory> {
        let page = meta.page()?;
        self.pages.fetch_add(1, Relaxed);
        Ok(page)
    }

    /// The text base. If none is chosen, it is chosen now.
    fn chosen_base(&self) -> usize {
        if Hidden::from_bits(self.base.load(Relaxed)) == Hidden::NONE {
            let here = Self::get as fn(&Self, StackId) -> Frames as usize;
            self.set_text_base(here.saturating_sub(1 << 31));
        }
        self.base()
    }
}

/// Puts a page into a table: at this number, or at a later one if another CPU was first, to be used when that number is reached.
/// If the table is full, the page stays unused until all metadata is given back.
pub(super) fn add_page(table: Page<Links<Entries>>, page: usize, mut new: NewPage) {
    for index in page % FAN_OUT..FAN_OUT {
        match table.link(index).fill(new) {
            Ok(_) => return,
            Err(unplaced) => new = unplaced,
        }
    }
}

/// A hash of a call stack, all bits of which are well mixed.
fn hash(addresses: &[usize]) -> u64 {
    let hash = addresses
        .iter()
        .fold(addresses.len() as u64, |hash, &address| {
            let mixed = (hash ^ address as u64).wrapping_mul(SPREAD);
            mixed ^ mixed >> 29
        });
    hash.wrapping_mul(SPREAD).rotate_left(32)
}
