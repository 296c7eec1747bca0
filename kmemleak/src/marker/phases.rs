//! What looks at many objects: clearing the marks, and finding those that wait in flags.

use core::sync::atomic::Ordering;

use super::candidates::{note_interior_only, postpone};
use super::checkpoint::{LEAF, LOOK};
use super::objects::WordSet;
use super::{GivenUp, Marker};
use crate::marker::queue::Entry;
use crate::objects::access::{Access, OpenChunk};
use crate::objects::chunk::{Chunk, info};
use crate::objects::object::{Object, alias_owner};
use crate::objects::page_map::ChunkNumber;
use crate::objects::record::flag;
use crate::objects::spill;
use crate::platform::Platform;

/// What a pass leaves at chunks.
const OF_PASSES: u32 =
    info::PENDING | info::SPILLED | info::INTERIOR | info::INTERIOR_ONLY | info::BORN;

impl<'a, P: Platform, A: Access> Marker<'a, P, A> {
    pub(super) fn whiten(&mut self) -> Result<(), GivenUp> {
        while let Some((number, leaf)) = self.take_leaf() {
            spill::forget(leaf);
            self.each_chunk_in(number, leaf, &|_| true, &mut Self::whiten_chunk)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn whiten_chunk(&mut self, number: ChunkNumber, chunk: Chunk) {
        const LOOK: u32 = OF_PASSES | info::SPECIAL | info::UNALIGNED;
        let done = self.open(number, chunk, |marker, open| {
            let plain = !open.has(LOOK);
            if plain {
                let starts = open.starts().load(Ordering::Relaxed);
                marker.objects += u64::from(starts.count_ones());
                open.marks().store(0, Ordering::Relaxed);
            }
            plain
        });
        if !done {
            self.whiten_records(number, chunk);
        }
    }

    #[inline(never)]
    fn whiten_records(&mut self, number: ChunkNumber, chunk: Chunk) {
        let begin = |_: &mut Self, chunk: &OpenChunk<A>| {
            // Set again for objects that need it, and meanwhile by callbacks.
            chunk.clear(OF_PASSES);
            if !chunk.has(info::UNALIGNED) {
                chunk.clear(info::SPECIAL);
            }
            u64::MAX
        };
        self.each_in_chunk(number, chunk, begin, Self::whiten_record);
    }

    fn whiten_record(&mut self, object: Object<'_>) {
        let registry = self.tools.registry;
        let record = object.record.read();
        if !record.is_plain() {
            object.chunk.set(info::SPECIAL);
        }
        self.objects += u64::from(!record.has(flag::ALIAS));
        if record.has(flag::BORN) && self.is_born(record.birth_us()) && !record.has(flag::ALIAS) {
            // Marked when it was allocated, and not scanned yet.
            object.chunk.set(info::BORN);
            return;
        }
        object.record.clear(flag::OF_PASSES);
        object.reset_count(&registry.side_table);
        if record.has(flag::EXCESS) {
            registry.side_table.reset_arrivals(object.start);
        }
        object.mark.clear();
        match record.min_count() {
            0 if record.has(flag::EXCESS) => {
                // Not queued before the pass knows whether it lies in a root.
                object.enliven();
                postpone(
                    object.start,
                    object.record,
                    object.chunk,
                    &self.shared.spill,
                );
            }
            0 => {
                self.keep(object);
            }
            ..0 => {
                object.mark.set();
            }
            1.. => {}
        }
    }

    /// Whether something was allocated since the pass began.
    pub(super) fn is_born(&self, birth_us: u64) -> bool {
        !A::STOPPED && birth_us >= self.shared.start_us
    }

    /// Scans what was allocated since the pass began, and what remains of blocks that were freed in part.
    pub(crate) fn scan_born(&mut self) -> Result<(), GivenUp> {
        self.each_chunk(
            |chunk| chunk.has(info::BORN),
            |marker, number, chunk| {
                let begin = |_: &mut Self, chunk: &OpenChunk<A>| {
                    chunk.clear(info::BORN);
                    u64::MAX
                };
                marker.each_in_chunk(number, chunk, begin, |marker, object| {
                    if object.record.has(flag::BORN) {
                        object.record.clear(flag::BORN);
                        object.mark.set();
                        marker.enqueue(object);
                    }
                });
            },
        )?;
        self.barrier()?;
        self.finish()
    }

    /// Queues objects that found no room in a queue, those of the table that has waited longest. False if none wait.
    pub(super) fn take_spilled(&mut self) -> Result<bool, GivenUp> {
        let (spill, map) = (&self.shared.spill, &self.tools.registry.map);
        let Some((number, leaf)) = self.without_interrupts(|_| spill.take(map)) else {
            return Ok(false);
        };
        for (chunk_number, chunk) in leaf.chunks(number) {
            if !chunk.has(info::SPILLED) {
                continue;
            }
            let begin = |_: &mut Self, open: &OpenChunk<A>| {
                open.take_spilled();
                u64::MAX
            };
            self.each_in_chunk(chunk_number, chunk, begin, |marker, object| {
                if object.record.has(flag::PENDING) {
                    object.record.clear(flag::PENDING);
                    marker.enqueue(object);
                }
            });
            self.make_room()?;
        }
        self.pause_after(LEAF)?;
        Ok(true)
    }

    /// Scans some objects if the queue is filling, so that those that wait in flags already do not fill it. To be called after each
    /// chunk.
    fn make_room(&mut self) -> Result<(), GivenUp> {
        while self.queue.is_filling() {
            self.scan_next()?;
        }
        Ok(())
    }

    /// Queues the objects that are pointed to in their middle only, and have waited.
    pub(super) fn recover_interiors(&mut self) -> Result<(), GivenUp> {
        while let Some((number, leaf)) = self.take_leaf() {
            for (chunk_number, chunk) in leaf.chunks(number) {
                if !chunk.has(info::INTERIOR) {
                    continue;
                }
                let begin = |_: &mut Self, chunk: &OpenChunk<A>| {
                    chunk.clear(info::INTERIOR);
                    u64::MAX
                };
                self.each_in_chunk(chunk_number, chunk, begin, |marker, object| {
                    if object.record.has(flag::INTERIOR) {
                        marker.recover_interior(object);
                    }
                });
                self.make_room()?;
            }
            self.pause()?;
        }
        Ok(())
    }

    /// Queues an object that has waited for a pointer to its start. The flag stays where there was none: an interior pointer
    /// leads to it from what start pointers reach, and not only from what interior pointers keep alive.
    fn recover_interior(&mut self, object: Object<'_>) {
        if object.record.has(flag::INTERIOR_ONLY) {
            // Another interior pointer was faster.
            return;
        }
        if object.enliven() {
            note_interior_only(object.record, object.chunk);
            self.enqueue(object);
        } else {
            object.record.clear(flag::INTERIOR);
        }
    }

    /// An object that was marked late, since references were missing, but whose start an early marked object points to, is
    /// reached by start pointers alone; and so is each object whose start it points to. For one worker, while the others wait.
    ///
    /// An object that is to be followed has both flags, and most such objects are in the queue; the next walk finds one that
    /// found no room there.
    pub(super) fn follow_started(&mut self) -> Result<(), GivenUp> {
        loop {
            let mut found = false;
            while let Some((number, leaf)) = self.take_leaf() {
                for (chunk_number, chunk) in leaf.chunks(number) {
                    if !chunk.has(info::INTERIOR_ONLY) {
                        continue;
                    }
                    let all = |_: &mut Self, _: &OpenChunk<A>| u64::MAX;
                    self.each_in_chunk(chunk_number, chunk, all, |marker, object| {
                        if object.record.has(flag::INTERIOR_ONLY) && object.record.is_started() {
                            found = true;
                            marker.queue.push(Entry::new(object.start, object.record));
                        }
                    });
                    while let Some(entry) = self.queue.pop() {
                        self.follow(entry.start())?;
                        self.worked(LOOK)?;
                    }
                }
                self.pause()?;
            }
            if !found {
                return Ok(());
            }
            self.shared.leaf.store(0, Ordering::Release);
        }
    }

    fn follow(&mut self, start: usize) -> Result<(), GivenUp> {
        let access = self.access;
        let late = self.without_interrupts(|marker| {
            let registry = marker.tools.registry;
            registry.starting_at(access, start, |object| {
                let late = object.record.has(flag::INTERIOR_ONLY);
                object.record.clear(flag::INTERIOR_ONLY);
                late
            })
        });
        if late != Some(true) {
            // It was in the queue twice.
            return Ok(());
        }
        self.each_word(start, WordSet::Scanned, &mut |marker, _, word| {
            let registry = marker.tools.registry;
            let late = |object: Object<'_>| {
                if object.record.has(flag::INTERIOR_ONLY) {
                    object.record.set_started();
                    return Some(Entry::new(object.start, object.record));
                }
                None
            };
            let found = registry.starting_at(access, word, |object| {
                let record = object.record.read();
                match record.has(flag::ALIAS) {
                    true => Err(alias_owner(&record)),
                    false => Ok(late(object)),
                }
            });
            let entry = match found {
                Some(Ok(entry)) => entry,
                Some(Err(owner)) => registry.starting_at(access, owner, late).flatten(),
                None => None,
            };
            if let Some(entry) = entry {
                marker.queue.push(entry);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::AllocOptions;
    use crate::marker::tests::noting::{Bench, memory};
    use crate::objects::access::Locked;
    use crate::objects::chunk::info;

    /// Whether records have to be looked at where an object starts, after a pass.
    fn is_special(bench: &Bench, start: usize) -> bool {
        bench.mark(Locked, 1, |marker| {
            marker.run().expect("nobody asks it to stop");
        });
        let registry = bench.tracker.registry();
        let special = registry.starting_at(Locked, start, |object| object.chunk.has(info::SPECIAL));
        special.expect("it is there")
    }

    /// Then each pass would look at their records.
    #[test]
    fn where_no_special_object_is_left_objects_are_plain_again() {
        let (bench, (_, start)) = (Bench::new(), memory(64));
        let (special, plain) = (start, start + 64);
        bench.tracker.alloc(special, 64, AllocOptions::new());
        bench.tracker.alloc(plain, 64, AllocOptions::new());
        assert!(!is_special(&bench, plain));
        bench.tracker.no_scan(special);
        assert!(is_special(&bench, plain));
        bench.tracker.free(special);
        assert!(!is_special(&bench, plain));
        // One that starts at no multiple of eight has a note.
        bench.tracker.alloc(special + 4, 32, AllocOptions::new());
        assert!(is_special(&bench, plain));
        assert!(is_special(&bench, plain), "for later passes, too");
    }
}
