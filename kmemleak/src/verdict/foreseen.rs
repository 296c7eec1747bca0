//! What a suppression would have hidden from the last verdict: told when it is added, so that a pattern that matches nothing is
//! noticed at once.
//!
//! It is an estimate from below. Of what a matching leak leads to, only what it owns is counted; the next check follows pointers.

use crate::platform::Platform;
use crate::stacks::depot::StackId;
use crate::tracker::Tracker;
use crate::verdict::leak_list::LeakList;
use crate::verdict::suppress::Suppressions;

/// What a suppression means for the leaks of the last verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Foreseen {
    /// The leaks, or suspects.
    pub(crate) listed: usize,
    /// Unreferenced objects whose call stacks match, also those that are hidden already.
    pub(crate) matched: usize,
    /// Of the leaks those that match, and what these own.
    pub(crate) objects: usize,
    /// Their bytes.
    pub(crate) bytes: usize,
    /// The largest number of matching ones that it hides.
    pub(crate) max: Option<u64>,
}

impl Foreseen {
    /// Whether so many match that it hides none.
    pub(crate) fn is_over(&self) -> bool {
        self.max.is_some_and(|max| self.matched as u64 > max)
    }
}

impl Suppressions {
    /// What the suppression with this text means for the leaks in the list, whose call stacks have been judged. `None` if there is
    /// no such suppression.
    pub(crate) fn foresee<P: Platform>(
        &self,
        tracker: &Tracker<P>,
        list: &LeakList,
        text: &str,
    ) -> Option<Foreseen> {
        let (number, max) = self.find(text)?;
        let mut seen = Foreseen {
            listed: 0,
            matched: 0,
            objects: 0,
            bytes: 0,
            max,
        };
        let matches = |stack: StackId| self.matching(stack).any(|one| one == number);
        // What suppressions hide counts for the ceiling as well.
        list.each_suppressed(&mut |named| {
            let counts = matches(named.record.stack_id()) && named.is_there(tracker);
            seen.matched += usize::from(counts);
        });
        list.each(tracker, &mut |named, index| {
            let leader = index.and_then(|index| list.get(list.leader(index) as usize));
            let itself = matches(named.record.stack_id());
            seen.listed += 1;
            if !named.is_there(tracker) {
                return;
            }
            seen.matched += usize::from(itself);
            if itself || leader.is_some_and(|leader| matches(leader.record.stack_id())) {
                seen.objects += 1;
                seen.bytes += named.size(tracker);
            }
        });
        Some(seen)
    }
}
