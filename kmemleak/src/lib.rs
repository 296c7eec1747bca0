//! Finds memory that nothing points to any more, in kernels.
//!
//! A [`Detector`] is a static. Allocators tell it of each block, and it remembers who allocated it. When asked, it reads memory
//! from the roots on (sections, per-CPU areas, stacks: what the kernel's [`Platform`] names), as a conservative garbage collector
//! would, and reports what it could not reach. It frees nothing.
//!
//! A kernel with one global allocator gets a detector in a few lines:
//!
//! ```
//! use kmemleak::{BootstrapPool, Detector, IrqState, Platform};
//! use kmemleak::{Root, RootCursor, RootKind, Tracked};
//! use std::alloc::System; // a kernel would have a `linked_list_allocator::LockedHeap`, say
//! use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
//!
//! static TICKS: AtomicU64 = AtomicU64::new(0);
//! static GLOBALS: [AtomicUsize; 8] = [const { AtomicUsize::new(0) }; 8];
//!
//! struct Kernel;
//! // SAFETY: the root is a static; no interrupts, one thread; all blocks come from HEAP.
//! unsafe impl Platform for Kernel {
//!     fn now_us(&self) -> u64 { TICKS.fetch_add(1, Relaxed) } // a kernel would ask its clock
//!     fn irq_save(&self) -> IrqState { IrqState(0) }
//!     fn irq_restore(&self, _: IrqState) {}
//!     fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
//!         cursor.index += 1; // a kernel would name .data and .bss, then its stacks
//!         let (start, len) = (GLOBALS.as_ptr().expose_provenance(), size_of_val(&GLOBALS));
//!         (cursor.index == 1).then_some(Root { kind: RootKind::Section, start, len })
//!     }
//! }
//!
//! static POOL: BootstrapPool<16> = BootstrapPool::new(); // 16 pages of 4096 bytes
//! static KMEMLEAK: Detector<Kernel> = Detector::new(Kernel); // no bytes in the image
//! static HEAP: Tracked<System, Kernel> = Tracked::new(System, &KMEMLEAK);
//!
//! KMEMLEAK.add_metadata(POOL.take()); // before the first allocation
//!
//! # use std::alloc::{GlobalAlloc, Layout};
//! # // SAFETY: the layout is not of size zero.
//! # let block = unsafe { HEAP.alloc(Layout::new::<[u64; 8]>()) }.expose_provenance();
//! // With HEAP as the global allocator: let block = Box::into_raw(Box::new([0; 8]));
//! GLOBALS[0].store(block, Relaxed);
//! assert_eq!(KMEMLEAK.check().unwrap().objects, 0);
//! GLOBALS[0].store(0, Relaxed);
//! assert_eq!(KMEMLEAK.check().unwrap().objects, 1);
//! let mut report = String::new();
//! KMEMLEAK.report(&mut report).unwrap();
//! assert!(report.contains("unreferenced object") && report.contains(" 64 B "));
//! ```
//!
//! The [guide] goes on from there: tasks, several CPUs, what to do when a leak was not found or is none, and what all of it costs.
//!
//! # What it tells
//!
//! A verdict names *leaders*, each of which stands for all that was lost with it ([`Rank`]), by the call stack that allocated
//! them: [`Detector::report`], in text or JSON. Known leaks are [suppressed](Detector::suppress), and
//! [new](Detector::for_each_new) leaks are told from those that were there before. For an object that is alive the detector tells
//! what [holds](Detector::holders) it and by which [path](Detector::path) a root leads there; for any address,
//! [why](Detector::why) it is, or is not, reported; for a call site, what is
//! [alive](Detector::for_each_site) of what it allocated, and how that grows. [`Detector::command`] is all of that for a shell,
//! and [`assert_no_leaks!`] is for a kernel's own tests.
//!
//! # What a platform can add
//!
//! The place of the running stack (with that, call stacks and the registers follow), a way to stop several CPUs, names of
//! functions, per-CPU blocks, physical memory, and more: [`Platform`] has a table of its methods that says from where each is
//! called and what is missing without it.
//!
//! # Words
//!
//! | word | meaning |
//! | --- | --- |
//! | block, object | memory that an allocator handed out; the record that the detector keeps of it |
//! | root | memory that is scanned without being an object |
//! | reachable | on a chain of pointers from a root |
//! | unreferenced | not reachable, as far as a check could see |
//! | leak, suspect | an unreferenced object, if that is certain; if it is not |
//! | leader, owned | a leak that no other leak points to; a leak that was lost with its leader |
//! | gray, black | an object that is never a leak; one that is not scanned either |
//! | call stack, call site | the return addresses that led to an allocation; what was allocated by one call stack |
//! | check, scan | a verdict of all leaks, now; a pass in the background, which finds suspects |
//! | claim | the right to check, report or clear, which one task has at a time |
//! | mark, baseline | remembering the leaks that there are; what was remembered |
//! | suppression | a pattern of function names whose leaks are not reported |
//!
//! # Limits
//!
//! Targets need addresses of 64 bits, of which 48 count, and atomics of 64 bits: the page map and the records are laid out for
//! them. On other targets the crate does not compile, and the error says why.
//!
//! - A word that looks like a pointer is one. Live containers leave such words behind: what was popped from a vector or a
//!   ring, removed from a hash table, or was an enum's old variant hides its leak until the place is used again. Where that
//!   matters, overwrite the pointer before the element is removed ([`Detector::erase`] clears a word). In blocks that are used
//!   again, [`Tracked::wiping`] leaves none behind.
//! - The stack of the code that asks is a root. What earlier calls left where its frames now lie keeps blocks alive until it is
//!   overwritten: mostly in code that is not optimised, whose frames are large and are not filled. [`Detector::path`] names the
//!   word then. Ask from a task of its own, or from a function that has called little else.
//! - Pointers are found only where they are stored as they are, at multiples of eight bytes. Of a block in which they are physical
//!   addresses or packed, say so ([`Detector::read_as`]); where they are compressed, XORed or split, call [`Detector::not_leak`]. Tags
//!   in their upper bits are stripped with a line in [`Platform::words`] ([`Words::Tagged`]).
//! - What only a CPU holds is not seen unless it is told: of x86_64's descriptor tables and interrupt stacks by
//!   [`Detector::cpu_tables_add`].
//! - One past the end of a block is not in it: the raw pointer of an `Arc` of a type without fields, the `Waker` of one, and the
//!   pointer of an emptied `BytesMut` keep nothing alive. Keep the `Arc` itself, give the type a field, or call `not_leak`.
//! - Blocks are read only where [`Platform::readable`] or a [`Tracked`] vouches for them. A verdict for which no block could be
//!   read lists suspects, and says why.
#![no_std]

