//! Whether there was memory to record what a callback was called with.
//!
//! A block, what remains of one, a copy of a per-CPU block, a size or a number of references that needs a note, a scan area, a
//! root region, an excess reference, the beginning of a disabled scope: metadata may have no room for any of them. What
//! was not recorded may hold other blocks, or may say that they are no leaks. So all such losses are counted, in one
//! counter, and verdicts say that they are incomplete until somebody acknowledges that by `clear`. Each function that
//! stores such a thing returns [`Kept`], which must be used; the tracker's `counted` takes it.

/// Whether something was recorded.
#[must_use = "what found no room is counted"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Yes,
    NoMemory,
}

impl Kept {
    /// Whether both were kept. If the first was not kept, `other` is not called.
    #[inline(always)]
    pub(crate) fn and(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Yes => other(),
            Self::NoMemory => Self::NoMemory,
        }
    }
}
