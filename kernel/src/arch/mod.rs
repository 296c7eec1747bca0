//! The CPU: code for x86_64. It uses no other part of the kernel.
//!
//! | module | what |
//! | --- | --- |
//! | [`backtrace`] | walking the frame pointers |
//! | [`context`] | switching from one task's stack to another's |
//! | [`exit`] | ending the machine with an exit code |
//! | [`ending`] | whether the machine is being ended |
//! | [`gdt`] | the segments and the stacks of exceptions |
//! | [`interrupts`] | the interrupt flag |
//! | [`memory`] | where memory is mapped |
//! | [`mmio`] | registers of devices that are mapped into memory |
//! | [`percpu`] | per-CPU variables |
//! | [`protection`] | what a CPU is told to refuse |
//! | [`vector`] | interrupt vectors |

pub mod backtrace;
pub mod context;
pub mod ending;
pub mod exit;
pub mod gdt;
pub mod interrupts;
pub mod memory;
pub mod mmio;
pub mod percpu;
pub mod protection;
pub mod vector;
