//! The detector: the functions of the tracker and the checker, under the names that a kernel calls.
//!
//! All of `impl Detector` is here; each method only calls the function that does the work.

use core::fmt::{self, Write};
use core::ops::Range;

use super::background::{self, NextStep};
use super::control::parameters::ParameterError;
use super::report::{self, Format};
use super::scope::Scope;
use super::{control, log};
use crate::checker::Checker;
use crate::checker::claim::{Nested, NotDone};
use crate::checker::handle::Handle;
use crate::checker::references::{NoAnswer, Slot};
use crate::metadata::hidden::Hidden;
use crate::metadata::pool::BootstrapPool;
use crate::platform::Platform;
use crate::tracker::{AllocOptions, Metadata, Tracker, Tracking};
use crate::verdict::call_sites::{Site, TopSite, each_top};
use crate::verdict::groups::Group;
use crate::verdict::iter::{Block, Unreferenced};
use crate::verdict::order::Which;
use crate::verdict::summary::Summary;
use crate::verdict::suppress::{SuppressError, Suppression};

/// A leak detector, for a static.
///
/// Its first metadata comes from a [pool](Self::with_pool), then from [`Platform::metadata_alloc`].
///
/// # Callbacks
///
/// The methods that say "Any context" may be called in any context but a non-maskable interrupt, on several CPUs at once, from
/// the first instruction on, with no lock of the allocator held. They never sleep, print, allocate or panic. Errors of callers
/// are counted and told by [`drain_warnings`](Self::drain_warnings), including a number that is not an address, or at which no
/// block can be (null, an error code, what [`Platform::block_addresses`] leaves out).
///
/// An address in a further copy of a per-CPU block means the block, except in `free`.
///
/// An allocator calls `alloc` when a block is out of all free lists and `free` before it returns to one. It does not tell of
/// blocks for its own bookkeeping (Linux calls that NOLEAKTRACE): the detector does not see them, and pointers in them keep
/// nothing alive.
pub struct Detector<P> {
    tracker: Tracker<P>,
    checker: Checker,
}

impl<P: Platform> Detector<P> {
    /// A detector that knows no blocks. It is on.
    pub const fn new(platform: P) -> Self {
        Self {
            tracker: Tracker::new(platform),
            checker: Checker::new(),
        }
    }

    /// Adds memory for what is allocated before the platform can give any.
    pub const fn with_pool<const PAGES: usize>(
        mut self,
        pool: &'static BootstrapPool<PAGES>,
    ) -> Self {
        self.tracker.set_pool(pool);
        self
    }

