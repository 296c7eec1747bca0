//! Leak scripts: one file, one object graph, one verdict.
//!
//! A script allocates blocks, stores pointers in them and in roots, cuts references, checks, and states what the
//! detector must say. It names things, not addresses, so the same file runs wherever somebody implements
//! [`Machine`]: on the host over an emulated machine ([`host`]), in a kernel over its real allocators.
//!
//! ```text
//! alloc A 16
//! alloc B 16
//! bss 0 = A
//! A+8 = B
//! check
//! expect leaks none
//! bss 0 = 0
//! check
//! expect leaks A B
//! ```
//!
//! The whole language is described in `kmemleak/leak-script/FORMAT.md`.
//!
//! # The way of a script
//!
//! [`Script::parse`] makes [`Statement`]s of text: the whole grammar, whatever the detector can do. [`run`] takes
//! them one after another: it keeps what each name means, moves the clock between any two statements, and compares.
//! It speaks to the detector through one file, `detector.rs`, which has a line for each thing that can be asked
//! of it; what can't be is a failure of the script that says so. Where the next script is to have the same detector,
//! [`reset`] undoes what is left.
//!
//! # Invariants
//!
//! - The interpreter keeps no object alive: it stores addresses inverted, in its own heap as elsewhere.
//! - The detector hears of a block when it is out of its allocator, and for the last time before it goes back.
//! - Each statement but `alloc` calls from a site of its own, so that its warning is told whatever was told before.
#![no_std]

extern crate alloc;

mod detector;
mod failure;
mod hidden;
#[cfg(not(target_os = "none"))]
pub mod host;
mod lost;
mod machine;
#[cfg(not(target_os = "none"))]
pub mod museum;
mod names;
mod parse;
mod reset;
mod run;
mod statement;
mod tasks;
mod verify;

pub use crate::failure::{Failure, Reason};
pub use crate::machine::{Checks, Machine, Supply, alignment};
pub use crate::parse::{Only, Script};
pub use crate::reset::reset;
pub use crate::run::run;
pub use crate::statement::{
    Allocator, Counting, Expectation, Expected, Name, Place, Scope, Slot, Statement, Switch,
    Target, Waiter, Word,
};
