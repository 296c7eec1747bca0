//! Memory that is a root because a caller names it, and memory that is no root, though the platform names it.

use crate::metadata::MetaAlloc;
use crate::metadata::kept::Kept;
use crate::objects::root_ranges::{RegionUse, VouchedBy};
use crate::platform::address::Extent;
use crate::platform::{CpuTables, Platform, Reading};
use crate::tracker::warnings::Kind;
use crate::tracker::{NO_STACKS, Tracker};

impl<P: Platform> Tracker<P> {
    /// Makes a region a root, which the platform vouches for; false if it could not be noted.
    pub(crate) fn region_add(&self, start: usize, len: usize, reading: Reading) -> bool {
        let vouched_by = VouchedBy::Platform;
        let region_use = RegionUse {
            reading,
            vouched_by,
        };
        self.callback(|meta| self.add_region(start, len, region_use, meta)) == Some(true)
    }

    /// Adds a region as [`region_add`](Self::region_add) does, for which the platform need not vouch.
    ///
    /// # Safety
    ///
    /// It is memory that can be read until it has been [removed](Self::region_remove).
    pub(crate) unsafe fn region_add_vouched(
        &self,
        start: usize,
        len: usize,
        reading: Reading,
    ) -> bool {
        let vouched_by = VouchedBy::Caller;
        let region_use = RegionUse {
            reading,
            vouched_by,
        };
        self.callback(|meta| self.add_region(start, len, region_use, meta)) == Some(true)
    }

    /// Makes the tables of a CPU roots; false if not all could be noted.
    ///
    /// # Safety
    ///
    /// They are memory that can be read until they have been [removed](Self::cpu_tables_remove).
    pub(crate) unsafe fn cpu_tables_add(&self, tables: &CpuTables) -> bool {
        tables.regions().fold(true, |all, (start, len, reading)| {
            // SAFETY: the caller's promise.
            all & unsafe { self.region_add_vouched(start, len, reading) }
        })
    }

    /// Takes back a `cpu_tables_add` of these tables.
    pub(crate) fn cpu_tables_remove(&self, tables: &CpuTables) {
        tables
            .regions()
            .for_each(|(start, ..)| self.region_remove(start));
    }

    fn add_region(
        &self,
        start: usize,
        len: usize,
        region_use: RegionUse,
        meta: &MetaAlloc<'_>,
    ) -> bool {
        let wrong = if Extent::memory(start, len.max(1)).is_none() {
            Some(Kind::NoRegion)
        } else {
            (!region_use.reading.fits(len)).then_some(Kind::TooLargeForBytes)
        };
        if let Some(kind) = wrong {
            self.warn(kind, start, NO_STACKS, meta);
            return false;
        }
        if region_use.vouched_by == VouchedBy::Platform {
            self.strangers.note();
        }
        self.before_roots_change();
        self.counted(self.root_ranges.regions.add(start, len, region_use, meta))
    }

    /// Takes back the last `region_add` that names this start, and waits while the marker reads there.
    pub(crate) fn region_remove(&self, start: usize) {
        self.callback(|meta| {
            // It may be one for which there was no memory, if a region can be there.
            let is_missing = self.is_incomplete() && Extent::memory(start, 1).is_some();
            self.before_roots_change();
            match self.root_ranges.regions.remove(start, meta) {
                Some(region) => self.hazard.wait_in(region),
                None if is_missing => {}
                None => self.warn(Kind::UnknownRegion, start, NO_STACKS, meta),
            }
        });
    }

    /// Excludes a range from all roots; false if it could not be noted.
    pub(crate) fn exclude(&self, start: usize, len: usize) -> bool {
        let excluded = &self.root_ranges.excluded;
        let add = |meta: &MetaAlloc<'_>| {
            self.before_roots_change();
            excluded.add(start, len, (), meta) == Kept::Yes
        };
        self.callback(add) == Some(true)
    }

    /// Takes back the last `exclude` that names this start.
    pub(crate) fn include(&self, start: usize) -> bool {
        let excluded = &self.root_ranges.excluded;
        let remove = |meta: &MetaAlloc<'_>| {
            self.before_roots_change();
            excluded.remove(start, meta).is_some()
        };
        self.callback(remove) == Some(true)
    }

    /// Which words are roots, and so which blocks lie in roots, is about to change. The words of roots were read when memory was frozen:
    /// a pass over frozen memory that looks at roots of later would read a word in none, so it can't be finished.
    fn before_roots_change(&self) {
        if self.frozen.is_on() {
            self.frozen.lose();
        }
    }
}
