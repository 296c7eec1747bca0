//! How much of the map is looked at before interrupts may be on again.

/// Entries and tables that may still be looked at.
#[derive(Debug)]
pub(crate) struct Budget(usize);

impl Budget {
    /// Entries and tables of a step. Each takes seventy instructions, and where an emptied chunk is locked a hundred or so: a
    /// step takes fewer than 10 000.
    pub(crate) const STEP: usize = 64;

    /// What a step of long work may do.
    pub(crate) const fn step() -> Self {
        Self(Self::STEP)
    }

    /// For work that is not long, or that can't be divided.
    pub(crate) const fn unlimited() -> Self {
        Self(usize::MAX)
    }

    /// Takes one from what is left; false if nothing is left.
    #[inline(always)]
    pub(crate) fn spend(&mut self) -> bool {
        let is_left = self.0 > 0;
        self.0 -= usize::from(is_left);
        is_left
    }
}
