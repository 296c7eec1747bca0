//! What holds an object: all words are read, those of roots and those of objects.

use crate::checker::references::rows::{Origin, References};
use crate::checker::references::{Before, NoAnswer, Query, Target, target_at};
use crate::marker::objects::WordSet;
use crate::marker::{GivenUp, Marker};
use crate::metadata::WORD;
use crate::objects::access::Access;
use crate::objects::record::flag;
use crate::platform::Platform;
use crate::platform::address::{Extent, end_of};

pub(super) struct Holders;

impl Query for Holders {
    const BEFORE: Before = Before::Nothing;

    fn ask<P: Platform, A: Access>(
        &mut self,
        marker: &mut Marker<'_, P, A>,
        target: &Target,
        trail: &mut References,
    ) -> Result<Result<(), NoAnswer>, GivenUp> {
        let platform = marker.platform();
        // A pointer to any copy of a per-CPU block counts, and so does the handle, which need not be the address of a copy.
        let copies = match target.record.has(flag::PERCPU) {
            true => platform.cpus(),
            false => 0,
        };
        let points_there = |word: usize| {
            let lies_in = |copy: usize| word.wrapping_sub(copy) < target.size;
            lies_in(target.start)
                || (0..copies).any(|cpu| {
                    Extent::copy(platform, target.start, cpu, target.size)
                        .is_some_and(|copy| lies_in(copy.start().get()))
                })
        };
        marker.each_root_word(&mut |marker, root, slot, word| {
            if points_there(word) {
                trail.push(slot, Origin::Root(root), target.start, marker.meta());
            }
        })?;
        marker.each_object(&mut |marker, start| {
            if start == target.start {
                return Ok(());
            }
            let Some(holder) = target_at(marker, start).filter(|holder| holder.start == start)
            else {
                // A further copy of a per-CPU block.
                return Ok(());
            };
            let origin = Origin::Object {
                start,
                size: holder.size,
                row: 0,
            };
            let mut points = false;
            marker.each_word(start, WordSet::All, &mut |_, _, word| {
                points |= points_there(word)
            })?;
            // Memory below a task's stack pointer is unused, but has old frames of all calls, including those of this command.
            let range = start..end_of(start, holder.size);
            if !points || marker.has_stack(range) {
                return Ok(());
            }
            marker.each_word(start, WordSet::All, &mut |marker, slot, word| {
                // Words in roots were read with the roots.
                if points_there(word) && !marker.is_in_root(slot..end_of(slot, WORD)) {
                    trail.push(slot, origin, target.start, marker.meta());
                }
            })
        })?;
        Ok(Ok(()))
    }
}
