//! The call stack that leads to a callback.

use core::fmt;

use crate::metadata::MetaAlloc;
use crate::platform::{MAX_FRAMES, Platform, StackWalk};
use crate::stacks::depot::{Frames, StackId};
use crate::stacks::frame_walk::{FrameChain, frame_pointer_walk};
use crate::tracker::Tracker;
use crate::tracker::mode_word::Unusual;
use crate::tracker::sampling::StacksTaken;

/// Why there is no call stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoCallStack {
    /// The platform gives none.
    NotGiven,
    /// They are switched off.
    SwitchedOff,
    /// The platform says where the stack is, but the running code has another one.
    OtherStack,
    /// The running code has the stack that the platform says, but no frame is found there.
    NoFrame,
}

impl fmt::Display for NoCallStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotGiven => {
                "the platform gives none (Platform::stack_bounds, stack_walk, call_stack)"
            }
            Self::SwitchedOff => "they are switched off (kmemleak.stacks=off)",
            Self::OtherStack => {
                "the running stack lies elsewhere than the platform says (Platform::stack_bounds, stack_walk)"
            }
            Self::NoFrame => {
                "no frame is found on the stack: build with -C force-frame-pointers=yes"
            }
        })
    }
}

impl<P: Platform> Tracker<P> {
    /// Why no call stacks are recorded, if a callback would find none here and now. Any context.
    #[cold]
    #[inline(never)]
    pub(crate) fn no_call_stack(&self) -> Option<NoCallStack> {
        if self.word.has(Unusual::NO_STACKS) {
            return Some(NoCallStack::SwitchedOff);
        }
        if !self.frames().as_slice().is_empty() {
            return None;
        }
        let here = 0_u8;
        let here = (&raw const here).addr();
        Some(match self.platform.stack_walk() {
            None => NoCallStack::NotGiven,
            Some(walk) if !walk.stack.contains(&here) => NoCallStack::OtherStack,
            Some(_) => NoCallStack::NoFrame,
        })
    }

    /// The frame pointer of the calling callback: to be handed to what names its call stack ([`walk_from`](Self::walk_from)).
    #[inline(always)]
    pub(super) fn frame_pointer(&self) -> usize {
        (self.platform.stack_walk()).map_or(0, |walk| walk.frame_pointer)
    }

    /// Where the call stack of a callback lies that has this frame pointer.
    #[inline(always)]
    pub(super) fn walk_from(&self, frame_pointer: usize) -> Option<StackWalk> {
        let walk = self.platform.stack_walk()?;
        Some(StackWalk {
            frame_pointer,
            ..walk
        })
    }

    /// The name of a callback's call stack, or of the part of it that is to be [taken](crate::tracker::sampling) for a block of
    /// `size` bytes. `walk` begins in the callback.
    #[inline(never)]
    pub(super) fn stack_id(
        &self,
        walk: Option<StackWalk>,
        size: usize,
        meta: &MetaAlloc<'_>,
    ) -> StackId {
        match self.stacks() {
            StacksTaken::All => self.full_stack_id(walk, meta),
            StacksTaken::None => StackId::NONE,
            StacksTaken::Sample { .. } if self.is_sampled(size, meta.cpu) => {
                self.unseen_stack_id(walk, meta)
            }
            StacksTaken::Sample { .. } => self.site_id(walk, meta),
        }
    }

    /// The name of a callback's whole call stack. `walk` begins in the callback.
    pub(super) fn full_stack_id(&self, walk: Option<StackWalk>, meta: &MetaAlloc<'_>) -> StackId {
        // SAFETY: the platform's promise: its own stack, all of which can be read.
        let seen = |walk: &StackWalk| unsafe { self.depot.seen(walk, meta.cpu) };
        match walk.as_ref().and_then(seen) {
            Some(stack_id) => stack_id,
            None => self.unseen_stack_id(walk, meta),
        }
    }