    /// Adds suppressions, as [`suppress`](Self::suppress) takes them. One that can't be added is left out.
    pub const fn with_suppressions(mut self, patterns: &'static [&'static str]) -> Self {
        self.checker.set_suppressions(patterns);
        self
    }

    /// A block was handed out: `size` bytes at `start`. Any context.
    ///
    /// The block is read only if [`Platform::readable`] vouches for it: the caller's word is not enough, except for that of a
    /// [`Tracked`](crate::Tracked).
    ///
    /// If it overlaps blocks that are known, those were freed without a callback: they are forgotten, and counted. The block is
    /// white until a reference is found, unless `options` or a disabled scope say otherwise.
    #[inline(always)]
    pub fn alloc(&self, start: usize, size: usize, options: AllocOptions) {
        self.tracker.alloc(start, size, options);
    }

    /// The block at `start` is given back. Its address must be the one it was handed out with. Any context.
    ///
    /// When this returns, the detector does not read the block any more.
    #[inline(always)]
    pub fn free(&self, start: usize) {
        self.tracker.free(start);
    }

    /// An allocator was told to free `address` and has refused: no block begins there that it has handed out, or the block must
    /// be freed in another way. The detector's records do not change. A warning names the call stacks of the caller and of the
    /// allocation of the block in which the address lies, or last lay. Any context.
    pub fn refused_free(&self, address: usize) {
        self.tracker.refused_free(address);
    }

    /// The bytes from `start` on, `len` of them, are given back, of the block in which `start` lies. The parts before and after
    /// them become blocks of their own, with the age, the colour and the call stack of the whole, and its scan areas cut to the
    /// parts: a part that none of them reaches into is not scanned. Any context.
    ///
    /// Where there is no memory for metadata, the rest of a block that loses an end stays known, and so does the part before a
    /// hole in its middle.
    pub fn free_part(&self, start: usize, len: usize) {
        self.tracker.free_part(start, len);
    }

    /// A per-CPU block was handed out: `size` bytes for each CPU, where [`Platform::percpu_copy`] says. A
    /// pointer to any copy, or the handle, keeps it alive; all copies are scanned; its size counts once. Any context.
    #[inline(always)]
    pub fn alloc_percpu(&self, handle: usize, size: usize) {
        self.tracker.alloc_percpu(handle, size);
    }

    /// The per-CPU block with this handle is given back. Any context.
    #[inline(always)]
    pub fn free_percpu(&self, handle: usize) {
        self.tracker.free(handle);
    }

    /// The per-CPU block with this handle is neither scanned nor reported: it becomes black. Any context.
    pub fn ignore_percpu(&self, handle: usize) {
        self.tracker.ignore(handle);
    }

    /// A block of virtually contiguous memory was handed out, `size` bytes at `start`, and the object at `area`
    /// describes it and points to it: so it needs two references. Any context.
    ///
    /// Pointers to `area` beyond as many as that needs itself ([`AllocOptions::min_count`]) count for the block: if it needs one,
    /// all but one. That is so wherever `area` lies and whatever keeps it alive, except that a black one passes nothing on. If
    /// the block is an area itself, the pointers that it does not need count for its own block.
    ///
    /// For kernels whose bookkeeping is scanned; if it is not, [`alloc`](Self::alloc) is enough.
    pub fn vmalloc(&self, start: usize, size: usize, area: usize) {
        self.tracker.vmalloc(start, size, area);
    }

    /// A block of physical memory was handed out, `size` bytes at physical address `start`: it is scanned where
    /// [`Platform::phys_to_virt`] says it is mapped, and is never reported (gray). Any context.
    pub fn alloc_phys(&self, start: usize, size: usize) {
        self.tracker.alloc_phys(start, size);
    }

    /// Gives back a part of a block of physical memory, as [`free_part`](Self::free_part) does of other blocks. Any context.
    pub fn free_part_phys(&self, start: usize, len: usize) {
        self.tracker.free_part(start, len);
    }

    /// The block of physical memory at `start` is not scanned any more: it becomes black. Any context.
    pub fn ignore_phys(&self, start: usize) {
        self.tracker.ignore(start);
    }

    /// The block at `start` is no leak, even if nothing points to it: it becomes gray, and is scanned. Any context.
    pub fn not_leak(&self, start: usize) {
        self.tracker.not_leak(start);
    }

    /// The block at `start` is neither scanned nor reported: it becomes black. Any context.
    pub fn ignore(&self, start: usize) {
        self.tracker.ignore(start);
    }

    /// The block at `start` is reported when it is lost, but holds no pointers: it is not scanned. Its colour stays.
    /// Any context.
    pub fn no_scan(&self, start: usize) {
        self.tracker.no_scan(start);
    }

    /// Of the block in which `start` lies, only these `len` bytes and areas that were named before are scanned. An area that goes
    /// past the block's end is refused with a warning. Where there is no memory for the area, all of the block is scanned. Any
    /// context.
    pub fn scan_area(&self, start: usize, len: usize) {
        self.tracker.scan_area(start, len);
    }

    /// The block at `start` is unreachable for a while, such as a node that moves from one list to another: the background scan
    /// treats it as referenced once more, even if it has reported it. Any context.
    pub fn transient_leak(&self, start: usize) {
        self.tracker.transient_leak(start);
    }

    /// The block in which `start` lies now belongs to the caller: its call stack is the present one. For
    /// blocks that were allocated ahead of their use. Any context.
    pub fn update_trace(&self, start: usize) {
        self.tracker.update_trace(start);
    }

    /// `len` bytes at `start` are a root from now on. Any context. False where there is no memory to note it, and where the range
    /// is not memory: in the first page, or not in one half of the address space. What a region holds that could not be noted may
    /// seem to be lost, so verdicts are incomplete then.
    ///
    /// Regions may overlap, touch, and lie in other roots or in tracked objects: each word of them is read once a pass, even if
    /// several cover it. A region that is added several times, even with different lengths, must be removed as often; as long as
    /// any of them is there, what they cover together is a root. Its memory must stay readable ([`Platform::readable`]).
    pub fn region_add(&self, start: usize, len: usize) -> bool {
        self.tracker.region_add(start, len)
    }

    /// Removes the last [`region_add`](Self::region_add) of those that name this start. When it returns nothing is read there
    /// that a check or scan has not begun to read. Any context.
    pub fn region_remove(&self, start: usize) {
        self.tracker.region_remove(start);
    }

    /// `len` bytes at `start` are in no root from now on, though the platform or a region may name them: for example memory in
    /// which an allocator keeps its own state, among variables that are roots. Tracked objects that lie there are treated like
    /// other objects. A range that is excluded again must be [included](Self::include) as often. Any context. False where there
    /// is no memory to note it.
    pub fn exclude(&self, start: usize, len: usize) -> bool {
        self.tracker.exclude(start, len)
    }

    /// Removes the last [`exclude`](Self::exclude) of those that name this start; false if there is none. Any context.
    pub fn include(&self, start: usize) -> bool {
        self.tracker.include(start)
    }

    /// From here on, what the running task allocates is no leak (gray), until [`disabled_end`](Self::disabled_end) was called as
    /// often as this. Task context.
    pub fn disabled_begin(&self) {
        self.tracker.disabled_begin();
    }

    /// Ends the last [`disabled_begin`](Self::disabled_begin). Task context.
    pub fn disabled_end(&self) {
        self.tracker.disabled_end();
    }

    /// Clears a variable that holds a pointer which is to keep nothing alive, such as a slot of an
    /// allocator's cache that was emptied.
    ///
    /// # Safety
    ///
    /// The variable can be written to, and no other code writes to it.
    pub unsafe fn erase(&self, variable: *mut usize) {
        // SAFETY: the caller's promise.
        unsafe { variable.write_volatile(0) };
    }

    /// Whether blocks are recorded. Once the detector is off, it never records again.
    ///
    /// A callback may ask this first, as the cheapest way out; the answer is certain only with interrupts off.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.tracker.is_on()
    }

    /// Checks for leaks now. Waits for a running check. Task context, with no lock held.
    pub fn check(&self) -> Result<Summary, NotDone> {
        Ok(self.handle().claim_on()?.check()?)
    }

    /// Makes one pass of the background scan now: its suspects are the verdict, unconfirmed. They count as reported, as those of
    /// the background task do: what one pass reported the next ones report again for as long as it is unreferenced, even if it is
    /// young or changed. Task context, with no lock held.
    pub fn scan(&self) -> Result<Summary, NotDone> {
        Ok(self.handle().claim_on()?.scan()?)
    }

    /// Writes the last verdict as text: the leaders of the unreferenced objects, by call stack, then a line with the sum. Task
    /// context, with no lock held.
    pub fn report(&self, out: &mut dyn Write) -> fmt::Result {
        self.report_as(Format::Text, Which::Leaders, out)
    }

    /// Writes the selected leaks of the last verdict in the given format, then a line with the sum. Task context, with no lock
    /// held.
    pub fn report_as(&self, format: Format, which: Which, out: &mut dyn Write) -> fmt::Result {
        match self.handle().claim() {
            Ok(claim) => report::write_report(&claim, format, which, out),
            Err(Nested) => report::complain(format, &NotDone::Nested, out),
        }
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
    /// it from a root. In the order of addresses. Task context, with no lock held; `look` may allocate.
    pub fn for_each_interior(&self, look: &mut dyn FnMut(Block)) -> Result<(), NotDone> {
        self.handle().claim()?.show_interior(look)
    }

    /// Shows the groups of the last verdict with their call stacks (return addresses, innermost first), in the order in
    /// which they are reported; none where there was no memory to form them. Task context, with no lock held; `look` may
    /// allocate.
    pub fn for_each_group(&self, look: &mut dyn FnMut(&Group, &[usize])) -> Result<(), NotDone> {
        self.handle().claim()?.show_groups(look)
    }

    /// Remembers the leaks and suspects of the last verdict, and what is alive at each call site, for
    /// [`for_each_new`](Self::for_each_new) and [`for_each_site`](Self::for_each_site). Where there is no memory for it the
    /// earlier mark stays, and the detector's state is incomplete. Task context, with no lock held.
    ///
    /// It does not check: without a [`check`](Self::check) before, all that is lost already is new afterwards.
    pub fn mark(&self) -> Result<(), NotDone> {
        self.handle().claim()?.mark()
    }

    /// Forgets what [`mark`](Self::mark) remembered. Task context, with no lock held.
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

    /// Shows each call site with what is alive of what it allocated and how that has changed since the last [`mark`](Self::mark),
    /// in the order of live bytes, the most first; sites with nothing alive come last. An error where there was no memory to
    /// count all. Task context, with no lock held; `look` may allocate.
    pub fn for_each_site(&self, look: &mut dyn FnMut(Site<'_>)) -> Result<(), NotDone> {
        self.handle().claim()?.show_sites(look)
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

    /// Shows each word that points into the object in which `address` lies, in roots and in all other tracked objects, scanned or
    /// not. Task context, with no lock held; `look` may allocate. The caller's stack is among the roots: the caller should not
    /// keep the address there as it is.
    pub fn holders(&self, address: usize, look: &mut dyn FnMut(Slot)) -> Result<(), NoAnswer> {
        let hidden = Hidden::new(address);
        self.handle()
            .claim()?
            .find_holders(hidden, look)
            .map(|_| ())
    }

    /// Shows the words of the shortest chain of pointers to the object in which `address` lies: a word in a root, then one in
    /// each object on the way. If an object that is declared to be no leak begins the chain, its first word lies in that object.
    /// Task context, with no lock held; `look` may allocate.
    pub fn path(&self, address: usize, look: &mut dyn FnMut(Slot)) -> Result<(), NoAnswer> {
        let hidden = Hidden::new(address);
        self.handle().claim()?.find_path(hidden, look).map(|_| ())
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
        Scope::begin(self.handle())
    }

    /// Scans if a scan is due, and writes what is new to `log`: one line, or with `kmemleak.verbose=on` the whole report. Task
    /// context, with no lock held; one task calls it again and again.
    pub fn background_step(&self, log: &mut dyn Write) -> NextStep {
        background::step(self.handle(), log)
    }

    /// Writes the warnings that have come up since the last time. Task context, with no lock held.
    pub fn drain_warnings(&self, out: &mut dyn Write) {
        log::drain_warnings(&self.tracker, out);
    }

    /// Takes a boot parameter: `kmemleak=on|off`, `kmemleak.scan=SECS` (0 for no background scan), `kmemleak.verbose=on|off`,
    /// `kmemleak.free_stacks=on|off` (whether a warning of a double free shows who freed the block first: a call stack more for
    /// each free), `kmemleak.suppress=PATTERN[:max=N]` (as often as there are patterns, with commas between several). Task
    /// context, or before there are tasks.
    pub fn boot_parameter(&self, word: &str) -> Result<(), ParameterError> {
        control::parameters::take(self.handle(), word)
    }

    /// Whether a line of text is a [`command`](Self::command) with valid arguments, or empty. Any context.
    pub fn understands(&self, line: &str) -> bool {
        control::understands::<P>(line)
    }

    /// Runs the command in a line of text and writes the answer; for an empty line or an unknown command, writes the commands
    /// that there are. Task context, with no lock held.
    pub fn command(&self, line: &str, out: &mut dyn Write) -> fmt::Result {
        control::command(self.handle(), line, out)
    }

    /// Sets how old an object must be for the background scan to report it. Any context.
    pub fn set_min_age_us(&self, us: u64) {
        self.tracker.settings().min_age.set(us);
    }

    /// From now on nothing can be recorded, as if there were no memory, or it can again: free metadata counts as used up, and the
    /// platform is not asked. For tests of a kernel in that state. Any context.
    pub fn exhaust_metadata(&self, exhausted: bool) {
        self.tracker.exhaust_metadata(exhausted);
    }

    /// Refuses the detector's own requests for memory, pages or parts of them, that have these numbers, counted from now on: for
    /// tests of each request that may fail. Any context.
    pub fn refuse_metadata(&self, numbers: Range<u64>) {
        self.tracker.refuse_metadata(numbers);
    }

    /// How many requests there were since [`refuse_metadata`](Self::refuse_metadata). Any context.
    pub fn metadata_requests(&self) -> u64 {
        self.tracker.metadata_requests()
    }

    /// How much memory the detector takes for itself. Any context.
    pub fn metadata(&self) -> Metadata {
        self.tracker.metadata()
    }

    /// The kernel as the detector sees it.
    pub fn platform(&self) -> &P {
        self.tracker.platform()
    }

    /// The tracker, for the allocator that is wrapped.
    pub(super) fn tracker(&self) -> &Tracker<P> {
        &self.tracker
    }

    fn handle(&self) -> Handle<'_, P> {
        Handle::new(&self.tracker, &self.checker)
    }
}
