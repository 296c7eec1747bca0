//! Dynamic per-CPU memory: blocks of which each CPU has its own copy.
//!
//! Blocks are cut from chunks. A chunk has one unit of memory for each CPU; a block lies at the same offset in
//! all of them. The block's handle is the address of its copy in CPU 0's unit. Which granules of a chunk are
//! taken, at which a block begins, and which of these blocks no user has any more, is kept in three bitmaps, so that a
//! wrong free is seen.
//!
//! Chunks are never given back: a chunk once found by [`percpu_copy`] stays good without a lock.
//!
//! # Locks
//!
//! One, with interrupts off; the buddy allocator's is taken under it.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::PAGE;
use super::buddy::{self, Tracking};
use super::misuse::{self, Misuse};
use super::returned::Returned;
use crate::arch::percpu::MAX_CPUS;
use crate::leak;
use crate::sync::{LocalIrqDisabled, SpinLock};

/// Bytes of one CPU's part of a chunk, and so of the largest block.
pub const UNIT: usize = 32 * 1024;

/// Blocks begin at multiples of this, and take multiples of it.
const GRANULE: usize = 16;

const WORDS: usize = UNIT / GRANULE / 64;

/// A chunk. All but the bitmaps is written once, before it is in the list.
struct Chunk {
    next: AtomicPtr<Chunk>,
    units: [usize; MAX_CPUS],
    taken: SpinLock<Bitmaps, LocalIrqDisabled>,
}

struct Bitmaps {
    taken: [u64; WORDS],
    first: [u64; WORDS],
    /// Of the blocks that begin there, those that have been taken back from their users and are not free yet.
    returning: [u64; WORDS],
}

const _: () = assert!(size_of::<Chunk>() <= PAGE);

static CHUNKS: AtomicPtr<Chunk> = AtomicPtr::new(ptr::null_mut());
static GROWING: SpinLock<(), LocalIrqDisabled> = SpinLock::new(());
static CPUS: AtomicU32 = AtomicU32::new(1);

/// Sets for how many CPUs blocks are made. Before the first one is taken.
pub fn init(cpus: u32) {
    CPUS.store(cpus.max(1), Ordering::Release);
}

/// For how many CPUs blocks are made. Any context.
pub fn cpus() -> u32 {
    CPUS.load(Ordering::Acquire)
}

impl Bitmaps {
    fn find(&self, granules: usize, align: usize) -> Option<usize> {
        let mut start = 0;
        while start + granules <= UNIT / GRANULE {
            match (start..start + granules)
                .rev()
                .find(|&at| is_set(&self.taken, at))
            {
                None => return Some(start),
                Some(taken) => start = (taken + 1).next_multiple_of(align),
            }
        }
        None
    }

    fn take(&mut self, granules: usize, align: usize) -> Option<usize> {
        let start = self.find(granules, align)?;
        (start..start + granules).for_each(|at| self.taken[at / 64] |= 1 << (at % 64));
        self.first[start / 64] |= 1 << (start % 64);
        Some(start)
    }

    /// Takes a block from its user, and tells how many granules it has.
    fn take_back(&mut self, start: usize) -> Result<usize, Misuse> {
        if !is_set(&self.taken, start) || is_set(&self.returning, start) {
            return Err(Misuse::DoubleFree);
        }
        if !is_set(&self.first, start) {
            return Err(Misuse::NotABlock);
        }
        self.returning[start / 64] |= 1 << (start % 64);
        let is_inside = |&at: &usize| is_set(&self.taken, at) && !is_set(&self.first, at);
        Ok(1 + (start + 1..UNIT / GRANULE).take_while(is_inside).count())
    }

    /// Makes a block free that has been taken back.
    fn put_away(&mut self, start: usize, granules: usize) {
        self.returning[start / 64] &= !(1 << (start % 64));
        self.first[start / 64] &= !(1 << (start % 64));
        (start..start + granules).for_each(|at| self.taken[at / 64] &= !(1 << (at % 64)));
    }
}

fn is_set(bitmap: &[u64; WORDS], at: usize) -> bool {
    bitmap[at / 64] & 1 << (at % 64) != 0
}

fn chunks() -> impl Iterator<Item = &'static Chunk> {
    let load = |chunk: &AtomicPtr<Chunk>| {
        // SAFETY: null, or a chunk, which is never given back.
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

/// Takes a block of `len` bytes (at most [`UNIT`]) a CPU, zeroed, aligned to `align` (a power of two, at most a
/// page), and returns its handle. Any context.
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
            chunks().find_map(|chunk| Some((chunk, chunk.taken.lock().take(granules, align)?)));
        match found {
            Some(found) => break found,
            None => grow(newest)?,
        }
    };
    let cpus = CPUS.load(Ordering::Acquire) as usize;
    for unit in &chunk.units[..cpus] {
        let copy: *mut u8 = ptr::with_exposed_provenance_mut(unit + start * GRANULE);
        // SAFETY: inside the unit, and the block is nobody's yet.
        unsafe { copy.write_bytes(0, granules * GRANULE) };
    }
    let handle = chunk.units[0] + start * GRANULE;
    leak::alloc_percpu(handle, len);
    Some(handle)
}

/// Gives a block back. What is no block's handle is told on the console, and nothing else happens. Any context.
#[unsafe(link_section = ".text.hooks")]
pub fn free_percpu(handle: usize) {
    let place = chunk_of(handle).filter(|(_, offset)| offset.is_multiple_of(GRANULE));
    let Some((chunk, offset)) = place else {
        return misuse::tell("percpu", Misuse::NotABlock, handle);
    };
    let start = offset / GRANULE;
    let taken = chunk.taken.lock().take_back(start);
    let granules = match taken {
        Ok(granules) => granules,
        Err(misuse) => return misuse::tell("percpu", misuse, handle),
    };
    leak::free_percpu(&Returned::new(handle, granules * GRANULE));
    chunk.taken.lock().put_away(start, granules);
}

/// Where a CPU's copy of the block with this handle (or of the byte at an offset from it) lies. Any context.
///
/// An address that is in no chunk comes back as it is.
pub fn percpu_copy(handle: usize, cpu: u32) -> usize {
    match chunk_of(handle) {
        Some((chunk, offset)) => chunk.units[cpu as usize % MAX_CPUS] + offset,
        None => handle,
    }
}

/// Adds a chunk, unless somebody has since `newest` was.
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
        taken: SpinLock::new(Bitmaps {
            taken: [0; WORDS],
            first: [0; WORDS],
            returning: [0; WORDS],
        }),
    };
    // SAFETY: fresh memory, large enough and page-aligned.
    unsafe { memory.write(chunk) };
    CHUNKS.store(memory.as_ptr(), Ordering::Release);
    Some(())
}
