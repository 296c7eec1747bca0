//! Input: bytes of the serial line, for a task that waits for them.

use arrayvec::ArrayVec;

use crate::dev::serial;
use crate::task::WaitQueue;

/// Tasks that wait for input.
static READERS: WaitQueue = WaitQueue::new();

/// The serial line's interrupt handler.
pub fn receive_interrupt() {
    serial::receive();
    READERS.wake_all();
}

/// Waits for input and takes it. Task context.
pub fn read() -> ArrayVec<u8, 256> {
    READERS.wait_for(|| {
        let bytes = serial::take();
        (!bytes.is_empty()).then_some(bytes)
    })
}
