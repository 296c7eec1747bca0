//! The roots: what the platform names, then the registered regions; and objects that lie in them.
//!
//! Each word is read once a pass, even if several roots cover it: read twice, it would count as two references, and would hide
//! the loss of an object that needs two.
//!
//! - The platform promises to name no word twice ([`Platform::next_root`]).
//! - Regions that are not read as words ([`Reading`](crate::Reading)), or for which their caller vouches, come next. Each is read on its
//!   own, and what lies there is read in no other root: they say more of it than the others.
//! - Other regions are read as their union, in the order of addresses. Parts of them that lie in a root of the platform's are left out;
//!   this is checked only where a root and a region overlap.
//! - From all, excluded memory is cut out: the detector itself, and what [`exclude`](crate::Detector::exclude) names.
//! - What remains are the *parts*. An object all of whose bytes lie in parts is alive, and is not scanned itself. If only some of
//!   its bytes lie in parts, as may be with a copy of a per-CPU block, those words are left out when it is scanned, if ever. Such
//!   objects are few and rarely far apart: they are known by a [`Hull`](crate::metadata::ranges::Hull) round all of them, and
//!   have a flag that keeps them from being scanned in the fast way.
//!
//! While other code runs, stacks and registers come and go. So no word elsewhere is left out because it lies in one of these: it
//! is better to read a word twice than not at all. Suspects are looked at again. Regions and exclusions come and go as well, though
//! rarely: [`root_changes`](super::root_changes).

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::candidates::postpone;
use super::own_stack::OwnStack;
use super::root_piece::{NamedBy, RootPiece, is_of_stack};
use super::sweep::{InUse, is_suspect, note_in_root};
use super::window::{ObjectVisitor, page_end, uninterrupted};
use super::{GivenUp, Marker, Stacks, Tools};
use crate::marker::encoded::{BEYOND, Encoding};
use crate::marker::words::words_in;
use crate::metadata::ranges::{RangeVisitor, first_outside};
use crate::objects::access::Access;
use crate::objects::object::Object;
use crate::objects::record::flag;
use crate::objects::root_ranges::VouchedBy;
use crate::platform::address::end_of;
use crate::platform::{Platform, Root, RootCursor, RootKind};

/// In which roots a walk shows a word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Showing {
    /// Each word in one root.
    Once,
    /// Each word in every root that it lies in.
    Everywhere,
}

/// How far a walk over the roots has come.
pub(super) struct RootWalk {
    cursor: RootCursor,
    /// Where the next region may start: they are visited by address, since they come and go meanwhile.
    next_region: usize,
    /// Where the next region may start that is read on its own; these come before the others.
    next_single: usize,
    /// Whether a region overlaps a root of the platform's.
    crossed: bool,
    showing: Showing,
    root: Root,
    encoding: Encoding,
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
        next_single: 0,
        crossed: false,
        showing: Showing::Once,
        root: Root {
            kind: RootKind::Section,
            start: 0,
            len: 0,
        },
        encoding: Encoding::WORDS,
        named_by: NamedBy::Platform,
        left: 0..0,
        part: 0..0,
        at: 0,
    };

    /// A walk to read words again that may have been read in no root.
    pub(super) const AGAIN: Self = Self {
        showing: Showing::Everywhere,
        ..Self::NEW
    };

    /// The root that the walk has come to.
    pub(super) fn root(&self) -> Root {
        self.root
    }
}

/// An object that reaches beyond a part of a root.
pub(super) struct AtEdge {
    pub(super) range: Range<usize>,
    /// Whether it is a copy of a per-CPU block.
    copied: bool,
    /// Whether all of it lies in roots, though not in one part.
    pub(super) in_roots: bool,
}

/// A registered region.
fn region(range: Range<usize>) -> Root {
    Root {
        kind: RootKind::Region,
        start: range.start,
        len: range.len(),
    }
}

