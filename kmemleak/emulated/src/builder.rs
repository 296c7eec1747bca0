//! What a machine is built from.

use crate::call_stack::CallStacks;
use crate::clock::Clock;

/// What a machine is built from.
#[derive(Clone, Copy, Debug)]
pub struct Builder {
    pub(crate) cpus: u32,
    pub(crate) clock: Clock,
    pub(crate) call_stacks: CallStacks,
}

impl Builder {
    /// Two CPUs, a clock that stands still, and call stacks that are given.
    pub(crate) const NEW: Self = Self {
        cpus: 2,
        clock: Clock::Manual,
        call_stacks: CallStacks::Given,
    };

    /// How many CPUs there are.
    pub fn cpus(self, cpus: u32) -> Self {
        Self { cpus, ..self }
    }

    /// Whose time it keeps.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// What its call stacks are made of.
    pub fn call_stacks(self, call_stacks: CallStacks) -> Self {
        Self {
            call_stacks,
            ..self
        }
    }
}
