//! What touches the machine; all `unsafe` is here.
//!
//! | module | what |
//! | --- | --- |
//! | [`start`] | from QEMU's 32-bit entry to 64-bit Rust |
//! | [`load`] | the way from the start information to the kernel, step by step |
//! | [`physical`] | reading and writing physical memory |
//! | [`mapping`] | the kernel's page tables |
//! | [`handover`] | leaving for the kernel |
//! | [`failure`] | telling why not |
//! | [`no_heap`] | the allocator that there is not |

mod failure;
mod handover;
mod load;
mod mapping;
mod no_heap;
mod physical;
mod start;
