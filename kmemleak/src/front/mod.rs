//!

pub(crate) mod background;
pub(crate) mod control;
pub(crate) mod report;
pub(crate) mod scope;
pub(crate) mod selftest;
pub(crate) mod tracked;
