//! What is asked: checks, reports, questions about objects and call sites, commands.

use core::fmt::{self, Write};

use super::Detector;
use crate::checker::claim::NotDone;
use crate::checker::counts::{CountSums, Miscount, NotCompared};
use crate::checker::live::{LiveObject, ObjectFilter};
use crate::checker::references::{Clue, NoAnswer, Slot, Why};
use crate::checker::stack_only::{NoStackOnly, StackOnly, StackOnlySums};
use crate::checker::tasks::{LostTask, NoTasks, TaskSummary};
use crate::front::background::{self, NextStep};
use crate::front::control::{self, parameters::ParameterError};
use crate::front::log;
use crate::front::outcome::CommandError;
use crate::front::report::{self, Detail, Format};
use crate::front::scope::Scope;
use crate::metadata::hidden::Hidden;
use crate::platform::Platform;
use crate::platform::arch::on_cleared_stack;
use crate::tracker::Tracking;
use crate::verdict::call_sites::{Site, SiteOrder, TopSite, each_top};
use crate::verdict::groups::Group;
use crate::verdict::iter::{InteriorOnly, Unreferenced};
use crate::verdict::order::Which;
use crate::verdict::summary::Summary;
use crate::verdict::suppress::{SuppressError, Suppression};

impl<P: Platform> Detector<P> {
    /// Checks for leaks now. Waits for a running check. Task context, with no lock held.
    pub fn check(&self) -> Result<Summary, NotDone> {
        on_cleared_stack(|| Ok(self.handle().claim_on()?.check()?))
    }

    /// Finds the unreferenced objects as [`check`](Self::check) does, but stops the world only for as long as it takes to read the
    /// roots: the verdict is of that moment ([`How::Frozen`](crate::How::Frozen)). It takes longer than a check, and memory for
    /// copies. Where the platform [can't freeze memory](crate::Platform::freeze), or had no room for all copies, and where
    /// a region or an exclusion comes or goes meanwhile, the world is stopped for a whole check. Task context, with no lock held.
    pub fn check_frozen(&self) -> Result<Summary, NotDone> {
        on_cleared_stack(|| Ok(self.handle().claim_on()?.check_frozen()?))
    }

    /// Makes one pass of the background scan now: its suspects are the verdict, unconfirmed. They count as reported, as those of
    /// the background task do: what one pass reported the next ones report again for as long as it is unreferenced, even if it is
    /// young or changed. Task context, with no lock held.
    pub fn scan(&self) -> Result<Summary, NotDone> {
        on_cleared_stack(|| Ok(self.handle().claim_on()?.scan()?))
    }

    /// Does what a background scan does, now: makes one pass, and stops the world for a short time to confirm its suspects
    /// ([`set_stop_max_us`](Self::set_stop_max_us)). They do not count as reported. Task context, with no lock held.
    pub fn scan_and_confirm(&self) -> Result<Summary, NotDone> {
        on_cleared_stack(|| Ok(self.handle().claim_on()?.scan_and_confirm()?))
    }

    /// Writes the last verdict as text: a table of the call stacks that allocated the leaders of the unreferenced objects, the
    /// first twenty, then lines about the whole. Task context, with no lock held.
    pub fn report(&self, out: &mut dyn Write) -> fmt::Result {
        self.report_as(Format::Text, Which::Leaders, out)
    }

    /// Writes the selected leaks of the last verdict as text, each with its call stack and the first bytes of its block, then
    /// lines about the whole. Task context, with no lock held.
    pub fn report_in_full(&self, which: Which, out: &mut dyn Write) -> fmt::Result {
        report::write_asked(self.handle(), Format::Text, which, Detail::Full, out)
    }

    /// Writes the selected leaks of the last verdict in the given format, as text in a table of twenty lines, then lines about
    /// the whole. Task context, with no lock held.
    pub fn report_as(&self, format: Format, which: Which, out: &mut dyn Write) -> fmt::Result {
        report::write_asked(self.handle(), format, which, Detail::TABLE, out)
    }

    /// Shows each object of the last verdict to `look`, leaks or suspects, in the order of allocation; those that have been
    /// freed since are left out. Task context, with no lock held; `look` may allocate.
    pub fn for_each_unreferenced(&self, look: &mut dyn FnMut(Unreferenced)) -> Result<(), NotDone> {
        self.handle().claim()?.show_unreferenced(look)
    }

