//! The serial line: a 16550 UART at the first port of every PC.
//!
//! Sending waits for the device. Receiving is by interrupt, into a ring that [`take`] empties. When the ring is full, the
//! receive interrupt is turned off, so that the next bytes wait in the device, and then in the sender: input is held back,
//! never lost.
//!
//! # Locks
//!
//! One, over device and ring, with interrupts off; no other lock is taken under it.

use arrayvec::ArrayVec;
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::IER;
use uart_16550::{Config, Uart16550};

use crate::sync::{LocalIrqDisabled, SpinLock};

/// The port of COM1.
const PORT: u16 = 0x3f8;

/// Received bytes that wait for a reader.
const RING: usize = 256;

struct Serial {
    uart: Option<Uart16550<PioBackend>>,
    received: ArrayVec<u8, RING>,
}

static SERIAL: SpinLock<Serial, LocalIrqDisabled> = SpinLock::new(Serial {
    uart: None,
    received: ArrayVec::new_const(),
});

/// Brings the device up. Without one, what is sent is dropped.
pub fn init() {
    // SAFETY: the first serial port of a PC, or no device at all; only the holder of the lock uses it.
    let uart = unsafe { Uart16550::new_port(PORT) };
    if let Ok(mut uart) = uart
        && uart.init(Config::default()).is_ok()
    {
        SERIAL.lock().uart = Some(uart);
    }
}

/// Turns the receive interrupt on.
pub fn enable_receive_interrupt() {
    if let Some(uart) = &mut SERIAL.lock().uart {
        uart.enable_interrupts(IER::DATA_READY);
    }
}

/// Sends all of `bytes`. Any context.
pub fn send(bytes: &[u8]) {
    if let Some(uart) = &mut SERIAL.lock().uart {
        uart.send_bytes_exact(bytes);
    }
}

/// The receive interrupt: moves what the device has into the ring.
pub fn receive() {
    let serial = &mut *SERIAL.lock();
    let Some(uart) = &mut serial.uart else { return };
    while !serial.received.is_full() {
        match uart.try_receive_byte() {
            Ok(byte) => serial.received.push(byte),
            Err(_) => return,
        }
    }
    uart.disable_interrupts(IER::DATA_READY);
}

/// Takes the bytes received so far, in memory that was cleared first. Task context.
pub fn take() -> ArrayVec<u8, RING> {
    let serial = &mut *SERIAL.lock();
    if serial.received.is_full()
        && let Some(uart) = &mut serial.uart
    {
        uart.enable_interrupts(IER::DATA_READY);
    }
    let mut bytes = ArrayVec::from([0; RING]);
    bytes.clear();
    bytes.extend(serial.received.drain(..));
    bytes
}

/// Opens the lock, if it is held, when the machine is being ended and the holder never goes on.
///
/// # Safety
///
/// The machine is being ended. All other CPUs are halted, or could not be halted, and then lines may mix.
pub unsafe fn break_lock() {
    if SERIAL.try_lock().is_none() {
        // SAFETY: the holder is halted or is ourselves, interrupted; it never goes on.
        unsafe { SERIAL.force_unlock() };
    }
}
