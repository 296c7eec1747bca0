//! Frees while memory is frozen: who frees a block that the marker has not read reads it, as it was when memory was frozen. So does
//! who says that a block is not to be scanned any more, or in another way: at that moment it was.
//!
//! See [`crate::objects::frozen`]. A block is read before its free takes it out, so it is tracked meanwhile, and can be read.
//! Interrupts are off for [`PIECE_WORDS`] words at a time, unless the caller had them off.
//!
//! A block that is not read from start to end (it has notes) is rare, and so is such a free: the pass is told that it can't be
//! finished.

use crate::metadata::hidden::Hidden;
use crate::objects::access::Locked;
use crate::objects::frozen::{Candidate, Rest};
use crate::objects::object::Object;
use crate::objects::record::{Record, flag};
use crate::platform::address::{Extent, end_of};
use crate::platform::{PIECE_WORDS, Platform};
use crate::tracker::Tracker;

/// A block that is about to be freed, and what its record says.
struct Leaving {
    start: usize,
    size: usize,
    record: Record,
    rest: Rest,
}

impl Leaving {
    /// Whether the marker does not read it in any case.
    fn is_unread(&self) -> bool {
        self.record.has(flag::NO_SCAN)
            || self.record.min_count() < 0
            || self.record.has(flag::REACHED) && !self.record.has(flag::EXCESS)
    }

    /// Whether it is not read from start to end.
    fn has_notes(&self) -> bool {
        self.rest == Rest::Unknown || self.record.has(flag::NOTES | flag::EXCESS)
    }
}

impl<P: Platform> Tracker<P> {
    /// The block at `start`, if there is one, is about to be taken out. Called with no chunk open.
    #[inline(always)]
    pub(super) fn before_free(&self, start: usize) {
        if self.frozen.is_on() {
            self.read_before_free(start);
        }
    }

    /// The block in which `address` lies, if there is one, is about to be scanned in another way, or not at all. Called with
    /// interrupts off, as they are until it is, and with no chunk open.
    #[inline(always)]
    pub(super) fn before_change(&self, address: usize) {
        if self.frozen.is_on() {
            self.read_before_change(address);
        }
    }

    #[cold]
    #[inline(never)]
    fn read_before_change(&self, address: usize) {
        let start_of = |object: Object<'_>, _| object.start;
        let start = self.look(|_| self.registry.block_containing(Locked, address, start_of));
        if let Some(start) = start.flatten() {
            self.read_before_free(start);
        }
    }

    #[cold]
    #[inline(never)]
    fn read_before_free(&self, start: usize) {
        let (registry, frozen) = (&self.registry, &self.frozen);
        let take_over = |object: Object<'_>| {
            let record = object.record.read();
            (!record.has(flag::ALIAS)).then(|| Leaving {
                start: object.start,
                size: registry.size(object.start, object.record),
                record,
                rest: frozen.take_over(object),
            })
        };
        let taken = self.look(|_| registry.starting_at(Locked, start, take_over));
        let Some(Some(Some(leaving))) = taken else {
            return;
        };
        if leaving.rest == Rest::Nothing {
            return;
        }
        if !leaving.is_unread() {
            self.read_leaving(&leaving);
        }
        frozen.done();
    }

    fn read_leaving(&self, leaving: &Leaving) {
        let Leaving { start, size, .. } = *leaving;
        if leaving.has_notes() {
            return self.frozen.lose();
        }
        if leaving.record.has(flag::PHYS) {
            if let Some(memory) = Extent::mapped(&self.platform, start, size) {
                self.read_frozen(memory.start().get(), size);
            }
        } else if leaving.record.has(flag::PERCPU) {
            for cpu in 0..self.platform.cpus() {
                if let Some(copy) = Extent::copy(&self.platform, start, cpu, size) {
                    self.read_frozen(copy.start().get(), size);
                }
            }
        } else {
            let from = match leaving.rest {
                Rest::From(reached) => reached,
                _ => start,
            };
            let end = end_of(start, size);
            self.read_frozen(from, end.saturating_sub(from));
        }
    }

    /// Notes the candidates in the whole words of `len` bytes, which are tracked.
    fn read_frozen(&self, start: usize, len: usize) {
        let Some(mut at) = start.checked_next_multiple_of(size_of::<usize>()) else {
            return;
        };
        let mut words = end_of(start, len).saturating_sub(at) / size_of::<usize>();
        let mut buffer = [0; PIECE_WORDS];
        while words > 0 {
            let in_page = (at | (PIECE_WORDS * size_of::<usize>() - 1)) + 1 - at;
            let count = words.min(in_page / size_of::<usize>());
            self.read_piece(at, &mut buffer[..count]);
            words -= count;
            at = at.wrapping_add(count * size_of::<usize>());
        }
        // No addresses of blocks stay on the stack.
        buffer.fill(0);
        core::hint::black_box(&mut buffer);
    }

    fn read_piece(&self, at: usize, words: &mut [usize]) {
        let (lowest, span) = self.registry.span();
        self.look(|meta| {
            if !self
                .strangers
                .or_platform(&self.platform, at, size_of_val(words))
            {
                return;
            }
            // SAFETY: whole words of a tracked block, whose free has not returned, in one piece; somebody vouches for them.
            if unsafe { self.platform.read_frozen(at, words) }.is_err() {
                return self.frozen.lose();
            }
            for &word in &*words {
                let number = self.platform.words().untag(word);
                if number.wrapping_sub(lowest) < span {
                    let candidate = Candidate {
                        number: Hidden::new(number),
                        ..Candidate::NONE
                    };
                    self.frozen.note(&[candidate], meta);
                }
            }
        });
    }
}
