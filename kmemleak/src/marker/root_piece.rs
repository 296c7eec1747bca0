//! A piece of a root, as the walk over the roots gives it to a worker, and where the root comes from.

use core::ops::Range;

use crate::marker::encoded::Encoding;
use crate::objects::record::{Record, flag};
use crate::objects::root_ranges::VouchedBy;
use crate::platform::{Root, RootKind};

/// The source of a root.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NamedBy {
    Platform,
    /// The detector itself: it is the stack that the pass is made on.
    Detector,
    /// Callers of the detector, which registered regions that are read as their union.
    Callers,
    /// A caller that registered a region which is read on its own.
    Caller(VouchedBy),
}

/// A piece of a root, a page at most.
#[derive(Clone)]
pub(super) struct RootPiece {
    pub(super) root: Root,
    pub(super) named_by: NamedBy,
    pub(super) range: Range<usize>,
    /// How far may be read.
    pub(super) until: usize,
    pub(super) encoding: Encoding,
    /// The part of the root that it belongs to.
    pub(super) part: Range<usize>,
}

impl RootPiece {
    /// Whether it is a piece of a stack, or of a CPU's registers, which are a stack's newest words.
    pub(super) fn is_of_stack(&self) -> bool {
        is_of_stack(self.root.kind)
    }

    /// Whether an object that starts in the piece, and ends there, lies in the same part as a whole.
    pub(super) fn holds(&self, record: &Record, end: usize) -> bool {
        !record.has(flag::ALIAS | flag::PERCPU | flag::PHYS) && end <= self.part.end
    }
}

/// Whether a root comes and goes with what a task does.
pub(super) fn is_of_stack(kind: RootKind) -> bool {
    matches!(kind, RootKind::Stack(_) | RootKind::Registers(_))
}
