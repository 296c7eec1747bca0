//! The sweep: to which suspects does anything point? In a stopped world, to confirm a pass that was made while other code ran.
//!
//! A pass has marked what is in use, and left its suspects unmarked. A check would mark all again, object after object in the order
//! in which pointers lead to them. That is not needed to find out about the suspects: all other objects count as in use, so their
//! words are read in the order of addresses, with the roots, and are compared with the range of the suspects instead of that of all
//! objects. A suspect that is pointed to is marked, and what it points to in turn, by the rules by which a pass marks. Objects that lie
//! one behind the other, as in a slab, are read as one stretch of memory.
//!
//! # What it says
//!
//! The suspects that are left unmarked are those to which nothing leads from a root or from an object that is no suspect. The sweep
//! begins where a pass is when it has marked the others: so all that is said of passes ([`crate::marker`]) holds for it, of pointers
//! to the middle of objects, of several references, of roots that overlap objects. What was allocated since the pass, or declared to
//! be no leak, is no suspect, and is read. Contents are read now, so what changed since makes no difference.
//!
//! A check may find more: an object that was lost since the pass is in use for the sweep, and so is what it points to. The next pass
//! suspects both.
//!
//! # Which pointers are counted
//!
//! Counts begin at zero for suspects only, and only pointers into the range of the suspects are followed. An object that passes
//! pointers on (*excess references*) may do so to a suspect, and may lie elsewhere: then it begins at zero, too, and belongs to the
//! range. So do further copies of per-CPU blocks of which pointers are counted.
//!
//! # What it leaves behind
//!
//! Marks that are right for suspects; the counts and flags of other objects are those of the pass. So questions about these make a
//! pass of their own (`unfinished`). The next pass begins by clearing all of it, so a sweep may be given up at any moment.

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::checkpoint::{LEAF, LOOK};
use super::{GivenUp, Marker};
use crate::marker::words::MappedWords;
use crate::metadata::WORD;
use crate::metadata::ranges::Hull;
use crate::objects::access::{Access, OpenChunk, Stopped};
use crate::objects::chunk::{Chunk, GRANULE, info};
use crate::objects::object::{Object, alias_owner};
use crate::objects::page_map::{ChunkNumber, address_of};
use crate::objects::record::{Record, flag};
use crate::platform::address::end_of;
use crate::platform::arch::{AddressBits, BLOCK, RangeFilter};
use crate::platform::{Platform, Words};

/// Bytes of an object that is read with its neighbours, at most; and as many as a table of the index is for.
const STRETCH: usize = 64 << 10;

/// Words that are searched at once.
const AT_ONCE: usize = 256;

/// Room for what is found among these.
type Found = [usize; AT_ONCE];

/// Excess references that are followed from one object to the next; behind a longer way a suspect is taken for granted.
const MAX_LINKS: usize = 8;

/// Chunks of which the records have to be looked at. [`info::PENDING`] stands at those that have suspects.
const CLOSELY: u32 = info::SPECIAL | info::UNALIGNED | info::PENDING;

/// Whether an object is a suspect of the pass before. It does not change while the world is stopped.
pub(super) fn is_suspect(record: &Record) -> bool {
    record.has(flag::SUSPECT) && !record.has(flag::ALIAS) && record.min_count() > 0
}

/// Where suspects lie.
pub(super) struct Suspects {
    hull: Hull,
    places: AddressBits,
}

impl Suspects {
    pub(super) const fn new() -> Self {
        Self {
            hull: Hull::new(),
            places: AddressBits::new(),
        }
    }

    fn add(&self, range: &Range<usize>) {
        self.hull.add(range);
        self.places.add(range);
    }
}

/// What a sweep begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InUse {
    /// A pass: what roots reach.
    Reached,
    /// A sweep: all but the suspects.
    Unsuspected,
}

