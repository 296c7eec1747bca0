//! What a kernel sees: the detector's public methods, the wrapped allocator, reports, commands, the background task.
//!
//! This folder uses all folders below it; none of them uses this one.

pub(crate) mod background;
#[cfg(feature = "c-api")]
pub mod c_api;
pub(crate) mod control;
pub(crate) mod detector;
mod log;
pub(crate) mod outcome;
pub(crate) mod report;
pub(crate) mod scope;
mod selftest;
mod stored_text;
pub(crate) mod tracked;
