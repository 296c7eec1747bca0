//! Sizes of tables, which a model makes small: see [`crate::atomic`].

/// Slots of the root of the depot's index.
pub(crate) const DEPOT_BUCKETS: usize = 1024;

/// Rows of the depot's slots; CPUs beyond share them.
pub(crate) const DEPOT_ROWS: usize = 16;

/// Slots of a row: a power of two.
pub(crate) const DEPOT_SLOTS: usize = 128;

/// Pages that the depot has at most: 256 MiB, more than a million call stacks.
pub(crate) const DEPOT_PAGES: usize = 1 << 16;

/// CPUs whose rows of task names are in the detector itself.
pub(crate) const NAME_ROWS: usize = 64;

/// Pages of rows for further CPUs: for as many CPUs as records can name.
pub(crate) const NAME_ROW_PAGES: usize = 126;

/// Names that share a set of the index.
pub(crate) const NAME_WAYS: usize = 64;

/// Task names that can be told apart: as many as a record can number.
pub(crate) const MAX_TASK_NAMES: usize = 1 << 11;
