//! Ranges of memory that a caller has named as roots, or excluded from roots.

use crate::metadata::ranges::{Hull, Ranges};
use crate::platform::Reading;

/// Who vouches that a region can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VouchedBy {
    Platform,
    /// The caller who registered it.
    Caller,
}

/// How a region is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegionUse {
    pub(crate) reading: Reading,
    pub(crate) vouched_by: VouchedBy,
}

impl RegionUse {
    /// Whether the region is like most others, which are read as their union.
    pub(crate) fn is_common(self) -> bool {
        self.reading == Reading::Words && self.vouched_by == VouchedBy::Platform
    }

    /// Whether it is read on its own.
    pub(crate) fn is_single(self) -> bool {
        !self.is_common()
    }
}

/// The roots that the platform does not name, and memory that is no root even if the platform names it.
pub(crate) struct RootRanges {
    /// Registered regions.
    pub(crate) regions: Ranges<RegionUse>,
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
