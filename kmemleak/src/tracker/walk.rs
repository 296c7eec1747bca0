//! Walks over all that is tracked, without the claim.

use core::sync::atomic::Ordering::Relaxed;

use crate::metadata::MetaAlloc;
use crate::objects::access::{Access, Locked};
use crate::objects::chunk::Chunk;
use crate::objects::object::{Object, object_in};
use crate::objects::page_map::ChunkNumber;
use crate::objects::record::{Record, flag};
use crate::objects::registry::{ChunkStep, Chunks};
use crate::platform::Platform;
use crate::tracker::Tracker;

/// The number of tracked objects, and their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracking {
    /// Objects; a per-CPU block counts once.
    pub objects: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl<P: Platform> Tracker<P> {
    /// Counts what is tracked now.
    pub(crate) fn tracking(&self) -> Tracking {
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

    /// Shows all objects, under the locks of their chunks.
    pub(crate) fn each_tracked(&self, look: &mut dyn FnMut(Object<'_>, &MetaAlloc<'_>)) {
        let mut chunks = self.registry.chunks(0);
        while let Some((number, chunk)) = self.next_used(&mut chunks) {
            self.look(|meta| {
                let open = Locked.open(number, chunk);
                self.registry.each_of(&open, u64::MAX, &mut |object| {
                    if !object.record.has(flag::ALIAS) {
                        look(object, meta);
                    }
                });
            });
        }
    }

    /// Shows the records of objects, as far as that is possible without waiting; those that start at no multiple of eight are
    /// left out. False if chunks were left out, since they are in use elsewhere. Any context, with whatever locks held.
    pub(crate) fn each_without_waiting(&self, look: &mut dyn FnMut(&Record)) -> bool {
        let (mut chunks, mut all) = (self.registry.chunks(0), true);
        while let Some((number, chunk)) = self.next_used(&mut chunks) {
            self.look(|_| {
                let Some(chunk) = Locked.try_open(number, chunk) else {
                    all = false;
                    return;
                };
                for granule in Chunk::granules(chunk.starts().load(Relaxed)) {
                    // SAFETY: an object starts there, and the chunk is locked.
                    let object = unsafe { object_in(number, chunk.chunk(), granule) };
                    let record = object.record.read();
                    if !record.has(flag::ALIAS) {
                        look(&record);
                    }
                }
            });
        }
        all
    }

    /// The next chunk in use; also `None` if metadata is gone. Interrupts are off for a step of the walk at a time.
    fn next_used(&self, chunks: &mut Chunks<'_>) -> Option<(ChunkNumber, Chunk)> {
        loop {
            match self.look(|_| chunks.step())? {
                ChunkStep::Used(number, chunk) => return Some((number, chunk)),
                ChunkStep::Unused => {}
                ChunkStep::End => return None,
            }
        }
    }
}
