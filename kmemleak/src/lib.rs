//! Finds memory that nothing points to any more, in kernels.
#![no_std]

mod background;
mod call_stack;
mod chain;
mod check;
mod chunk;
mod comms;
mod control;
mod depot;
mod detector;
mod hidden;
mod list;
mod marker;
mod memory;
mod notes;
mod page_map;
mod platform;
mod prefetch;
mod queue;
mod record;
mod registry;
mod report;
mod scan;
mod verdict;
mod warning;

pub use crate::background::NextStep;
pub use crate::call_stack::{StackWalk, frame_pointer_walk};
pub use crate::control::ParameterError;
pub use crate::detector::{AllocOptions, Detector, Metadata};

pub use crate::platform::*;
pub use crate::verdict::{How, Summary, Tracking, Unreferenced};
