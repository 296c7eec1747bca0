//! Checks: who may check, how a pass is made, and what answers questions about the memory that was found.
//!
//! Never: text.

pub(crate) mod claim;
pub(crate) mod concurrent;
pub(crate) mod references;
pub(crate) mod stopped;
