//! Tests that boot the kernel under QEMU.
//!
//! `tests/qemu` runs them, one named test each:
//!
//! - `guest::…`: functions of the test kernel (`guest/`), each in a kernel of its own;
//! - `boot::…`: the loader, and the ways in which a machine ends;
//! - `shell::…`: the kernel itself, typed at as somebody at the terminal would;
//! - `leaks::…`: leaks planted and found at its prompt;
//! - `minimal::…`: the crate's example kernel, which is not ours: it has only the boot stage in common with the kernel;
//! - `scripts::…`: leak scripts, run in the test kernel by their runner;
//! - `reports::…`, `questions::…`, `suppressions::…`, `commands::…`: what each of the detector's commands answers, line by line.
//!
//! This library is what they have in common.
//!
//! | module | what |
//! | --- | --- |
//! | [`guest`] | the test kernel's list of tests |
//! | [`machines`] | the machines that are booted |
//! | [`report`] | the detector's report, read back |
//! | [`selection`] | which tests are run |
//! | [`transcript`] | answers held against what is expected, line by line |

pub mod guest;
pub mod machines;
pub mod report;
pub mod selection;
pub mod transcript;
