//! The entry of interrupts and exceptions into the kernel, and their dispatch to handlers.
//!
//! This folder calls all handlers, so it may use all other folders; only the start uses it.

pub mod exceptions;
pub mod frame;
pub mod idt;
