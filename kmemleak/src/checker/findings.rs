//! What the holder of the claim does with the findings, besides checking.

use core::fmt::Write;

use crate::checker::Findings;
use crate::checker::claim::{Claim, Nested, NotDone};
use crate::checker::handle::Handle;
use crate::metadata::kept::Kept;
use crate::metadata::page::NoMemory;
use crate::platform::Platform;
use crate::stacks::depot::StackId;
use crate::verdict::Verdict;
use crate::verdict::baseline::{self, Baseline, Remember};
use crate::verdict::call_sites::{Sampled, Site, SiteOrder};
use crate::verdict::foreseen::Foreseen;
use crate::verdict::groups::Share;
use crate::verdict::leak_list::Named;
use crate::verdict::order::Which;
use crate::verdict::suppress::{SuppressError, Suppression};
use crate::verdict::type_sums::{TypeKey, TypeSums};

impl<P: Platform> Claim<'_, P> {
    pub(crate) fn verdict(&self) -> &Verdict {
        &self.findings.verdict
    }

    /// Shows the verdict's objects in the order in which they are reported, with their numbers in its list.
    pub(crate) fn each_in_order(&self, which: Which, look: &mut dyn FnMut(&Named, Option<usize>)) {
        let findings = &*self.findings;
        let baseline = findings.baseline.as_ref();
        (findings.verdict).each_in_order(which, self.tracker(), baseline, look);
    }

    /// Shows what a report tells of each group, what is most at stake first.
    pub(crate) fn each_share(&self, which: Which, look: &mut dyn FnMut(&Share, StackId)) {
        let findings = &*self.findings;
        let baseline = findings.baseline.as_ref();
        (findings.verdict).each_share(which, self.tracker(), baseline, look);
    }

    /// Takes an object that had been reported and is referenced again: its start, and its size.
    pub(crate) fn take_revived(&mut self) -> Option<(usize, usize)> {
        self.findings.verdict.revived.take()
    }

    /// Takes the number of such objects for which there was no room.
    pub(crate) fn take_lost_revived(&mut self) -> usize {
        self.findings.verdict.revived.take_lost()
    }

    /// Notes that all that the verdict lists has been reported.
    pub(crate) fn note_reported(&mut self) {
        self.findings.verdict.note_reported(self.tracker());
    }

    /// Makes the verdict's objects gray, and acknowledges what could not be recorded. Returns how many objects there were.
    pub(crate) fn acknowledge(&mut self) -> usize {
        let tracker = self.tracker();
        tracker.forget_unrecorded();
        let objects = self.findings.verdict.acknowledge(tracker);
        self.findings.suppressions.forget_hidden();
        objects
    }

    /// Remembers the verdict's leaks and what is alive at each call site. If not all can be remembered, the earlier mark stays.
    pub(crate) fn mark(&mut self) -> Result<(), NotDone> {
        let tracker = self.tracker();
        let mut leaks = Baseline::new();
        let Findings {
            verdict,
            call_sites,
            ..
        } = &mut *self.findings;
        if leaks.fill(tracker, &verdict.list, Remember::Named) && call_sites.mark(tracker) {
            self.replace_baseline(Some(leaks));
            return Ok(());
        }
        tracker.without_interrupts(|meta| leaks.clear(meta));
        tracker.counted(Kept::NoMemory);
        Err(NotDone::NoMemory)
    }

    /// Forgets what was remembered.
    pub(crate) fn unmark(&mut self) {
        self.replace_baseline(None);
        self.findings.call_sites.unmark();
    }

    fn replace_baseline(&mut self, leaks: Option<Baseline>) {
        let tracker = self.tracker();
        if let Some(mut before) = core::mem::replace(&mut self.findings.baseline, leaks) {
            tracker.without_interrupts(|meta| before.clear(meta));
        }
    }

    /// Whether anything is remembered.
    pub(crate) fn has_baseline(&self) -> bool {
        self.findings.baseline.is_some()
    }

    /// Remembers what is lost, for a scope. False where there was no memory for all.
    pub(crate) fn remember(&self, baseline: &mut Baseline) -> bool {
        let list = &self.findings.verdict.list;
        baseline.fill(self.tracker(), list, Remember::NamedAndSuppressed)
    }

    /// Shows each object of the verdict that is not remembered.
    pub(crate) fn each_new(&self, look: &mut dyn FnMut(&Named, Option<usize>)) {
        self.each_new_since(self.findings.baseline.as_ref(), look);
    }

    /// Shows each object of the verdict that `baseline` does not have.
    pub(crate) fn each_new_since(
        &self,
        baseline: Option<&Baseline>,
        look: &mut dyn FnMut(&Named, Option<usize>),
    ) {
        let list = &self.findings.verdict.list;
        baseline::each_new(baseline, self.tracker(), list, look);
    }

    /// The order of call sites that was asked for; if none was, growth where there is a mark to measure it from.
    pub(crate) fn site_order(&self, asked: Option<SiteOrder>) -> Result<SiteOrder, NotDone> {
        match (asked, self.has_baseline()) {
            (Some(SiteOrder::Growth), false) => Err(NotDone::NoMark),
            (Some(order), _) => Ok(order),
            (None, true) => Ok(SiteOrder::Growth),
            (None, false) => Ok(SiteOrder::Bytes),
        }
    }

    /// Counts what is alive at each call site, for [`each_site`](Self::each_site). False where there was no memory to count all.
    pub(crate) fn find_sites(&mut self, order: SiteOrder) -> bool {
        let tracker = self.tracker();
        self.findings.call_sites.find(tracker, order)
    }

    /// What of the call sites that were found was estimated, and from what.
    pub(crate) fn sampled(&self) -> Option<Sampled> {
        self.findings.call_sites.sampled()
    }

    /// Shows each call site that was found, in the order that was asked for, with the number of its call stack.
    pub(crate) fn each_site(&self, look: &mut dyn FnMut(Site<'_>, StackId)) {
        self.findings.call_sites.each(self.tracker(), look);
    }

    /// Sums up the call sites that were found by type. `type_of` runs while the findings are borrowed: it must ask nothing.
    pub(crate) fn sum_types(
        &mut self,
        order: SiteOrder,
        type_of: &mut dyn FnMut(&[usize]) -> TypeKey,
    ) -> Result<(), NoMemory> {
        let tracker = self.tracker();
        let Findings {
            call_sites, types, ..
        } = &mut *self.findings;
        types.sum_by_type(tracker, call_sites, order, type_of)
    }

    /// The types that were summed up.
    pub(crate) fn types(&self) -> &TypeSums {
        &self.findings.types
    }

    /// Adds the suppressions of the kernel's source that were not added yet.
    pub(crate) fn take_suppressions(&mut self) {
        let tracker = self.tracker();
        if tracker.is_on() {
            let source = self.handle().checker.suppressions.unwrap_or_default();
            self.findings.suppressions.take(source, tracker);
        }
    }

    /// Adds a suppression.
    pub(crate) fn suppress(&mut self, text: &str) -> Result<(), SuppressError> {
        self.take_suppressions();
        let tracker = self.tracker();
        tracker.without_interrupts(|meta| self.findings.suppressions.add(text, meta))
    }

    /// What a suppression means for the last verdict; `None` if there is no verdict. Names functions: task context.
    pub(crate) fn foresee(&mut self, text: &str) -> Option<Foreseen> {
        self.verdict().summary.get()?;
        self.judge();
        let (tracker, list) = (self.tracker(), &self.findings.verdict.list);
        self.findings.suppressions.foresee(tracker, list, text)
    }

    /// Removes a suppression; false if there is none.
    pub(crate) fn unsuppress(&mut self, text: &str) -> bool {
        self.take_suppressions();
        let tracker = self.tracker();
        tracker.without_interrupts(|meta| self.findings.suppressions.remove(text, meta))
    }

    /// Removes all suppressions.
    pub(crate) fn unsuppress_all(&mut self) {
        self.take_suppressions();
        let tracker = self.tracker();
        tracker.without_interrupts(|meta| self.findings.suppressions.remove_all(meta));
    }

    /// How many suppressions there are.
    pub(crate) fn count_suppressions(&mut self) -> usize {
        self.take_suppressions();
        self.findings.suppressions.len()
    }

    /// Shows each suppression, with what it hid from the last verdict.
    pub(crate) fn each_suppression(&mut self, look: &mut dyn FnMut(Suppression<'_>)) {
        self.take_suppressions();
        self.findings.suppressions.each(look);
    }

    /// Judges the call stacks of the verdict's objects. Returns whether a suppression matches any that was not judged yet.
    pub(super) fn judge(&mut self) -> bool {
        let (tracker, outside) = (self.tracker(), self.way_out());
        let Findings {
            verdict,
            suppressions,
            ..
        } = &mut *self.findings;
        let mut functions = |address: usize, out: &mut dyn Write| {
            let _outside = outside();
            // The matcher accepts any text.
            let _ = tracker.platform().functions(address, out);
        };
        suppressions.judge(tracker, &verdict.list, &mut functions)
    }
}

impl<P: Platform> Handle<'_, P> {
    /// Adds a suppression.
    pub(crate) fn suppress(self, pattern: &str) -> Result<(), SuppressError> {
        let claim = self.claim().map_err(|Nested| SuppressError::Nested);
        claim?.suppress(pattern)
    }
}
