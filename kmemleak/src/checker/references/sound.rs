//! How far a word in a root can be trusted: whether it looks like a variable in use, or like something that was left behind.
//!
//! A word says nothing of itself; what is judged is where it lies and what it points to. The judgement only guides a person, no
//! verdict depends on it.
//!
//! - Words on *stacks* and in registers come and go; many are left over from calls that have returned.
//! - A word in a root, in no object, but near objects on both sides is in an arena that the root covers: in *free memory*, and
//!   left by the block that was there. So is one where a block is known to have been freed.
//! - A static that points to the *first block of an arena* may be the state of the allocator itself, which knows where its arena
//!   begins.

use crate::marker::Marker;
use crate::marker::places::neighbourhood;
use crate::objects::access::Access;
use crate::platform::address::end_of;
use crate::platform::{Platform, Root, RootKind};

/// How far apart two blocks of one arena may lie, in bytes.
const NEAR: usize = 64 << 10;

/// What a word in a root looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trust {
    /// A variable.
    Variable,
    /// A variable that points to the first block of an arena: perhaps an allocator's own.
    ArenaStart,
    /// A word in free memory of an arena.
    FreeMemory,
    /// A word of a task's stack, or a register.
    Stack,
}

/// Judges a word in a root; `None` if it points to no object. No rule applies to what only looks like a pointer.
pub(super) fn judge<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    root: Root,
    slot: usize,
    word: usize,
) -> Option<Trust> {
    let start = object_at(marker, word)?;
    if matches!(root.kind, RootKind::Stack(_) | RootKind::Registers(_)) {
        return Some(Trust::Stack);
    }
    if object_at(marker, slot).is_none() && is_in_arena(marker, root, slot) {
        return Some(Trust::FreeMemory);
    }
    Some(if word == start && is_first_of_arena(marker, start) {
        Trust::ArenaStart
    } else {
        Trust::Variable
    })
}

/// The start of the object that an address lies in.
fn object_at<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    address: usize,
) -> Option<usize> {
    let registry = marker.registry();
    marker.without_interrupts(|marker| {
        registry.containing(marker.access(), address, |object| object.start)
    })
}

fn is_in_arena<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    root: Root,
    slot: usize,
) -> bool {
    let [below, above] = neighbourhood(slot, root.start..end_of(root.start, root.len), NEAR);
    if marker.has_start_in(below) && marker.has_start_in(above) {
        return true;
    }
    let registry = marker.registry();
    marker.without_interrupts(|_| registry.freed_at_or_before(slot).is_some())
}

fn is_first_of_arena<P: Platform, A: Access>(marker: &mut Marker<'_, P, A>, start: usize) -> bool {
    let [below, above] = neighbourhood(start, 0..usize::MAX, NEAR);
    let after = above.start.saturating_add(1)..above.end;
    !marker.has_start_in(below)
        && object_at(marker, start - 1).is_none()
        && marker.has_start_in(after)
}
