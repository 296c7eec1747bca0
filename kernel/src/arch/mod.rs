//! The machine: everything that knows x86_64, and all assembly.
//!
//! | module | what |
//! | --- | --- |
//! | [`acpi`] | the CPUs, the interrupt controllers and the HPET that the firmware tells of |
//! | [`apic`] | the local APIC: timer, interrupts between CPUs; the I/O APIC |
//! | [`backtrace`] | walking the frame pointers |
//! | [`context`] | switching from one task's stack to another's |
//! | [`exceptions`] | what happens on each exception |
//! | [`exit`] | ending the machine with a verdict |
//! | [`gdt`], [`idt`] | the tables the CPU reads |
//! | [`halt`] | halting the other CPUs when the machine ends |
//! | [`interrupts`] | the interrupt flag |
//! | [`memory`] | where memory is mapped |
//! | [`percpu`] | per-CPU variables |
//! | [`serial`] | the serial line |
//! | [`smp`] | starting the other CPUs |
//! | [`stop`] | stopping the world |
//! | [`time`] | the clock |
//! | [`tlb`] | forgetting stale translations on all CPUs |

pub mod acpi;
pub mod apic;
pub mod backtrace;
pub mod context;
pub mod exceptions;
pub mod exit;
pub mod gdt;
pub mod halt;
pub mod idt;
pub mod interrupts;
pub mod memory;
pub mod percpu;
pub mod serial;
pub mod smp;
pub mod stop;
pub mod time;
pub mod tlb;
