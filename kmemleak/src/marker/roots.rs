//! The roots: what the platform names, then the registered regions; and objects that lie in them.
//!
//! Each word is read once a pass, even if several roots cover it: read twice, it would count as two references, and would hide
//! the loss of an object that needs two.
//!
//! - The platform promises to name no word twice ([`Platform::next_root`]).
//! - Regions are read as their union, in the order of addresses. Parts of them that lie in a root of the platform's are left out;
//!   this is checked only where a root and a region overlap.
//! - From both, excluded memory is cut out: the detector itself, and what [`exclude`](crate::Detector::exclude) names.
//! - What remains are the *parts*. An object all of whose bytes lie in parts is alive, and is not scanned itself. If only some of
//!   its bytes lie in parts, as may be with a copy of a per-CPU block, those words are left out when it is scanned, if ever. Such
//!   objects are few and rarely far apart: they are known by a [`Hull`](crate::metadata::ranges::Hull) round all of them, and
//!   have a flag that keeps them from being scanned in the fast way.
//!
//! While other code runs, stacks and registers come and go. So no word elsewhere is left out because it lies in one of these: it
//! is better to read a word twice than not at all. Suspects are looked at again.

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::{GivenUp, Marker, Stacks, next_piece, uninterrupted};
use crate::marker::words::{MappedWords, whole_words, words_in};
use crate::metadata::ranges::{RangeVisitor, first_outside};
use crate::objects::access::Access;
use crate::objects::object::Object;
use crate::objects::record::flag;
use crate::platform::address::end_of;
use crate::platform::{Platform, Root, RootCursor, RootKind};

/// The source of a root.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NamedBy {
    Platform,
    /// A caller of the detector, which registered a region.
    Caller,
}

/// How far a walk over the roots has come.
pub(super) struct RootWalk {
    cursor: RootCursor,
    /// Where the next region may start: they are visited by address, since they come and go meanwhile.
    next_region: usize,
    /// Whether a region overlaps a root of the platform's.
    crossed: bool,
    root: Root,
    named_by: NamedBy,
    /// The rest of the root, which has not been looked at.
    left: Range<usize>,
    /// The part of it that is being handed out, and where the next piece begins.
    part: Range<usize>,
    at: usize,
}

impl RootWalk {
    pub(super) const NEW: Self = Self {
        cursor: RootCursor { stage: 0, index: 0 },
        next_region: 0,
        crossed: false,
        root: Root {
            kind: RootKind::Section,
            start: 0,
            len: 0,
        },
        named_by: NamedBy::Platform,
        left: 0..0,
        part: 0..0,
        at: 0,
    };
}

/// A piece of a root, a page at most.
pub(super) struct RootPiece {
    root: Root,
    range: Range<usize>,
    /// The part of the root that it belongs to.
    part: Range<usize>,
}

fn range_of(root: Root) -> Range<usize> {
    root.start..end_of(root.start, root.len)
}

impl<'a, P: Platform, A: Access> Marker<'a, P, A> {
    /// The next piece of a root that no worker has taken in this phase.
    fn take_piece(&self) -> Option<RootPiece> {
        let mut walk = self.shared.roots.lock();
        loop {
            if walk.at >= walk.part.end {
                walk.part = self.next_part(&mut walk)?;
                walk.at = walk.part.start;
            }
            let range = walk.at..next_piece(walk.at).min(walk.part.end);
            walk.at = range.end;
            // The platform vouches for regions that a caller named; for its own roots it has promised that they can be read.
            if walk.named_by == NamedBy::Caller && !self.tools.readable(range.start, range.len()) {
                continue;
            }
            return Some(RootPiece {
                root: walk.root,
                range,
                part: walk.part.clone(),
            });
        }
    }

    /// The next part of a root; the walk knows which root that is.
    fn next_part(&self, walk: &mut RootWalk) -> Option<Range<usize>> {
        loop {
            let part = first_outside(walk.left.clone(), &mut |cut| {
                self.each_excluded(cut);
                if walk.named_by == NamedBy::Caller && walk.crossed {
                    self.each_lasting_root(&mut |root| cut(words_in(range_of(root))));
                }
            });
            walk.left.start = part.end;
            if !part.is_empty() {
                return Some(part);
            }
            walk.root = self.next_root(walk)?;
            walk.left = range_of(walk.root);
        }
    }

    fn next_root(&self, walk: &mut RootWalk) -> Option<Root> {
        let regions = &self.tools.root_ranges.regions;
        while let Some(root) = self.tools.platform.next_root(&mut walk.cursor) {
            if !self.is_read(root) {
                continue;
            }
            if self.lasts(root) {
                walk.crossed |= self.undisturbed(|| regions.meet(&range_of(root)));
            }
            return Some(root);
        }
        let region = self.undisturbed(|| regions.next_from(walk.next_region))?;
        walk.next_region = region.end;
        walk.named_by = NamedBy::Caller;
        Some(Root {
            kind: RootKind::Region,
            start: region.start,
            len: region.len(),
        })
    }

