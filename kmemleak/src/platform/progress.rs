//! How far long work has come.

/// How far a check, or the answer to a question, has come; told at each
/// [checkpoint](crate::Platform::checkpoint).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Objects that were looked at so far, by all CPUs that work together.
    pub objects: u64,
    /// How many there are; `None` while that is not known. Objects that are lost, and those that are not scanned, are never
    /// looked at, so fewer may be looked at than there are.
    pub of: Option<u64>,
}
