//! Locks and what they disable.
//!
//! | lock | disables | waits by | for |
//! | --- | --- | --- | --- |
//! | [`SpinLock<T>`] | preemption | spinning | short sections of tasks |
//! | [`SpinLock<T, LocalIrqDisabled>`] | interrupts | spinning | what interrupt handlers lock, too |
//!
//! The lock that waits by sleeping is the scheduler's: [`Mutex`](crate::task::Mutex). In the test kernel a task can be made to panic
//! with a spinlock held (`trap`).

pub mod preempt;
mod spin;
#[cfg(feature = "scripted")]
pub mod trap;

pub use self::preempt::{IrqGuard, Pending, PreemptGuard, in_interrupt, is_disabled, running_task};
pub use self::spin::{Guardian, LocalIrqDisabled, PreemptDisabled, SpinLock, SpinLockGuard};
