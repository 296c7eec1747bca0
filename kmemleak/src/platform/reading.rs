//! How memory is read whose pointers are not stored as plain words.

use core::fmt;

/// How the pointers in a block or a region are stored: for [`Detector::read_as`](crate::Detector::read_as) and
/// [`Detector::region_add_as`](crate::Detector::region_add_as).
///
/// Nearly all memory holds pointers as [`Words`](Self::Words). Another reading costs more for each byte, so it is for the few
/// blocks that need it. Where words have tags (`Platform::words`), they are stripped from plain pointers in each reading.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// Each whole word at a multiple of eight bytes may be a pointer.
    #[default]
    Words,
    /// Each whole word may hold a physical address, in the bits of `mask`; its other bits are flags or a length: page tables,
    /// rings of a device. [`Platform::phys_to_virt`] says where that memory is mapped, and it must say so for any number below
    /// 2^47; larger numbers are no physical addresses. A word of which this makes no address in a tracked block is read as a plain
    /// pointer, so a block may hold both. Each word counts once.
    ///
    /// [`Platform::phys_to_virt`]: crate::Platform::phys_to_virt
    Physical {
        /// The bits of a word that are bits of the address: [`PAGE_TABLE`](Self::PAGE_TABLE), [`PHYSICAL`](Self::PHYSICAL), or
        /// what a device's manual says.
        mask: usize,
    },
    /// A pointer may begin at each byte: packed structures. For memory of at most [`MAX_BYTES`](Self::MAX_BYTES), since the more
    /// numbers are tried the more of them look like pointers.
    Bytes,
    /// An x86_64 descriptor table: the base of each system descriptor of a GDT, the target of each gate of an IDT, and any other
    /// word as it is. A *region* that is read so is known to the CPU (GDTR, IDTR), so the block in which it begins counts as
    /// pointed to. [`Detector::cpu_tables_add`](crate::Detector::cpu_tables_add) does all that a CPU needs.
    DescriptorTable,
    /// An x86_64 task state segment, from the first byte on: its stack pointers (RSP0 to RSP2, IST1 to IST7), each of which
    /// keeps the block alive in which the last byte *below* it lies, as stacks grow down from their end. What follows behind
    /// its 104 bytes is read as words.
    TaskState,
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words => f.write_str("words"),
            Self::Physical { mask } => write!(f, "physical addresses (mask {mask:#018x})"),
            Self::Bytes => f.write_str("bytes"),
            Self::DescriptorTable => f.write_str("descriptor table"),
            Self::TaskState => f.write_str("task state segment"),
        }
    }
}

impl Reading {
    /// Physical addresses of pages, with flags below and above: a page table of x86_64 (52 bits), or of AArch64 with pages of
    /// 4 KiB.
    pub const PAGE_TABLE: Self = Self::Physical {
        mask: 0x000f_ffff_ffff_f000,
    };

    /// Physical addresses without flags, of any byte.
    pub const PHYSICAL: Self = Self::Physical { mask: usize::MAX };

    /// The most bytes of a block or a region that is read as [`Bytes`](Self::Bytes).
    pub const MAX_BYTES: usize = 4096;

    /// Whether memory of this size can be read so.
    pub(crate) fn fits(self, size: usize) -> bool {
        self != Self::Bytes || size <= Self::MAX_BYTES
    }
}
