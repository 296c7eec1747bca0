//! The shortest way from a root to an object, breadth first.
//!
//! A search may begin with some of the words in roots, and take further ones when these lead nowhere: then a way by the first
//! ones is found if there is one.

use crate::checker::references::rows::{Origin, References};
use crate::checker::references::{Before, NoAnswer, Query, Target, target_at};
use crate::marker::objects::WordSet;
use crate::marker::{GivenUp, Marker};
use crate::metadata::hidden::Hidden;
use crate::objects::access::Access;
use crate::objects::object::{Object, alias_owner};
use crate::objects::record::flag;
use crate::platform::address::end_of;
use crate::platform::{Platform, Root};

#[derive(Default)]
pub(super) struct Path {
    /// The start of the object that is asked about.
    target: Option<Hidden>,
    found: bool,
    /// Where in the object the last word of the way points to.
    pub(super) offset: usize,
    /// The first object whose words were not followed yet, as a row of the trail.
    row: usize,
}

/// Whether the way may begin with a word in a root: told of the root, the word's address, and the word.
pub(super) type RootFilter<'l, M> = &'l mut dyn FnMut(&mut M, Root, usize, usize) -> bool;

impl Path {
    /// Visits the object that a word points to.
    fn come<P: Platform, A: Access>(
        &mut self,
        marker: &mut Marker<'_, P, A>,
        trail: &mut References,
        slot: usize,
        word: usize,
        origin: Origin,
    ) {
        if self.found {
            return;
        }
        let (registry, target) = (marker.registry(), self.target);
        let (mut found, mut object_at) = (false, 0);
        let mut offset = 0;
        let mut take = |object: Object<'_>| {
            object_at = object.start;
            found = target == Some(Hidden::new(object.start));
            found || take_mark(object)
        };
        let seen = registry.containing(marker.access(), word, |object| {
            let record = object.record.read();
            offset = word - object.start;
            match record.has(flag::ALIAS) {
                true => Err(alias_owner(&record)),
                false => Ok(take(object)),
            }
        });
        let new = match seen {
            Some(Ok(new)) => new,
            Some(Err(owner)) => registry.starting_at(marker.access(), owner, take) == Some(true),
            None => false,
        };
        if new && trail.push(slot, origin, object_at, marker.meta()).is_some() {
            self.found = found;
            self.offset = offset;
        }
    }

    /// A search for an object. What is alive is marked.
    pub(super) fn to(target: &Target) -> Self {
        Self {
            target: Some(Hidden::new(target.start)),
            ..Self::default()
        }
    }

    /// Lets the way begin with an object that is declared to be no leak, too; [`follow`](Self::follow) follows them.
    pub(super) fn add_decreed<P: Platform, A: Access>(
        &mut self,
        marker: &mut Marker<'_, P, A>,
        trail: &mut References,
    ) -> Result<(), GivenUp> {
        let target = self.target;
        marker.each_object(&mut |marker, start| {
            let registry = marker.registry();
            let decreed = marker.without_interrupts(|marker| {
                registry.starting_at(marker.access(), start, |object| {
                    let record = object.record.read();
                    record.min_count() == 0 && !record.has(flag::ALIAS) && take_mark(object)
                })
            });
            if decreed == Some(true) && target != Some(Hidden::new(start)) {
                marker.without_interrupts(|marker| {
                    trail.push(0, Origin::ByDecree, start, marker.meta())
                });
            }
            Ok(())
        })
    }

    /// Goes on with the words in roots that the filter lets through, and tells whether the object was found.
    pub(super) fn search<'m, P: Platform, A: Access>(
        &mut self,
        marker: &mut Marker<'m, P, A>,
        trail: &mut References,
        filter: RootFilter<'_, Marker<'m, P, A>>,
    ) -> Result<bool, GivenUp> {
        marker.rewind_roots();
        marker.each_root_word(&mut |marker, root, slot, word| {
            if !self.found && filter(marker, root, slot, word) {
                self.come(marker, trail, slot, word, Origin::Root(root));
            }
        })?;
        self.follow(marker, trail)
    }

    /// Follows the words of the objects that were reached, and tells whether the object was found.
    pub(super) fn follow<P: Platform, A: Access>(
        &mut self,
        marker: &mut Marker<'_, P, A>,
        trail: &mut References,
    ) -> Result<bool, GivenUp> {
        while !self.found
            && let Some(start) = trail.object(self.row)
        {
            let size = target_at(marker, start).map_or(0, |object| object.size);
            let row = self.row;
            let origin = Origin::Object { start, size, row };
            marker.each_word(start, WordSet::Scanned, &mut |marker, slot, word| {
                self.come(marker, trail, slot, word, origin);
            })?;
            self.row += 1;
        }
        Ok(self.found)
    }
}

/// Takes the mark from an object, and tells whether it had one: whether it is alive, and was not visited before.
fn take_mark(object: Object<'_>) -> bool {
    if object.record.has(flag::EXCESS) {
        let reached = object.record.has(flag::REACHED);
        object.record.clear(flag::REACHED);
        return reached;
    }
    let marked = object.mark.is_set();
    object.mark.clear();
    marked
}

impl Query for Path {
    const BEFORE: Before = Before::Mark;

    fn ask<P: Platform, A: Access>(
        &mut self,
        marker: &mut Marker<'_, P, A>,
        target: &Target,
        trail: &mut References,
    ) -> Result<Result<(), NoAnswer>, GivenUp> {
        *self = Self::to(target);
        self.add_decreed(marker, trail)?;
        let found = self.search(marker, trail, &mut |_, _, _, _| true)?;
        let range = target.start..end_of(target.start, target.size);
        Ok(if found {
            Ok(())
        } else if trail.short {
            Err(NoAnswer::NoMemory)
        } else if target.record.is_acknowledged() {
            Err(NoAnswer::Acknowledged)
        } else if target.record.min_count() == 0 {
            Err(NoAnswer::IsRoot)
        } else if marker.is_in_root(range) {
            Err(NoAnswer::InRoot)
        } else {
            Err(NoAnswer::Unreached)
        })
    }
}