    /// Shows each object that suppressions hide from the last verdict, in the order of allocation; those that have
    /// been freed since are left out, and those that there was no memory to list. Task context, with no lock held;
    /// `look` may allocate.
    pub fn for_each_suppressed(&self, look: &mut dyn FnMut(Unreferenced)) -> Result<(), NotDone> {
        self.handle().claim()?.show_suppressed(look)
    }

    /// Shows each object that the last pass found alive through interior pointers only: no chain of start pointers alone leads to
    /// it from a root. If that was given up, there is another one first, which does not change the verdict. In the order of
    /// addresses. Errors: [`NotDone::Stopped`] if it is given up as well. Task context, with no lock held; `look` may allocate.
    pub fn for_each_interior(&self, look: &mut dyn FnMut(InteriorOnly)) -> Result<(), NotDone> {
        self.handle().claim()?.show_interior(look)
    }

    /// Shows the groups of the last verdict with their call stacks (return addresses, innermost first), in the order in
    /// which they are reported; none where there was no memory to form them. Task context, with no lock held; `look` may
    /// allocate.
    pub fn for_each_group(&self, look: &mut dyn FnMut(&Group, &[usize])) -> Result<(), NotDone> {
        self.handle().claim()?.show_groups(look)
    }

    /// Remembers the leaks and suspects of the last verdict, and what is alive at each call site, for
    /// [`for_each_new`](Self::for_each_new) and [`for_each_site`](Self::for_each_site), which also has what was alive at the
    /// marks before, seven at most. Where there is no memory for it the earlier marks stay, and the detector's state is
    /// incomplete. Task context, with no lock held.
    ///
    /// It does not check: without a [`check`](Self::check) before, all that is lost already is new afterwards.
    pub fn mark(&self) -> Result<(), NotDone> {
        self.handle().claim()?.mark()
    }

    /// Forgets what all [`mark`](Self::mark)s remembered. Task context, with no lock held.
    pub fn unmark(&self) -> Result<(), NotDone> {
        self.handle().claim()?.unmark();
        Ok(())
    }

    /// Shows each object of the last verdict that the verdict before the last [`mark`](Self::mark) did not have, in
    /// the order of allocation; those that have been freed since are left out. Task context, with no lock held;
    /// `look` may allocate.
    pub fn for_each_new(&self, look: &mut dyn FnMut(Unreferenced)) -> Result<(), NotDone> {
        self.handle().claim()?.show_new(look)
    }

