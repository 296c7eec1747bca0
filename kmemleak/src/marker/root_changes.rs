//! Regions and exclusions that come or go while a pass runs beside other code.
//!
//! A word that lies in a root is read there, and not in its object. If the root goes in between, the word is read in neither:
//!
//! - An object that lies in a region is marked, and not scanned. Then the region is removed, before its words are read.
//! - An object that lies in a region in part is scanned without that part, and then the region is removed.
//! - A region is added when all regions have been read. Then an object is scanned, without what lies there.
//! - Of a root, what lies in a region that is read on its own is left to that region, which is removed, or was added too late.
//!
//! So changes are noted ([`RootRanges`](crate::objects::root_ranges::RootRanges)), and near one a word is read twice rather than not at all.
//! An object that is scanned after a change is scanned as a whole ([`each_part_outside`](Marker::each_part_outside)). For what was
//! read before it, the roots near changes are read once more when all have been read, each with all that lies in it, and marked
//! objects near them are scanned, with all that they hold. What goes later has been read.
//!
//! A pass over frozen memory is given up where roots change, and in a stopped world none do.

use super::roots::RootWalk;
use super::{GivenUp, Marker};
use crate::objects::access::{Access, OpenChunk};
use crate::objects::object::Object;
use crate::objects::record::flag;
use crate::platform::Platform;
use crate::platform::address::end_of;

impl<P: Platform, A: Access> Marker<'_, P, A> {
    /// Reads once more what may have been read in no root, since one came or went. Of one worker's pass, all roots have been read.
    pub(super) fn read_changed_roots(&mut self) -> Result<(), GivenUp> {
        let root_ranges = self.tools.root_ranges;
        if A::STOPPED || !root_ranges.have_changed() {
            return Ok(());
        }
        *self.shared.roots.lock() = RootWalk::AGAIN;
        while let Some(piece) = self.take_piece() {
            if root_ranges.have_changed_in(&piece.range) {
                self.scan_root(piece)?;
            }
        }
        self.each_chunk(
            |_| true,
            |marker, number, chunk| {
                let all = |_: &mut Self, _: &OpenChunk<A>| u64::MAX;
                marker.each_in_chunk(number, chunk, all, Self::scan_near_change);
            },
        )
    }

    /// Queues a marked object whose words may have been left to a root that came or went.
    fn scan_near_change(&mut self, object: Object<'_>) {
        let record = object.record.read();
        let is_marked = object.mark.is_set() || record.has(flag::REACHED);
        // A further copy is scanned with the first, and what is born later with all that is.
        if !is_marked || record.has(flag::ALIAS | flag::BORN) {
            return;
        }
        let size = self.tools.registry.size(object.start, object.record);
        let range = object.start..end_of(object.start, size);
        let is_elsewhere = record.has(flag::PERCPU | flag::PHYS);
        if !is_elsewhere && !self.tools.root_ranges.have_changed_in(&range) {
            return;
        }
        if !record.has(flag::EXCESS) {
            object.record.clear(flag::REACHED);
        }
        self.enqueue(object);
    }
}
