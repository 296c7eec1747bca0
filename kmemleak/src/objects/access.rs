//! How chunks are looked at: locked, or in a stopped world.
//!
//! Code that looks at objects proves that nobody changes them meanwhile: by [`Locked`], which locks each chunk that it opens, or
//! by [`Stopped`], which exists only in a stopped world. An open chunk is closed when its guard is dropped.

use core::ops::Deref;

use crate::objects::chunk::Chunk;
use crate::objects::page_map::ChunkNumber;

/// The right to look at chunks.
pub(crate) trait Access: Copy {
    /// Whether the world is stopped.
    const STOPPED: bool;
    /// Called before a chunk is looked at.
    fn begin(self, chunk: Chunk);
    /// Called when the chunk is not looked at any more.
    fn end(self, chunk: Chunk);

    /// Opens a chunk, to be looked at as long as the guard lives.
    #[inline(always)]
    fn open(self, number: ChunkNumber, chunk: Chunk) -> OpenChunk<Self> {
        self.begin(chunk);
        OpenChunk {
            number,
            chunk,
            access: self,
        }
    }
}

/// Access while other CPUs allocate and free: chunks are locked. Interrupts are off.
#[derive(Clone, Copy)]
pub(crate) struct Locked;

/// Access while the world is stopped: chunks are not locked.
#[derive(Clone, Copy)]
pub(crate) struct Stopped(());

impl Stopped {
    /// Access to chunks in a stopped world.
    ///
    /// # Safety
    ///
    /// The world is stopped as long as the result is used. CPUs that use it at once look at different chunks, or take turns
    /// where they change anything that is not atomic.
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

impl Locked {
    /// Opens a chunk if nobody else has it open.
    #[inline(always)]
    pub(crate) fn try_open(self, number: ChunkNumber, chunk: Chunk) -> Option<OpenChunk<Self>> {
        chunk.try_lock().then(|| OpenChunk {
            number,
            chunk,
            access: self,
        })
    }
}

impl Access for Locked {
    const STOPPED: bool = false;

    #[inline(always)]
    fn begin(self, chunk: Chunk) {
        chunk.lock();
    }

    #[inline(always)]
    fn end(self, chunk: Chunk) {
        chunk.unlock();
    }
}

impl Access for Stopped {
    const STOPPED: bool = true;

    #[inline(always)]
    fn begin(self, _: Chunk) {}

    #[inline(always)]
    fn end(self, _: Chunk) {}
}

/// A chunk that may be looked at.
pub(crate) struct OpenChunk<A: Access> {
    number: ChunkNumber,
    chunk: Chunk,
    access: A,
}

impl<A: Access> OpenChunk<A> {
    #[inline(always)]
    pub(crate) fn number(&self) -> ChunkNumber {
        self.number
    }

    #[inline(always)]
    pub(crate) fn chunk(&self) -> Chunk {
        self.chunk
    }
}

impl<A: Access> Deref for OpenChunk<A> {
    type Target = Chunk;

    #[inline(always)]
    fn deref(&self) -> &Chunk {
        &self.chunk
    }
}

impl<A: Access> Drop for OpenChunk<A> {
    #[inline(always)]
    fn drop(&mut self) {
        self.access.end(self.chunk);
    }
}
