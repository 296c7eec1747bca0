//! The type of the block that a call stack allocates, while the call stack is read frame by frame.

use std::ops::ControlFlow;

use kmemleak::{BlockType, TypeSearch};

use crate::kernel::Frame;

/// What is known of the type so far.
#[derive(Clone, Debug)]
pub(crate) enum TypeSoFar {
    /// The next frame may tell it.
    Open(TypeSearch),
    /// It is this, or it can't be known.
    Decided(Option<Box<BlockType>>),
}

impl TypeSoFar {
    pub(crate) const BEGIN: Self = Self::Open(TypeSearch::new());
    pub(crate) const UNKNOWN: Self = Self::Decided(None);

    /// Takes the next frame outward.
    pub(crate) fn add(&mut self, frame: &Frame) {
        let Self::Open(search) = self else {
            return;
        };
        if frame.instances.is_empty() {
            return self.add_unknown();
        }
        let mut functions = frame.instances.iter();
        let decided = functions.find_map(|function| match search.function(function) {
            ControlFlow::Continue(()) => None,
            ControlFlow::Break(found) => Some(found.map(Box::new)),
        });
        if let Some(found) = decided {
            *self = Self::Decided(found);
        }
    }

    /// Takes a frame outward that is not known: it could be anything.
    pub(crate) fn add_unknown(&mut self) {
        if let Self::Open(_) = self {
            *self = Self::UNKNOWN;
        }
    }

    /// Whether no further frame changes it.
    pub(crate) fn is_decided(&self) -> bool {
        matches!(self, Self::Decided(_))
    }

    /// The type as a report has it.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Decided(Some(found)) => Some(found.to_string()),
            _ => None,
        }
    }
}