pub(super) fn range_of(root: Root) -> Range<usize> {
    root.start..end_of(root.start, root.len)
}

impl<'a, P: Platform, A: Access> Marker<'a, P, A> {
    /// The next piece of a root that no worker has taken in this phase.
    pub(super) fn take_piece(&self) -> Option<RootPiece> {
        let mut walk = self.shared.roots.lock();
        loop {
            if walk.at >= walk.part.end {
                walk.part = self.next_part(&mut walk)?;
                walk.at = walk.part.start;
            }
            let range = walk.at..page_end(walk.at).min(walk.part.end);
            walk.at = range.end;
            // The platform vouches for regions that a caller named; for its own roots it has promised that they can be read.
            let asked = match walk.named_by {
                NamedBy::Platform | NamedBy::Detector | NamedBy::Caller(VouchedBy::Caller) => false,
                NamedBy::Callers | NamedBy::Caller(VouchedBy::Platform) => true,
            };
            if asked && !self.tools.readable(range.start, range.len()) {
                continue;
            }
            let mut until = range.end;
            if !walk.encoding.is_plain() {
                let beyond = end_of(until, BEYOND).min(walk.part.end);
                if !asked || self.tools.readable(until, beyond - until) {
                    until = beyond;
                }
            }
            return Some(RootPiece {
                root: walk.root,
                named_by: walk.named_by,
                range,
                until,
                encoding: walk.encoding,
                part: walk.part.clone(),
            });
        }
    }

    /// The next part of a root; the walk knows which root that is.
    pub(super) fn next_part(&self, walk: &mut RootWalk) -> Option<Range<usize>> {
        loop {
            let part = first_outside(walk.left.clone(), &mut |at, cut| {
                self.excluded_around(at, cut);
                if walk.named_by != NamedBy::Detector {
                    self.each_own_stack(cut);
                }
                if matches!(walk.named_by, NamedBy::Caller(_))
                    || walk.showing == Showing::Everywhere
                {
                    return;
                }
                self.single_around(at, cut);
                if walk.named_by == NamedBy::Callers && walk.crossed {
                    self.each_lasting_root(&mut |root| cut(words_in(range_of(root))));
                }
            });
            walk.left.start = part.end;
            if !part.is_empty() {
                return Some(part);
            }
            walk.root = self.next_root(walk)?;
            if matches!(walk.root.kind, RootKind::Stack(_) | RootKind::Region) {
                self.shared.stack_seen.store(true, Ordering::Relaxed);
            }
            walk.left = range_of(walk.root);
        }
    }

    fn next_root(&self, walk: &mut RootWalk) -> Option<Root> {
        let regions = &self.tools.root_ranges.regions;
        while walk.named_by == NamedBy::Platform {
            let Some(root) = self.tools.platform.next_root(&mut walk.cursor) else {
                walk.named_by = NamedBy::Detector;
                let own = self.tools.own_stack.as_ref().map(OwnStack::root);
                if let Some(root) = own.filter(|root| self.is_read(*root)) {
                    return Some(root);
                }
                break;
            };
            if !self.is_read(root) {
                continue;
            }
            if self.lasts(root) {
                walk.crossed |= self.undisturbed(|| regions.meet(&range_of(root)));
            }
            return Some(root);
        }
        let from = walk.next_single;
        if let Some(one) = self.undisturbed(|| regions.single.next_single_from(from)) {
            walk.next_single = one.range.end;
            walk.named_by = NamedBy::Caller(one.how.vouched_by);
            walk.encoding = Encoding::new(one.how.reading, one.start);
            return Some(region(one.range));
        }
        let from = walk.next_region;
        let mut range = self.undisturbed(|| regions.common.first_from(from))?;
        loop {
            let end = self.undisturbed(|| regions.common.end_from(range.end));
            if end == range.end {
                break;
            }
            range.end = end;
        }
        walk.next_region = range.end;
        walk.named_by = NamedBy::Callers;
        walk.encoding = Encoding::WORDS;
        Some(region(range))
    }

