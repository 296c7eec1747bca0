//! How a call stack gets into the depot.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::atomic::AtomicU32;
use crate::metadata::page::{Links, NewPage, NoMemory, Page, PageSource};
use crate::stacks::depot::entry::{Entries, PAGE_UNITS, StackEntry};
use crate::stacks::depot::index::{Branch, FORK_UNITS, Route};
use crate::stacks::depot::walked::Walked;
use crate::stacks::depot::{Depot, FAN_OUT, SPREAD, StackId};

/// Room for an entry or a fork that nobody sees yet.
#[derive(Clone, Copy)]
struct Units {
    unit: u32,
    units: u32,
}

/// An entry that nobody sees yet.
#[derive(Clone, Copy)]
struct Unseen {
    entry: StackEntry,
    room: Units,
}

/// A call stack that is looked for.
struct WantedStack<'w> {
    walked: &'w Walked,
    route: Route,
    /// Its entry, once one was written for it.
    unseen: Option<Unseen>,
}

/// How a look at a slot ended.
enum SlotLook<'s> {
    Found(StackId, StackEntry),
    /// Another slot is to be looked at, or the same one again.
    At(&'s AtomicU32),
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
        let route = Route::new(hash(addresses));
        let mut wanted = WantedStack {
            walked,
            route,
            unseen: None,
        };
        let mut slot = &self.root[route.root()];
        loop {
            match self.look(slot, &mut wanted, meta)? {
                SlotLook::At(next) => slot = next,
                SlotLook::Found(id, entry) => {
                    // Where another CPU was first, its entry counts.
                    let spare = wanted.unseen.filter(|unseen| unseen.room.unit != id.0);
                    spare
                        .into_iter()
                        .for_each(|unseen| self.unreserve(unseen.room));
                    return Some((id, entry));
                }
            }
        }
    }

    /// Looks at a slot: goes down into its fork, finds the entry, enters one, or makes a fork. `None` if there is no memory.
    fn look<'s>(
        &'s self,
        slot: &'s AtomicU32,
        wanted: &mut WantedStack<'_>,
        meta: &impl PageSource,
    ) -> Option<SlotLook<'s>> {
        let seen = slot.load(Acquire);
        match Branch::from_slot(seen) {
            Branch::Fork(unit) => Some(SlotLook::At(wanted.route.step(self.fork(unit)?)?)),
            Branch::Nothing => self.enter(slot, seen, wanted, meta),
            Branch::Entry(number) => {
                let stored = self.entry(number)?.hash().load(Relaxed);
                if stored != wanted.route.stored() {
                    self.make_fork(slot, number, stored, wanted.route, meta)?;
                    return Some(SlotLook::At(slot));
                }
                match self.find(number, wanted) {
                    Some((id, entry)) => Some(SlotLook::Found(id, entry)),
                    None => self.enter(slot, seen, wanted, meta),
                }
            }
        }
    }

    /// The entry with the wanted addresses, if it is in the chain from the entry `number` on.
    fn find(&self, mut number: u32, wanted: &WantedStack<'_>) -> Option<(StackId, StackEntry)> {
        let addresses = wanted.walked.addresses();
        while number != 0 {
            let entry = self.entry(number)?;
            if let Some(frames) = entry.frames()
                && frames.len() == addresses.len()
                && frames.addresses().eq(addresses.iter().copied())
            {
                return Some((StackId(number), entry));
            }
            number = entry.next().load(Relaxed);
        }
        None
    }

    /// Enters the wanted call stack in a slot, in front of the chain that was seen there.
    fn enter<'s>(
        &self,
        slot: &'s AtomicU32,
        seen: u32,
        wanted: &mut WantedStack<'_>,
        meta: &impl PageSource,
    ) -> Option<SlotLook<'s>> {
        let unseen = match wanted.unseen {
            Some(unseen) => unseen,
            None => {
                let unseen = self.keep(wanted, meta).ok()?;
                wanted.unseen = Some(unseen);
                unseen
            }
        };
        let (entry, number) = (unseen.entry, unseen.room.unit);
        entry.next().store(seen, Relaxed);
        if slot
            .compare_exchange(seen, number, Release, Relaxed)
            .is_err()
        {
            return Some(SlotLook::At(slot));
        }
        self.stacks.fetch_add(1, Relaxed);
        Some(SlotLook::Found(StackId(number), entry))
    }

    /// Puts a fork into a slot, above the entry that was seen there. If the slot has changed meanwhile, nothing is done.
    fn make_fork(
        &self,
        slot: &AtomicU32,
        number: u32,
        stored: u32,
        route: Route,
        meta: &impl PageSource,
    ) -> Option<()> {
        let unit = self.reserve(FORK_UNITS, meta).ok()?;
        route.write_fork(self.fork(unit)?, number, stored)?;
        let (entry, fork) = (Branch::Entry(number).slot(), Branch::Fork(unit).slot());
        if slot
            .compare_exchange(entry, fork, Release, Relaxed)
            .is_err()
        {
            let units = FORK_UNITS;
            self.unreserve(Units { unit, units });
        }
        Some(())
    }

    /// Writes a new entry.
    fn keep(&self, wanted: &WantedStack<'_>, meta: &impl PageSource) -> Result<Unseen, NoMemory> {
        let units = StackEntry::units(wanted.walked);
        let unit = self.reserve(units, meta)?;
        let entry = self.place(unit).ok_or(NoMemory)?;
        entry
            .write(wanted.walked, wanted.route.stored(), unit)
            .ok_or(NoMemory)?;
        let room = Units { unit, units };
        Ok(Unseen { entry, room })
    }

    /// Takes room for an entry or a fork: units of one page. A missing page is taken.
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

    /// Gives back room for what nobody saw. If other room was taken since, it is lost.
    fn unreserve(&self, room: Units) {
        let end = room.unit + room.units;
        let _ = self.used.compare_exchange(end, room.unit, Release, Relaxed);
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
    mixed(addresses).wrapping_mul(SPREAD).rotate_left(32)
}

/// What frames make of a hash, one after the other.
pub(super) fn mixed(addresses: &[usize]) -> u64 {
    let len = addresses.len() as u64;
    addresses.iter().fold(len, |hash, &address| {
        let mixed = (hash ^ address as u64).wrapping_mul(SPREAD);
        mixed ^ mixed >> 29
    })
}
