//! What becomes of what is to be remembered where there may be no memory for it.
//!
//! A block, what remains of one, a copy of a per-CPU block, a size or a number of references that needs a note, a scan area, a root
//! region, an excess reference, the beginning of a disabled scope: each may find no room in metadata. What is
//! forgotten then may be what holds other blocks, or all that says they are no leaks. So it is all one: it is counted, in one
//! counter, and until somebody acknowledges by `clear`, verdicts say that they are incomplete. Whatever asks for room
//! says [`Kept`], which nobody can pass over; the tracker's `counted` takes it.

/// Whether something found room.
#[must_use = "what found no room is counted"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Yes,
    NoMemory,
}

impl Kept {
    /// Both were kept; the second is not tried where the first was not.
    #[inline(always)]
    pub(crate) fn and(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Yes => other(),
            Self::NoMemory => Self::NoMemory,
        }
    }
}
