//! Ranges of memory that a caller has named as roots, or excluded from roots.

use core::ops::Range;
use core::sync::atomic::Ordering;

use crate::atomic::AtomicU64;
use crate::metadata::MetaAlloc;
use crate::metadata::kept::Kept;
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
}

/// Registered regions.
pub(crate) struct Regions {
    /// Those that are read as their union.
    pub(crate) common: Ranges<RegionUse>,
    /// Those that are read on their own.
    pub(crate) single: Ranges<RegionUse>,
    /// How often one was added. Relaxed: a count of its own, which tells what came later.
    added: AtomicU64,
}

impl Regions {
    const fn new() -> Self {
        Self {
            common: Ranges::new(),
            single: Ranges::new(),
            added: AtomicU64::new(0),
        }
    }

    /// Adds a region, or counts it once more if it is the last one that was added with its start.
    pub(crate) fn add(
        &self,
        start: usize,
        len: usize,
        how: RegionUse,
        meta: &MetaAlloc<'_>,
    ) -> Kept {
        let (of, other) = match how.is_common() {
            true => (&self.common, &self.single),
            false => (&self.single, &self.common),
        };
        let stamp = self.added.fetch_add(1, Ordering::Relaxed) + 1;
        of.add_after(start, len, how, (stamp, other.stamp_of(start)), meta)
    }

    /// Takes back the region that was added last of those that start here, and returns it. `None` if there is none.
    pub(crate) fn remove(&self, start: usize, meta: &MetaAlloc<'_>) -> Option<Range<usize>> {
        let (last, other) = match self.single.stamp_of(start) > self.common.stamp_of(start) {
            true => (&self.single, &self.common),
            false => (&self.common, &self.single),
        };
        // Another CPU may have been faster.
        last.remove(start, meta)
            .or_else(|| other.remove(start, meta))
    }

    /// Whether `range` overlaps a region.
    pub(crate) fn meet(&self, range: &Range<usize>) -> bool {
        self.common.meet(range) || self.single.meet(range)
    }

    fn empty(&self) {
        self.common.empty();
        self.single.empty();
    }
}

/// The roots that the platform does not name, and memory that is no root even if the platform names it.
pub(crate) struct RootRanges {
    pub(crate) regions: Regions,
    pub(crate) excluded: Ranges,
    /// Objects that lie in roots in part, as far as the pass has found them.
    pub(crate) straddling: Hull,
}

impl RootRanges {
    pub(crate) const fn new() -> Self {
        Self {
            regions: Regions::new(),
            excluded: Ranges::new(),
            straddling: Hull::new(),
        }
    }

    /// Notes from here on where roots come and go.
    pub(crate) fn forget_changes(&self) {
        let Regions { common, single, .. } = &self.regions;
        common.forget_changes();
        single.forget_changes();
        self.excluded.forget_changes();
    }

    /// Whether a region or an exclusion that meets this range may have come or gone since then.
    pub(crate) fn have_changed_in(&self, range: &Range<usize>) -> bool {
        self.changes().iter().any(|changed| changed.meets(range))
    }

    /// Whether any may have come or gone since then.
    pub(crate) fn have_changed(&self) -> bool {
        self.changes()
            .iter()
            .any(|changed| !changed.range().is_empty())
    }

    fn changes(&self) -> [&Hull; 3] {
        let Regions { common, single, .. } = &self.regions;
        [common.changed(), single.changed(), self.excluded.changed()]
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&self) {
        self.regions.empty();
        self.excluded.empty();
    }
}