    fn undisturbed<R>(&self, work: impl FnOnce() -> R) -> R {
        uninterrupted::<P, A, _>(self.tools.platform, work)
    }

    /// Whether a root of the platform's is one now.
    fn is_read(&self, root: Root) -> bool {
        let is_stack = matches!(root.kind, RootKind::Stack(_) | RootKind::Registers(_));
        root.len > 0 && !(is_stack && self.shared.stacks == Stacks::Skip)
    }

    /// Whether the root is the same all through the pass.
    fn lasts(&self, root: Root) -> bool {
        A::STOPPED || !matches!(root.kind, RootKind::Stack(_) | RootKind::Registers(_))
    }

    /// Shows the parts of a range that lie in no root.
    fn each_excluded(&self, look: RangeVisitor<'_>) {
        self.tools.own.iter().cloned().for_each(&mut *look);
        self.undisturbed(|| self.tools.root_ranges.excluded.each(look));
    }

    fn each_lasting_root(&self, look: &mut dyn FnMut(Root)) {
        let mut cursor = RootCursor::default();
        while let Some(root) = self.tools.platform.next_root(&mut cursor) {
            if self.is_read(root) && self.lasts(root) {
                look(root);
            }
        }
    }

    /// The first part of a range whose words are read in no root that lasts.
    fn outside_roots(&self, range: Range<usize>) -> Range<usize> {
        first_outside(range, &mut |cut| {
            let mut walk = RootWalk::NEW;
            while let Some(part) = self.next_part(&mut walk) {
                if self.lasts(walk.root) {
                    cut(words_in(part));
                }
            }
        })
    }

    /// Whether all of a range lies in roots.
    pub(crate) fn is_in_root(&self, range: Range<usize>) -> bool {
        self.outside_roots(range).is_empty()
    }

    /// Finds the objects that lie in roots, and marks those that lie there entirely: they are alive.
    pub(super) fn overlay(&mut self) -> Result<(), GivenUp> {
        let access = self.access;
        while let Some(piece) = self.take_piece() {
            let straddling = &self.tools.root_ranges.straddling;
            self.without_interrupts(|marker| {
                let registry = marker.tools.registry;
                registry.each_in(access, piece.range.clone(), &mut |object| {
                    let size = registry.size(object.start, object.record);
                    if object.record.has(flag::ALIAS | flag::PERCPU) {
                        straddling.add(&(object.start..end_of(object.start, size)));
                    } else if !object.record.has(flag::PHYS)
                        && end_of(object.start, size) <= piece.part.end
                    {
                        marker.lies_in_root(object);
                    }
                });
            });
            if self.lasts(piece.root) {
                if piece.range.start == piece.part.start {
                    self.overlay_edge(piece.range.start, &piece);
                }
                if piece.range.end == piece.part.end {
                    self.overlay_edge(piece.range.end - 1, &piece);
                }
            }
            self.pause()?;
        }
        Ok(())
    }

    /// The object at the edge of a part may reach beyond it: into another part, or out of the roots.
    fn overlay_edge(&mut self, address: usize, piece: &RootPiece) {
        let access = self.access;
        let registry = self.tools.registry;
        let found = self.without_interrupts(|_| {
            registry.containing(access, address, |object| {
                let size = registry.size(object.start, object.record);
                let range = object.start..end_of(object.start, size);
                (range, object.record.read())
            })
        });
        let Some((range, record)) = found else {
            return;
        };
        let inside = piece.part.start <= range.start && range.end <= piece.part.end;
        // Of a task's stack only the words in the root are read.
        let stack = matches!(piece.root.kind, RootKind::Stack(_)) && record.has(flag::NO_SCAN);
        if inside || stack || record.has(flag::PHYS) {
            return;
        }
        let copied = record.has(flag::ALIAS | flag::PERCPU);
        let in_roots = !copied && self.outside_roots(range.clone()).is_empty();
        if !in_roots {
            self.tools.root_ranges.straddling.add(&range);
        }
        self.without_interrupts(|marker| {
            registry.starting_at(access, range.start, |object| {
                if in_roots {
                    marker.lies_in_root(object);
                } else if !copied {
                    object.set(flag::NOTES);
                }
            });
        });
    }

    /// An object is alive because it lies in a root, and its words are read there.
    fn lies_in_root(&self, object: Object<'_>) {
        let record = object.record.read();
        object.enliven();
        if record.has(flag::EXCESS) {
            object.record.clear(flag::PENDING | flag::BORN);
            self.shared.area_in_root.store(true, Ordering::Release);
        } else if record.min_count() == 0 {
            // It is queued already.
            object.record.set(flag::REACHED);
        }
    }

