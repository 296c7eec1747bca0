//! Questions about places: what memory an address lies in, and all words of a place, whatever they hold.
//!
//! A pass looks only at words that are addresses between the lowest and the highest object. A person who asks why an object
//! counts as lost wants to know of the others as well: the number after its last byte, a pointer with a tag, a physical address.
//!
//! Both are for one worker, and for questions: nothing here is as fast as a pass.

use core::ops::Range;

use super::encoded::MappedPiece;
use super::own_stack::OwnStack;
use super::roots::RootWalk;
use super::window::COMPARED;
use super::words::MappedWords;
use super::{GivenUp, Marker};
use crate::marker::objects::WordSet;
use crate::objects::access::Access;
use crate::objects::object::Object;
use crate::objects::record::flag;
use crate::platform::address::{Extent, end_of};
use crate::platform::{Platform, Root};

/// What an address that is in no object lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiesIn {
    /// No block can be there: the number is no address, or lies in the first page.
    NoMemory,
    /// Memory of which the detector knows nothing.
    Unknown,
    /// The memory of the detector itself.
    Detector,
    /// A range that is [excluded](crate::Detector::exclude) from the roots.
    Excluded,
    /// A root.
    Root(Root),
}

/// Does something with words that lie next to each other.
pub(crate) type WordsVisitor<'l, M> = &'l mut dyn FnMut(&mut M, MappedWords);

impl<P: Platform, A: Access> Marker<'_, P, A> {
    /// Begins a new walk over the roots. For one worker.
    pub(crate) fn rewind_roots(&self) {
        *self.shared.roots.lock() = RootWalk::NEW;
    }

    /// Shows all words of the roots, in pieces. For one worker.
    pub(crate) fn each_piece_of_roots(
        &mut self,
        look: &mut dyn FnMut(&mut Self, Root, MappedWords),
    ) -> Result<(), GivenUp> {
        while let Some(piece) = self.take_piece() {
            let root = piece.root;
            self.each_root_piece(piece, &mut |marker, piece| {
                let (some, stopped_at) = marker.some_words(piece);
                look(marker, root, some);
                stopped_at
            });
            self.pause()?;
        }
        Ok(())
    }

    /// Shows each object that is alive because it lies in a root, with that root: all its words are read there. For one worker,
    /// after a pass.
    pub(crate) fn each_object_in_roots(
        &mut self,
        look: &mut dyn FnMut(Root, Object<'_>),
    ) -> Result<(), GivenUp> {
        self.rewind_roots();
        let (access, registry) = (self.access, self.tools.registry);
        while let Some(piece) = self.take_piece() {
            self.each_start_in(piece.range.clone(), &mut |_, object| {
                let size = registry.size(object.start, object.record);
                if piece.holds(&object.record.read(), end_of(object.start, size)) {
                    look(piece.root, object);
                }
            });
            // One that goes on in another part is shown with the part in which it starts.
            if self.lasts(piece.root)
                && piece.range.end == piece.part.end
                && let Some(found) = self.at_edge(piece.range.end - 1, &piece)
                && found.in_roots
                && piece.part.contains(&found.range.start)
            {
                self.without_interrupts(|_| {
                    registry
                        .starting_at(access, found.range.start, |object| look(piece.root, object))
                });
            }
            self.pause()?;
        }
        Ok(())
    }

    /// Shows each object that is alive because it holds the stack of the pass, with that stack. For one worker.
    pub(crate) fn each_object_of_own_stack(&mut self, look: &mut dyn FnMut(Root, Object<'_>)) {
        let Some(root) = self.tools.own_stack.as_ref().map(OwnStack::root) else {
            return;
        };
        self.each_on_own_stack(&mut |_, object| {
            if !object.record.has(flag::ALIAS | flag::PERCPU | flag::PHYS) {
                look(root, object);
            }
        });
    }

    /// Shows all words of the object at `start`, in pieces.
    pub(crate) fn each_piece_of_object(
        &mut self,
        start: usize,
        look: WordsVisitor<'_, Self>,
    ) -> Result<(), GivenUp> {
        self.each_piece_of(start, WordSet::All, &mut |marker, piece| {
            let (some, stopped_at) = marker.some_words(piece);
            look(marker, some);
            stopped_at
        })
    }

    /// As many words of a piece as are compared in a window, and where those begin that are left.
    fn some_words(&self, piece: &MappedPiece) -> (MappedWords, usize) {
        let mut left = piece.words();
        let some = match A::STOPPED {
            true => left.take(usize::MAX),
            false => left.take(COMPARED),
        };
        (some, piece.from(left))
    }

    /// The root whose words are read at an address.
    pub(crate) fn root_at(&self, address: usize) -> Option<Root> {
        let mut walk = RootWalk::NEW;
        while let Some(part) = self.next_part(&mut walk) {
            if part.contains(&address) {
                return Some(walk.root());
            }
        }
        None
    }

    /// The memory that an address lies in, if it is in no object.
    pub(crate) fn lies_in(&self, address: usize) -> LiesIn {
        let has = |range: &Range<usize>| range.contains(&address);
        if Extent::memory(address, 1).is_none() {
            return LiesIn::NoMemory;
        }
        if self.tools.own.iter().any(has) {
            return LiesIn::Detector;
        }
        let mut excluded = false;
        self.excluded_around(address, &mut |range| excluded |= has(&range));
        match self.root_at(address) {
            _ if excluded => LiesIn::Excluded,
            Some(root) => LiesIn::Root(root),
            None => LiesIn::Unknown,
        }
    }

    /// Whether an object starts in a range.
    pub(crate) fn has_start_in(&mut self, range: Range<usize>) -> bool {
        let mut has = false;
        self.each_start_in(range, &mut |_, _| has = true);
        has
    }
}

/// The part of `around` that is at most `distance` bytes below an address, and the part at most as far above it.
pub(crate) fn neighbourhood(
    address: usize,
    around: Range<usize>,
    distance: usize,
) -> [Range<usize>; 2] {
    let below = around.start.max(address.saturating_sub(distance))..address;
    let above = address..around.end.min(end_of(address, distance));
    [below, above]
}
