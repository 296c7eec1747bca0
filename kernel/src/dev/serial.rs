//! The serial line: a 16550 UART at the first port of every PC.
//!
//! Sending waits for the device. Receiving is by interrupt, into a ring that [`take_byte`] empties. When the ring is full, the
//! receive interrupt is turned off, so that the next bytes wait in the device, and then in the sender: input is held back,
//! never lost.
//!
//! # Locks
//!
//! One, over device and ring, with interrupts off; no other lock is taken under it.

use arrayvec::ArrayVec;
use uart_16550::spec::registers::IER;
use uart_16550::{Config, Uart16550};

use super::typed_ahead::TypedAhead;

use crate::sync::{LocalIrqDisabled, SpinLock};

/// The port of COM1.
const PORT: u16 = 0x3f8;

/// Received bytes that wait for a reader.
const RING: usize = 256;

struct Serial {
    uart: Option<Uart16550<TypedAhead>>,
    received: ArrayVec<u8, RING>,
    /// Whether the receive interrupt is off since the ring was full.
    held_back: bool,
}

impl Serial {
    /// Moves what the device has into the ring. If that is full the device keeps the rest, and raises no interrupt.
    fn fill(&mut self) {
        let Some(uart) = &mut self.uart else { return };
        while !self.received.is_full() {
            match uart.try_receive_byte() {
                Ok(byte) => self.received.push(byte),
                Err(_) => return,
            }
        }
        uart.disable_interrupts(IER::DATA_READY);
        self.held_back = true;
    }

    /// Turns the receive interrupt on again, if the ring was full and is not any more.
    fn go_on_receiving(&mut self) {
        if self.held_back
            && !self.received.is_full()
            && let Some(uart) = &mut self.uart
        {
            uart.enable_interrupts(IER::DATA_READY);
            self.held_back = false;
        }
    }
}

static SERIAL: SpinLock<Serial, LocalIrqDisabled> = SpinLock::new(Serial {
    uart: None,
    received: ArrayVec::new_const(),
    held_back: false,
});

/// Brings the device up. Without one, what is sent is dropped.
pub fn init() {
    // SAFETY: the first serial port of a PC, or no device at all; only the holder of the lock uses it.
    let port = unsafe { TypedAhead::begin(PORT) };
    // SAFETY: the ports of that device; its registers do not wrap around the end of the port space.
    let mut uart = unsafe { Uart16550::new_with_backend(port) };
    if uart.init(Config::default()).is_ok() {
        let typed = uart.backend_mut().end();
        let mut serial = SERIAL.lock();
        serial.received.extend(typed);
        serial.uart = Some(uart);
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
    SERIAL.lock().fill();
}

/// Where in the input a Ctrl-C is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed {
    /// Anywhere in what was received.
    Anywhere,
    /// Before all else.
    Next,
}

/// The byte of Ctrl-C.
const INTERRUPT: u8 = 0x03;

/// Takes the first Ctrl-C out of the input, if there is one where it is looked for. What else was received stays. Looks at the
/// device, so it works with interrupts off. Any context.
pub fn take_interrupt(typed: Typed) -> bool {
    let serial = &mut *SERIAL.lock();
    serial.fill();
    let place = serial.received.iter().position(|byte| *byte == INTERRUPT);
    let place = place.filter(|place| typed == Typed::Anywhere || *place == 0);
    place.is_some_and(|place| {
        serial.received.remove(place);
        serial.go_on_receiving();
        true
    })
}

/// Takes the first byte that was received, if there is one. Task context.
pub fn take_byte() -> Option<u8> {
    let serial = &mut *SERIAL.lock();
    let byte = serial.received.pop_at(0);
    serial.go_on_receiving();
    byte
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
