//! Orderings that are taken away, one at a time, to see whether a model notices.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::panic::Location;
use std::sync::atomic::Ordering;

/// Which of the orderings of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The only one, or that of a success.
    Success,
    /// That of an exchange that fails.
    Failure,
}

/// Where a source names an ordering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    file: &'static str,
    line: u32,
    column: u32,
    part: Part,
}

impl Display for Site {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)?;
        match self.part {
            Part::Success => Ok(()),
            Part::Failure => f.write_str(" (failure)"),
        }
    }
}

thread_local! {
    /// The orderings, other than `Relaxed`, of what ran on this thread. (Loom's threads are all on the one that searches.)
    static SEEN: RefCell<BTreeMap<Site, Ordering>> = const { RefCell::new(BTreeMap::new()) };
    static WEAKENED: Cell<Option<(Site, Ordering)>> = const { Cell::new(None) };
}

/// The ordering that an access is to have.
pub(crate) fn ordering(at: &'static Location<'static>, part: Part, written: Ordering) -> Ordering {
    if written == Ordering::Relaxed {
        return written;
    }
    let site = Site {
        file: at.file(),
        line: at.line(),
        column: at.column(),
        part,
    };
    match WEAKENED.get() {
        Some((weakened, instead)) if weakened == site => instead,
        Some(_) => written,
        None => {
            SEEN.with_borrow_mut(|seen| seen.insert(site, written));
            written
        }
    }
}

/// What `run` names other than `Relaxed`.
pub fn seen_in(run: impl FnOnce()) -> BTreeMap<Site, Ordering> {
    SEEN.take();
    run();
    SEEN.take()
}

/// Runs `run` with another ordering at a site.
pub fn with_instead<R>(site: Site, instead: Ordering, run: impl FnOnce() -> R) -> R {
    WEAKENED.set(Some((site, instead)));
    let result = run();
    WEAKENED.set(None);
    result
}

/// The orderings next below this one.
pub fn weaker(ordering: Ordering) -> &'static [Ordering] {
    match ordering {
        Ordering::Acquire | Ordering::Release => &[Ordering::Relaxed],
        Ordering::AcqRel => &[Ordering::Acquire, Ordering::Release],
        Ordering::SeqCst => &[Ordering::AcqRel],
        _ => &[],
    }
}
