//! Chunks without objects that are still in service.

use core::sync::atomic::Ordering;

use crate::atomic::{AtomicU64, AtomicUsize};
use crate::metadata::hidden::Hidden;
use crate::objects::access::{Locked, OpenChunk};
use crate::objects::chunk::{Chunk, info};

/// The number of lists of emptied chunks. With more CPUs, several CPUs share a list.
const CPUS: usize = 16;
/// Chunks in a list. It limits how many chunks that are still in service a large object meets where small ones lay.
const WAITING: usize = 64;

/// The emptied chunks of all CPUs.
pub(crate) struct Emptied([Waiting; CPUS]);

/// The emptied chunks of one CPU.
#[repr(align(64))]
struct Waiting {
    /// How many chunks were added; modulo [`WAITING`], the place of the next one.
    next: AtomicUsize,
    /// The addresses of the chunks' entries. Swapped with AcqRel, which is more than needed: a chunk's own lock orders what is
    /// done with it.
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

    /// Adds a chunk, which is locked and has become empty, and unlocks it. The chunk whose place it takes goes out of service
    /// if it is still empty.
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
