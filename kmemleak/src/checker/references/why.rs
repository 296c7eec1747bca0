//! Why an address is, or is not, reported as a leak.
//!
//! One pass marks what is alive, as for a path. Of an object that is alive, a way is looked for: first from words that look like
//! variables, then also from objects that are declared to be no leaks, then from words that may be an allocator's own, then from
//! all. So if the way that is found begins with a word that looks left over, there is no way from any other. Of an object that
//! is not alive, the last verdict tells whether it was reported, and if not the records tell why; and the near misses are looked
//! for.
//!
//! The last verdict stays. Nothing is kept but the words of the way and a few near misses.
//!
//! A pass forgets what was freed, so an address without an object is asked for without one.

use core::fmt::Write;

use crate::checker::claim::Claim;
use crate::checker::references::answer::{
    Answer, Clue, HeldBy, LiesIn, Reached, Unreported, Untracked, Why,
};
use crate::checker::references::path::Path;
use crate::checker::references::rows::References;
use crate::checker::references::sound::{Trust, judge};
use crate::checker::references::{Before, NoAnswer, Query, Target, is_alive, target_at};
use crate::marker::{GivenUp, Marker};
use crate::metadata::hidden::Hidden;
use crate::objects::access::{Access, Locked};
use crate::objects::record::{Record, flag};
use crate::platform::Platform;
use crate::platform::address::end_of;
use crate::stacks::depot::StackId;
use crate::tracker::Tracker;
use crate::verdict::iter::Block;
use crate::verdict::summary::How;

/// The answer, and what its clues are made of. The words of the way, and the near misses, are in the findings.
pub(crate) struct Explanation {
    why: Why,
    /// The call stacks that allocated and freed the block that was there.
    freed: [StackId; 2],
    /// The call stack of the object.
    stack_id: StackId,
    /// The first row of the way.
    way: Option<usize>,
}

impl Explanation {
    pub(crate) fn why(&self) -> &Why {
        &self.why
    }
}

/// What is seen of an object.
#[derive(Clone, Copy)]
enum Fate {
    NeverLeak(Answer),
    Alive(Reached),
    Lost,
}

/// The question about an object.
struct Reasons {
    record: Option<Record>,
    size: usize,
    fate: Fate,
    references: Option<(u32, u32)>,
    /// Whether the contents are those that the background scan saw last.
    unchanged: bool,
    way: Option<usize>,
}

impl Query for Reasons {
    const BEFORE: Before = Before::Mark;

    fn ask<P: Platform, A: Access>(
        &mut self,
        marker: &mut Marker<'_, P, A>,
        target: &Target,
        trail: &mut References,
    ) -> Result<Result<(), NoAnswer>, GivenUp> {
        let record = &target.record;
        let (needed, found) = {
            let registry = marker.registry();
            marker.without_interrupts(|_| registry.references(target.start, record))
        };
        self.record = Some(*record);
        self.size = target.size;
        self.references = (needed > 1).then_some((needed as u32, found));
        self.fate = if let Some(answer) = never_leak(marker, target) {
            Fate::NeverLeak(answer)
        } else if is_alive(marker, target.start) {
            let (reached, way) = reached(marker, target, trail)?;
            self.way = way;
            Fate::Alive(reached)
        } else {
            Fate::Lost
        };
        if let Fate::Lost = self.fate {
            self.unchanged = marker.checksum(target.start)? == Some(record.checksum());
            trail.near_misses.find(marker, target)?;
        }
        Ok(Ok(()))
    }
}

/// Why an object is never reported, however it is pointed to.
fn never_leak<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    target: &Target,
) -> Option<Answer> {
    match target.record.min_count() {
        ..0 => return Some(Answer::Ignored),
        0 if target.record.has(flag::PHYS) => return Some(Answer::Physical),
        0 => return Some(Answer::NoLeak),
        1.. => {}
    }
    let (start, end) = (target.start, end_of(target.start, target.size));
    if !marker.is_in_root(start..end) {
        return None;
    }
    // Of the stack that this runs on only the upper part is a root.
    let root = marker.root_at(start).or_else(|| marker.root_at(end - 1));
    root.map(Answer::InRoot)
}