    fn undisturbed<R>(&self, work: impl FnOnce() -> R) -> R {
        uninterrupted::<P, A, _>(self.tools.platform, work)
    }

    /// Whether a root of the platform's is one now.
    fn is_read(&self, root: Root) -> bool {
        let skipped = is_of_stack(root.kind) && self.shared.stacks == Stacks::Skip;
        root.len > 0 && !skipped && !self.is_withheld_stack(root)
    }

    /// Whether the root is the same all through the pass.
    pub(super) fn lasts(&self, root: Root) -> bool {
        A::STOPPED || !is_of_stack(root.kind)
    }

    /// Shows what is excluded from the roots and holds an address, or follows it.
    pub(super) fn excluded_around(&self, at: usize, look: RangeVisitor<'_>) {
        self.tools.own.iter().cloned().for_each(&mut *look);
        self.undisturbed(|| self.tools.root_ranges.excluded.around(at, look));
        if let Some(tasks) = self.tools.tasks {
            tasks.lock().lists_around(at, look);
        }
    }

    /// The same of the regions that are read on their own.
    fn single_around(&self, at: usize, look: RangeVisitor<'_>) {
        let regions = &self.tools.root_ranges.regions;
        self.undisturbed(|| regions.single.around(at, look));
    }

    fn each_own_stack(&self, look: RangeVisitor<'_>) {
        self.tools
            .own_stack
            .iter()
            .map(OwnStack::bounds)
            .for_each(look);
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
        first_outside(range, &mut |_, cut| {
            // Of the own stack nothing is read but its root.
            self.each_own_stack(cut);
            let mut walk = RootWalk::NEW;
            while let Some(part) = self.next_part(&mut walk) {
                match walk.encoding.is_plain() {
                    true if self.lasts(walk.root) => cut(words_in(part)),
                    true => {}
                    false => cut(part),
                }
            }
        })
    }

    /// Whether all of a range lies in roots.
    pub(crate) fn is_in_root(&self, range: Range<usize>) -> bool {
        self.outside_roots(range).is_empty()
    }

    /// The first memory from an address on that is read in no root, and is no part of the stack of the pass.
    pub(crate) fn outside_roots_from(&self, from: usize) -> Range<usize> {
        self.outside_roots(from..usize::MAX)
    }

