//! Builds the kernel and its loader and runs them under QEMU.
//!
//! The binary is `cargo run`; the tests that boot the kernel use the library. All that is known about
//! QEMU's command line and exit codes is here.
//!
//! | module | what |
//! | --- | --- |
//! | [`requirements`] | what must be installed, and how to get it |
//! | [`artifacts`] | building the loader and the kernels |
//! | [`machine`] | a machine to run, as QEMU's command line |
//! | [`outcome`] | how a machine ended |
//! | [`session`] | talking to a guest over its serial line |
//! | [`patience`] | how long that may take |
//! | [`leaks`] | the leak detector's verdict in the output |

pub mod artifacts;
pub mod leaks;
mod lifetime;
pub mod machine;
pub mod outcome;
pub mod patience;
pub mod requirements;
pub mod session;
