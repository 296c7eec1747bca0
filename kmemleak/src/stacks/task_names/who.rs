//! Who allocates, as far as a record's last word says it.

use crate::sizes::MAX_TASK_NAMES;

const NUMBER_BITS: u32 = MAX_TASK_NAMES.ilog2();
const CPU_SHIFT: u32 = NUMBER_BITS + 1;
const CPU_BITS: u32 = 12;
const NUMBER_MASK: u32 = (1 << NUMBER_BITS) - 1;
const CPU_MASK: u32 = (1 << CPU_BITS) - 1;

const _: () = assert!(MAX_TASK_NAMES.is_power_of_two());

/// The number of a task's name and a CPU's number, as they lie in the last word of a record. They are kept so, since each allocation
/// writes them there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who(pub(super) u32);

impl Who {
    /// All bits that it may have.
    pub(crate) const MASK: u32 = NUMBER_MASK | CPU_MASK << CPU_SHIFT;

    /// Of each number as many bits are kept as there is room for.
    pub(crate) const fn of(number: u32, cpu: u32) -> Self {
        Self(number & NUMBER_MASK | (cpu & CPU_MASK) << CPU_SHIFT)
    }

    /// What a record's last word says.
    pub(crate) const fn from_word(word: u32) -> Self {
        Self(word & Self::MASK)
    }

    /// Its bits of a record's last word.
    #[inline(always)]
    pub(crate) const fn word(self) -> u32 {
        self.0
    }

    pub(crate) const fn number(self) -> u32 {
        self.0 & NUMBER_MASK
    }

    pub(crate) const fn cpu(self) -> u32 {
        self.0 >> CPU_SHIFT & CPU_MASK
    }
}
