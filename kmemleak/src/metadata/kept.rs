//! Whether there was memory for what callbacks tell.
//!
//! A block, what remains of one, a copy of a per-CPU block, a size or a number of references that needs a note, a scan area, a
//! root region, an excess reference, the beginning of a disabled scope: there may be no room in metadata for any of them. The
//! thing that is lost may be what holds other blocks, or what says that they are no leaks. So all of them are counted alike, in
//! one counter, and verdicts say that they are incomplete until somebody acknowledges that by `clear`. Each function that
//! stores such a thing returns [`Kept`], which must be used; the tracker's `counted` takes it.

/// Whether something found room.
#[must_use = "what found no room is counted"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Yes,
    NoMemory,
}

impl Kept {
    /// Whether both were kept. The second is not tried where the first was not kept.
    #[inline(always)]
    pub(crate) fn and(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Yes => other(),
            Self::NoMemory => Self::NoMemory,
        }
    }
}
