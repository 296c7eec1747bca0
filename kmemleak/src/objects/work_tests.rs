//! Work on the index, for tests that count it: entries of chunks, records and notes that are looked at.

extern crate std;

use core::cell::Cell;

std::thread_local! {
    static DONE: Cell<usize> = const { Cell::new(0) };
}

/// Called for each entry, record or note that is looked at.
pub(crate) fn count() {
    DONE.set(DONE.get() + 1);
}

/// How much this thread has done so far.
pub(crate) fn done() -> usize {
    DONE.get()
}
