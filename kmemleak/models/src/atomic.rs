//! The detector's `crate::atomic`, of loom's atomics.
//!
//! Loom's atomics are no plain words, can't be made in a constant, and must be made before another thread may see them. So
//! those in statics are made when they are first touched, and a model touches all (by emptying what it made) before it spawns
//! threads. Those in pages of memory are made with the page, and found by their address.

use std::cell::{Cell, OnceCell, RefCell, UnsafeCell};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use loom::sync::atomic as loomed;
use loom::sync::{Mutex, MutexGuard};

pub(crate) use loom::hint::spin_loop;

use crate::platform::METADATA_PAGE;
use crate::weakening::{Part, ordering};

macro_rules! atomic {
    ($name:ident $number:ty, $of_page:ident) => {
        /// One of loom's, in the place of core's.
        #[derive(Debug)]
        pub(crate) struct $name {
            first: $number,
            own: OnceCell<loomed::$name>,
        }

        // SAFETY: all of loom's threads run on the one that searches, and a cell is filled in one step.
        unsafe impl Sync for $name {}

        #[expect(dead_code, reason = "the sources use a part of it")]
        impl $name {
            pub(crate) const fn new(first: $number) -> Self {
                Self {
                    first,
                    own: OnceCell::new(),
                }
            }

            /// The word of a page that lies there.
            ///
            /// # Safety
            ///
            /// No condition: an address outside of all pages panics.
            pub(crate) unsafe fn from_ptr<'a>(place: *mut $number) -> &'a Self {
                let page = page_of(place.addr());
                let index = place.addr() % METADATA_PAGE / size_of::<$number>();
                assert!(
                    place.addr().is_multiple_of(size_of::<$number>()),
                    "misaligned"
                );
                &page.$of_page[index]
            }

            fn own(&self) -> &loomed::$name {
                self.own.get_or_init(|| loomed::$name::new(self.first))
            }

            #[track_caller]
            pub(crate) fn load(&self, order: Ordering) -> $number {
                let order = ordering(Location::caller(), Part::Success, order);
                self.own().load(order)
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $number, order: Ordering) {
                let order = ordering(Location::caller(), Part::Success, order);
                self.own().store(value, order);
            }

            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                current: $number,
                new: $number,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$number, $number> {
                let at = Location::caller();
                let success = ordering(at, Part::Success, success);
                let failure = ordering(at, Part::Failure, failure);
                self.own().compare_exchange(current, new, success, failure)
            }

            #[track_caller]
            pub(crate) fn compare_exchange_weak(
                &self,
                current: $number,
                new: $number,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$number, $number> {
                self.compare_exchange(current, new, success, failure)
            }

            #[track_caller]
            pub(crate) fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                change: impl FnMut($number) -> Option<$number>,
            ) -> Result<$number, $number> {
                let at = Location::caller();
                let set = ordering(at, Part::Success, set);
                let fetch = ordering(at, Part::Failure, fetch);
                self.own().fetch_update(set, fetch, change)
            }

            #[track_caller]
            pub(crate) fn swap(&self, value: $number, order: Ordering) -> $number {
                let order = ordering(Location::caller(), Part::Success, order);
                self.own().swap(value, order)
            }

            #[track_caller]
            pub(crate) fn fetch_add(&self, value: $number, order: Ordering) -> $number {
                let order = ordering(Location::caller(), Part::Success, order);
                self.own().fetch_add(value, order)
            }

            #[track_caller]
            pub(crate) fn fetch_sub(&self, value: $number, order: Ordering) -> $number {
                let order = ordering(Location::caller(), Part::Success, order);
                self.own().fetch_sub(value, order)
            }

            #[track_caller]
            pub(crate) fn fetch_or(&self, value: $number, order: Ordering) -> $number {
                let order = ordering(Location::caller(), Part::Success, order);
                self.own().fetch_or(value, order)
            }

            #[track_caller]
            pub(crate) fn fetch_and(&self, value: $number, order: Ordering) -> $number {
                let order = ordering(Location::caller(), Part::Success, order);
                self.own().fetch_and(value, order)
            }
        }
    };
}

atomic!(AtomicU16 u16, quarters);
atomic!(AtomicU32 u32, halves);
atomic!(AtomicU64 u64, longs);
atomic!(AtomicUsize usize, words);

