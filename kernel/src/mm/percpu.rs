//! Dynamic per-CPU memory: blocks of which each CPU has its own copy.
//!
//! Blocks are cut from chunks. A chunk has one unit of memory for each CPU; a block lies at the same offset in
//! all of them. The block's handle is the address of its copy in CPU 0's unit. A chunk knows which of its granules are
//! taken, and by which blocks (`granules.rs`), so that a wrong free is caught.
//!
//! Chunks are never freed: a chunk that [`percpu_copy`] finds stays valid without a lock.
//!
//! # Locks
//!
//! One over each chunk's bitmaps, under which nothing is called; one for adding a chunk, under which the buddy
//! allocator's is taken. Interrupts are off under both.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::PAGE;
use super::buddy::{self, Tracking};
use super::granules::Granules;
use super::misuse::{Audience, Misuse};
use super::release::{Allocator, Retired, release};
use crate::arch::percpu::MAX_CPUS;
use crate::leak::hooks;
use crate::sync::{LocalIrqDisabled, SpinLock};

/// Bytes of one CPU's part of a chunk, and so of the largest block.
pub const UNIT: usize = 32 * 1024;

/// Blocks begin at multiples of this, and take multiples of it.
const GRANULE: usize = 16;

const WORDS: usize = UNIT / GRANULE / 64;

/// A chunk. All fields but the bitmaps are written once, before the chunk is in the list.
struct Chunk {
    next: AtomicPtr<Chunk>,
    units: [usize; MAX_CPUS],
    granules: SpinLock<Granules<WORDS>, LocalIrqDisabled>,
}

const _: () = assert!(size_of::<Chunk>() <= PAGE);

static CHUNKS: AtomicPtr<Chunk> = AtomicPtr::new(ptr::null_mut());
static GROWING: SpinLock<(), LocalIrqDisabled> = SpinLock::new(());
static CPUS: AtomicU32 = AtomicU32::new(1);

/// Sets the number of CPUs for which blocks are made. Before the first block is allocated.
pub fn init(cpus: u32) {
    CPUS.store(cpus.max(1), Ordering::Release);
}

/// The number of CPUs for which blocks are made. Any context.
pub fn cpus() -> u32 {
    CPUS.load(Ordering::Acquire)
}

fn chunks() -> impl Iterator<Item = &'static Chunk> {
    let load = |chunk: &AtomicPtr<Chunk>| {
        // SAFETY: null, or a chunk, which is never freed.
        unsafe { chunk.load(Ordering::Acquire).as_ref() }
    };
    core::iter::successors(load(&CHUNKS), move |chunk| load(&chunk.next))
}

fn chunk_of(handle: usize) -> Option<(&'static Chunk, usize)> {
    chunks().find_map(|chunk| {
        let offset = handle.checked_sub(chunk.units[0])?;
        (offset < UNIT).then_some((chunk, offset))
    })
}

/// Allocates a block of `len` bytes (at most [`UNIT`]) for each CPU, zeroed, aligned to `align` (a power of two, at most
/// a page), and returns its handle. Any context.
#[unsafe(link_section = ".text.hooks")]
pub fn alloc_percpu(len: usize, align: usize) -> Option<usize> {
    if len == 0 || len > UNIT || !align.is_power_of_two() || align > PAGE {
        return None;
    }
    let granules = len.div_ceil(GRANULE);
    let align = align.div_ceil(GRANULE);
    let (chunk, start) = loop {
        let newest = CHUNKS.load(Ordering::Acquire);
        let found =
            chunks().find_map(|chunk| Some((chunk, chunk.granules.lock().take(granules, align)?)));
        match found {
            Some(found) => break found,
            None => grow(newest)?,
        }
    };
    let cpus = CPUS.load(Ordering::Acquire) as usize;
    for unit in &chunk.units[..cpus] {
        let copy: *mut u8 = ptr::with_exposed_provenance_mut(unit + start * GRANULE);
        // SAFETY: inside the unit, and the block is not in use yet.
        unsafe { copy.write_bytes(0, granules * GRANULE) };
    }
    let handle = chunk.units[0] + start * GRANULE;
    hooks::alloc_percpu(handle, len);
    Some(handle)
}

/// Frees a block. If `handle` is no block's handle, the error is printed, and nothing else happens. Any context.
#[unsafe(link_section = ".text.hooks")]
pub fn free_percpu(handle: usize) {
    let _refused_or_done = release(&Blocks, handle);
}

/// How blocks are freed.
struct Blocks;

impl Allocator for Blocks {
    /// The chunk, and the number of the block's first granule.
    type Block = (&'static Chunk, usize);
    type Done = ();

    fn name(&self) -> &'static str {
        "percpu"
    }

    fn audience(&self) -> Audience {
        Audience::Detector
    }

    fn retire(&self, handle: usize) -> Result<Self::Block, Misuse> {
        let (chunk, offset) = chunk_of(handle).ok_or(Misuse::NotABlock)?;
        if !offset.is_multiple_of(GRANULE) {
            return Err(Misuse::NotABlock);
        }
        chunk.granules.lock().retire(offset / GRANULE)?;
        Ok((chunk, offset / GRANULE))
    }

    #[inline(always)]
    fn tell(&self, retired: &Retired<Self::Block>) {
        hooks::free_percpu(retired);
    }

    fn put(&self, (chunk, granule): Self::Block) {
        chunk.granules.lock().put(granule);
    }
}

/// The address of a CPU's copy of the block with this handle (or of the byte at an offset from it). Any context.
///
/// An address that is in no chunk is returned unchanged.
pub fn percpu_copy(handle: usize, cpu: u32) -> usize {
    match chunk_of(handle) {
        Some((chunk, offset)) => chunk.units[cpu as usize % MAX_CPUS] + offset,
        None => handle,
    }
}

/// Adds a chunk, unless another CPU has added one since `newest` was read.
fn grow(newest: *mut Chunk) -> Option<()> {
    let _growing = GROWING.lock();
    if CHUNKS.load(Ordering::Acquire) != newest {
        return Some(());
    }
    let memory =
        buddy::alloc(buddy::order_of(size_of::<Chunk>()), Tracking::Untracked)?.cast::<Chunk>();
    let mut units = [0; MAX_CPUS];
    let cpus = CPUS.load(Ordering::Acquire) as usize;
    for cpu in 0..cpus {
        let Some(unit) = buddy::alloc(buddy::order_of(UNIT), Tracking::Untracked) else {
            for &unit in &units[..cpu] {
                if let Some(unit) = NonNull::new(ptr::with_exposed_provenance_mut(unit)) {
                    buddy::free(unit, buddy::order_of(UNIT), Tracking::Untracked);
                }
            }
            buddy::free(
                memory.cast(),
                buddy::order_of(size_of::<Chunk>()),
                Tracking::Untracked,
            );
            return None;
        };
        units[cpu] = unit.addr().get();
    }
    let chunk = Chunk {
        next: AtomicPtr::new(newest),
        units,
        granules: SpinLock::new(Granules::new()),
    };
    // SAFETY: fresh memory, large enough and page-aligned.
    unsafe { memory.write(chunk) };
    CHUNKS.store(memory.as_ptr(), Ordering::Release);
    Some(())
}
