//! Sizes of tables that a model makes small: see [`crate::atomic`].

/// Buckets of the depot's hash table.
pub(crate) const DEPOT_BUCKETS: usize = 1024;

/// Rows of the depot's slots; CPUs beyond share them.
pub(crate) const DEPOT_ROWS: usize = 16;

/// Slots of a row: a power of two.
pub(crate) const DEPOT_SLOTS: usize = 128;

/// Pages that the depot has at most: 128 MiB, about a million call stacks.
pub(crate) const DEPOT_PAGES: usize = 1 << 15;
