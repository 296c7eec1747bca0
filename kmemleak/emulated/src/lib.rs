//! An emulated machine: the detector's second platform, in plain memory of the host.
//!
//! A leak detector that only runs inside a kernel is tested one boot at a time. This crate implements
//! [`Platform`](kmemleak::Platform) over memory of the process, so that a test builds a machine of its own, lays
//! out an object graph word by word, and asks a real detector what is lost. Tests of many machines run at
//! once in one process; nothing here is global but what belongs to a host thread.
//!
//! ```
//! use kmemleak::{AllocOptions, Detector};
//! use kmemleak_emulated::{Emulated, Machine, Place};
//!
//! let machine = Machine::new();
//! let detector: Detector<_> = Detector::new(Emulated::of(&machine));
//! let block = machine.slab(64);
//! detector.alloc(block, 64, AllocOptions::new());
//! machine.store(Place::Bss(0), block);
//! assert_eq!(detector.check().unwrap().objects, 0);
//! machine.store(Place::Bss(0), 0);
//! assert_eq!(detector.check().unwrap().objects, 1);
//! ```
//!
//! # What is emulated
//!
//! - *Memory* is real: addresses are the host's, so the detector's volatile loads work on them as they are. Under
//!   Miri, which asks where a pointer comes from, words are read by their exposed provenance. What is
//!   freed stays mapped with its last contents, as in a kernel, until the machine goes.
//! - *Roots* ([`Place`]): sections `data` and `bss`, a static per-CPU area for each CPU, a descriptor word for each of
//!   64 page frames, the stack and the saved registers of a parked task, and registered regions.
//! - *Allocators*: slab, pages, vmalloc and per-CPU blocks. They know nothing of the detector: a test calls its
//!   callbacks itself, and may so call the wrong ones.
//! - *CPUs* are host threads. A thread says which CPU it is with [`set_current`]; a stopped world has one thread for
//!   each CPU.
//! - *The clock* stands until it is told to move, unless the machine is built with [`Clock::Real`].
//! - *Call stacks* are labels that a test gives, or those of the host thread, walked by frame pointers.
//! - *Tasks* that wait are those that a test names ([`Machine::tasks`]); the parked task is one if it is named.
//! - *Frozen memory* is a copy of all memory, where a test allows it ([`Freeze`]).
//! - *Faults*: metadata runs out when the test says so, a CPU does not stop, memory becomes unreadable, and any checkpoint of a
//!   check may be the one at which the machine asks to stop.
//!
//! # Invariants
//!
//! - The detector's rules are checked from the platform's side: waiting, stopping the world or giving metadata back
//!   with interrupts off panics, so does giving back what was not given.
//! - No memory of the machine moves or is unmapped before the machine is dropped.
//! - All words are written by relaxed atomic stores, so that a detector may read beside them.
//!
//! # Locks
//!
//! `running` (what the world's stop waits for) is outermost; those of the allocators, of the regions and of
//! the metadata are taken for a few lines each, never one inside another.

mod allocators;
mod builder;
mod call_stack;
mod checkpoints;
mod clock;
mod cpus;
mod image;
mod machine;
mod memory;
mod metadata;
mod place;
mod platform;
mod tasks;

pub use crate::allocators::Allocator;
pub use crate::builder::Builder;
pub use crate::call_stack::{CallStacks, end_stack_at, frame_pointer, known_stack, look_for_stack};
pub use crate::checkpoints::Checkpoints;
pub use crate::clock::Clock;
pub use crate::cpus::{Running, Stop, comm_asked, set_comm, set_current};
pub use crate::image::{Freeze, Image};
pub use crate::machine::{Machine, PARKED_TASK, REGIONS};
pub use crate::place::{Place, WORDS};
pub use crate::platform::Emulated;
pub use crate::tasks::Tasks;
