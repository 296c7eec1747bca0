//! The leak detector in this kernel. Other folders use no more than single types of the `kmemleak` crate.
//!
//! | module | what | used by |
//! | --- | --- | --- |
//! | [`hooks`] | the detector, and how allocators tell it of blocks | allocators, tasks |
//! | [`player`] | the task that plays with it, for tests | the hooks |
//! | [`platform`], [`roots`], `names` | the kernel as the detector sees it | the detector alone |
//! | [`tasks`] | which tasks wait, and for what | the platform; executors |
//! | `freeze` | freezing memory for a check | the platform |
//! | `call_site` | call stacks without memory | panics |
//! | [`window`] | how long it keeps interrupts off | the benchmark |
//! | [`background`], [`parameters`] | the task that scans, the words of the command line | the start |

pub mod background;
mod call_site;
mod freeze;
pub mod hooks;
mod names;
pub mod parameters;
pub mod platform;
pub mod player;
pub mod roots;
pub mod tasks;
pub mod window;

pub use kmemleak::{Answer, Clue, CommandError, How, NotDone, RootKind, Slot, SlotPlace, Summary};

pub use self::background::hold_warnings;
pub use self::call_site::from_call_site;
pub use self::freeze::last_freeze;
pub use self::hooks::KMEMLEAK;
pub use self::platform::metadata_bytes;
