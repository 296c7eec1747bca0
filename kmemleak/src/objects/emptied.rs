//! Chunks whose last object has gone, and that are still in service.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::metadata::hidden::Hidden;
use crate::objects::access::{Locked, OpenChunk};
use crate::objects::chunk::{Chunk, info};

/// CPUs that have emptied chunks of their own; beyond that they share.
const CPUS: usize = 16;
/// How many each has. What a large object meets where small ones lay is so many chunks at most that are still in service.
const WAITING: usize = 64;

/// All of them.
pub(crate) struct Emptied([Waiting; CPUS]);

/// Those of one CPU.
#[repr(align(64))]
struct Waiting {
    /// Only counted.
    next: AtomicUsize,
    /// The addresses of their entries. Swapped with AcqRel, though each is one word: a chunk's own lock orders what is done
    /// with it.
    chunks: [AtomicU64; WAITING],
}

impl Emptied {
    pub(crate) const fn new() -> Self {
        Self(
            [const {
                Waiting {
                    next: AtomicUsize::new(0),
                    chunks: [const { AtomicU64::new(Hidden::NONE.bits()) }; WAITING],
                }
            }; CPUS],
        )
    }

    /// A locked chunk has become empty, and waits from now on. It is unlocked; the one in whose place it waits goes out of
    /// service if it is still empty.
    #[cold]
    #[inline(never)]
    pub(crate) fn push_unlocking(&self, chunk: OpenChunk<Locked>, cpu: u32) {
        chunk.set(info::WAITS);
        let entry = Hidden::of(chunk.entry());
        drop(chunk);
        let waiting = &self.0[cpu as usize % CPUS];
        let place = waiting.next.fetch_add(1, Ordering::Relaxed) % WAITING;
        let before = waiting.chunks[place].swap(entry.bits(), Ordering::AcqRel);
        if let Some(before) = Hidden::from_bits(before).metadata() {
            // SAFETY: the entry of a chunk that waited here.
            let before = unsafe { Chunk::at(before) };
            before.lock();
            before.clear(info::WAITS);
            before.end_service();
            before.unlock();
        }
    }

    /// Forgets everything.
    pub(crate) fn empty(&self) {
        for chunk in self.0.iter().flat_map(|waiting| &waiting.chunks) {
            chunk.store(Hidden::NONE.bits(), Ordering::Relaxed);
        }
    }
}
