//! Puts names into the leak reports of a kernel that has none: functions, files, lines and inlined functions, from its ELF file.
//! Reads what the reports say.
//!
//! A kernel need not carry debug information to have readable reports. If its platform names no functions, reports show
//! addresses, and this program names them on the host. It reads a serial log, in which reports stand among anything else.
//!
//! - `line` finds out which lines are a report's: what their end looks like, so that prefixes do not matter.
//! - [`Rewriter`] goes through the log line by line, keeps lines back until it knows where a call stack begins, and passes
//!   everything else through.
//! - [`Kernel`] knows the names; `instances` has those with generic arguments, which tell the types of blocks (`block_type`),
//!   and `layouts` has the fields of types, in which words of blocks lie (`fields`).
//!
//! The records of JSON in a log are for programs: [`log::Log`] reads them, as values of the types in [`records`], and
//! [`function::functions_of`] takes a frame apart. [`findings::Findings`] is what a report has found, for tools that show results:
//! as [`junit`] XML, or as [`sarif`]. [`pictures`] are drawn from the log: [`graph::Graph`] is the heap as a graph, with what
//! each object keeps alive; a [`page`] shows all of it; [`heapsnapshot`], [`folded`] and [`pprof`] are for other tools.
//!
//! What the [`Rewriter`] writes has the format of `kmemleak/FORMATS.md`, as if the kernel had named the functions itself. A call stack
//! begins with the code that asked for memory, by the rule of the crate (`is_allocation_machinery`), and says the type of what it
//! allocates by the crate's as well (`TypeSearch`).
//!
//! Its memory is bounded by the kernel's file and the number of different addresses, not by the log.

#![forbid(unsafe_code)]

mod block_type;
mod dominators;
mod fields;
pub mod findings;
pub mod folded;
mod found;
pub mod function;
pub mod graph;
pub mod heapsnapshot;
mod instances;
mod json;
pub mod junit;
mod kernel;
mod layouts;
mod line;
pub mod log;
pub mod output;
pub mod page;
pub mod pictures;
pub mod pprof;
pub mod records;
mod rewriter;
mod roots;
pub mod sarif;
pub mod suspects;
pub mod usage;

pub use crate::found::Found;
pub use crate::kernel::{Frame, Kernel, KernelError, Names};
pub use crate::layouts::Word;
pub use crate::rewriter::{FramesShown, LinesShown, Rewriter};
