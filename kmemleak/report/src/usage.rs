//! How many bytes each call stack has allocated that are lost, and that are in use.
//!
//! What is lost comes from the groups of the last report, or from its objects where it has none. What is allocated comes from
//! the last list of call sites, or from the last snapshot where there is no list, or not of all call sites.

use std::collections::BTreeMap;

use crate::log::Log;
use crate::records::{Crc, Stack};

/// Objects, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a call stack has allocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The call stack.
    pub stack: Stack,
    /// What is lost of it: leaks, or suspects.
    pub lost: Amount,
    /// All of it, what is lost included.
    pub allocated: Amount,
}

impl Usage {
    /// What is not lost.
    pub fn in_use(&self) -> Amount {
        // A list of call sites may be older than the report, or younger.
        Amount {
            objects: self.allocated.objects.saturating_sub(self.lost.objects),
            bytes: self.allocated.bytes.saturating_sub(self.lost.bytes),
        }
    }
}

/// Of each call stack that the log tells of what it has allocated, in the order of checksums.
pub fn by_call_stack(log: &Log) -> Vec<Usage> {
    let mut usages = Usages::default();
    usages.count_lost(log);
    usages.count_allocated(log);
    usages.0.into_values().collect()
}

#[derive(Default)]
struct Usages(BTreeMap<Option<Crc>, Usage>);

impl Usages {
    fn of(&mut self, stack: &Stack) -> &mut Usage {
        let new = || Usage {
            stack: stack.clone(),
            lost: Amount::default(),
            allocated: Amount::default(),
        };
        self.0.entry(stack.crc).or_insert_with(new)
    }

    fn count_lost(&mut self, log: &Log) {
        let Some(report) = &log.report else {
            return;
        };
        for group in &report.groups {
            let lost = &mut self.of(&group.stack).lost;
            lost.objects += group.objects;
            lost.bytes += group.bytes;
        }
        if report.groups.is_empty() {
            for object in &report.objects {
                let lost = &mut self.of(&object.stack).lost;
                lost.objects += 1;
                lost.bytes += object.size;
            }
        }
    }

    fn count_allocated(&mut self, log: &Log) {
        let is_whole = |end: &crate::records::SitesEnd| end.complete && end.shown == end.total;
        let whole = log.sites.as_ref().filter(|sites| is_whole(&sites.end));
        match (whole, &log.snapshot, &log.sites) {
            (None, Some(snapshot), _) => {
                let stacks = snapshot.stacks.iter();
                let stacks: BTreeMap<_, _> = stacks.map(|stack| (stack.crc, stack)).collect();
                for node in &snapshot.nodes {
                    let unknown = Stack {
                        crc: node.crc,
                        ..Stack::default()
                    };
                    let stack = stacks.get(&node.crc).copied().unwrap_or(&unknown);
                    let allocated = &mut self.of(stack).allocated;
                    allocated.objects += 1;
                    allocated.bytes += node.size;
                }
            }
            (Some(sites), ..) | (None, None, Some(sites)) => {
                for site in &sites.sites {
                    let allocated = &mut self.of(&site.stack).allocated;
                    allocated.objects += site.objects;
                    allocated.bytes += site.bytes;
                }
            }
            (None, None, None) => {}
        }
    }
}
