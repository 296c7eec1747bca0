//! Magazines: free objects that a CPU has for itself.

use core::ptr::{self, NonNull};
use core::sync::atomic::AtomicU64;

use crate::mm::PAGE;
use crate::mm::buddy::{self, Tracking};
use crate::sync::{LocalIrqDisabled, SpinLock};

/// Objects in a full magazine: so many that a magazine has 256 bytes.
pub(super) const MAGAZINE_LEN: usize = 29;

/// One CPU's free objects of one cache.
#[repr(C)]
pub(super) struct Magazine {
    pub(super) len: usize,
    /// Objects that this CPU has handed to users, and taken back. Atomic because other CPUs read them.
    pub(super) allocs: AtomicU64,
    pub(super) frees: AtomicU64,
    pub(super) objects: [usize; MAGAZINE_LEN],
}

/// The page that the next magazine is cut from; it is never freed. No address of its end is kept: another block may begin
/// there, and the address would keep that block reachable.
struct Pool {
    page: usize,
    used: usize,
}

static POOL: SpinLock<Pool, LocalIrqDisabled> = SpinLock::new(Pool {
    page: 0,
    used: PAGE,
});

pub(super) fn new_magazine() -> Option<NonNull<Magazine>> {
    let mut pool = POOL.lock();
    if pool.used + size_of::<Magazine>() > PAGE {
        let page = buddy::alloc(0, Tracking::Untracked)?;
        pool.page = page.addr().get();
        pool.used = 0;
    }
    let place = pool.page + pool.used;
    let magazine = NonNull::new(ptr::with_exposed_provenance_mut::<Magazine>(place))?;
    pool.used += size_of::<Magazine>();
    let empty = Magazine {
        len: 0,
        allocs: AtomicU64::new(0),
        frees: AtomicU64::new(0),
        objects: [0; MAGAZINE_LEN],
    };
    // SAFETY: cut from the pool's page, aligned, and not in use yet.
    unsafe { magazine.write(empty) };
    Some(magazine)
}
