//! Blocks that were handed out.

/// Larger blocks are not mapped.
pub const READABLE: usize = 1 << 15;

/// Who owns a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A task.
    Task(usize),
    /// The handlers on top of it.
    Handler(usize),
    /// Whoever takes it.
    Nobody,
    /// A callback for it is under way.
    Busy,
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Memory at its address.
    Plain,
    /// A copy for each CPU.
    Percpu {
        /// Where the first one lies.
        copies: usize,
        /// How far the next one lies behind.
        distance: usize,
    },
    /// Physical memory: its address is a number of its own.
    Phys,
}

/// A block that was handed out.
#[derive(Clone, Copy, Debug)]
pub struct Owned {
    /// Its address.
    pub start: usize,
    /// Its bytes.
    pub size: usize,
    /// Who may tell of it.
    pub owner: Owner,
    /// What it is.
    pub kind: Kind,
    /// It is not mapped now: nobody may read it.
    pub dark: bool,
}

impl Owned {
    /// Whether its memory, on `cpus` CPUs, meets `len` bytes at `start`; of physical memory this is by its number.
    pub(crate) fn meets(&self, start: usize, len: usize, cpus: usize) -> bool {
        let (from, size) = match self.kind {
            Kind::Plain | Kind::Phys => (self.start, self.size),
            Kind::Percpu { copies, distance } => (copies, distance * cpus),
        };
        start.wrapping_sub(from) < size || from.wrapping_sub(start) < len
    }
}