    /// Does something with the parts of an object's memory that are read in no root.
    pub(super) fn each_part_outside(
        &mut self,
        range: Range<usize>,
        work: &mut dyn FnMut(&mut Self, usize, usize) -> Result<(), GivenUp>,
    ) -> Result<(), GivenUp> {
        if !self.tools.root_ranges.straddling.meets(&range) {
            return work(self, range.start, range.len());
        }
        let mut left = range;
        loop {
            let part = self.outside_roots(left.clone());
            if part.is_empty() {
                return Ok(());
            }
            left.start = part.end;
            work(self, part.start, part.len())?;
        }
    }

    pub(super) fn scan_roots(&mut self) -> Result<(), GivenUp> {
        while let Some(RootPiece { root, range, .. }) = self.take_piece() {
            self.each_root_piece(root, range, &mut Self::scan_root_words);
            self.pause()?;
            while self.queue.is_filling() {
                self.scan_next()?;
            }
        }
        Ok(())
    }

    /// The words of a piece of a root.
    fn scan_root_words(&mut self, words: MappedWords) {
        let before = self.words;
        self.scan_words_of_root(words);
        self.root_words += self.words - before;
    }

    fn scan_words_of_root(&mut self, mut words: MappedWords) {
        if !self.shared.area_in_root.load(Ordering::Acquire) {
            return self.scan_words(words);
        }
        // Objects with an excess reference may lie in roots: their pointers to themselves don't count.
        while words.len() > 0 {
            let Range { start, end } = words.range();
            let (area, next) = self.area_at(start, end);
            self.flush();
            self.area = area;
            self.scan_words(words.take_before(next));
            self.flush();
            self.area = None;
        }
    }

    /// The object with an excess reference that the word at `at` belongs to, if there is one, and the address, at most `end`, at
    /// which the words begin that do not belong to that object.
    fn area_at(&self, at: usize, end: usize) -> (Option<usize>, usize) {
        let access = self.access;
        let registry = self.tools.registry;
        let words_end = |object: Object<'_>| {
            let end = end_of(object.start, registry.size(object.start, object.record));
            (object.record.has(flag::EXCESS))
                .then_some((object.start, words_in(object.start..end).end))
        };
        if let Some(Some((area, words_end))) = registry.containing(access, at, words_end)
            && at < words_end
        {
            return (Some(area), words_end.min(end));
        }
        let mut next = end;
        registry.each_in(access, at..end, &mut |object| {
            let (first, _) = whole_words(object.start, end);
            if object.record.has(flag::EXCESS) && first > at {
                next = next.min(first);
            }
        });
        (None, next)
    }

    /// Shows each word of the roots that may be an address in an object, with the root and the word's own address. For one
    /// worker.
    pub(crate) fn each_root_word(
        &mut self,
        look: &mut dyn FnMut(&mut Self, Root, usize, usize),
    ) -> Result<(), GivenUp> {
        while let Some(RootPiece { root, range, .. }) = self.take_piece() {
            self.each_root_piece(root, range, &mut |marker, words| {
                marker.show_words(words, &mut |marker, slot, word| {
                    look(marker, root, slot, word);
                });
            });
            self.pause()?;
        }
        Ok(())
    }

    /// Whether a range overlaps a task's stack, whether or not stacks are roots. For one worker.
    pub(crate) fn has_stack(&self, range: Range<usize>) -> bool {
        let mut cursor = RootCursor::default();
        while let Some(root) = self.tools.platform.next_root(&mut cursor) {
            let meet = root.start < range.end && range.start < end_of(root.start, root.len);
            if meet && matches!(root.kind, RootKind::Stack(_)) {
                return true;
            }
        }
        false
    }

    /// Does something with the words of a piece of a root.
    #[inline(always)]
    fn each_root_piece(
        &mut self,
        root: Root,
        piece: Range<usize>,
        work: &mut dyn FnMut(&mut Self, MappedWords),
    ) {
        if !A::STOPPED && matches!(root.kind, RootKind::Stack(_)) {
            self.stack_piece(piece, work);
        } else {
            // SAFETY: the platform promises that its roots can be read as long as the walk goes on, and vouches for regions.
            let words = unsafe { MappedWords::between(piece.start, piece.end) };
            self.without_interrupts(|marker| work(marker, words));
        }
    }

    /// A piece of a stack while other code runs: its task may end meanwhile, and the stack be freed.
    fn stack_piece(&mut self, piece: Range<usize>, work: &mut dyn FnMut(&mut Self, MappedWords)) {
        let access = self.access;
        self.without_interrupts(|marker| {
            let tools = marker.tools;
            let held = tools
                .registry
                .containing(access, piece.start, |object| tools.hazard.set(object.start));
            if held.is_some() || tools.platform.stays_readable(piece.start, piece.len()) {
                // SAFETY: the free of the block that holds it waits for the marker, or it is never unmapped.
                work(marker, unsafe {
                    MappedWords::between(piece.start, piece.end)
                });
            }
            tools.hazard.clear();
        });
    }
}