#[cfg(not(all(target_pointer_width = "64", target_has_atomic = "64")))]
compile_error!(
    "kmemleak needs a target with 64-bit addresses and 64-bit atomics: its page map and its records are laid out for them"
);

mod atomic;
mod checker;
#[cfg(feature = "elf")]
pub mod elf;
mod front;
pub mod guide;
mod marker;
mod metadata;
mod objects;
mod platform;
mod settings;
mod sizes;
mod stacks;
mod tracker;
mod verdict;

pub use crate::checker::claim::NotDone;
pub use crate::checker::counts::{CountSums, Miscount, Miscounted, NotCompared};
pub use crate::checker::live::{Colour, LiveObject, ObjectFilter};
pub use crate::checker::references::{
    Answer, Clue, HeldBy, LiesIn, NearMiss, NoAnswer, Reached, Slot, SlotPlace, Unreported,
    Untracked, Why,
};
pub use crate::checker::stack_only::{NoStackOnly, StackOnly, StackOnlySums};
pub use crate::checker::tasks::{LostTask, NoTasks, TaskSummary};
pub use crate::front::background::NextStep;
#[cfg(feature = "c-api")]
pub use crate::front::c_api;
pub use crate::front::control::parameters::ParameterError;
pub use crate::front::detector::Detector;
pub use crate::front::outcome::CommandError;
pub use crate::front::report::{
    BlockType, Format, FunctionText, TypeSearch, is_allocation_machinery,
};
pub use crate::front::scope::{Leaked, Scope};
pub use crate::front::tracked::Tracked;
pub use crate::metadata::load::Load;
pub use crate::metadata::pool::BootstrapPool;
pub use crate::platform::*;
pub use crate::stacks::frame_walk::frame_pointer_walk;
pub use crate::tracker::{AllocOptions, Metadata, Tracking};
pub use crate::verdict::call_sites::{Growth, Site, SiteOrder, TopSite};
pub use crate::verdict::groups::Group;
pub use crate::verdict::history::Trend;
pub use crate::verdict::iter::{Block, InteriorOnly, Rank, Unreferenced};
pub use crate::verdict::order::Which;
pub use crate::verdict::pattern::Pattern;
pub use crate::verdict::summary::{Doubt, How, Summary};
pub use crate::verdict::suppress::{SuppressError, Suppression};
