//! Leaks of a span of time: for tests that are to fail if the code under test loses memory.
//!
//! A scope remembers what is lost when it begins, and checks again when it ends: an object that is lost then and was not before
//! has leaked inside, no matter which task allocated it and when. Scopes may overlap and nest.
//!
//! A scope works on a stack that is not scanned ([`Platform::on_unscanned_stack`]): a pointer that was read in one scope may
//! remain in the stack frames of the next one's check, and would be a reference.

use core::fmt::{self, Debug, Display, Formatter, Write};

use super::report::{Count, EmptyStacks, no_call_stacks_text, write_leak};
use super::stored_text::StoredText;
use crate::atomic::Lock;
use crate::checker::claim::{Claim, NotDone};
use crate::checker::handle::Handle;
use crate::platform::Platform;
use crate::platform::arch::on_cleared_stack;
use crate::tracker::Borrow;
use crate::verdict::baseline::Baseline;
use crate::verdict::summary::Summary;

/// A span of time: only what leaked inside it is reported. Made by [`Detector::scope`](crate::Detector::scope).
///
/// It remembers what is lost when it begins, and checks again when it [ends](Self::finish): an object that is lost then and was
/// not before leaked inside, no matter which task allocated it and when. Scopes may overlap and nest.
#[must_use = "a scope that is not finished checks nothing"]
pub struct Scope<'d, P: Platform> {
    handle: Handle<'d, P>,
    before: Lock<Baseline>,
    /// Why nothing can be said of leaks, if so.
    trouble: Option<NotDone>,
    borrow: Borrow<'d, P>,
}

impl<'d, P: Platform> Scope<'d, P> {
    /// Begins a scope, with a check: the leaks that it finds are not the scope's.
    pub(super) fn begin(handle: Handle<'d, P>) -> Self {
        let mut scope = Self {
            handle,
            before: Lock::new(Baseline::new()),
            trouble: None,
            borrow: handle.tracker.borrow(),
        };
        scope.trouble = scope.remember().err();
        scope
    }

    /// Remembers what is lost already.
    fn remember(&mut self) -> Result<(), NotDone> {
        let mut claim = self.handle.claim_on()?;
        let remembered = claim.on_unscanned_stack(|claim| {
            claim.check()?;
            Ok(claim.remember(self.before.get_mut()))
        })?;
        match remembered {
            true => Ok(()),
            false => Err(NotDone::NoMemory),
        }
    }

    /// Ends the scope: checks, and returns what leaked inside. Also an error if that is not certain, since the detector is off,
    /// memory is short, something [could not be recorded](Summary::unrecorded) (which may be what leaked), or the new objects
    /// that the check lists are suspects: then no objects are said to have [leaked](Leaked::objects). Task context, with no lock
    /// held.
    pub fn finish(self) -> Result<(), Leaked<'d, P>> {
        let mut leaked = Leaked {
            objects: 0,
            bytes: 0,
            suspects: 0,
            unrecorded: 0,
            text: Lock::new(StoredText::new()),
            borrow: self.handle.tracker.borrow(),
        };
        if let Err(trouble) = on_cleared_stack(|| self.end(&mut leaked)) {
            let why: &dyn Display = match trouble {
                NotDone::NoMemory => &"no memory to remember what was lost before",
                _ => &trouble,
            };
            // As in `tell`.
            let _ = write!(
                Writer { leaked: &leaked },
                "kmemleak: what leaked can't be told: {why}"
            );
            return Err(leaked);
        }
        // Blocks without a record are listed nowhere: then an empty list proves nothing.
        if leaked.objects + leaked.suspects == 0 && leaked.unrecorded == 0 {
            Ok(())
        } else {
            Err(leaked)
        }
    }

    /// Finds what leaked.
    fn end(&self, leaked: &mut Leaked<'d, P>) -> Result<(), NotDone> {
        if let Some(trouble) = self.trouble {
            return Err(trouble);
        }
        let mut claim = self.handle.claim_on()?;
        claim.on_unscanned_stack(|claim| {
            let summary = claim.check()?;
            self.tell(claim, &summary, leaked);
            Ok(())
        })?;
        Ok(())
    }

    /// Writes what the check found that was not lost before.
    fn tell(&self, claim: &Claim<'_, P>, summary: &Summary, leaked: &mut Leaked<'d, P>) {
        let (_outside, tracker) = (claim.outside(), claim.tracker());
        let mut out = Writer { leaked };
        let (mut objects, mut bytes, mut empty) = (0, 0, EmptyStacks::default());
        claim.each_new_since(Some(&self.before.lock()), &mut |named, index| {
            objects += 1;
            bytes += named.size(tracker);
            empty.note(tracker.depot().get(named.record.stack_id()).as_slice());
            // Text that does not fit is left out, and the report says so.
            let _ = write_leak(claim, named, index, &mut out);
        });
        let _ = no_call_stacks_text(empty.why(tracker), &mut out);
        let _ = match summary.doubt() {
            None => write!(
                out,
                "kmemleak: {} ({bytes} bytes) leaked",
                Count(objects, "object")
            ),
            Some(doubt) => write!(
                out,
                "kmemleak: whether anything leaked can't be told: {} ({bytes} bytes); {doubt}",
                Count(objects, "suspect")
            ),
        };
        match summary.doubt() {
            None => (leaked.objects, leaked.bytes) = (objects, bytes),
            Some(_) => (leaked.suspects, leaked.unrecorded) = (objects, summary.unrecorded),
        }
    }
}

