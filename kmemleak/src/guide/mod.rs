//! How to put the detector into a kernel, and what to do when it says something unexpected.
//!
//! 1. [Ten lines](ten_lines): a kernel with one CPU and one allocator.
//! 2. [Roots](roots): what to name, what not to name, and by what means.
//! 3. [Stacks and stopping the world](stacks): tasks, several CPUs, the stack that a check runs on.
//! 4. [Per-CPU and physical memory](memory), slabs, pages and areas.
//! 5. [Reading a report](reports).
//! 6. [Why a leak was not found](missed).
//!    [Idioms](idioms): ways to lose memory, and what is reported of each.
//! 7. [Why this is no leak](false_leaks): what looks lost and is in use.
//! 8. [Costs](costs): memory, time, pauses.
//! 9. [Contexts](contexts): a checklist for each method of [`Platform`](crate::Platform).

#[doc = include_str!("contexts.md")]
pub mod contexts {}
#[doc = include_str!("costs.md")]
pub mod costs {}
#[doc = include_str!("false_leaks.md")]
pub mod false_leaks {}
#[doc = include_str!("idioms.md")]
pub mod idioms {}
#[doc = include_str!("memory.md")]
pub mod memory {}
#[doc = include_str!("missed.md")]
pub mod missed {}
#[doc = include_str!("reports.md")]
pub mod reports {}
#[doc = include_str!("roots.md")]
pub mod roots {}
#[doc = include_str!("stacks.md")]
pub mod stacks {}
#[doc = include_str!("ten_lines.md")]
pub mod ten_lines {}
