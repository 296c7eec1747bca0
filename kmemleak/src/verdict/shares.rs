//! What a report tells of each group: its share.
//!
//! A report may be about some of a verdict's objects only. Of its leaders, each counts with what it owns; so the sums of all
//! shares are the sum of the verdict, and large means that much was lost because of this call stack. Of all objects, each counts
//! for the call stack that allocated it. Of the new ones, or those that were not reported, each counts like a leader, unless its
//! leader is among them: then it is what that one owns.

use crate::objects::record::flag;
use crate::platform::Platform;
use crate::stacks::depot::StackId;
use crate::tracker::Tracker;
use crate::verdict::Verdict;
use crate::verdict::baseline::Baseline;
use crate::verdict::groups::{Group, Share};
use crate::verdict::leak_list::fate;
use crate::verdict::order::Which;

impl Verdict {
    /// Shows the share of each group that has any, what is most at stake first. Nothing is shown where there was no memory for
    /// groups.
    pub(crate) fn each_share<P: Platform>(
        &self,
        which: Which,
        tracker: &Tracker<P>,
        baseline: Option<&Baseline>,
        look: &mut dyn FnMut(&Share, StackId),
    ) {
        let groups = &self.groups;
        match which {
            Which::Leaders => groups.set_shares(Group::leaders_share),
            Which::All => groups.set_shares(Group::whole_share),
            Which::New | Which::Unreported => {
                groups.set_shares(|_| Share::default());
                if which == Which::New {
                    self.note_new(tracker, baseline);
                }
                self.share_some(which, tracker);
            }
        }
        groups.each_share(look);
    }

    /// Gives each object of a part of the verdict to a group's share.
    fn share_some<P: Platform>(&self, which: Which, tracker: &Tracker<P>) {
        let list = &self.list;
        let is_in = |index: usize| match which {
            Which::New => list.has(index, fate::NEW),
            _ => (list.get(index)).is_some_and(|named| !named.record.has(flag::REPORTED)),
        };
        self.list.each(tracker, &mut |named, index| {
            let Some(index) = index.filter(|&index| is_in(index)) else {
                return;
            };
            let (bytes, leader) = (named.size(tracker), list.leader(index) as usize);
            let record = &named.record;
            match list
                .get(leader)
                .filter(|_| leader != index && is_in(leader))
            {
                Some(leader) => (self.groups).change_share(leader.record.stack_id(), |share| {
                    share.owned_objects += 1;
                    share.owned_bytes += bytes;
                }),
                None => (self.groups).change_share(record.stack_id(), |share| {
                    share.add(bytes, record.birth_us());
                }),
            }
        });
    }
}
