//! The port of a UART that keeps what was typed before its driver came up.
//!
//! A driver that brings a 16550 up discards what it finds there. It finds one byte: a UART without its FIFO holds no more, and the
//! sender waits. So the first letter of a line that was typed while the machine booted would be missing, and the rest would be run.
//! This backend takes that byte out before the driver does, and keeps what the driver reads to discard it.
//!
//! Until the driver is done the UART is in loopback: then QEMU sends nothing in place of a byte that was read. It goes on when a byte
//! is read afterwards, whether or not there is one.

use arrayvec::ArrayVec;
use uart_16550::backend::Backend;
use uart_16550::spec::registers::{FCR, LCR, LSR, MCR, offsets};
use x86_64::instructions::port::Port;

/// Bytes that are kept: one, and as many as may come while the driver works.
pub const KEPT: usize = 32;

/// Ports of a UART.
pub struct TypedAhead {
    base: u16,
    /// What was read, until the driver is done.
    kept: Option<ArrayVec<u8, KEPT>>,
    /// Whether the first register is the divisor's.
    divisor: bool,
}

impl TypedAhead {
    /// The UART at these ports. [`end`](Self::end) is to be called when its driver is up.
    ///
    /// # Safety
    ///
    /// There is a UART, or nothing; nobody else uses it.
    pub unsafe fn begin(base: u16) -> Self {
        let mut port = Self {
            base,
            kept: Some(ArrayVec::new()),
            divisor: false,
        };
        port.out(offsets::MCR, MCR::LOOP_BACK.bits());
        port
    }

    /// The driver is up: what came until now.
    pub fn end(&mut self) -> ArrayVec<u8, KEPT> {
        let mut kept = self.kept.take().unwrap_or_default();
        let waits = self.has_byte();
        let byte = self.input(offsets::DATA);
        // An empty FIFO gives zero. Something else has come since the look before.
        if waits || byte != 0 {
            // What is too much could not be kept by the device either.
            let _ = kept.try_push(byte);
        }
        kept
    }

    fn has_byte(&mut self) -> bool {
        LSR::from_bits_retain(self.input(offsets::LSR)).contains(LSR::DATA_READY)
    }

    fn input(&mut self, offset: usize) -> u8 {
        // SAFETY: a register of the UART, which is this code's alone.
        unsafe { Port::new(self.base + offset as u16).read() }
    }

    fn out(&mut self, offset: usize, value: u8) {
        // SAFETY: as above.
        unsafe { Port::new(self.base + offset as u16).write(value) }
    }

    fn keep(&mut self, byte: u8) {
        if let Some(kept) = &mut self.kept {
            let _ = kept.try_push(byte);
        }
    }
}

impl Backend for TypedAhead {
    unsafe fn read(&mut self, offset: u8) -> u8 {
        let value = self.input(offset.into());
        if usize::from(offset) == offsets::DATA && !self.divisor {
            self.keep(value);
        }
        value
    }

    unsafe fn write(&mut self, offset: u8, mut value: u8) {
        match usize::from(offset) {
            offsets::LCR => self.divisor = value & LCR::DLAB.bits() != 0,
            // To switch the FIFO on clears it.
            offsets::FCR if self.kept.is_some() => {
                if self.has_byte() {
                    let byte = self.input(offsets::DATA);
                    self.keep(byte);
                }
                value &= !FCR::RX_FIFO_RESET.bits();
            }
            _ => {}
        }
        self.out(offset.into(), value);
    }
}
