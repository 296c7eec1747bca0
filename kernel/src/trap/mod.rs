//! The way into the kernel: interrupts and exceptions, and who handles them.
//!
//! Everything that handles one is called from here, so this folder is over all others but the start.

pub mod exceptions;
pub mod frame;
pub mod idt;
