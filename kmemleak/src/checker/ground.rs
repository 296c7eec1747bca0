//! The stack that a check is made on, of which the check's own frames are no root.

use crate::atomic::Lock;
use crate::checker::claim::Claim;
use crate::marker::GivenUp;
use crate::marker::own_stack::OwnStack;
use crate::platform::Platform;
use crate::platform::arch::{on_cleared_stack, with_registers_on_stack};

impl<P: Platform> Claim<'_, P> {
    /// Runs `scan` on a stack that is no root, or in a part of the caller's stack that is none.
    pub(crate) fn on_unscanned_stack<R>(
        &mut self,
        scan: impl FnOnce(&mut Self) -> Result<R, GivenUp>,
    ) -> Result<R, GivenUp> {
        on_cleared_stack(|| self.below_callers(scan))
    }

    /// The same, once the stack is cleared on which its own frames lie.
    fn below_callers<R>(
        &mut self,
        scan: impl FnOnce(&mut Self) -> Result<R, GivenUp>,
    ) -> Result<R, GivenUp> {
        let (mut scan, mut result) = (Some(scan), Err(GivenUp));
        let ground = &self.handle().checker.ground;
        let platform = self.tracker().platform();
        let (bounds, task) = (platform.stack_bounds(), platform.context().task);
        with_registers_on_stack(&mut |callers| {
            // SAFETY: the platform's promise: it is the stack that this code runs on, and can be read.
            let stack = || unsafe { OwnStack::new(bounds.clone()?, callers?, task) };
            let _left_out = ground.stand_on(stack);
            platform.on_unscanned_stack(&mut || {
                if let Some(scan) = scan.take() {
                    result = scan(self);
                }
            });
        });
        result
    }
}

/// Where the stack lies that a check is made on. Only the holder of the claim sets it; the CPUs that check with it read it.
pub(super) struct Ground(Lock<Option<OwnStack>>);

impl Ground {
    pub(super) const fn new() -> Self {
        Self(Lock::<_>::new(None))
    }

    /// The stack, where it is known.
    pub(super) fn stack(&self) -> Option<OwnStack> {
        self.0.lock().clone()
    }

    /// Notes the stack, unless a caller did.
    fn stand_on(&self, stack: impl FnOnce() -> Option<OwnStack>) -> LeftOut<'_> {
        let mut noted = self.0.lock();
        if noted.is_some() {
            return LeftOut(None);
        }
        *noted = stack();
        LeftOut(Some(self))
    }
}

/// As long as this lives, the detector leaves out its own frames.
struct LeftOut<'c>(Option<&'c Ground>);

impl Drop for LeftOut<'_> {
    fn drop(&mut self) {
        if let Some(ground) = self.0 {
            *ground.0.lock() = None;
        }
    }
}
