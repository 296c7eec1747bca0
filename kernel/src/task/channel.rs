//! A channel: messages from any number of senders to one receiver, which sleeps while there is none.
//!
//! The two ends own the channel together. When the last sender is dropped the receiver is woken, and told so; what is sent to a
//! receiver that is gone is given back.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::WaitQueue;
use super::waits::Awaited;
use crate::arch::context;
use crate::mm::heap::{NoMemory, Room};
use crate::sync::SpinLock;

struct Shared<T> {
    messages: SpinLock<VecDeque<T>>,
    senders: AtomicUsize,
    receiver: WaitQueue,
}

/// The end of a channel to send by.
pub struct Sender<T>(Arc<Shared<T>>);

/// The end of a channel to receive by.
pub struct Receiver<T>(Arc<Shared<T>>);

/// A new channel. If there is no memory for it, there is none. Task context.
pub fn channel<T>() -> Result<(Sender<T>, Receiver<T>), NoMemory> {
    let _room = Room::for_arc::<Shared<T>>()?;
    let shared = Arc::new(Shared {
        messages: SpinLock::new(VecDeque::new()),
        senders: AtomicUsize::new(1),
        receiver: WaitQueue::new(),
    });
    Ok((Sender(shared.clone()), Receiver(shared)))
}

impl<T> Sender<T> {
    /// Sends a message. Task context.
    pub fn send(&self, message: T) {
        self.0.messages.lock().push_back(message);
        self.0.receiver.wake_one();
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.receiver.wake_all();
        }
    }
}

impl<T> Receiver<T> {
    /// The next message; sleeps until there is one. `None` if there is no sender any more. Task context, with no spinlock held.
    #[inline(always)]
    pub fn receive(&self) -> Option<T> {
        context::on_cleared_frame(|| self.next())
    }

    #[inline(never)]
    fn next(&self) -> Option<T> {
        let shared = &*self.0;
        shared.receiver.wait_for_as(Awaited::Message, || {
            // First: what the last sender has sent is there when its end is seen.
            let ended = shared.senders.load(Ordering::Acquire) == 0;
            let message = shared.messages.lock().pop_front();
            match message {
                None if !ended => None,
                message => Some(message),
            }
        })
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
