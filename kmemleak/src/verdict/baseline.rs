//! Leaks that are remembered, so that those which come later can be told from them.
//!
//! A chain of pieces of metadata holds the start (inverted) and the birth of each, in the order of allocation, as the
//! verdict has them: so the two are compared in one walk.

use crate::metadata::hidden::Hidden;
use crate::metadata::{Class, MetaAlloc, Piece, Pieces};
use crate::platform::Platform;
use crate::tracker::Tracker;
use crate::verdict::leak_list::{LeakList, Named, fate};

const CLASS: Class = Class::LARGEST;
/// Words before the first entry.
const HEAD: usize = 2;
/// Entries of a piece.
const ENTRIES: usize = (CLASS.words() - HEAD) / 2;

/// The leaks of one moment. The first word of a piece says how many it has. To be cleared as [`Pieces`] are.
pub(crate) struct Baseline(Pieces);

/// A place in it.
#[derive(Clone, Copy)]
struct Cursor {
    piece: Option<Piece>,
    index: usize,
}

impl Baseline {
    pub(crate) const fn new() -> Self {
        Self(Pieces::new(CLASS))
    }

    /// Appends an object. False where there is no memory.
    fn push(&mut self, named: &Named, meta: &MetaAlloc<'_>) -> bool {
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

    fn cursor(&self) -> Cursor {
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
    /// Whether an object is remembered. To be asked in the order of allocation.
    fn has(&mut self, named: &Named) -> bool {
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

/// Which objects of a list are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remember {
    /// Those that the verdict names.
    Named,
    /// Also those that suppressions hide: should there be more of these than a ceiling allows, they are no news.
    NamedAndSuppressed,
}

impl Baseline {
    /// Remembers what is in a list. False where there was no memory for all.
    pub(crate) fn fill<P: Platform>(
        &mut self,
        tracker: &Tracker<P>,
        list: &LeakList,
        which: Remember,
    ) -> bool {
        let without = match which {
            Remember::Named => fate::NO_LEAK,
            Remember::NamedAndSuppressed => fate::LEFT,
        };
        let mut wanted = (0..list.len()).filter(|&index| !list.has(index, without));
        list.left_out == 0
            && wanted.all(|index| {
                let named = list.get(index);
                named.is_none_or(|named| tracker.without_interrupts(|meta| self.push(&named, meta)))
            })
    }
}

/// Shows each object of a list that is not remembered. Where there is no baseline, that is each.
pub(crate) fn each_new<P: Platform>(
    baseline: Option<&Baseline>,
    tracker: &Tracker<P>,
    list: &LeakList,
    look: &mut dyn FnMut(&Named, Option<usize>),
) {
    let mut cursor = baseline.map(Baseline::cursor);
    list.each(tracker, &mut |named, index| {
        if index.is_none() {
            // Those that are not in order, for want of memory, are looked for from the first on.
            cursor = baseline.map(Baseline::cursor);
        }
        if !cursor.as_mut().is_some_and(|cursor| cursor.has(named)) {
            look(named, index);
        }
    });
}
