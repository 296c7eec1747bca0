//! Locks and what they disable.
//!
//! | lock | disables | waits by | for |
//! | --- | --- | --- | --- |
//! | [`SpinLock<T>`] | preemption | spinning | short sections of tasks |
//! | [`SpinLock<T, LocalIrqDisabled>`] | interrupts | spinning | what interrupt handlers lock, too |
//! | [`Mutex<T>`] | nothing | sleeping | long sections of tasks |

mod mutex;
pub(crate) mod preempt;
mod spin;
mod wait_queue;

pub use self::mutex::{Mutex, MutexGuard};
pub use self::preempt::{IrqGuard, Pending, PreemptGuard, in_interrupt, is_disabled};
pub use self::spin::{Guardian, LocalIrqDisabled, PreemptDisabled, SpinLock, SpinLockGuard};
pub use self::wait_queue::WaitQueue;
