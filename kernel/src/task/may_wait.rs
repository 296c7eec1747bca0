//! Whether a task may wait.
//!
//! What waits, or yields, gives its CPU to another task, and goes on on any CPU. A guard that it holds meanwhile would be taken off the
//! count of that one: the CPU it has left is never preempted again, and joins no stop of the world; on the other the count is below
//! zero, which looks like a handler. So it is a mistake that ends the machine at once, also where the wait would have been
//! over before it began.

use crate::arch::ending;
use crate::sync::preempt;

/// Panics if this task must not wait: it holds a spinlock or another guard, or a handler runs on top of it. While the machine ends, waits are
/// answered otherwise ([`ending::must_not_wait`]).
#[inline(always)]
pub(super) fn may_wait() {
    if preempt::is_disabled() {
        must_not_wait();
    }
}

#[cold]
#[inline(never)]
fn must_not_wait() {
    if !ending::is_ending() {
        panic!("a task waits, or yields, while it holds a spinlock, or keeps its CPU otherwise");
    }
}