impl<P: Platform> Drop for Scope<'_, P> {
    fn drop(&mut self) {
        let tracker = self.borrow.tracker();
        tracker.without_interrupts(|meta| self.before.lock().clear(meta));
    }
}

/// What leaked in a scope, or why that can't be told: its `Display` is the report.
pub struct Leaked<'d, P: Platform> {
    objects: usize,
    bytes: usize,
    suspects: usize,
    /// What could not be recorded, and may have leaked.
    unrecorded: u64,
    text: Lock<StoredText>,
    borrow: Borrow<'d, P>,
}

impl<P: Platform> Leaked<'_, P> {
    /// Objects that leaked; none if it can't be told.
    pub fn objects(&self) -> usize {
        self.objects
    }

    /// Their bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Objects that may have leaked, if the check found suspects and not leaks ([`Doubt`](crate::Doubt)).
    pub fn suspects(&self) -> usize {
        self.suspects
    }
}

impl<P: Platform> Display for Leaked<'_, P> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.text.lock().write_to(f)
    }
}

impl<P: Platform> Debug for Leaked<'_, P> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl<P: Platform> core::error::Error for Leaked<'_, P> {}

impl<P: Platform> Drop for Leaked<'_, P> {
    fn drop(&mut self) {
        let tracker = self.borrow.tracker();
        tracker.without_interrupts(|meta| self.text.lock().clear(meta));
    }
}

struct Writer<'l, 'd, P: Platform> {
    leaked: &'l Leaked<'d, P>,
}

impl<P: Platform> Write for Writer<'_, '_, P> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let leaked = self.leaked;
        let tracker = leaked.borrow.tracker();
        tracker.without_interrupts(|meta| leaked.text.lock().push(text, meta));
        Ok(())
    }
}

/// Runs an expression, or a block, and gives its value; panics with the report if memory leaked meanwhile, and with the reason if
/// that is not certain.
///
/// The first argument is the [`Detector`](crate::Detector). What the value owns is no leak as long as the caller's stack is a
/// root. Memory that any task loses meanwhile counts: no other code should leak at the same time. A body that leaves by `return`,
/// `break` or `?` is not checked.
///
/// ```
/// # use kmemleak::{Detector, IrqState, Platform, Root, RootCursor, assert_no_leaks};
/// # struct Kernel;
/// # // SAFETY: there are no roots, and there is one thread.
/// # unsafe impl Platform for Kernel {
/// #     fn now_us(&self) -> u64 { 1 }
/// #     fn irq_save(&self) -> IrqState { IrqState(0) }
/// #     fn irq_restore(&self, _: IrqState) {}
/// #     fn next_root(&self, _: &mut RootCursor) -> Option<Root> { None }
/// # }
/// # static KMEMLEAK: Detector<Kernel> = Detector::new(Kernel);
/// # fn driver_probe() -> u32 { 5 }
/// let value = assert_no_leaks!(KMEMLEAK, driver_probe());
/// assert_eq!(value, 5);
/// ```
#[macro_export]
macro_rules! assert_no_leaks {
    ($detector:expr, $body:expr) => {{
        let scope = $detector.scope();
        let value = $body;
        if let Err(leaked) = scope.finish() {
            panic!("{leaked}");
        }
        value
    }};
}
