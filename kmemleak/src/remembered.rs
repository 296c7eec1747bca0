//! Leaks that are remembered, so that those which come later can be told from them.
//!
//! A chain of pieces of metadata holds the start (inverted) and the birth of each, in the order of allocation, as the
//! verdict has them: so the two are compared in one walk.

use core::sync::atomic::Ordering;

use spin::mutex::SpinMutex;

use crate::detector::Detector;
use crate::hidden::Hidden;
use crate::list::{Named, fate};
use crate::memory::{Class, Piece, Pieces, Source};
use crate::platform::Platform;
use crate::walks::Unreferenced;

const CLASS: Class = Class::LARGEST;
/// Words before the first entry.
const HEAD: usize = 2;
/// Entries of a piece.
const ENTRIES: usize = (CLASS.words() - HEAD) / 2;

/// The leaks of one moment. The first word of a piece says how many it has. To be cleared as [`Pieces`] are.
pub(crate) struct Remembered(Pieces);

/// A place in it.
#[derive(Clone, Copy)]
pub(crate) struct Cursor {
    piece: Option<Piece>,
    index: usize,
}

impl Remembered {
    pub(crate) const fn new() -> Self {
        Self(Pieces::new(CLASS))
    }

    /// Appends an object. False where there is no memory.
    pub(crate) fn push(&mut self, named: &Named, source: &Source<'_>) -> bool {
        let last = self.0.last();
        let last = last.filter(|piece| piece.get(0) as usize != ENTRIES);
        let Some(piece) = last.or_else(|| self.0.append(source)) else {
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
    pub(crate) fn clear(&mut self, source: &Source<'_>) {
        self.0.clear(source);
    }
}

impl Cursor {
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

impl<P: Platform, const BOOTSTRAP: usize> Detector<P, BOOTSTRAP> {
    /// Remembers the leaks of the last verdict, and what is alive at each call site, for
    /// [`for_each_new`](Self::for_each_new) and [`for_each_site`](Self::for_each_site). False where there was no
    /// memory for it: then what was remembered is forgotten. Task context, with no lock held.
    ///
    /// It checks nothing itself: without a [`check`](Self::check) before, all that is lost already is new afterwards.
    #[must_use = "false where nothing is remembered"]
    pub fn mark(&self) -> bool {
        let _claim = self.claim();
        self.mark_claimed()
    }

    /// The same, for who has the claim.
    pub(crate) fn mark_claimed(&self) -> bool {
        self.unmark_claimed();
        let all = self.remember(&self.marked) && self.mark_sites();
        if all {
            self.has_mark.store(true, Ordering::Relaxed);
        } else {
            self.unmark_claimed();
        }
        all
    }

    /// Forgets what [`mark`](Self::mark) remembered. Task context, with no lock held.
    pub fn unmark(&self) {
        let _claim = self.claim();
        self.unmark_claimed();
    }

    fn unmark_claimed(&self) {
        self.has_mark.store(false, Ordering::Relaxed);
        self.quietly(|source| self.marked.lock().clear(source));
        self.unmark_sites();
    }

    /// Remembers the leaks of the verdict. False where there was no memory for all.
    pub(crate) fn remember(&self, remembered: &SpinMutex<Remembered>) -> bool {
        self.remember_those(remembered, fate::NO_LEAK)
    }

    /// The same, with what suppressions hide: should there be more of these than a ceiling allows, they are no news.
    pub(crate) fn remember_all(&self, remembered: &SpinMutex<Remembered>) -> bool {
        self.remember_those(remembered, fate::LEFT)
    }

    fn remember_those(&self, remembered: &SpinMutex<Remembered>, without: u32) -> bool {
        let (len, short) = self.with_verdict(|verdict, _| {
            let list = &verdict.list;
            (list.len(), list.left_out > 0)
        });
        let mut all = !short;
        for index in 0..len {
            let named = self.with_verdict(|verdict, _| {
                let list = &verdict.list;
                (!list.has(index, without))
                    .then(|| list.get(index))
                    .flatten()
            });
            if let Some(named) = named {
                all = all && self.quietly(|source| remembered.lock().push(&named, source));
            }
        }
        all
    }

    /// Shows each object of the last verdict that the verdict before the last [`mark`](Self::mark) did not have, in
    /// the order of allocation; those that have been freed since are left out. Task context, with no lock held;
    /// `look` may allocate.
    pub fn for_each_new(&self, look: &mut dyn FnMut(Unreferenced)) {
        let _claim = self.claim();
        self.each_new(&self.marked, &mut |named, index| {
            if self.is_there(named) {
                look(self.unreferenced(named, index));
            }
        });
    }

    /// Shows each leak that is not remembered.
    pub(crate) fn each_new(
        &self,
        remembered: &SpinMutex<Remembered>,
        look: &mut dyn FnMut(&Named, Option<usize>),
    ) {
        let mut cursor = self.quietly(|_| remembered.lock().cursor());
        // Those that are not in order, for want of memory, are looked for from the first on.
        let first = cursor;
        self.each_named_at(&mut |named, index| {
            if index.is_none() {
                cursor = first;
            }
            if !cursor.has(named) {
                look(named, index);
            }
        });
    }
}
