//! Finds memory that nothing points to any more, in kernels.
#![no_std]

mod background;
mod check;
mod control;
mod depot;
mod detector;
mod frame_pointer;
mod hidden;
mod pages;
mod platform;
mod record;
mod registry;
mod report;
mod scan;
mod state;
mod verdict;
mod warning;

pub use crate::background::NextStep;
pub use crate::control::ParameterError;
pub use crate::detector::{AllocOptions, Detector};
pub use crate::frame_pointer::frame_pointer_walk;
pub use crate::platform::*;
pub use crate::verdict::{How, Summary, Tracking, Unreferenced};