#[track_caller]
pub(crate) fn fence(order: Ordering) {
    let order = ordering(Location::caller(), Part::Success, order);
    // A relaxed fence orders nothing and is left out.
    if order != Ordering::Relaxed {
        loomed::fence(order);
    }
}

/// A spin lock, made of loom's mutex: a thread that waits lets others run.
#[derive(Debug)]
pub(crate) struct Lock<T> {
    own: OnceCell<Mutex<()>>,
    value: UnsafeCell<T>,
}

// SAFETY: all of loom's threads run on the one that searches; the value is under the mutex.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            own: OnceCell::new(),
            value: UnsafeCell::new(value),
        }
    }

    fn own(&self) -> &Mutex<()> {
        self.own.get_or_init(|| Mutex::new(()))
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        let guard = self.own().lock().expect("none is poisoned");
        Guard {
            value: &self.value,
            _guard: guard,
        }
    }

    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
        let guard = self.own().try_lock().ok()?;
        Some(Guard {
            value: &self.value,
            _guard: guard,
        })
    }
}

/// The right to use what is under a lock.
pub(crate) struct Guard<'a, T> {
    value: &'a UnsafeCell<T>,
    _guard: MutexGuard<'a, ()>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard's owner is alone.
        unsafe { &*self.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard's owner is alone.
        unsafe { &mut *self.value.get() }
    }
}

/// A page: its words in each size, of which each place is used in one only.
struct Page {
    quarters: Vec<AtomicU16>,
    halves: Vec<AtomicU32>,
    longs: Vec<AtomicU64>,
    words: Vec<AtomicUsize>,
}

impl Page {
    /// A page, each of whose words has this value in each size.
    fn new(value: u16) -> Self {
        macro_rules! all {
            ($name:ident $number:ty) => {
                (0..METADATA_PAGE / size_of::<$number>())
                    .map(|_| {
                        let word = $name::new(value.into());
                        word.own();
                        word
                    })
                    .collect()
            };
        }
        Self {
            quarters: all!(AtomicU16 u16),
            halves: all!(AtomicU32 u32),
            longs: all!(AtomicU64 u64),
            words: all!(AtomicUsize usize),
        }
    }
}

thread_local! {
    /// By their addresses, which are those of no memory.
    static PAGES: RefCell<BTreeMap<usize, Box<Page>>> = const { RefCell::new(BTreeMap::new()) };
    static SEARCHING: Cell<bool> = const { Cell::new(false) };
}

/// Whether a search goes on, on this thread.
pub(crate) fn is_searching() -> bool {
    SEARCHING.get()
}

pub(crate) fn set_searching(searching: bool) {
    SEARCHING.set(searching);
}

/// Before an execution: those of the one before are gone.
pub(crate) fn forget_pages() {
    PAGES.take();
}

/// A new page of zeros. Its address is the same in each execution that asks for as many pages.
pub(crate) fn new_page() -> NonNull<u8> {
    new_page_of(0)
}

/// A new page, each of whose words has this value in each size.
pub(crate) fn new_page_of(value: u16) -> NonNull<u8> {
    let page = Box::new(Page::new(value));
    PAGES.with_borrow_mut(|pages| {
        let address = (16 + pages.len()) * METADATA_PAGE;
        pages.insert(address, page);
        NonNull::new(std::ptr::with_exposed_provenance_mut(address)).expect("not zero")
    })
}

/// How many pages there are in this execution.
pub(crate) fn pages() -> usize {
    PAGES.with_borrow(BTreeMap::len)
}

fn page_of<'a>(address: usize) -> &'a Page {
    let page = PAGES.with_borrow(|pages| {
        let page = pages
            .get(&(address & !(METADATA_PAGE - 1)))
            .expect("a word of no page");
        std::ptr::from_ref::<Page>(page)
    });
    // SAFETY: it lies in its box until the next execution begins, when nothing of this one is left.
    unsafe { &*page }
}

/// The value of a word that is not written any more: fails where a write may still come.
///
/// # Safety
///
/// No condition: loom finds out whether a write may still come.
pub(crate) unsafe fn settled_u64(word: &AtomicU64) -> u64 {
    // SAFETY: loom looks whether it is.
    unsafe { word.own().unsync_load() }
}

/// The value of a word of this size that is not written any more: fails where a write may still come.
///
/// # Safety
///
/// As for [`settled_u64`].
pub(crate) unsafe fn settled_u16(word: &AtomicU16) -> u16 {
    // SAFETY: loom looks whether it is.
    unsafe { word.own().unsync_load() }
}
