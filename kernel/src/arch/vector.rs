//! Interrupt vectors above the CPU's exceptions.

/// The local APIC's timer.
pub const TIMER: u8 = 0x20;
/// The serial line.
pub const SERIAL: u8 = 0x24;
/// Another CPU made a task ready.
pub const RESCHEDULE: u8 = 0xf0;
/// Another CPU asks to stop the world.
pub const STOP: u8 = 0xf1;
/// Another CPU changed the page tables.
pub const TLB: u8 = 0xf2;
/// The local APIC found an error.
pub const APIC_ERROR: u8 = 0xfe;
/// An interrupt went away before it was taken; not acknowledged.
pub const SPURIOUS: u8 = 0xff;
