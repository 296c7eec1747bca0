//! The background scan: a pass beside whatever runs.
//!
//! Nobody is stopped, so pointers move while they are looked for. These rules keep what is in use from being suspected:
//!
//! - What is allocated while the pass goes on is marked from the start, and scanned when the queues have run dry.
//! - An object that is unreferenced for the first time, or whose contents have changed since it last was, is treated
//!   as if it were referenced: somebody works with it, or works on what it points to.
//! - So is one that is too young, measured from the beginning of the pass.
//! - But neither is done for what has been told of already: only a reference makes that one in use again.
//! - What is left is a suspect. Who wants certainty has the suspects confirmed by a check in a stopped world. Where
//!   the world can't be stopped there is none: pointers that move at every step may be missed by any number of passes. But
//!   passes in a row, of which each takes away what it found referenced, leave little that is in use; they
//!   go on until three have left the same suspects, or to a bound, and the verdict says which.
//!
//! # Locks
//!
//! A chunk's at a time, for the time it takes to look at its index; never more than a page is read with interrupts
//! off. Others run after each piece.

use core::sync::atomic::Ordering;

use crate::checker::claim::{Claim, NotDone};
use crate::marker::{Figures, GivenUp, Marker, Shared};
use crate::objects::chunk::info;
use crate::objects::page_map::ChunkNumber;
use crate::objects::record::flag;
use crate::objects::{Access, Locked};
use crate::platform::Platform;
use crate::tracker::Detector;
use crate::verdict::{Filter, Flagged, How, Making, Settled, Summary, is_white};

/// A pass of the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// How old an object must have been when the pass began.
    pub(crate) min_age_us: u64,
    pub(crate) among: Among,
}

/// Who may be suspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Among {
    /// Whoever is unreferenced.
    All,
    /// Who was suspected by the pass before, too.
    Suspects,
}

/// What comes after a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another one.
    Again,
    /// The verdict.
    Judge,
}

/// Passes in a row that must find the same suspects.
const STILL_PASSES: u32 = 3;
/// Passes at most.
const MAX_PASSES: u32 = 16;

/// Waits until the suspects stand still.
///
/// A pass among suspects takes some away and adds none: those that are referenced in it, and those that were freed. So
/// where there are as many as before they are the same ones.
pub(crate) struct Patience {
    pub(crate) passes: u32,
    suspects: usize,
    /// Passes in a row that have found these.
    same: u32,
}

impl Patience {
    /// With so many passes behind it.
    pub(crate) const fn after(passes: u32) -> Self {
        Self {
            passes,
            suspects: 0,
            same: 0,
        }
    }

    /// A pass has found so many suspects.
    pub(crate) fn count(&mut self, suspects: usize) -> Next {
        self.same = if suspects == self.suspects {
            self.same + 1
        } else {
            1
        };
        self.suspects = suspects;
        self.passes += 1;
        if self.settled() == Settled::Yes || self.passes >= MAX_PASSES {
            Next::Judge
        } else {
            Next::Again
        }
    }

    /// Whether they stand still.
    pub(crate) fn settled(&self) -> Settled {
        if self.suspects == 0 || self.same >= STILL_PASSES {
            Settled::Yes
        } else {
            Settled::No
        }
    }
}

/// Unmarked objects of a chunk that are looked at together.
const TOGETHER: usize = 64;

impl<P: Platform> Detector<P> {
    /// One pass of the background scan, now: its suspects are the verdict, unconfirmed. They count as told of, as with the
    /// background's: what one pass told of the next ones tell of again for as long as it is unreferenced, young or
    /// changed. Task context, with no lock held.
    pub fn scan(&self) -> Result<Summary, NotDone> {
        let claim = self.claim_on()?;
        claim.scan_now().map_err(|GivenUp| NotDone::Stopped)
    }
}