    /// Shows each call site with what is alive of what it allocated and how that has changed since the last [`mark`](Self::mark).
    /// Errors: [`NotDone::NoMemory`] where there was none to count all; [`NotDone::NoMark`] for an order by growth without a
    /// mark. Task context, with no lock held; `look` may allocate.
    pub fn for_each_site(
        &self,
        order: SiteOrder,
        look: &mut dyn FnMut(Site<'_>),
    ) -> Result<(), NotDone> {
        self.handle().claim()?.show_sites(order, look)
    }

    /// Shows the live objects that match `filter`, oldest first, and returns how many match in all. If an object is freed while
    /// they are shown, [`LiveObject::freed`] is true for it. Other CPUs are not stopped, so objects that are allocated or freed
    /// during the walk may be shown or not. Errors: [`NotDone::Off`]; [`NotDone::NoMemory`] if there was no memory for all of
    /// them, so that only the oldest were shown. Task context, with no lock held; `look` may allocate.
    pub fn for_each_object(
        &self,
        filter: &ObjectFilter,
        look: &mut dyn FnMut(LiveObject<'_>),
    ) -> Result<Tracking, NotDone> {
        self.handle().claim_on()?.show_live(filter, look)
    }

    /// Shows the `top` call sites with the most live bytes, the most first, of those that have more than one part in 65 of all.
    /// Takes no memory and waits for no lock: for a kernel that is out of memory or about to end. False if something was left
    /// out, since it was locked. Any context, with whatever locks held.
    #[must_use = "false where something is left out"]
    pub fn for_top_sites(&self, top: usize, look: &mut dyn FnMut(TopSite<'_>)) -> bool {
        self.tracker.is_on() && each_top(&self.tracker, top, look)
    }

    /// Counts what is tracked now, by a walk over all objects. Any context but a non-maskable interrupt.
    pub fn tracking(&self) -> Tracking {
        self.tracker.tracking()
    }

    /// Shows each word that points into the object in which `address` lies, in roots and in all other tracked objects, scanned
    /// or not. Task context, with no lock held; `look` may allocate. The caller's stack is one of the roots, so the caller
    /// should not keep the plain address there.
    pub fn holders(&self, address: usize, look: &mut dyn FnMut(Slot)) -> Result<(), NoAnswer> {
        let hidden = Hidden::new(address);
        on_cleared_stack(|| {
            self.handle()
                .claim()?
                .find_holders(hidden, look)
                .map(|_| ())
        })
    }

    /// Shows the words of the shortest chain of pointers to the object in which `address` lies: a word in a root, then one in
    /// each object on the way. If an object that is declared to be no leak begins the chain, its first word lies in that object.
    /// Task context, with no lock held; `look` may allocate.
    pub fn path(&self, address: usize, look: &mut dyn FnMut(Slot)) -> Result<(), NoAnswer> {
        let hidden = Hidden::new(address);
        on_cleared_stack(|| self.handle().claim()?.find_path(hidden, look).map(|_| ()))
    }

    /// Finds out why `address` is, or is not, reported as a leak. The answer says by what a reachable object is held, or why an
    /// object is never reported, or not yet. `look` gets the evidence: the steps of the path from a root, or the words that are
    /// almost pointers to an unreferenced object (near misses; only a few are shown). The last verdict does not change. Task
    /// context, with no lock held; `look` may allocate. The caller's stack is one of the roots, so the caller should not keep
    /// the plain address there.
    pub fn why(&self, address: usize, look: &mut dyn FnMut(Clue<'_>)) -> Result<Why, NoAnswer> {
        let hidden = Hidden::new(address);
        on_cleared_stack(|| {
            let mut claim = self.handle().claim()?;
            let explanation = claim.explain(hidden)?;
            claim.show_clues(&explanation, look);
            Ok(*explanation.why())
        })
    }

    /// Shows each object that a word of a stack points to, and that is alive through words of stacks only, the oldest first; what
    /// hangs from these is counted in the sums. A stale word is often what hides a leak: [`StackOnly::held_by`] says where it lies. The
    /// last verdict does not change. Errors: [`NoStackOnly`], where the world can't be stopped, above all. Task context, with no lock
    /// held; `look` may allocate. The caller's stack is one of the roots.
    pub fn for_each_stack_only(
        &self,
        look: &mut dyn FnMut(StackOnly),
    ) -> Result<StackOnlySums, NoStackOnly> {
        on_cleared_stack(|| {
            let mut claim = self.handle().claim_on()?;
            let sums = claim.find_stack_only()?;
            claim.each_stack_only(&mut |_, object| look(*object));
            Ok(sums)
        })
    }

    /// Shows each task that can never run again: it waits for what no task can reach that runs, is ready, sleeps until a time, waits
    /// for a device, or is not [named](crate::Platform::next_task) at all; nor a task that one of these can wake, or that such a task can, and so on.
    /// What they retain is retained until the next boot. Returns the sum. The last verdict does not change. Errors: [`NoTasks`], where the
    /// world can't be stopped, above all. Task context, with no lock held; `look` may allocate.
    pub fn for_each_lost_task(
        &self,
        look: &mut dyn FnMut(LostTask<'_>),
    ) -> Result<TaskSummary, NoTasks> {
        on_cleared_stack(|| {
            let mut claim = self.handle().claim_on()?;
            let summary = claim.find_lost_tasks()?;
            claim.each_lost_task(look);
            Ok(summary)
        })
    }

    /// Compares the counts of reference-counted blocks with the references that are found, and shows each block whose count is wrong:
    /// those that are too low first, of each kind the oldest first. Counted are `Arc`, `Rc`, and what [`Platform::counted`] names, in
    /// blocks whose type is known ([`Platform::instances`]). The world is stopped twice. Task context, with no lock held; `look` may
    /// allocate.
    ///
    /// A count that is [too high](crate::Miscounted::TooHigh) or [below zero](crate::Miscounted::BelowZero) is certainly wrong; one that
    /// is [too low](crate::Miscounted::TooLow) only possibly.
    pub fn for_each_miscount(
        &self,
        look: &mut dyn FnMut(Miscount),
    ) -> Result<CountSums, NotCompared> {
        let mut counted = |call_stack: &[usize]| report::counted_by(&self.tracker, call_stack);
        on_cleared_stack(|| self.handle().claim()?.show_miscounts(&mut counted, look))
    }

    /// From the next verdict on, unreferenced objects are not reported, with what they lead to, if a function in their call stack
    /// has a name that matches `pattern` (`*` stands for any text) as a whole, or by all of it that follows one of its `::`. The
    /// text is `PATTERN`, or `PATTERN:max=N` to hide them only as long as there are no more than N. A pattern that was added
    /// before gets the new ceiling. Task context, or before there are tasks.
    pub fn suppress(&self, pattern: &str) -> Result<(), SuppressError> {
        self.handle().suppress(pattern)
    }

    /// Removes the suppression with this pattern, with or without a ceiling after it; false if there is none. Task context.
    pub fn unsuppress(&self, pattern: &str) -> Result<bool, NotDone> {
        Ok(self.handle().claim()?.unsuppress(pattern))
    }

    /// Removes all suppressions. Task context.
    pub fn unsuppress_all(&self) -> Result<(), NotDone> {
        self.handle().claim()?.unsuppress_all();
        Ok(())
    }

    /// Shows each suppression, with what it hid from the last verdict. Task context.
    pub fn for_each_suppression(
        &self,
        look: &mut dyn FnMut(Suppression<'_>),
    ) -> Result<(), NotDone> {
        self.handle().claim()?.show_suppressions(look)
    }

    /// Begins a scope, with a check: the leaks that it finds are not the scope's. Task context, with no lock held.
    pub fn scope(&self) -> Scope<'_, P> {
        on_cleared_stack(|| Scope::begin(self.handle()))
    }

    /// Scans if a scan is due, and writes what is new to `log`: one line, or with `kmemleak.verbose=on` the table of a report.
    /// Task context, with no lock held; one task calls it again and again.
    pub fn background_step(&self, log: &mut dyn Write) -> NextStep {
        on_cleared_stack(|| background::step(self.handle(), log))
    }

    /// Writes the warnings that have come up since the last time. Task context, with no lock held.
    pub fn drain_warnings(&self, out: &mut dyn Write) {
        log::drain_warnings(&self.tracker, out);
    }

    /// Takes a boot parameter: `kmemleak=on|off`, `kmemleak.scan=SECS` (0 for no background scan),
    /// `kmemleak.stop_max_ms=N` (for how long a background scan may stop the world to confirm its suspects; 0 for never), `kmemleak.verbose=on|off`,
    /// `kmemleak.stacks=on|off|sample:BYTES` (whether call stacks are taken of all allocations, of none, or of a Poisson sample, one for
    /// each so many allocated bytes in the mean, while all others have a call site of one frame; on by default),
    /// `kmemleak.free_stacks=on|off` (whether a warning of a double free shows who freed the block first: a call stack more for
    /// each free), `kmemleak.color=on|off` (whether text has colours, which is right on a terminal only; off by default),
    /// `kmemleak.suppress=PATTERN[:max=N]` (as often as there are patterns, separated by commas). Task context, or before
    /// there are tasks.
    pub fn boot_parameter(&self, word: &str) -> Result<(), ParameterError> {
        control::parameters::take(self.handle(), word)
    }

    /// Runs the command in a line of text and writes the answer; for an empty line or an unknown command, writes the commands
    /// that there are. An answer that lists leaks is a success. Errors: [`CommandError::NotUnderstood`], with nothing done;
    /// [`CommandError::NotDone`] where there is no answer, or not all of it; in both cases the answer in `out` says why;
    /// [`CommandError::Write`] if `out` failed. Task context, with no lock held.
    pub fn command(&self, line: &str, out: &mut dyn Write) -> Result<(), CommandError> {
        on_cleared_stack(|| control::command(self.handle(), line, out))
    }

    /// Offers the words that can stand at the end of a line of [`command`](Self::command), which is what was typed up to the cursor:
    /// names, options, values that are known. A word may be offered twice, and words are offered that do not begin like the
    /// last one of the line. While a check runs, no addresses are offered, so this never waits. Task context, with no lock held.
    pub fn complete(&self, line: &str, offer: &mut dyn FnMut(&str)) {
        on_cleared_stack(|| control::complete(self.handle(), line, offer));
    }
}
