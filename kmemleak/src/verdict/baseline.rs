//! Leaks that are remembered, so that those which come later can be told from them.
//!
//! They are kept in the order of allocation, as the verdict has them: so the two are compared in one walk.

use core::iter::Peekable;

use crate::metadata::MetaAlloc;
use crate::metadata::hidden::Hidden;
use crate::metadata::piece_vec::PieceVec;
use crate::platform::Platform;
use crate::tracker::Tracker;
use crate::verdict::leak_list::{LeakList, Named, fate};

/// What tells a leak from other leaks.
#[derive(Clone, Copy)]
struct KnownLeak {
    start: Hidden,
    birth_us: u64,
}

impl KnownLeak {
    fn of(named: &Named) -> Self {
        Self {
            start: Hidden::new(named.start),
            birth_us: named.record.birth_us(),
        }
    }

    /// Of two leaks, the one that was allocated first has the lower one.
    fn order(&self) -> (u64, usize) {
        (self.birth_us, self.start.get())
    }
}

/// The leaks of one moment. To be cleared as its [`PieceVec`] is.
pub(crate) struct Baseline(PieceVec<KnownLeak>);

impl Baseline {
    pub(crate) const fn new() -> Self {
        Self(PieceVec::new())
    }

    /// Gives its memory back.
    pub(crate) fn clear(&mut self, meta: &MetaAlloc<'_>) {
        self.0.clear(meta);
    }
}

/// Whether an object is among the leaks that follow. To be asked in the order of allocation.
fn has<'a>(known: &mut Peekable<impl Iterator<Item = &'a KnownLeak>>, named: &Named) -> bool {
    let wanted = KnownLeak::of(named).order();
    while known.next_if(|leak| leak.order() < wanted).is_some() {}
    known.peek().is_some_and(|leak| leak.order() == wanted)
}

/// Which objects of a list are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remember {
    /// Those that the verdict names.
    Named,
    /// Also those that suppressions hide: if these exceed a ceiling later, they are not reported as new.
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
                let leak = list.get(index).map(|named| KnownLeak::of(&named));
                let mut push = |leak| tracker.without_interrupts(|meta| self.0.push(leak, meta));
                leak.is_none_or(|leak| push(leak).is_ok())
            })
    }
}

/// Shows each object of a list that is not remembered. Where there is no baseline, it shows all.
pub(crate) fn each_new<P: Platform>(
    baseline: Option<&Baseline>,
    tracker: &Tracker<P>,
    list: &LeakList,
    look: &mut dyn FnMut(&Named, Option<usize>),
) {
    let from_the_first = || baseline.map(|baseline| baseline.0.iter().peekable());
    let mut known = from_the_first();
    list.each(tracker, &mut |named, index| {
        if index.is_none() {
            // Objects that are not in order, since there was no memory for it, are searched from the first on.
            known = from_the_first();
        }
        if !known.as_mut().is_some_and(|known| has(known, named)) {
            look(named, index);
        }
    });
}