    /// Finds the objects that lie in roots, and marks those that lie there entirely: they are alive.
    pub(super) fn overlay(&mut self) -> Result<(), GivenUp> {
        if self.worker == 0 {
            self.each_on_own_stack(&mut Self::holds_own_stack);
        }
        while let Some(piece) = self.take_piece() {
            self.each_start_in(piece.range.clone(), &mut |marker, object| {
                let Tools {
                    registry,
                    root_ranges,
                    ..
                } = marker.tools;
                let record = object.record.read();
                let end = end_of(object.start, registry.size(object.start, object.record));
                if record.has(flag::ALIAS | flag::PERCPU) {
                    root_ranges.straddling.add(&(object.start..end));
                } else if piece.holds(&record, end) {
                    marker.lies_in_root(object, piece.root.kind);
                }
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

    /// Shows the objects that hold parts of the stack of the pass: they are alive. There may be none in between, as at a guard page.
    /// For one worker.
    pub(super) fn each_on_own_stack(&mut self, look: ObjectVisitor<'_, Self>) {
        let Some(own) = self.tools.own_stack.as_ref().map(OwnStack::bounds) else {
            return;
        };
        let (access, registry) = (self.access, self.tools.registry);
        self.without_interrupts(|marker| {
            registry.containing(access, own.start, |object| {
                if object.start < own.start {
                    look(marker, object);
                }
            });
        });
        self.each_start_in(own, look);
    }

    /// An object holds a part of the stack of the pass.
    fn holds_own_stack(&mut self, object: Object<'_>) {
        let record = object.record.read();
        if record.has(flag::PHYS) {
            return;
        }
        let size = self.tools.registry.size(object.start, object.record);
        let range = object.start..end_of(object.start, size);
        self.tools.root_ranges.straddling.add(&range);
        if record.has(flag::ALIAS | flag::PERCPU) {
            return;
        }
        object.set(flag::NOTES);
        if record.has(flag::EXCESS) {
            object.enliven();
            postpone(
                object.start,
                object.record,
                object.chunk,
                &self.shared.spill,
            );
        } else {
            self.keep(object);
        }
    }

    /// The object at the edge of a part, if it reaches beyond: into another part, or out of the roots.
    pub(super) fn at_edge(&mut self, address: usize, piece: &RootPiece) -> Option<AtEdge> {
        let access = self.access;
        let registry = self.tools.registry;
        let (range, record) = self.without_interrupts(|_| {
            registry.containing(access, address, |object| {
                let size = registry.size(object.start, object.record);
                let range = object.start..end_of(object.start, size);
                (range, object.record.read())
            })
        })?;
        let inside = piece.part.start <= range.start && range.end <= piece.part.end;
        // Of a task's stack only the words in the root are read.
        let stack = matches!(piece.root.kind, RootKind::Stack(_)) && record.has(flag::NO_SCAN);
        if inside || stack || record.has(flag::PHYS) {
            return None;
        }
        let copied = record.has(flag::ALIAS | flag::PERCPU);
        Some(AtEdge {
            in_roots: !copied && self.outside_roots(range.clone()).is_empty(),
            range,
            copied,
        })
    }

    fn overlay_edge(&mut self, address: usize, piece: &RootPiece) {
        let Some(found) = self.at_edge(address, piece) else {
            return;
        };
        if !found.in_roots {
            self.tools.root_ranges.straddling.add(&found.range);
        }
        let (access, registry) = (self.access, self.tools.registry);
        self.without_interrupts(|marker| {
            registry.starting_at(access, found.range.start, |object| {
                if found.in_roots {
                    marker.lies_in_root(object, piece.root.kind);
                } else if !found.copied {
                    object.set(flag::NOTES);
                }
            });
        });
    }

    /// An object is alive because it lies in a root, and its words are read there.
    fn lies_in_root(&self, object: Object<'_>, kind: RootKind) {
        let record = object.record.read();
        // Those that are never leaks are marked already.
        if object.enliven() && kind == RootKind::Section {
            self.shared.in_sections.fetch_add(1, Ordering::Relaxed);
        }
        if record.has(flag::EXCESS) {
            object.record.clear(flag::PENDING | flag::BORN);
            self.shared.area_in_root.store(true, Ordering::Release);
        } else if record.min_count() == 0 {
            // It is queued already.
            object.record.set(flag::REACHED);
        } else if self.in_use == InUse::Unsuspected && !is_suspect(&record) {
            note_in_root(object);
        }
    }

    /// Does something with the parts of an object's memory that are read in no root.
    pub(super) fn each_part_outside(
        &mut self,
        range: Range<usize>,
        work: &mut dyn FnMut(&mut Self, usize, usize) -> Result<(), GivenUp>,
    ) -> Result<(), GivenUp> {
        let root_ranges = self.tools.root_ranges;
        if !root_ranges.straddling.meets(&range) {
            return work(self, range.start, range.len());
        }
        let mut left = range;
        loop {
            let mut part = self.outside_roots(left.clone());
            // Asked afterwards: of a region that was looked at it is known whether it is new.
            if !A::STOPPED && root_ranges.have_changed_in(&left) {
                part = first_outside(left.clone(), &mut |_, cut| self.each_own_stack(cut));
            }
            if part.is_empty() {
                return Ok(());
            }
            left.start = part.end;
            work(self, part.start, part.len())?;
        }
    }
}
