//! What a pass finds unreferenced, and which of these are suspects where other code runs meanwhile.
//!
//! Other code runs meanwhile, so an object in use may be found unmarked. An object that is young, was unreferenced for the first
//! time, or whose contents have changed is kept, with what it leads to; an object that remains and was suspected before is a
//! suspect.
//!
//! # Locks
//!
//! One chunk's at a time, while its index is looked at. Other code runs after each [window](super::window).

use core::sync::atomic::Ordering;

use crate::marker::window::{may_be_white, unmarked};
use crate::marker::{GivenUp, Marker};
use crate::objects::access::{Access, Locked, OpenChunk};
use crate::objects::object::Object;
use crate::objects::record::{Record, flag};
use crate::platform::Platform;

/// Which objects may be suspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Among {
    /// All that are unreferenced.
    All,
    /// Those that the pass before suspected, too.
    Suspects,
}

/// Whether records have [`flag::SUSPECT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flagged {
    None,
    /// Some may.
    Some,
}

/// Whether an object is unreferenced at the end of a pass, and is not declared to be no leak.
pub(crate) fn is_white(object: Object<'_>, record: &Record) -> bool {
    !object.mark.is_set() && !record.has(flag::ALIAS | flag::REACHED) && record.min_count() > 0
}

/// How often a pass looks for blocks that were moved, since others have been picked up meanwhile.
const LANDINGS: usize = 8;

/// How often it lets other code run each time, while a block is in flight.
const WAITS: usize = 64;

/// Unmarked objects of a chunk that are looked at together.
const TOGETHER: usize = 64;

impl<P: Platform, A: Access> Marker<'_, P, A> {
    /// Shows the unmarked objects.
    pub(crate) fn each_white(&mut self, look: &mut dyn FnMut(Object<'_>)) -> Result<(), GivenUp> {
        self.each_chunk(may_be_white, |marker, number, chunk| {
            let granules = |_: &mut Self, open: &OpenChunk<A>| unmarked(open.chunk());
            marker.each_in_chunk(number, chunk, granules, |_, object| {
                if is_white(object, &object.record.read()) {
                    look(object);
                }
            });
        })
    }
}

impl<P: Platform> Marker<'_, P, Locked> {
    /// Marks what is referenced, and what is to be treated as if it were.
    pub(crate) fn mark_beside(&mut self, before_us: u64) -> Result<(), GivenUp> {
        self.run()?;
        self.barrier()?;
        self.scan_born()?;
        self.barrier()?;
        self.settle(before_us)?;
        self.barrier()?;
        self.finish()?;
        self.barrier()?;
        self.scan_landed()
    }

    /// Scans what was allocated since the pass began, and blocks that were moved meanwhile. Waits a while for those in flight; what
    /// only they point to would seem to be lost.
    fn scan_landed(&mut self) -> Result<(), GivenUp> {
        let moves = self.tools.moves;
        for _ in 0..LANDINGS {
            let mut still = moves.standstill();
            for _ in 0..WAITS {
                if still.is_some() {
                    break;
                }
                self.let_others_run()?;
                still = moves.standstill();
            }
            self.scan_born()?;
            self.barrier()?;
            if still.is_some_and(|still| moves.none_since(still)) {
                return Ok(());
            }
        }
        let in_flight = moves.in_flight().max(1) as u64;
        self.shared.in_flight.store(in_flight, Ordering::Relaxed);
        Ok(())
    }

    /// Flags the unreferenced objects, and no others, as suspects, and returns how many there are.
    pub(crate) fn suspect(&mut self, among: Among, flagged: Flagged) -> Result<usize, GivenUp> {
        let mut suspects = 0;
        let looked_at = |chunk| match flagged {
            Flagged::None => may_be_white(chunk),
            Flagged::Some => true,
        };
        self.each_chunk(looked_at, |marker, number, chunk| {
            let granules = |_: &mut Self, open: &OpenChunk<Locked>| match flagged {
                Flagged::None => unmarked(open.chunk()),
                Flagged::Some => u64::MAX,
            };
            marker.each_in_chunk(number, chunk, granules, |_, object| {
                let record = object.record.read();
                let was = record.has(flag::SUSPECT);
                if is_white(object, &record) && (was || among == Among::All) {
                    object.record.set(flag::SUSPECT);
                    suspects += 1;
                } else if was {
                    object.record.clear(flag::SUSPECT);
                }
            });
        })?;
        self.barrier()?;
        Ok(suspects)
    }

    /// Looks at all unmarked objects, and marks those that are young or whose contents have changed.
    fn settle(&mut self, before_us: u64) -> Result<(), GivenUp> {
        while let Some((number, leaf)) = self.take_leaf() {
            for (chunk_number, chunk) in leaf.chunks(number) {
                if !may_be_white(chunk) {
                    continue;
                }
                let mut white = White {
                    starts: [0; TOGETHER],
                    len: 0,
                };
                let granules = |_: &mut Self, open: &OpenChunk<Locked>| unmarked(open.chunk());
                self.each_in_chunk(chunk_number, chunk, granules, |marker, object| {
                    marker.collect(object, &mut white);
                });
                for index in 0..white.len {
                    self.settle_one(white.starts[index], before_us)?;
                }
            }
            self.pause()?;
        }
        Ok(())
    }

    fn collect(&mut self, object: Object<'_>, white: &mut White) {
        let record = object.record.read();
        if record.min_count() == 0 && !record.has(flag::REACHED) {
            // It was declared to be no leak after the marks were cleared: it is still to be scanned.
            self.keep(object);
        }
        if !is_white(object, &record) {
            return;
        }
        match white.starts.get_mut(white.len) {
            Some(place) => {
                *place = object.start;
                white.len += 1;
            }
            // More objects than can be looked at together: they are treated as if they had changed.
            None => {
                self.keep(object);
            }
        }
    }

    fn settle_one(&mut self, start: usize, before_us: u64) -> Result<(), GivenUp> {
        let Some(checksum) = self.checksum(start)? else {
            return Ok(());
        };
        let registry = self.registry();
        self.without_interrupts(|marker| {
            registry.starting_at(Locked, start, |object| {
                let record = object.record.read();
                let primed = record.has(flag::PRIMED);
                let held_still = primed && record.checksum() == checksum;
                object.record.set(flag::PRIMED);
                object.set_checksum(checksum);
                let young = record.birth_us() > before_us;
                // What was reported is reported again while it is a leak; else it would be reported as referenced again.
                if (young || !held_still) && !record.has(flag::REPORTED) {
                    marker.keep(object);
                }
            })
        });
        Ok(())
    }
}

/// Unmarked objects of a chunk.
struct White {
    starts: [usize; TOGETHER],
    len: usize,
}
