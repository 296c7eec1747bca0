//! What a script can say.
//!
//! All sizes and offsets are bytes. Text is borrowed from the script. What each statement and expectation means: `FORMAT.md`.

use alloc::vec::Vec;

/// A name that a script gave to an object.
pub type Name<'s> = &'s str;

/// Which allocator a block comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocator {
    /// Size classes, up to 8192 bytes.
    Slab,
    /// A power of two of pages.
    Pages,
    /// Whole pages.
    Vmalloc,
    /// A copy for each CPU.
    Percpu,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// Whether a block counts the references to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// It does not.
    None,
    /// It is an `Arc`'s: its first word is the strong count, its second one the weak count. Both are 1 at first.
    Arc,
}

/// An end of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Where it begins.
    Begin,
    /// Where it ends.
    End,
}

/// A word outside all objects, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A word of an initialised static array.
    Data(usize),
    /// A word of a zeroed static array.
    Bss(usize),
    /// A word of a static variable of this CPU.
    PerCpu(u32, usize),
    /// A word of the descriptor of this page frame, which is in use.
    Page(usize),
    /// A word of the live part of a parked task's stack.
    Stack(usize),
    /// A word of that stack below the stack pointer.
    Dead(usize),
    /// A saved register of that task.
    Register(usize),
    /// A word of this root region.
    Region(usize, usize),
}

/// A word inside an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'s> {
    /// The object.
    pub name: Name<'s>,
    /// Which copy of a per-CPU object.
    pub cpu: Option<u32>,
    /// Bytes from the object's start.
    pub offset: usize,
}

/// Where a word is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot<'s> {
    /// Inside an object.
    Word(Word<'s>),
    /// Outside all objects.
    Place(Place),
}

/// A task that can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiter<'s> {
    /// The parked task, whose stack and registers are places.
    Parked,
    /// A task whose words are those of this object: its control block, or a future.
    Object(Name<'s>),
}

/// What is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'s> {
    /// So many bytes from the start of an object, or from where a freed one started.
    At(Name<'s>, isize),
    /// The address after an object's last byte.
    End(Name<'s>),
    /// An object's address, inverted.
    Hidden(Name<'s>),
    /// A number.
    Number(usize),
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each is the word of the grammar, with its operands in order"
)]
pub enum Statement<'s> {
    Alloc {
        name: Name<'s>,
        size: usize,
        align: usize,
        min_count: i32,
        from: Allocator,
        site: &'s str,
        /// The type that its call stack says: the functions of its label are a constructor of that type, inlined into the label.
        block_type: Option<&'s str>,
        counted: Counting,
    },
    Free(Name<'s>),
    Realloc(Name<'s>, usize),
    FreePart(Name<'s>, usize, usize),
    Store(Slot<'s>, Target<'s>),
    NotLeak(Name<'s>),
    Ignore(Name<'s>),
    NoScan(Name<'s>),
    ScanArea(Name<'s>, usize, usize),
    TransientLeak(Name<'s>),
    UpdateTrace(Name<'s>, &'s str),
    Strong(Name<'s>, i64),
    Weak(Name<'s>, i64),
    Erase(Slot<'s>),
    RegionAdd(usize),
    RegionRemove(usize),
    Disabled(Scope),
    Suppress(&'s str),
    Stack(Switch),
    MinAgeMs(u64),
    AdvanceMs(u64),
    Scan,
    Check,
    Clear,
    Mark,
    Off,
    Metadata(Switch),
    Blocked(Waiter<'s>, Slot<'s>),
    Joins(Waiter<'s>, Waiter<'s>),
    Woken(Waiter<'s>),
    TaskList(Name<'s>),
    Expect(Expectation<'s>),
}

/// What a state can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Blocks are recorded.
    Enabled,
    /// Blocks are not recorded any more.
    Disabled,
    /// Blocks are recorded, but some could not be.
    Incomplete,
}

/// What the detector must say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each is the word of the grammar, with its operands in order"
)]
pub enum Expectation<'s> {
    Leaks(Vec<Name<'s>>),
    Direct(Vec<Name<'s>>),
    Indirect(Vec<Name<'s>>),
    Record(Name<'s>, usize, usize),
    Total { bytes: usize, blocks: usize },
    Groups(usize),
    Interior(Vec<Name<'s>>),
    Stacks(Vec<Name<'s>>),
    Suppressed(Vec<Name<'s>>),
    New(Vec<Name<'s>>),
    Growth(&'s str, i64, i64),
    Holders(Name<'s>, Vec<Slot<'s>>),
    Path(Name<'s>, Vec<Slot<'s>>),
    Type(Name<'s>, Option<&'s str>),
    Cycle(Name<'s>, Vec<Name<'s>>),
    Counts(Vec<(Name<'s>, i64)>),
    Warning(&'s str),
    Quiet,
    Tracked(usize),
    State(Expected),
    Lost(Vec<Waiter<'s>>),
    Retains(Waiter<'s>, usize, usize),
}
