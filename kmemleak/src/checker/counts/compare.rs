//! What a stop sees of counted blocks: the words that point into them, and their counts.

use core::ops::Range;

use super::rows::{CountedBlocks, FoundOn};
use crate::marker::objects::WordSet;
use crate::marker::{GivenUp, Marker};
use crate::metadata::WORD;
use crate::objects::access::Stopped;
use crate::objects::object::Object;
use crate::objects::record::flag;
use crate::platform::address::end_of;
use crate::platform::{Platform, RootKind};

/// Reads this worker's share of all words, and notes those that point into the blocks.
pub(super) fn read_words<P: Platform>(
    marker: &mut Marker<'_, P, Stopped>,
    blocks: &CountedBlocks,
) -> Result<(), GivenUp> {
    marker.each_root_word(&mut |_, root, _, word| {
        if let Some(block) = blocks.pointed(word) {
            block.note(word, found_on(root.kind));
        }
    })?;
    let mut apart = 0..0;
    marker.each_object_of_share(&mut |marker, start| read_object(marker, blocks, start, &mut apart))
}

fn found_on(kind: RootKind) -> FoundOn {
    match kind {
        RootKind::Stack(_) | RootKind::Registers(_) | RootKind::Region => FoundOn::Stack,
        RootKind::Section | RootKind::PerCpu(_) | RootKind::Frames(_) => FoundOn::Memory,
    }
}

/// Reads the words of an object. `apart` is memory in which there is no root, where the last one lay.
fn read_object<P: Platform>(
    marker: &mut Marker<'_, P, Stopped>,
    blocks: &CountedBlocks,
    start: usize,
    apart: &mut Range<usize>,
) -> Result<(), GivenUp> {
    let mut points = false;
    marker.each_word(start, WordSet::All, &mut |_, _, word| {
        points |= blocks.pointed(word).is_some();
    })?;
    if !points {
        return Ok(());
    }
    let registry = marker.registry();
    let seen = |object: Object<'_>| {
        let size = registry.size(object.start, object.record);
        (size, object.record.read().has(flag::PERCPU | flag::PHYS))
    };
    let Some((size, elsewhere)) = registry.starting_at(marker.access(), start, seen) else {
        return Ok(());
    };
    let range = start..end_of(start, size);
    let is_apart = !elsewhere && {
        if !(apart.contains(&range.start) && range.end <= apart.end) {
            *apart = marker.outside_roots_from(range.start);
        }
        apart.start <= range.start && range.end <= apart.end
    };
    // Memory below a task's stack pointer has old frames of all calls.
    if !is_apart && marker.has_stack(range) {
        return Ok(());
    }
    marker.each_word(start, WordSet::All, &mut |marker, slot, word| {
        // Words in roots were read with the roots.
        if let Some(block) = blocks.pointed(word)
            && (is_apart || !marker.is_in_root(slot..end_of(slot, WORD)))
        {
            block.note(word, FoundOn::Memory);
        }
    })
}

/// Reads the counts of the blocks that are still there.
pub(super) fn read_counts<P: Platform>(
    marker: &mut Marker<'_, P, Stopped>,
    blocks: &CountedBlocks,
) {
    let (registry, words) = (marker.registry(), marker.platform().words());
    for block in blocks.each() {
        let (start, birth_us) = (block.start(), block.birth_us());
        let is_there = |object: Object<'_>| object.record.read().birth_us() == birth_us;
        let there = registry.starting_at(marker.access(), start, is_there) == Some(true);
        let Some((strong, weak)) = block.count_words().filter(|_| there) else {
            continue;
        };
        let last = strong.max(weak.unwrap_or(0)) + WORD;
        if !start.is_multiple_of(WORD) || !marker.is_readable(start, last) {
            continue;
        }
        // SAFETY: words of a tracked block, which somebody vouches for; the world is stopped.
        let read = |offset: usize| unsafe { words.read(start + offset) };
        block.set_counts(read(strong), weak.map_or(0, read));
    }
}