impl<P: Platform> Marker<'_, P, Stopped> {
    /// Marks the suspects to which something leads, after a pass.
    pub(crate) fn sweep(&mut self) -> Result<(), GivenUp> {
        if self.worker == 0 {
            self.tools.unfinished.store(true, Ordering::Relaxed);
            self.tools.root_ranges.straddling.clear();
        }
        self.in_use = InUse::Unsuspected;
        self.tell_apart()?;
        self.barrier()?;
        self.narrow();
        self.overlay()?;
        self.barrier()?;
        self.scan_roots()?;
        self.read_in_use()?;
        // No worker takes what another one is about to read for a spilled object: see `read_closely`.
        self.barrier()?;
        self.finish()
    }

    /// Finds the range of the suspects, which begin unmarked, and marks all other objects.
    fn tell_apart(&mut self) -> Result<(), GivenUp> {
        while let Some((number, leaf)) = self.take_leaf() {
            if !leaf.has_users() {
                self.worked(LOOK)?;
                continue;
            }
            for (chunk_number, chunk) in leaf.chunks(number) {
                let starts = chunk.starts().load(Ordering::Relaxed);
                let unmarked = starts & !chunk.marks().load(Ordering::Relaxed);
                if chunk.has(info::SPECIAL | info::UNALIGNED) {
                    self.tell_apart_in(chunk_number, chunk, starts);
                } else if unmarked != 0 {
                    self.tell_apart_in(chunk_number, chunk, unmarked);
                }
            }
            self.worked(LEAF)?;
        }
        Ok(())
    }

    #[inline(never)]
    fn tell_apart_in(&mut self, number: ChunkNumber, chunk: Chunk, granules: u64) {
        let (access, registry) = (self.access, self.tools.registry);
        registry.each_of(&access.open(number, chunk), granules, &mut |object| {
            let record = object.record.read();
            if is_suspect(&record) {
                self.begin_suspect(object, &record);
            } else if record.has(flag::ALIAS) {
                self.begin_copy(object, &record);
            } else {
                self.begin_in_use(object, &record);
            }
        });
    }

    fn begin_suspect(&self, object: Object<'_>, record: &Record) {
        let side_table = &self.tools.registry.side_table;
        object.reset_count(side_table);
        if record.has(flag::EXCESS) {
            side_table.reset_arrivals(object.start);
        }
        object.mark.clear();
        object.chunk.set(info::PENDING);
        // Nothing points to physical memory by its physical address.
        if !record.has(flag::PHYS) {
            self.include(object);
        }
    }

    /// A further copy of a per-CPU block: pointers to it count for the block.
    #[cold]
    fn begin_copy(&self, object: Object<'_>, record: &Record) {
        let access = self.access;
        let owner = alias_owner(record);
        let seen = self.tools.registry.starting_at(access, owner, |owner| {
            let record = owner.record.read();
            (is_suspect(&record), record.has(flag::EXCESS))
        });
        let counted = match seen {
            Some((true, _)) => true,
            Some((false, true)) => self.leads_to_suspect(owner),
            Some((false, false)) | None => false,
        };
        if counted {
            object.mark.clear();
            self.include(object);
        }
    }

    fn begin_in_use(&self, object: Object<'_>, record: &Record) {
        if !record.has(flag::EXCESS) {
            // It may have lain in a root that is none any more.
            object.record.clear(flag::REACHED);
            object.mark.set();
            return;
        }
        object.enliven();
        // Unless it lies in a root, which is not known yet: see `read_closely`.
        object.record.set(flag::PENDING);
        object.chunk.set(info::PENDING);
        if self.leads_to_suspect(object.start) {
            self.tools.registry.side_table.reset_arrivals(object.start);
            self.include(object);
        }
    }

    /// Whether pointers to an object in use may count for a suspect.
    #[cold]
    fn leads_to_suspect(&self, start: usize) -> bool {
        let (access, registry) = (self.access, self.tools.registry);
        let next = |start| registry.side_table.arrivals(start).map(|link| link.other);
        let mut at = next(start);
        for _ in 0..MAX_LINKS {
            let Some(other) = at else {
                return false;
            };
            let seen = registry.starting_at(access, other, |object| {
                let record = object.record.read();
                (is_suspect(&record), record.has(flag::EXCESS))
            });
            match seen {
                Some((true, _)) => return true,
                Some((false, true)) => at = next(other),
                Some((false, false)) | None => return false,
            }
        }
        true
    }

    /// Pointers to this object are to be seen.
    fn include(&self, object: Object<'_>) {
        let size = self.tools.registry.size(object.start, object.record);
        let range = object.start..end_of(object.start, size);
        self.shared.suspects.add(&range);
    }

    /// From now on only words in the range of the suspects are candidates.
    fn narrow(&mut self) {
        let range = self.shared.suspects.hull.range();
        (self.lowest, self.span) = (range.start, range.len());
        self.filter = match self.tools.platform.words() {
            Words::Plain => RangeFilter::new(self.lowest, self.span),
            _ => None,
        };
    }

    /// Reads what is in use and lies in no root, in the order of addresses.
    fn read_in_use(&mut self) -> Result<(), GivenUp> {
        let mut found = [0; AT_ONCE];
        let done = self.read_with(&mut found);
        // No addresses of blocks stay on this stack.
        found.fill(0);
        core::hint::black_box(&found);
        done
    }

    fn read_with(&mut self, found: &mut Found) -> Result<(), GivenUp> {
        while let Some((number, leaf)) = self.take_leaf() {
            if !leaf.has_users() {
                self.worked(LOOK)?;
                continue;
            }
            let mut run = Run::NONE;
            for (chunk_number, chunk) in leaf.chunks(number) {
                if chunk.has(CLOSELY) {
                    self.read_closely(chunk_number, chunk)?;
                } else {
                    self.sweep_plain(chunk_number, chunk, &mut run, found);
                }
            }
            self.read_run(&run.range, found);
            self.worked(LEAF)?;
            while self.queue.is_filling() {
                self.scan_next()?;
            }
        }
        Ok(())
    }

    /// Reads the objects of a chunk, all of which are plain and in use. The last ones are left to be read, as those of the chunk before
    /// were: as `run`.
    #[inline(always)]
    fn sweep_plain(&mut self, number: ChunkNumber, chunk: Chunk, run: &mut Run, found: &mut Found) {
        let base = address_of(number);
        let laid_out = (
            chunk.starts().load(Ordering::Relaxed),
            chunk.now().common_words(),
        );
        if run.laid_out == laid_out && base + run.first == run.range.end {
            // Zero where that is the end of the address space, as below.
            run.range.end = run.range.end.wrapping_add(run.bytes);
            return;
        }
        let (starts, words) = laid_out;
        if starts == 0 {
            return;
        }
        if !are_close(starts, words) {
            return self.read_apart(base, chunk, run, found);
        }
        let last = u64::BITS - 1 - starts.leading_zeros();
        let first = starts.trailing_zeros() as usize * GRANULE;
        let end = last as usize * GRANULE + words as usize * WORD;
        self.join(&mut run.range, base + first..base.wrapping_add(end), found);
        (run.laid_out, run.first, run.bytes) = (laid_out, first, end - first);
    }

    /// Reads the objects of a chunk one after the other, since they do not lie close.
    #[inline(never)]
    fn read_apart(&mut self, base: usize, chunk: Chunk, run: &mut Run, found: &mut Found) {
        let common = chunk.now().common_words() as usize;
        for granule in Chunk::granules(chunk.starts().load(Ordering::Relaxed)) {
            let words = match common {
                0 => {
                    // SAFETY: an object starts there, and the world is stopped.
                    let record = unsafe { chunk.record(granule) };
                    record.short_size() as usize / WORD
                }
                common => common,
            };
            let start = base + granule as usize * GRANULE;
            let next = start..start.wrapping_add(words * WORD);
            self.join(&mut run.range, next, found);
        }
    }

    /// Adds to a run what lies behind it. If that lies elsewhere, or is long, the run is read, and another one begun.
    #[inline(always)]
    fn join(&mut self, run: &mut Range<usize>, next: Range<usize>, found: &mut Found) {
        if next.start == run.end && next.len() <= STRETCH {
            run.end = next.end;
        } else {
            self.read_run(&core::mem::replace(run, next), found);
        }
    }

    /// Reads a run of objects.
    #[inline(never)]
    fn read_run(&mut self, run: &Range<usize>, found: &mut Found) {
        let len = run.end.wrapping_sub(run.start);
        if len == 0 {
            return;
        }
        // Runs of others begin in one table's memory, which is a stretch.
        if len <= 2 * STRETCH && self.tools.readable(run.start, len) {
            // SAFETY: plain objects start at whole words; they are vouched for, and not freed in a stopped world.
            let words = unsafe { MappedWords::new(run.start, len / WORD) };
            return self.read_words(words, found);
        }
        // One after the other: some may be read, or one is long.
        let (access, registry) = (self.access, self.tools.registry);
        registry.each_in(access, run.clone(), &mut |object| self.enqueue(object));
    }

    /// Finds the candidates among words, and drops most that point elsewhere in the range of the suspects.
    fn read_words(&mut self, mut words: MappedWords, found: &mut Found) {
        let Some(filter) = self.filter else {
            self.scan_words(words);
            return;
        };
        self.words += words.len() as u64;
        let places = &self.shared.suspects.places;
        while words.len() >= BLOCK {
            let blocks = (words.len() / BLOCK).min(AT_ONCE / BLOCK);
            let stretch = words.take(blocks * BLOCK);
            // SAFETY: the words may be read, and there is room for as many.
            let count = unsafe {
                filter.collect_blocks(stretch.start(), blocks, places, found.as_mut_ptr())
            };
            found[..count].iter().for_each(|&word| self.candidate(word));
        }
        // SAFETY: as above.
        let count = unsafe { filter.collect(words.start(), words.len(), found.as_mut_ptr()) };
        let some = found[..count].iter();
        some.filter(|&&word| places.may_have(word))
            .for_each(|&word| self.candidate(word));
    }

    /// Reads the objects of a chunk that are in use, as their records say.
    #[inline(never)]
    fn read_closely(&mut self, number: ChunkNumber, chunk: Chunk) -> Result<(), GivenUp> {
        let (access, registry) = (self.access, self.tools.registry);
        let open: OpenChunk<Stopped> = access.open(number, chunk);
        registry.each_of(&open, u64::MAX, &mut |object| {
            let record = object.record.read();
            let read = if record.has(flag::EXCESS) {
                // It is reached wherever it lies; what lies in a root waits no more.
                record.has(flag::PENDING)
            } else {
                !record.has(flag::REACHED)
            };
            if read && !is_suspect(&record) && !record.has(flag::ALIAS) {
                object.record.clear(flag::PENDING);
                self.enqueue(object);
            }
        });
        while self.queue.is_filling() {
            self.scan_next()?;
        }
        Ok(())
    }
}

/// Objects that lie one behind the other, and are to be read.
struct Run {
    range: Range<usize>,
    /// How those of its last chunk are laid out, if they lie close: their starts, and how many words each has; where the first one starts in the
    /// chunk, and how many bytes they have. The next chunk is most often like it.
    laid_out: (u64, u32),
    first: usize,
    bytes: usize,
}

impl Run {
    const NONE: Self = Self {
        range: 0..0,
        laid_out: (0, 0),
        first: 0,
        bytes: 0,
    };
}

/// Whether objects of so many words, if their number is known, follow one another: each but the first starts where another one ends.
#[inline(always)]
fn are_close(starts: u64, words: u32) -> bool {
    match words {
        0 => false,
        1..64 => starts & !(starts << words) == starts & starts.wrapping_neg(),
        // There is one.
        64.. => true,
    }
}

/// Notes that an object in use lies in a root, where its words are read.
#[cold]
pub(super) fn note_in_root(object: Object<'_>) {
    object.record.set(flag::REACHED);
    // So that the next pass clears it.
    object.chunk.set(info::SPECIAL);
}

#[cfg(test)]
mod tests;
