//! Words that are almost pointers to an object: what may be the reason of a false leak.
//!
//! All words are looked at of roots and of live objects, whatever they hold. A few hits are kept, the others are counted.

use core::ops::Range;

use crate::checker::references::answer::NearMiss;
use crate::checker::references::slot::{Slot, SlotPlace};
use crate::checker::references::{Target, is_alive, target_at};
use crate::marker::words::MappedWords;
use crate::marker::{GivenUp, Marker};
use crate::metadata::hidden::Hidden;
use crate::metadata::page_vec::PageVec;
use crate::metadata::{MetaAlloc, WORD};
use crate::objects::access::Access;
use crate::objects::record::flag;
use crate::platform::address::{ADDRESS_BITS, Address, Extent, end_of};
use crate::platform::{Platform, Root, RootKind};

/// How many are kept.
const KEPT: usize = 8;

const PAGE_BITS: u32 = 12;
const PAGE: usize = 1 << PAGE_BITS;

/// The bits of an entry of a page table that are an address: those of x86_64, with 52 bits of physical addresses, of which other
/// architectures use fewer.
const ENTRY_ADDRESS: usize = (1 << 52) - PAGE;

/// A hit.
struct Hit {
    slot: Hidden,
    /// What it lies in.
    start: Hidden,
    len: usize,
    root: Option<RootKind>,
    kind: NearMiss,
}

/// The near misses of an object.
pub(super) struct NearMisses {
    hits: PageVec<Hit>,
    pub(super) count: usize,
}

impl NearMisses {
    pub(super) const fn new() -> Self {
        Self {
            hits: PageVec::new(),
            count: 0,
        }
    }

    /// Those that are kept.
    pub(super) fn each(&self) -> impl Iterator<Item = (Slot, NearMiss)> {
        let hits = (0..self.hits.len()).filter_map(|row| self.hits.get(row));
        hits.map(|hit| {
            let (start, len) = (hit.start.get(), hit.len);
            let place = match hit.root {
                Some(kind) => SlotPlace::Root(Root { kind, start, len }),
                None => SlotPlace::Object { start, size: len },
            };
            let address = hit.slot.get();
            (Slot { address, place }, hit.kind)
        })
    }

    pub(super) fn clear(&mut self) {
        self.hits.clear();
        self.count = 0;
    }

    /// Forgets everything; its owner gives the memory back.
    pub(super) fn empty(&mut self) {
        self.hits.empty();
        self.count = 0;
    }

    /// Counts one, and keeps it if there is room.
    fn note(
        &mut self,
        slot: usize,
        place: &Range<usize>,
        root: Option<RootKind>,
        kind: NearMiss,
        meta: &MetaAlloc<'_>,
    ) {
        self.count += 1;
        if self.hits.len() == KEPT {
            return;
        }
        let hit = Hit {
            slot: Hidden::new(slot),
            start: Hidden::new(place.start),
            len: place.len(),
            root,
            kind,
        };
        // Without memory it is only counted.
        let _ = self.hits.push(hit, meta);
    }

    /// Finds those of an unreferenced object. What is alive is marked.
    pub(super) fn find<P: Platform, A: Access>(
        &mut self,
        marker: &mut Marker<'_, P, A>,
        target: &Target,
    ) -> Result<(), GivenUp> {
        let mut search = Wanted::of(marker, target);
        marker.rewind_roots();
        marker.each_piece_of_roots(&mut |marker, root, words| {
            let place = root.start..end_of(root.start, root.len);
            search.look(marker.platform(), words, &mut |slot, kind| {
                // A plain pointer in a root is a reference.
                if kind != NearMiss::Unscanned {
                    self.note(slot, &place, Some(root.kind), kind, marker.meta());
                }
            });
        })?;
        marker.each_object(&mut |marker, start| {
            if !is_alive(marker, start) {
                // The object itself is not, either.
                return Ok(());
            }
            let Some(holder) = target_at(marker, start).filter(|holder| holder.start == start)
            else {
                // A further copy of a per-CPU block.
                return Ok(());
            };
            let place = start..end_of(start, holder.size);
            if marker.has_stack(place.clone()) {
                return Ok(());
            }
            marker.each_piece_of_object(start, &mut |marker, words| {
                let platform = marker.platform();
                search.look(platform, words, &mut |slot, kind| {
                    if kind != NearMiss::Unscanned || !is_scanned(marker, &holder, slot) {
                        self.note(slot, &place, None, kind, marker.meta());
                    }
                });
            })
        })
    }
}

