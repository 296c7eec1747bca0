//! The stack of the code that checks: a root as far as its callers use it.
//!
//! The addresses of all objects pass through the frames of a check, and old frames of other calls lie below these: words that
//! would hide leaks. So what lies in the stack's bounds is in no root that somebody names, and in no object. The part above the
//! frames of the check is a root of its own.

use core::ops::Range;

use crate::platform::{Root, RootKind};

/// The stack that a pass is made on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnStack {
    bounds: Range<usize>,
    /// Where the frames of the callers begin.
    callers: usize,
    task: u32,
}

impl OwnStack {
    /// The stack of `task` whose callers' frames begin at `callers`; `None` if that is not in the stack.
    ///
    /// # Safety
    ///
    /// The stack is the calling code's own, and can be read, as long as the result is used.
    pub(crate) unsafe fn new(bounds: Range<usize>, callers: usize, task: u32) -> Option<Self> {
        let in_use = bounds.contains(&callers);
        in_use.then_some(Self {
            bounds,
            callers,
            task,
        })
    }

    pub(super) fn bounds(&self) -> Range<usize> {
        self.bounds.clone()
    }

    /// The part that is in use.
    pub(super) fn root(&self) -> Root {
        Root {
            kind: RootKind::Stack(self.task),
            start: self.callers,
            len: self.bounds.end - self.callers,
        }
    }

    /// Whether a piece of a root belongs to this stack.
    pub(super) fn has(&self, piece: &Range<usize>) -> bool {
        self.bounds.contains(&piece.start)
    }
}
