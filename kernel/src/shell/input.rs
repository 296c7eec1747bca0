//! Input: bytes of the serial line, for a task that waits for them.

use crate::dev::serial;
use crate::task::WaitQueue;

/// Tasks that wait for input.
static READERS: WaitQueue = WaitQueue::new();

/// The serial line's interrupt handler.
pub fn receive_interrupt() {
    serial::receive();
    READERS.wake_all();
}

/// Waits for a byte and takes it. Task context.
pub fn read_byte() -> u8 {
    READERS.wait_for(serial::take_byte)
}
