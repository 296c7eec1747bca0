//! The loader's decisions, made from the tables that QEMU leaves and from the kernel's file and its requests.
//! Nothing here touches the machine, so it is tested on the host; the binary's `machine` modules act on it.
//!
//! | module | what |
//! | --- | --- |
//! | [`start_info`] | the tables of the PVH boot protocol |
//! | [`memory_map`] | which memory is whose, and frames for the loader |
//! | [`image`] | the kernel's file: segments, entry, requests |
//! | [`address_space`] | which virtual addresses are still free |
//! | [`error`] | everything that may be wrong, as text |
#![no_std]

pub mod address_space;
pub mod error;
pub mod image;
pub mod memory_map;
pub mod start_info;

/// Bytes of the smallest page.
pub const PAGE: u64 = 4096;
