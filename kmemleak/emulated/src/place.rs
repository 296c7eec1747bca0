//! Places: words outside all blocks.

use std::fmt;

/// Words of each section, per-CPU area, half of a stack and register set; and how many page frames there are.
pub const WORDS: usize = 64;

/// A word that is not in a block. Numbers of words stay below [`WORDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A word of the section of initialised variables.
    Data(usize),
    /// A word of the section of zeroed variables.
    Bss(usize),
    /// A word of this CPU's static per-CPU area.
    PerCpu(u32, usize),
    /// The descriptor of this page frame, which is in use.
    Page(usize),
    /// A word of the live part of the parked task's stack.
    Stack(usize),
    /// A word of that stack's dead part, below the stack pointer: no root.
    Dead(usize),
    /// A saved register of that task.
    Register(usize),
    /// A word of this region. It is a root while it is registered.
    Region(usize, usize),
}

impl fmt::Display for Place {
    /// As scripts of object graphs write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(word) => write!(f, "data {word}"),
            Self::Bss(word) => write!(f, "bss {word}"),
            Self::PerCpu(cpu, word) => write!(f, "percpu {cpu} {word}"),
            Self::Page(frame) => write!(f, "page {frame}"),
            Self::Stack(word) => write!(f, "stack {word}"),
            Self::Dead(word) => write!(f, "dead {word}"),
            Self::Register(register) => write!(f, "reg {register}"),
            Self::Region(region, word) => write!(f, "region {region} {word}"),
        }
    }
}
