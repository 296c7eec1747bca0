//! Walks: over what the last verdict names, and over all objects.
//!
//! Who walks over the verdict has the claim ([`Claim`]), so that it stays; but blocks are freed meanwhile, so a name is an address and
//! a birth, and each walk that shows what is still there asks the registry. Interrupts are off for a few entries at a
//! time.
//!
//! Where there was no memory to list all that the verdict names, it is found by its flag in the registry, by address: table
//! by table of the page map, in which a huge block is a word or two, and a chunk at a time with interrupts off.
//!
//! # Locks
//!
//! The verdict's and a chunk's, one at a time; none while somebody looks.

use crate::checker::claim::{Claim, NotDone};
use crate::metadata::MetaAlloc;
use crate::objects::page_map::{chunk_of, leaf_of};
use crate::objects::record::flag;
use crate::objects::{Access, Locked, Object};
use crate::platform::Platform;
use crate::tracker::Detector;
use crate::verdict::leak_list::{Named, fate};

/// An object that nothing points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreferenced {
    /// Its address.
    pub start: usize,
    /// Its bytes.
    pub size: usize,
    /// When it was allocated, in microseconds of the platform's clock.
    pub birth_us: u64,
    /// A number that stands for the call stack that allocated it.
    pub call_stack: u32,
    /// Its place in the graph of what is lost. `None` where there was no memory to find out.
    pub rank: Option<Rank>,
}

/// Whether an unreferenced object was lost by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// A leader: nothing that is not itself reached from it points to it.
    Direct {
        /// Objects that it owns: that were lost with it.
        owned_objects: usize,
        /// Bytes of these.
        owned_bytes: usize,
    },
    /// It was lost with a leader.
    Indirect {
        /// Where that starts.
        leader: usize,
    },
}

/// A tracked object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its address.
    pub start: usize,
    /// Its bytes.
    pub size: usize,
    /// When it was allocated, in microseconds of the platform's clock.
    pub birth_us: u64,
}

/// What is tracked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracking {
    /// Objects; a per-CPU block counts once.
    pub objects: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// Objects of the list that are looked at together, interrupts being off.
pub(crate) const STEP: usize = 64;

impl<P: Platform> Detector<P> {
    /// Bytes of a named object.
    pub(crate) fn size_of(&self, named: &Named) -> usize {
        let short = named.record.short_size();
        self.without_interrupts(|_| self.registry.size_from(named.start, short))
    }

    /// Whether a named object is still there.
    pub(crate) fn is_there(&self, named: &Named) -> bool {
        let mut there = false;
        self.change_named(named, &mut |_| there = true);
        there
    }

