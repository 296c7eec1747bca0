//! Roots: memory that is scanned without being an object.

use core::fmt;

/// A place in the walk over the roots, for the platform to fill as it likes. Starts all zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RootCursor {
    /// For example, which sort of root comes next.
    pub stage: usize,
    /// For example, which root of that sort.
    pub index: usize,
}

/// A range of memory that is scanned without being an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// What lies there.
    pub kind: RootKind,
    /// Address of the first byte; words are read at multiples of the word's size.
    pub start: usize,
    /// Its length in bytes.
    pub len: usize,
}

/// The sorts of roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootKind {
    /// A section of the kernel's image, such as `.data` or `.bss`.
    Section,
    /// The static per-CPU area of this CPU.
    PerCpu(u32),
    /// Descriptors of page frames that are in use; the first descriptor is the one of this frame number.
    Frames(u64),
    /// The live part of this task's stack, with the registers that it holds while the task waits.
    Stack(u32),
    /// The registers of this CPU, where they are not on a stack.
    Registers(u32),
    /// A region that was registered by hand.
    Region,
}

impl Root {
    /// Writes numbers for the word at `address`: the name of the root, and the distance from its start.
    pub(super) fn write_numbers(self, address: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        let offset = address.wrapping_sub(self.start);
        match self.kind {
            RootKind::Section => write!(out, "section {:#018x}+{offset:#x}", self.start),
            RootKind::PerCpu(cpu) => write!(out, "cpu {cpu} per-cpu area+{offset:#x}"),
            RootKind::Frames(first) => write!(out, "frames from {first:#x} on, +{offset:#x}"),
            RootKind::Stack(task) => write!(out, "task {task} stack+{offset:#x}"),
            RootKind::Registers(cpu) => write!(out, "cpu {cpu} registers+{offset:#x}"),
            RootKind::Region => write!(out, "region {:#018x}+{offset:#x}", self.start),
        }
    }
}
