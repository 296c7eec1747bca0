//! Work, for tests that count it: entries of chunks, records, notes and links that are looked at.

extern crate std;

use core::cell::Cell;

std::thread_local! {
    static DONE: Cell<usize> = const { Cell::new(0) };
}

/// Called for each entry, record, note or link that is looked at.
pub(crate) fn count() {
    DONE.set(DONE.get() + 1);
}

/// How much this thread has done so far.
pub(crate) fn done() -> usize {
    DONE.get()
}
