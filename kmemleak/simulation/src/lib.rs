//! All of the detector, and an emulated kernel round it, under one seed.
//!
//! A test with threads sees the orders that a machine happens to produce. Here nothing happens by chance: the detector's whole source
//! is compiled once more over the atomics of `atomic`, each access to which is a moment at which another CPU may go on. Which one
//! does is decided by `shuttle`, from a number; the same number decides what the kernel does, and where its blocks lie. So a number
//! that fails does so each time.
//!
//! - [`world`]: the kernel, as the detector's platform: memory is a map, so blocks lie anywhere in the address space; CPUs and
//!   tasks that migrate, and others that end while their stacks are read; interrupts, stops of the world, a clock, metadata that
//!   may be refused.
//! - [`actor`]: the calls that tasks and interrupt handlers make; [`tasks`]: what tasks do.
//! - [`owned`]: the blocks that it has handed out.
//! - [`oracle`]: what must be said of it, by the rules of `kmemleak/tests/model`.
//! - [`passes`]: checks and scans, and what they must say.
//! - [`run`]: a run, from its seed.
//!
//! # How the sources are compiled once more
//!
//! The modules of `kmemleak/src` are this crate's own, by their paths, all but `atomic`. So `crate::atomic` in them is the module here,
//! and the published crate has neither a feature nor a `cfg` for it. A source that takes an atomic or a lock from elsewhere would
//! escape; `kmemleak/tests/house` does not let it.
//!
//! # What it can't see
//!
//! All accesses are sequentially consistent: what a weaker order may do is for `kmemleak/models`. CPUs change places at accesses of
//! atomics and of emulated memory alone, so that two of them write to one plain word at once is for the sanitizers. And memory
//! that is a map is read word by word ([`Words::Foreign`]): the loop that reads several plain words is for the tests over real memory.

// As a test of its own (which only lints ask for) it would need the sources' unit tests.
#![cfg(not(test))]

pub mod actor;
mod atomic;
pub mod oracle;
pub mod owned;
pub mod passes;
pub mod run;
pub mod schedule;
mod subject;
pub mod tasks;
pub mod world;

/// The detector's modules, whose sources lie there.
macro_rules! borrowed {
    ($($name:ident $path:literal)*) => {$(
        #[path = $path]
        mod $name;
    )*};
}

borrowed! {
    checker "../../src/checker/mod.rs"
    front "../../src/front/mod.rs"
    marker "../../src/marker/mod.rs"
    metadata "../../src/metadata/mod.rs"
    objects "../../src/objects/mod.rs"
    platform "../../src/platform/mod.rs"
    settings "../../src/settings.rs"
    sizes "../../src/sizes.rs"
    stacks "../../src/stacks/mod.rs"
    tracker "../../src/tracker/mod.rs"
    verdict "../../src/verdict/mod.rs"
}

// Its public names.
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
