//! Ending the machine, with an exit code.

use x86_64::instructions::port::Port;

use super::interrupts;

/// QEMU's isa-debug-exit device: a value v written to it ends QEMU with the exit code (v << 1) | 1.
const DEBUG_EXIT_PORT: u16 = 0xf4;

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ExitCode {
    /// All went well; QEMU's exit code is 33.
    Success = 0x10,
    /// Something failed; QEMU's exit code is 35.
    Failure = 0x11,
    /// The machine ended as it should, but a command was not understood, or failed; QEMU's exit code is 37.
    NotUnderstood = 0x12,
}

/// Ends QEMU; on a machine without its exit device, halts this CPU. Any context.
pub fn exit(code: ExitCode) -> ! {
    // SAFETY: the port belongs to the exit device or to no device.
    unsafe { Port::new(DEBUG_EXIT_PORT).write(code as u32) };
    interrupts::halt_forever()
}