impl<P: Platform> Claim<'_, P> {
    fn scan_now(&self) -> Result<Summary, GivenUp> {
        self.take_suppressions();
        let min_age_us = self.settings.min_age_us.load(Ordering::Relaxed);
        let summary = self.apart(|| self.scan_once(min_age_us))?;
        self.note_reported();
        Ok(summary)
    }

    /// One pass, and its suspects as the verdict. For who is [apart](Self::apart).
    pub(crate) fn scan_once(&self, min_age_us: u64) -> Result<Summary, GivenUp> {
        let start_us = self.now_us();
        let among = Among::All;
        let figures = self.pass(Pass { min_age_us, among }, &mut |_| Next::Judge)?;
        Ok(self.complete_verdict(Making {
            how: How::Scanned { passes: 1 },
            settled: Settled::Yes,
            start_us,
            figures,
            cpus: 1,
            stopped_us: 0,
        }))
    }

    /// Passes until the suspects stand still, or there have been enough; the last one makes the verdict. For who is
    /// [apart](Self::apart).
    pub(crate) fn scan_until_still(
        &self,
        first: Pass,
        patience: &mut Patience,
    ) -> Result<Figures, GivenUp> {
        let mut pass = first;
        loop {
            let mut next = Next::Again;
            let figures = self.pass(pass, &mut |suspects| {
                next = patience.count(suspects);
                next
            })?;
            if next == Next::Judge {
                return Ok(figures);
            }
            pass.among = Among::Suspects;
        }
    }

    /// Runs `scan` so that what it has on the stack is no root.
    pub(crate) fn apart<R>(&self, scan: impl FnOnce() -> Result<R, GivenUp>) -> Result<R, GivenUp> {
        let (mut scan, mut result) = (Some(scan), Err(GivenUp));
        self.platform.scan_apart(&mut || {
            if let Some(scan) = scan.take() {
                result = scan();
            }
        });
        result
    }

    /// A pass. `next` is told how many suspects it has, and says whether they are the verdict's; the caller completes it
    /// then. For who is [apart](Self::apart).
    ///
    /// While it marks it may be given up, and the verdict before stays. From where that is retired it goes on to its end.
    pub(crate) fn pass(
        &self,
        pass: Pass,
        next: &mut dyn FnMut(usize) -> Next,
    ) -> Result<Figures, GivenUp> {
        self.prepare_desks(1);
        let start_us = self.now_us();
        self.scanning.begin();
        let shared = Shared::new(1, self.stacks(), start_us);
        let tools = self.tools(0);
        let mut marker = Marker::<P, Locked>::new(&tools, &shared, 0);
        let before_us = start_us.saturating_sub(pass.min_age_us);
        let result = marker.pass(before_us).and_then(|()| {
            let flagged = self
                .with_verdict(|verdict, _| core::mem::replace(&mut verdict.flagged, Flagged::Some));
            let suspects = marker.suspect(pass.among, flagged)?;
            if suspects == 0 {
                self.with_verdict(|verdict, _| verdict.flagged = Flagged::None);
            }
            if next(suspects) == Next::Again {
                return Ok(());
            }
            marker.go_on_to_the_end();
            self.retire_verdict();
            marker.name_white(self.verdict());
            self.judge();
            let filter = Filter {
                // Also what was born in the moment in which the pass began, for clocks may be coarse: what the pass did not
                // meet is marked.
                before_us: before_us.saturating_add(1),
                flags: flag::SUSPECT,
            };
            self.conclude(&mut marker, filter)
        });
        self.scanning.end();
        result.map(|()| shared.figures())
    }
}

impl<P: Platform> Marker<'_, P, Locked> {
    /// Marks what is referenced, and what is to be treated so.
    fn pass(&mut self, before_us: u64) -> Result<(), GivenUp> {
        self.run()?;
        self.barrier();
        self.scan_born()?;
        self.barrier();
        self.settle(before_us)?;
        self.barrier();
        self.finish()?;
        self.barrier();
        self.scan_born()?;
        self.barrier();
        Ok(())
    }

    /// Flags those that are unreferenced, and no others, as suspects; how many there are.
    fn suspect(&mut self, among: Among, flagged: Flagged) -> Result<usize, GivenUp> {
        let registry = self.registry();
        let mut suspects = 0;
        self.each_chunk(|_, number, chunk| {
            let unmarked =
                chunk.starts().load(Ordering::Relaxed) & !chunk.marks().load(Ordering::Relaxed);
            let granules = match flagged {
                Flagged::None => unmarked,
                Flagged::Some => u64::MAX,
            };
            if granules == 0 && !chunk.has(info::ODD) {
                return;
            }
            registry.each_of(number, chunk, granules, &mut |object| {
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
        self.barrier();
        Ok(suspects)
    }

    /// Looks at all unmarked objects: those that are young, or not what they were, are marked.
    fn settle(&mut self, before_us: u64) -> Result<(), GivenUp> {
        while let Some((number, leaf)) = self.claim_leaf() {
            for (chunk_number, chunk) in leaf.chunks(number) {
                if !chunk.is_used() {
                    continue;
                }
                let mut white = White {
                    starts: [None; TOGETHER],
                    len: 0,
                };
                self.without_interrupts(|marker| {
                    Locked::open(chunk);
                    marker.collect(chunk_number, chunk, &mut white);
                    Locked::close(chunk);
                });
                for start in white.starts.into_iter().flatten() {
                    self.settle_one(start, before_us)?;
                }
            }
            self.pause()?;
        }
        Ok(())
    }

    fn collect(
        &mut self,
        number: ChunkNumber,
        chunk: crate::objects::chunk::Chunk,
        white: &mut White,
    ) {
        let unmarked =
            chunk.starts().load(Ordering::Relaxed) & !chunk.marks().load(Ordering::Relaxed);
        if unmarked == 0 && !chunk.has(info::ODD) {
            return;
        }
        let registry = self.registry();
        registry.each_of(number, chunk, unmarked, &mut |object| {
            let record = object.record.read();
            if record.min_count() == 0 && !record.has(flag::REACHED) {
                // No leak, since after the marks were cleared: it is to be scanned all the same.
                self.keep(object);
            }
            if !is_white(object, &record) {
                return;
            }
            match white.starts.get_mut(white.len) {
                Some(place) => {
                    *place = Some(object.start);
                    white.len += 1;
                }
                // More than can be looked at together: as if they had changed.
                None => {
                    self.keep(object);
                }
            }
        });
    }

    fn settle_one(&mut self, start: usize, before_us: u64) -> Result<(), GivenUp> {
        let Some(checksum) = self.checksum(start)? else {
            return Ok(());
        };
        let registry = self.registry();
        self.without_interrupts(|marker| {
            registry.starting_at::<Locked, _>(start, |object| {
                let record = object.record.read();
                let primed = record.has(flag::PRIMED);
                let held_still = primed && record.checksum() == checksum;
                object.record.set(flag::PRIMED);
                object.record.set_checksum(checksum);
                let young = record.birth_us() > before_us;
                // What has been told of is told of again as long as it is a leak: else it would be said to be referenced.
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
    starts: [Option<usize>; TOGETHER],
    len: usize,
}
