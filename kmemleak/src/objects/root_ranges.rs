//! Ranges of memory that a caller has named as roots, or excluded from roots.

use crate::metadata::ranges::{Hull, Ranges};

/// The roots that the platform does not name, and memory that is no root even if the platform names it.
pub(crate) struct RootRanges {
    /// Registered regions.
    pub(crate) regions: Ranges,
    pub(crate) excluded: Ranges,
    /// Objects that lie in roots in part, as far as the pass has found them.
    pub(crate) straddling: Hull,
}

impl RootRanges {
    pub(crate) const fn new() -> Self {
        Self {
            regions: Ranges::new(),
            excluded: Ranges::new(),
            straddling: Hull::new(),
        }
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&self) {
        self.regions.empty();
        self.excluded.empty();
    }
}
