//! What touches the machine; all `unsafe` is here.
//!
//! | module | what |
//! | --- | --- |
//! | [`start`] | from QEMU's 32-bit entry to 64-bit Rust |
//! | [`load`] | the way from the start information to the kernel, step by step |
//! | [`physical`] | reading and writing physical memory |
//! | [`mapping`] | the kernel's page tables |
//! | [`handover`] | leaving for the kernel |
//! | [`failure`] | telling why the kernel can't be started |
//! | [`no_heap`] | an allocator that has no memory |

mod failure;
mod handover;
mod load;
mod mapping;
mod no_heap;
mod physical;
mod start;