    /// The name of a callback's call stack, where it is not the one that the CPU has seen. `walk` begins in the callback.
    pub(super) fn unseen_stack_id(&self, walk: Option<StackWalk>, meta: &MetaAlloc<'_>) -> StackId {
        match walk {
            // SAFETY: the platform's promise: its own stack, all of which can be read.
            Some(walk) => unsafe { self.depot.record_unseen(&walk, meta.cpu, meta) },
            None => self.given_stack_id(meta),
        }
    }

    /// The name of the innermost frame alone. `walk` begins in the callback.
    pub(super) fn site_id(&self, walk: Option<StackWalk>, meta: &MetaAlloc<'_>) -> StackId {
        let Some(walk) = walk else {
            return self.given_site_id(meta);
        };
        // SAFETY: the platform's promise: its own stack, all of which can be read.
        let Some((_, address)) = (unsafe { FrameChain::first_kept(&walk) }) else {
            return StackId::NONE;
        };
        match self.depot.site(address) {
            Some(site_id) => site_id,
            None => self.depot.store(&[address], meta),
        }
    }

    fn given_site_id(&self, meta: &MetaAlloc<'_>) -> StackId {
        let mut frames = [0; MAX_FRAMES];
        match self.platform.call_stack(&mut frames) {
            0 => StackId::NONE,
            _ => self.depot.store(&frames[..1], meta),
        }
    }

    /// The name of the call stack that leads to the calling callback, if it is the one that the CPU has seen.
    #[inline(always)]
    pub(super) fn seen_stack_id(&self, cpu: u32) -> Option<StackId> {
        let walk = self.platform.stack_walk()?;
        // SAFETY: the platform's promise: its own stack, all of which can be read.
        unsafe { self.depot.seen(&walk, cpu) }
    }

    /// The name of the innermost frame of the calling callback alone, if nothing need be stored for it.
    #[inline(always)]
    pub(super) fn near_site_id(&self) -> Option<StackId> {
        let walk = self.platform.stack_walk()?;
        // SAFETY: the platform's promise: its own stack, all of which can be read.
        let (_, address) = unsafe { FrameChain::first_kept(&walk) }?;
        self.depot.site(address)
    }

    #[inline(never)]
    pub(super) fn given_stack_id(&self, meta: &MetaAlloc<'_>) -> StackId {
        let mut frames = [0; MAX_FRAMES];
        let count = self.platform.call_stack(&mut frames).min(MAX_FRAMES);
        self.depot.store(&frames[..count], meta)
    }

    /// The call stack of a callback, from wherever in the callback it is asked for: without the detector's and the hooks' own
    /// frames.
    pub(crate) fn frames(&self) -> Frames {
        /// Frames of the detector itself, at most, before those that are kept.
        const OWN: usize = 8;
        let Some(walk) = self.platform.stack_walk() else {
            let mut all = [0; MAX_FRAMES];
            let count = self.platform.call_stack(&mut all);
            return Frames::of(all.into_iter().take(count));
        };
        let mut all = [0; MAX_FRAMES + OWN];
        // SAFETY: the platform's promise: its own stack, all of which can be read.
        let count = unsafe { frame_pointer_walk(walk.frame_pointer, walk.stack, &mut all) };
        let skip = all[..count]
            .iter()
            .rposition(|address| walk.skip.contains(address))
            .map_or(0, |last| last + 1);
        Frames::of(all[skip..count].iter().copied())
    }

    /// Whether the call stacks of frees are kept.
    pub(crate) fn keeps_free_stacks(&self) -> bool {
        self.word.has(Unusual::FREE_STACKS)
    }

    /// Keeps the call stacks of frees from now on, or does not any more.
    pub(crate) fn keep_free_stacks(&self, on: bool) {
        match on {
            true => self.word.begin(Unusual::FREE_STACKS),
            false => self.word.end(Unusual::FREE_STACKS),
        }
    }

    /// Keeps the call stack that frees a block, for a warning in case the block is freed again.
    #[cold]
    #[inline(never)]
    pub(super) fn note_free(&self, start: usize, meta: &MetaAlloc<'_>) {
        let stack_id = self.depot.store(self.frames().as_slice(), meta);
        self.registry.note_free(start, stack_id);
    }
}