/// By what an object that is alive is reached, and the first row of the way to it.
fn reached<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    target: &Target,
    trail: &mut References,
) -> Result<(Reached, Option<usize>), GivenUp> {
    const KINDS: [(Option<Trust>, HeldBy); 5] = [
        (Some(Trust::Variable), HeldBy::Variable),
        (None, HeldBy::NoLeak),
        (Some(Trust::ArenaStart), HeldBy::ArenaStart),
        (Some(Trust::FreeMemory), HeldBy::FreeMemory),
        (Some(Trust::Stack), HeldBy::Stack),
    ];
    let mut path = Path::to(target);
    let (mut held_by, mut way) = (None, None);
    for (trust, kind) in KINDS {
        let found = match trust {
            Some(trust) => path.search(marker, trail, &mut |marker, root, slot, word| {
                judge(marker, root, slot, word).is_some_and(|judged| judged <= trust)
            })?,
            None => {
                path.add_decreed(marker, trail)?;
                path.follow(marker, trail)?
            }
        };
        if found {
            way = trail.link_path();
            held_by = Some(kind);
            break;
        }
    }
    if held_by.is_none() && A::STOPPED && !trail.short {
        held_by = Some(HeldBy::Area);
    }
    let reached = Reached {
        held_by,
        offset: path.offset,
        interior_only: target.record.has(flag::INTERIOR_ONLY),
    };
    Ok((reached, way))
}

/// The question about an address without an object.
struct Nowhere {
    lies_in: LiesIn,
    end_of: Option<Hidden>,
}

impl Query for Nowhere {
    const BEFORE: Before = Before::Nothing;

    fn ask<P: Platform, A: Access>(
        &mut self,
        _: &mut Marker<'_, P, A>,
        _: &Target,
        _: &mut References,
    ) -> Result<Result<(), NoAnswer>, GivenUp> {
        // It was allocated right now.
        Ok(Ok(()))
    }

    fn ask_of_nothing<P: Platform, A: Access>(
        &mut self,
        marker: &mut Marker<'_, P, A>,
        address: usize,
    ) -> NoAnswer {
        self.lies_in = marker.lies_in(address);
        let before = address.checked_sub(1);
        let object = before.and_then(|before| target_at(marker, before));
        self.end_of = object.map(|object| Hidden::new(object.start));
        NoAnswer::NoObject
    }
}

/// Whether an object is there.
fn is_tracked<P: Platform>(tracker: &Tracker<P>, address: Hidden) -> bool {
    let there = tracker.without_interrupts(|_| {
        let registry = tracker.registry();
        registry.block_containing(Locked, address.get(), |_, _| ())
    });
    there.is_some()
}

/// What is remembered of a block that was freed there: where it started, who allocated it, and who freed it.
fn freed_there<P: Platform>(
    tracker: &Tracker<P>,
    address: Hidden,
) -> Option<(Hidden, StackId, StackId)> {
    tracker.without_interrupts(|_| {
        let registry = tracker.registry();
        let (start, allocated, freed) = registry.freed_at_or_before(address.get())?;
        Some((Hidden::new(start), allocated, freed))
    })
}

