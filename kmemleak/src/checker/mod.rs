//!

pub(crate) mod claim;
pub(crate) mod concurrent;
pub(crate) mod references;
pub(crate) mod stopped;
