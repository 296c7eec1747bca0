//! The devices of a PC, which a CPU reaches by ports and mapped registers.
//!
//! | module | what |
//! | --- | --- |
//! | [`acpi`] | the CPUs, the interrupt controllers and the HPET that the firmware reports |
//! | [`apic`] | the local APIC: timer, interrupts between CPUs; the I/O APIC |
//! | [`halt`] | halting the other CPUs when the machine ends |
//! | [`serial`] | the serial line; `typed_ahead` keeps what came before it was up |
//! | [`time`] | the clock |
//! | [`tlb`] | forgetting stale translations on all CPUs |

pub mod acpi;
pub mod apic;
pub mod halt;
pub mod serial;
pub mod time;
pub mod tlb;
mod typed_ahead;
