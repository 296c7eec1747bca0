//! Leaks that are remembered, so that those which come later can be told from them.
//!
//! A chain of pieces of metadata holds the start (inverted) and the birth of each, in the order of allocation, as the
//! verdict has them: so the two are compared in one walk.

use crate::checker::claim::{Claim, NotDone};
use crate::metadata::hidden::Hidden;
use crate::metadata::kept::Kept;
use crate::metadata::{Class, MetaAlloc, Piece, Pieces};
use crate::platform::Platform;
use crate::tracker::Detector;
use crate::verdict::iter::Unreferenced;
use crate::verdict::leak_list::{Named, fate};

const CLASS: Class = Class::LARGEST;
/// Words before the first entry.
const HEAD: usize = 2;
/// Entries of a piece.
const ENTRIES: usize = (CLASS.words() - HEAD) / 2;

/// The leaks of one moment. The first word of a piece says how many it has. To be cleared as [`Pieces`] are.
pub(crate) struct Baseline(Pieces);

/// A place in it.
#[derive(Clone, Copy)]
pub(crate) struct Cursor {
    piece: Option<Piece>,
    index: usize,
}

impl Baseline {
    pub(crate) const fn new() -> Self {
        Self(Pieces::new(CLASS))
    }

    /// Appends an object. False where there is no memory.
    pub(crate) fn push(&mut self, named: &Named, meta: &MetaAlloc<'_>) -> bool {
        let last = self.0.last();
        let last = last.filter(|piece| piece.get(0) as usize != ENTRIES);
        let Some(piece) = last.or_else(|| self.0.append(meta)) else {
            return false;
        };
        let index = piece.get(0) as usize;
        piece.set(HEAD + 2 * index, Hidden::new(named.start).bits());
        piece.set(HEAD + 2 * index + 1, named.record.birth_us());
        piece.set(0, index as u64 + 1);
        true
    }

    pub(crate) fn cursor(&self) -> Cursor {
        Cursor {
            piece: self.0.first(),
            index: 0,
        }
    }

    /// Gives its memory back.
    pub(crate) fn clear(&mut self, meta: &MetaAlloc<'_>) {
        self.0.clear(meta);
    }
}

impl Cursor {
    /// Nothing is remembered from here on.
    const END: Self = Self {
        piece: None,
        index: 0,
    };

    /// Whether an object is remembered. To be asked in the order of allocation.
    pub(crate) fn has(&mut self, named: &Named) -> bool {
        let wanted = (named.record.birth_us(), named.start);
        while let Some(piece) = self.piece {
            while self.index < piece.get(0) as usize {
                let start = Hidden::from_bits(piece.get(HEAD + 2 * self.index)).get();
                let here = (piece.get(HEAD + 2 * self.index + 1), start);
                if here >= wanted {
                    return here == wanted;
                }
                self.index += 1;
            }
            self.piece = piece.next();
            self.index = 0;
        }
        false
    }
}

impl<P: Platform> Detector<P> {
    /// Remembers the leaks and suspects of the last verdict, and what is alive at each call site, for
    /// [`for_each_new`](Self::for_each_new) and [`for_each_site`](Self::for_each_site). Where there is no memory for it what
    /// was remembered before stays, and the detector's state is incomplete. Task context, with no lock held.
    ///
    /// It checks nothing itself: without a [`check`](Self::check) before, all that is lost already is new afterwards.
    pub fn mark(&self) -> Result<(), NotDone> {
        self.claim()?.mark_now()
    }

    /// Forgets what [`mark`](Self::mark) remembered. Task context, with no lock held.
    pub fn unmark(&self) -> Result<(), NotDone> {
        let claim = self.claim()?;
        claim.replace_mark(None);
        claim.unmark_sites();
        Ok(())
    }

    /// Shows each object of the last verdict that the verdict before the last [`mark`](Self::mark) did not have, in
    /// the order of allocation; those that have been freed since are left out. Task context, with no lock held;
    /// `look` may allocate.
    pub fn for_each_new(&self, look: &mut dyn FnMut(Unreferenced)) -> Result<(), NotDone> {
        let claim = self.claim()?;
        let _outside = claim.outside();
        claim.each_new(claim.mark_cursor(), &mut |named, index| {
            if claim.is_there(named) {
                look(claim.unreferenced(named, index));
            }
        });
        Ok(())
    }
}

impl<P: Platform> Claim<'_, P> {
    /// Remembers: all of it, or what was remembered before.
    pub(crate) fn mark_now(&self) -> Result<(), NotDone> {
        let mut leaks = Baseline::new();
        if self.remember(&mut leaks) && self.mark_sites() {
            self.replace_mark(Some(leaks));
            return Ok(());
        }
        self.without_interrupts(|meta| leaks.clear(meta));
        self.counted(Kept::NoMemory);
        Err(NotDone::NoMemory)
    }

    /// Puts other leaks in the place of those that are remembered.
    fn replace_mark(&self, leaks: Option<Baseline>) {
        self.without_interrupts(|meta| {
            if let Some(mut before) = core::mem::replace(&mut *self.marked().lock(), leaks) {
                before.clear(meta);
            }
        });
    }

    /// Whether anything is remembered.
    pub(crate) fn has_mark(&self) -> bool {
        self.without_interrupts(|_| self.marked().lock().is_some())
    }

    /// The first leak that is remembered.
    pub(crate) fn mark_cursor(&self) -> Cursor {
        self.without_interrupts(|_| match &*self.marked().lock() {
            Some(marked) => marked.cursor(),
            None => Cursor::END,
        })
    }

    /// Remembers what the verdict names. False where there was no memory for all.
    pub(crate) fn remember(&self, remembered: &mut Baseline) -> bool {
        self.remember_those(remembered, fate::NO_LEAK)
    }

    /// The same, with what suppressions hide: should there be more of these than a ceiling allows, they are no news.
    pub(crate) fn remember_all(&self, remembered: &mut Baseline) -> bool {
        self.remember_those(remembered, fate::LEFT)
    }

    fn remember_those(&self, remembered: &mut Baseline, without: u32) -> bool {
        let (len, short) = self.with_verdict(|verdict, _| {
            let list = &verdict.list;
            (list.len(), list.left_out > 0)
        });
        !short
            && (0..len).all(|index| {
                let named = self.with_verdict(|verdict, _| {
                    let list = &verdict.list;
                    (!list.has(index, without))
                        .then(|| list.get(index))
                        .flatten()
                });
                named.is_none_or(|named| {
                    self.without_interrupts(|meta| remembered.push(&named, meta))
                })
            })
    }

    /// Shows each object of the verdict that is not among those that are remembered from here on.
    pub(crate) fn each_new(&self, first: Cursor, look: &mut dyn FnMut(&Named, Option<usize>)) {
        let mut cursor = first;
        self.each_named_at(&mut |named, index| {
            if index.is_none() {
                // Those that are not in order, for want of memory, are looked for from the first on.
                cursor = first;
            }
            if !cursor.has(named) {
                look(named, index);
            }
        });
    }
}