    /// Does something with a named object, if it is still there.
    pub(crate) fn change_named(&self, named: &Named, change: &mut dyn FnMut(Object<'_>)) {
        self.without_interrupts(|_| {
            self.registry
                .starting_at::<Locked, _>(named.start, |object| {
                    if object.record.read().birth_us() == named.record.birth_us() {
                        change(object);
                    }
                })
        });
    }

    /// Shows each object of the last verdict to `look`, leaks or suspects, in the order of allocation; those that have been
    /// freed since are left out. Task context, with no lock held; `look` may allocate.
    pub fn for_each_unreferenced(&self, look: &mut dyn FnMut(Unreferenced)) -> Result<(), NotDone> {
        let claim = self.claim()?;
        let _outside = claim.outside();
        claim.each_named_at(&mut |named, index| {
            if claim.is_there(named) {
                look(claim.unreferenced(named, index));
            }
        });
        Ok(())
    }

    /// Shows each object that suppressions hide from the last verdict, in the order of allocation; those that have
    /// been freed since are left out, and those that there was no memory to list. Task context, with no lock held;
    /// `look` may allocate.
    pub fn for_each_suppressed(&self, look: &mut dyn FnMut(Unreferenced)) -> Result<(), NotDone> {
        let claim = self.claim()?;
        let _outside = claim.outside();
        claim.each_suppressed(&mut |named| {
            if claim.is_there(named) {
                look(claim.unreferenced(named, None));
            }
        });
        Ok(())
    }

    /// Shows each object that the last pass found alive through interior pointers only: no chain of pointers leads
    /// there from a root that uses start pointers alone. By address. Task context, with no lock held; `look` may
    /// allocate.
    pub fn for_each_interior(&self, look: &mut dyn FnMut(Block)) -> Result<(), NotDone> {
        let claim = self.claim()?;
        let _outside = claim.outside();
        claim.each_interior(look);
        Ok(())
    }

    /// What is tracked now, by a walk over all objects. Any context but a non-maskable interrupt.
    pub fn tracking(&self) -> Tracking {
        let mut tracking = Tracking {
            objects: 0,
            bytes: 0,
        };
        self.each_tracked(&mut |object, _| {
            tracking.objects += 1;
            tracking.bytes += self.registry.size(object.start, object.record);
        });
        tracking
    }

    /// Shows all objects, under the locks of their chunks. Without the claim as well.
    pub(crate) fn each_tracked(&self, look: &mut dyn FnMut(Object<'_>, &MetaAlloc<'_>)) {
        let leaves = self.registry.leaves();
        let mut next = leaves.start;
        while let Some(Some((number, leaf))) =
            self.look(|_| self.registry.map.next_leaf(next, leaves.end))
        {
            next = number + 1;
            for (chunk_number, chunk) in leaf.chunks(number) {
                self.look(|meta| {
                    if !chunk.is_used() {
                        return;
                    }
                    Locked::open(chunk);
                    self.registry
                        .each_of(chunk_number, chunk, u64::MAX, &mut |object| {
                            if !object.record.has(flag::ALIAS) {
                                look(object, meta);
                            }
                        });
                    Locked::close(chunk);
                });
            }
        }
    }
}

impl<P: Platform> Claim<'_, P> {
    /// Does something with each object of the verdict that is still there.
    pub(crate) fn each_listed(&self, change: &mut dyn FnMut(Object<'_>)) {
        self.each_named(&mut |named| self.change_named(named, change));
    }

    /// Shows each object of the verdict, whether it is still there or not, in the order of allocation. Where
    /// there was no memory to put them in order: those that are still there, by address.
    pub(crate) fn each_named(&self, look: &mut dyn FnMut(&Named)) {
        self.each_named_at(&mut |named, _| look(named));
    }

    /// The same, with their numbers in the list, if they have any.
    pub(crate) fn each_named_at(&self, look: &mut dyn FnMut(&Named, Option<usize>)) {
        if self.with_verdict(|verdict, _| verdict.list.left_out) > 0 {
            return self.each_with(flag::LISTED, &mut |named| look(named, None));
        }
        let mut index = 0;
        let len = self.with_verdict(|verdict, _| verdict.list.len());
        while index < len {
            let named = self.with_verdict(|verdict, _| {
                let list = &verdict.list;
                let end = len.min(index + STEP);
                while index < end && list.has(index, fate::NO_LEAK) {
                    index += 1;
                }
                if index == end { None } else { list.get(index) }
            });
            let Some(named) = named else { continue };
            look(&named, Some(index));
            index += 1;
        }
    }

    /// The place in the graph of what is lost of the leak with this number in the list.
    pub(crate) fn rank_of(&self, index: usize) -> Rank {
        self.with_verdict(|verdict, _| {
            let list = &verdict.list;
            let leader = list.leader(index) as usize;
            if leader == index {
                Rank::Direct {
                    owned_objects: list.owned(index),
                    owned_bytes: list.owned_bytes(index),
                }
            } else {
                Rank::Indirect {
                    leader: list.start(leader),
                }
            }
        })
    }

    /// Shows each object that has a flag, by address, whatever becomes of it meanwhile.
    pub(crate) fn each_with(&self, flags: u16, look: &mut dyn FnMut(&Named)) {
        let mut from = Some(0);
        while let Some(named) = from.and_then(|from| self.next_with(from, flags)) {
            look(&named);
            from = named.start.checked_add(1);
        }
    }

    /// The first object at `from` or after that has a flag.
    fn next_with(&self, from: usize, flags: u16) -> Option<Named> {
        let copied = self.task_names.now();
        let (leaves, first) = (self.registry.leaves(), chunk_of(from));
        let mut next = leaf_of(from).max(leaves.start);
        while let Some((number, leaf)) = self.registry.map.next_leaf(next, leaves.end) {
            next = number + 1;
            for (chunk_number, chunk) in leaf.chunks(number) {
                if chunk_number < first || !chunk.is_used() {
                    continue;
                }
                let mut found: Option<Named> = None;
                self.without_interrupts(|_| {
                    Locked::open(chunk);
                    // Those at no multiple of eight come after the others.
                    self.registry
                        .each_of(chunk_number, chunk, u64::MAX, &mut |object| {
                            let sooner = found.is_none_or(|found| object.start < found.start);
                            if object.start >= from && sooner && object.record.has(flags) {
                                found = Some(Named {
                                    start: object.start,
                                    record: object.record.read(),
                                    copied,
                                });
                            }
                        });
                    Locked::close(chunk);
                });
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }

    pub(crate) fn unreferenced(&self, named: &Named, index: Option<usize>) -> Unreferenced {
        Unreferenced {
            start: named.start,
            size: self.size_of(named),
            birth_us: self.birth_us(&named.record),
            call_stack: named.record.trace().0,
            rank: index.map(|index| self.rank_of(index)),
        }
    }

    /// Shows each object in the list that suppressions hide, whether it is still there or not.
    pub(crate) fn each_suppressed(&self, look: &mut dyn FnMut(&Named)) {
        let mut index = 0;
        loop {
            let next = self.with_verdict(|verdict, _| {
                let named = verdict.list.get(index)?;
                Some((named, verdict.list.has(index, fate::SUPPRESSED)))
            });
            let Some((named, suppressed)) = next else {
                return;
            };
            if suppressed {
                look(&named);
            }
            index += 1;
        }
    }

    /// Shows what is alive through interior pointers only.
    pub(crate) fn each_interior(&self, look: &mut dyn FnMut(Block)) {
        self.each_with(flag::INTERIOR_ONLY, &mut |named| {
            look(Block {
                start: named.start,
                size: self.size_of(named),
                birth_us: self.birth_us(&named.record),
            });
        });
    }
}
