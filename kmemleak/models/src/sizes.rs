//! Sizes of tables, as small as they can be: see the detector's module of this name.

pub(crate) const DEPOT_BUCKETS: usize = 1;
pub(crate) const DEPOT_ROWS: usize = 1;
pub(crate) const DEPOT_SLOTS: usize = 2;
pub(crate) const DEPOT_PAGES: usize = 64;

pub(crate) const NAME_ROWS: usize = 2;
pub(crate) const NAME_ROW_PAGES: usize = 1;
pub(crate) const NAME_WAYS: usize = 4;

pub(crate) const MAX_TASK_NAMES: usize = 4;