/// Whether the marker follows a word of an object.
fn is_scanned<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    holder: &Target,
    slot: usize,
) -> bool {
    if holder.record.has(flag::NO_SCAN) || holder.record.min_count() < 0 {
        return false;
    }
    if !holder.record.has(flag::NOTES) {
        return true;
    }
    let (registry, offset) = (marker.registry(), slot.wrapping_sub(holder.start));
    marker.without_interrupts(|_| {
        let areas = (0..).map_while(|number| registry.area(holder.start, number));
        let mut some = false;
        let in_area = areas
            .inspect(|_| some = true)
            .any(|area| offset.wrapping_sub(area.offset) < area.len);
        in_area || !some
    })
}

/// What is looked for.
struct Wanted {
    target: Range<usize>,
    /// What a word means that is the end of the object.
    end: NearMiss,
    /// Whether a page begins in the object.
    has_page: bool,
    /// The address of the last word, and the word.
    before: (usize, usize),
}

impl Wanted {
    fn of<P: Platform, A: Access>(marker: &mut Marker<'_, P, A>, target: &Target) -> Self {
        let Target { start, size, .. } = *target;
        let end = end_of(start, size);
        let next = target_at(marker, end).is_some_and(|next| next.start == end);
        let page = start.checked_next_multiple_of(PAGE);
        Self {
            target: start..end,
            end: if next {
                NearMiss::EndAndStart
            } else {
                NearMiss::End
            },
            has_page: page.is_some_and(|page| page < end),
            before: (0, 0),
        }
    }

    /// Looks at words that follow each other.
    fn look<P: Platform>(
        &mut self,
        platform: &P,
        words: MappedWords,
        found: &mut dyn FnMut(usize, NearMiss),
    ) {
        for (at, word) in words.each(platform.words()) {
            if let Some(kind) = self.kind(platform, word) {
                found(at, kind);
            }
            let (before_at, before) = core::mem::replace(&mut self.before, (at, word));
            if before_at.wrapping_add(WORD) == at
                && let Some(shift) = self.between(before, word)
            {
                found(before_at + shift, NearMiss::Unaligned);
            }
        }
    }

    fn has(&self, number: usize) -> bool {
        self.target.contains(&number)
    }

    /// What a word is that lies at a multiple of the word's size.
    fn kind<P: Platform>(&self, platform: &P, word: usize) -> Option<NearMiss> {
        let pointer = platform.words().untag(word);
        if self.has(pointer) {
            return Some(NearMiss::Unscanned);
        }
        if pointer == self.target.end {
            return Some(self.end);
        }
        let low = Address::of_low_bits(pointer).get();
        if low != pointer && self.has(low) {
            return Some(NearMiss::Tagged);
        }
        self.physical(platform, word)
    }

    fn physical<P: Platform>(&self, platform: &P, word: usize) -> Option<NearMiss> {
        let is_there = |number: usize| {
            number != 0
                && Extent::physical(number, 1).is_some()
                && Extent::mapped(platform, number, 1)
                    .is_some_and(|memory| self.has(memory.start().get()))
        };
        // Memory is mapped page by page: the platform is only asked of the few words with the right low bits.
        let in_page = word.wrapping_sub(self.target.start) % PAGE < self.target.len();
        if in_page && is_there(word) {
            return Some(NearMiss::Physical);
        }
        if !self.has_page {
            return None;
        }
        let entry = word & ENTRY_ADDRESS;
        if entry != word && is_there(entry) {
            return Some(NearMiss::PageTable);
        }
        let number = word >> (ADDRESS_BITS - PAGE_BITS) == 0 && is_there(word << PAGE_BITS);
        number.then_some(NearMiss::PageNumber)
    }

    /// How many bytes after the first of two words a pointer begins that lies in both.
    fn between(&self, first: usize, second: usize) -> Option<usize> {
        let mut bytes = [0; 2 * WORD];
        bytes[..WORD].copy_from_slice(&first.to_ne_bytes());
        bytes[WORD..].copy_from_slice(&second.to_ne_bytes());
        let mut shifts = bytes.windows(WORD).enumerate().skip(1).take(WORD - 1);
        let pointer = |word: &[u8]| word.try_into().map(usize::from_ne_bytes);
        let found = shifts.find(|(_, word)| pointer(word).is_ok_and(|word| self.has(word)));
        found.map(|(shift, _)| shift)
    }
}
