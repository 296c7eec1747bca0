//! What each folder may use, and what is said nowhere but in its place.

/// The layers of a tree: each folder, with the folders that it may use.
pub type Layers = &'static [(&'static str, &'static str)];

/// Of the detector: each folder, with the folders that it may use. All others are above it, or beside it.
pub const DETECTOR: Layers = &[
    ("atomic", ""),
    ("sizes", ""),
    ("settings", "atomic"),
    ("platform", "atomic"),
    ("elf", "platform"),
    ("metadata", "platform atomic"),
    ("stacks", "metadata platform atomic sizes"),
    ("objects", "stacks metadata platform atomic sizes"),
    (
        "tracker",
        "objects stacks metadata platform settings atomic",
    ),
    ("marker", "objects stacks metadata platform atomic"),
    (
        "verdict",
        "marker tracker objects stacks metadata platform atomic",
    ),
    (
        "checker",
        "verdict marker tracker objects stacks metadata platform atomic",
    ),
    (
        "front",
        "checker verdict marker tracker objects stacks metadata platform atomic",
    ),
    (
        "lib",
        "front checker verdict tracker stacks metadata elf platform",
    ),
];

/// Of the kernel. The detector's hooks lie below the allocators, the rest of its folder over nearly all.
pub const KERNEL: Layers = &[
    ("arch", ""),
    ("sync", "arch"),
    ("dev", "arch sync"),
    ("console", "dev sync"),
    ("edited", "console sync"),
    ("foreground", "console dev arch"),
    ("cmdline", ""),
    ("leak::player", "sync"),
    ("leak::hooks", "leak::player"),
    ("mm", "leak::hooks console dev arch sync"),
    ("task", "mm leak::hooks dev arch sync"),
    ("stop", "task dev arch sync"),
    ("scripted", "task leak::player dev"),
    ("symbols", "task mm arch sync"),
    (
        "leak",
        "leak::hooks leak::player scripted stop symbols task mm edited foreground console cmdline dev arch sync",
    ),
    ("panic", "leak leak::hooks symbols task mm console dev arch"),
    (
        "shell",
        "leak leak::hooks symbols task mm edited foreground console cmdline dev arch sync",
    ),
    ("trap", "shell panic stop task mm dev arch sync"),
    ("smp", "trap stop task mm dev arch sync"),
    (
        "lib",
        "smp trap shell panic leak symbols stop task mm console cmdline dev arch sync",
    ),
];

/// Words, and how the modules begin whose files alone say them.
pub type Nevers = &'static [(&'static str, &'static str)];

pub const NEVERS: Nevers = &[
    ("Claim", "checker front lib"),
    ("Verdict", "verdict checker front lib"),
    ("LeakList", "verdict checker front"),
    ("Tracker", "tracker verdict checker front"),
    ("Marker", "marker verdict checker"),
    ("Object", "objects tracker marker verdict checker front"),
    // Text is the front's, but for what an error or a pattern says of itself.
    ("writeln!", "front"),
    (
        "write!",
        "front elf platform metadata::hidden stacks::depot verdict::summary verdict::suppress verdict::pattern",
    ),
    // Who may be shared or sent without the compiler's word for it.
    ("unsafe impl Sync", "metadata::pool elf::headers"),
    ("unsafe impl Send", "metadata"),
    ("unsafe impl<T: Send> Send", "metadata"),
    ("impl<P: Platform> Detector<P>", "front::detector"),
    ("asm!", "platform::arch"),
    // What a simulation replaces.
    ("spin::", "atomic"),
    ("sync::atomic::{", "atomic"),
    ("sync::atomic::AtomicBool", "atomic"),
    ("sync::atomic::AtomicU8", "atomic"),
    ("sync::atomic::AtomicU16", "atomic"),
    ("sync::atomic::AtomicU32", "atomic"),
    ("sync::atomic::AtomicU64", "atomic"),
    ("sync::atomic::AtomicUsize", "atomic"),
    ("sync::atomic::AtomicPtr", "atomic"),
    ("hint::spin_loop", "atomic platform"),
];

/// In the kernel: where the detector is named, and what it hears of frees.
pub const KERNEL_NEVERS: Nevers = &[
    // The walk over frame pointers, a task's name, and the kinds of a stop are the crate's.
    ("kmemleak::", "leak task stop arch::backtrace"),
    ("KMEMLEAK", "leak panic shell"),
    // What lets the detector forget a block is made in one place.
    ("TakenBack", "leak::hooks mm::release"),
];

/// Types whose fields are their own folder's.
pub const PRIVATE: &[&str] = &["Detector", "Tracker", "Checker"];

/// Lines of a file at most, and of nine in ten.
pub const MOST_LINES: usize = 500;
pub const MANY_LINES: usize = 400;
