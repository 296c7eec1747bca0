//! A kernel of one CPU that implements as little as it may: no stop of the world, no names, no call stacks.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use kmemleak::{IrqState, METADATA_PAGE, Platform, Root, RootCursor, RootKind};

/// An address at which the host has nothing, and all above it in half the address space of a user.
pub const FAR: usize = 0x2000_0000_0000;
const FAR_END: usize = 0x4000_0000_0000;

pub struct OneCpu {
    root: Box<AtomicUsize>,
    pieces: AtomicUsize,
}

impl OneCpu {
    pub fn new() -> Self {
        Self {
            root: Box::default(),
            pieces: AtomicUsize::new(0),
        }
    }

    /// The one word of the one root.
    pub fn hold(&self, word: usize) {
        self.root.store(word, Ordering::Relaxed);
    }

    /// How often interrupts have been switched off so far.
    pub fn pieces(&self) -> usize {
        self.pieces.load(Ordering::Relaxed)
    }
}

/// A page of metadata: fresh memory of the host.
pub fn metadata_page() -> Option<NonNull<u8>> {
    let layout = Layout::from_size_align(METADATA_PAGE, METADATA_PAGE).ok()?;
    // SAFETY: the layout is not of size zero.
    let page = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })?;
    page.expose_provenance();
    Some(page)
}

// SAFETY: the root is the platform's own; there are no interrupts, and one thread; pages are fresh memory of the host.
unsafe impl Platform for OneCpu {
    fn now_us(&self) -> u64 {
        1
    }

    fn irq_save(&self) -> IrqState {
        self.pieces.fetch_add(1, Ordering::Relaxed);
        IrqState(0)
    }

    fn irq_restore(&self, _: IrqState) {}

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        cursor.index += 1;
        (cursor.index == 1).then(|| Root {
            kind: RootKind::Section,
            start: core::ptr::from_ref(&*self.root).expose_provenance(),
            len: size_of::<AtomicUsize>(),
        })
    }

    fn metadata_alloc(&self) -> Option<NonNull<u8>> {
        metadata_page()
    }

    unsafe fn metadata_free(&self, page: NonNull<u8>) {
        let layout = Layout::from_size_align(METADATA_PAGE, METADATA_PAGE).expect("a page's");
        // SAFETY: it was allocated so above.
        unsafe { std::alloc::dealloc(page.as_ptr(), layout) };
    }

    fn readable(&self, start: usize, _: usize) -> bool {
        !(FAR..FAR_END).contains(&start)
    }
}
