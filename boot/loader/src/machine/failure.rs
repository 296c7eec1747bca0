//! Telling why the kernel can't be started.

use core::fmt::{self, Arguments, Write};
use core::panic::PanicInfo;

use uart_16550::backend::PioBackend;
use uart_16550::{Config, Uart16550};
use x86_64::instructions::hlt;
use x86_64::instructions::port::PortWriteOnly;

/// The port of the first serial line.
const SERIAL_PORT: u16 = 0x3f8;

/// QEMU's isa-debug-exit device: a value v written to it ends QEMU with the exit code (v << 1) | 1.
const EXIT_PORT: u16 = 0xf4;
const EXIT_FAILURE: u32 = 0x11;

struct Serial(Uart16550<PioBackend>);

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.send_bytes_exact(text.as_bytes());
        Ok(())
    }
}

/// Prints the reason on the serial line and ends QEMU with failure.
pub fn fail(reason: Arguments<'_>) -> ! {
    // SAFETY: the first serial port of a PC, or no device at all; nobody else uses it yet.
    let uart = unsafe { Uart16550::new_port(SERIAL_PORT) };
    if let Ok(mut uart) = uart
        && uart.init(Config::default()).is_ok()
    {
        // The machine ends either way.
        let _ = write!(Serial(uart), "loader: {reason}\r\n");
    }
    // SAFETY: the port belongs to the exit device or to no device.
    unsafe { PortWriteOnly::new(EXIT_PORT).write(EXIT_FAILURE) };
    loop {
        hlt();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    fail(format_args!("{info}"))
}
