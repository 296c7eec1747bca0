//! The order in which the objects of a verdict are reported.

use crate::objects::record::flag;
use crate::platform::Platform;
use crate::tracker::Tracker;
use crate::verdict::Verdict;
use crate::verdict::baseline::{self, Baseline};
use crate::verdict::leak_list::{Named, fate};

/// Which leaks of a verdict are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The leaders, group by group; each stands for what it owns.
    Leaders,
    /// All, group by group, each leader with what it owns.
    All,
    /// The leaks that have not been reported, one by one.
    Unreported,
    /// The leaks that the verdict before the last mark did not have, one by one.
    New,
}

impl Verdict {
    /// Shows the leaks in the order in which they are reported, with their numbers in the list. Where there was no memory for
    /// an order: by address, without numbers.
    pub(crate) fn each_in_order<P: Platform>(
        &self,
        which: Which,
        tracker: &Tracker<P>,
        baseline: Option<&Baseline>,
        look: &mut dyn FnMut(&Named, Option<usize>),
    ) {
        let list = &self.list;
        if list.left_out > 0 {
            return match which {
                Which::New => baseline::each_new(baseline, tracker, list, look),
                Which::Leaders | Which::All => list.each(tracker, look),
                Which::Unreported => list.each(tracker, &mut |named, index| {
                    if !named.record.has(flag::REPORTED) {
                        look(named, index);
                    }
                }),
            };
        }
        if which == Which::New {
            self.note_new(tracker, baseline);
        }
        let leaks = self.summary.get().map_or(0, |summary| summary.listed());
        for index in (0..leaks).map(|place| list.queued(place)) {
            let Some(named) = list.get(index) else {
                continue;
            };
            let wanted = match which {
                Which::All => true,
                Which::Leaders => list.has(index, fate::LEADER),
                Which::Unreported => !named.record.has(flag::REPORTED),
                Which::New => list.has(index, fate::NEW),
            };
            if wanted {
                look(&named, Some(index));
            }
        }
    }

    /// Notes which leaks are not remembered.
    pub(super) fn note_new<P: Platform>(&self, tracker: &Tracker<P>, baseline: Option<&Baseline>) {
        let list = &self.list;
        (0..list.len()).for_each(|index| list.clear_fate(index, fate::NEW));
        baseline::each_new(baseline, tracker, list, &mut |_, index| {
            if let Some(index) = index {
                list.set_fate(index, fate::NEW);
            }
        });
    }
}