impl<P: Platform> Claim<'_, P> {
    /// Finds out why an address is, or is not, reported. All of it runs on a stack that is not scanned, since all frames below have
    /// the address.
    pub(crate) fn explain(&mut self, address: Hidden) -> Result<Explanation, NoAnswer> {
        if !self.tracker().is_on() {
            return Err(NoAnswer::Off);
        }
        self.take_suppressions();
        let explained = self.on_unscanned_stack(|claim| Ok(claim.explain_here(address)));
        explained.unwrap_or(Err(NoAnswer::Stopped))
    }

    fn explain_here(&mut self, address: Hidden) -> Result<Explanation, NoAnswer> {
        let tracker = self.tracker();
        if !is_tracked(tracker, address) {
            return self.explain_nothing(address);
        }
        let mut reasons = Reasons {
            record: None,
            size: 0,
            fate: Fate::Lost,
            references: None,
            unchanged: false,
            way: None,
        };
        let (start, beside) = match self.examine(address, &mut reasons) {
            Ok(asked) => asked,
            // It has been freed meanwhile.
            Err(NoAnswer::NoObject) => return self.explain_nothing(address),
            Err(why) => return Err(why),
        };
        let record = reasons.record.ok_or(NoAnswer::NoObject)?;
        let answer = match reasons.fate {
            Fate::NeverLeak(answer) => answer,
            Fate::Alive(reached) => Answer::Reachable(reached),
            Fate::Lost => self.of_lost(start, &record, reasons.unchanged),
        };
        Ok(Explanation {
            why: Why {
                object: Some(Block {
                    start,
                    size: reasons.size,
                    birth_us: tracker.birth_us(&record),
                }),
                answer,
                references: reasons.references,
                near_misses: self.findings.references.near_misses.count,
                beside,
            },
            freed: [StackId::NONE; 2],
            stack_id: record.stack_id(),
            way: reasons.way,
        })
    }

    fn explain_nothing(&mut self, address: Hidden) -> Result<Explanation, NoAnswer> {
        let tracker = self.tracker();
        let freed = freed_there(tracker, address);
        let mut nowhere = Nowhere {
            lies_in: LiesIn::Unknown,
            end_of: None,
        };
        match self.examine(address, &mut nowhere) {
            Ok(_) | Err(NoAnswer::NoObject) => {}
            Err(why) => return Err(why),
        }
        let answer = Answer::Untracked(Untracked {
            lies_in: nowhere.lies_in,
            freed: freed.map(|(start, ..)| start.get()),
            end_of: nowhere.end_of.map(Hidden::get),
            unrecorded: tracker.unrecorded(),
        });
        Ok(Explanation {
            why: Why {
                object: None,
                answer,
                references: None,
                near_misses: 0,
                beside: None,
            },
            freed: freed.map_or([StackId::NONE; 2], |(_, allocated, freed)| {
                [allocated, freed]
            }),
            stack_id: StackId::NONE,
            way: None,
        })
    }

    /// What the last verdict makes of an object that is unreferenced now.
    fn of_lost(&mut self, start: usize, record: &Record, unchanged: bool) -> Answer {
        let verdict = &self.findings.verdict;
        let (listed, at_us) = (verdict.list.find(start, record), verdict.at_us);
        if let Some((index, is_suppressed)) = listed {
            return match is_suppressed {
                true => Answer::Suppressed,
                false => Answer::Reported(Some(verdict.list.rank(index))),
            };
        }
        if record.has(flag::LISTED) {
            return Answer::Reported(None);
        }
        let (birth_us, how) = (
            record.birth_us(),
            verdict.summary.get().map(|last| last.how),
        );
        let scanned = record.has(flag::PRIMED);
        // A check looks at no age, and in a stopped world not at contents, either.
        let was_referenced = match how {
            _ if !scanned => true,
            Some(How::Stopped | How::Frozen) => verdict.list.lacks(start, record),
            Some(How::Repeated { .. }) => unchanged,
            Some(How::Scanned { .. } | How::Confirmed) | None => false,
        };
        let young_is_left_out = !matches!(how, Some(How::Repeated { .. }));
        if self.matches_suppression(record.stack_id()) {
            return Answer::Suppressed;
        }
        let min_age_us = self.tracker().settings().min_age.get();
        let young = young_is_left_out && at_us.saturating_sub(birth_us) < min_age_us;
        Answer::Unreported(match () {
            () if how.is_none() => Unreported::NoVerdict,
            () if birth_us > at_us => Unreported::Newer,
            () if record.has(flag::SUSPECT) => Unreported::Unconfirmed,
            () if was_referenced => Unreported::LostSince,
            () if young => Unreported::Young(min_age_us),
            () if unchanged => Unreported::FirstTime,
            () => Unreported::Changed,
        })
    }

    /// Whether a suppression hides what this call stack allocates.
    fn matches_suppression(&mut self, stack_id: StackId) -> bool {
        let (tracker, outside) = (self.tracker(), self.way_out());
        let mut functions = |address: usize, out: &mut dyn Write| {
            let _outside = outside();
            // The matcher accepts any text.
            let _ = tracker.platform().functions(address, out);
        };
        let suppressions = &mut self.findings.suppressions;
        suppressions.judge_one(tracker, stack_id, &mut functions);
        suppressions.hiding(stack_id).is_some()
    }

    /// Shows what an answer rests on, and what may help.
    pub(crate) fn show_clues(&self, explanation: &Explanation, look: &mut dyn FnMut(Clue<'_>)) {
        let _outside = self.outside();
        let Explanation { why, .. } = explanation;
        let depot = self.tracker().depot();
        match why.answer {
            Answer::Untracked(_) => {
                let [allocated, freed] = explanation.freed.map(|stack_id| depot.get(stack_id));
                if !allocated.as_slice().is_empty() {
                    look(Clue::AllocatedBy(allocated.as_slice()));
                }
                if !freed.as_slice().is_empty() {
                    look(Clue::FreedBy(freed.as_slice()));
                }
            }
            Answer::Reachable(_) => {
                let references = &self.findings.references;
                let mut row = explanation.way;
                while let Some(here) = row {
                    let slot = references.slot(here);
                    slot.into_iter().for_each(|slot| look(Clue::Step(slot)));
                    row = references.next(here);
                }
            }
            Answer::Suppressed => {
                let hiding = self.findings.suppressions.hiding(explanation.stack_id);
                hiding
                    .into_iter()
                    .for_each(|one| look(Clue::Suppression(one)));
            }
            _ => {}
        }
        let near_misses = self.findings.references.near_misses.each();
        near_misses.for_each(|(slot, kind)| look(Clue::NearMiss(slot, kind)));
    }
}
