//! The claim: one at a time checks, reports, answers or clears.
//!
//! Who has it may go on for long, sleep, and call the platform, which spinning locks don't allow. Whoever waits for it lets
//! others run.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::detector::Detector;
use crate::platform::Platform;

/// The right to check, report or clear.
pub(crate) struct Claim<'a> {
    busy: &'a AtomicBool,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.busy.store(false, Ordering::Release);
    }
}

impl<P: Platform, const BOOTSTRAP: usize> Detector<P, BOOTSTRAP> {
    /// Lets one task at a time check, report or clear; `None` while another does.
    pub(crate) fn try_claim(&self) -> Option<Claim<'_>> {
        let taken = self.busy.swap(true, Ordering::Acquire);
        // Lazily: a claim that is made and thrown away would end the other's.
        (!taken).then(|| Claim { busy: &self.busy })
    }

    /// The same, waiting for the other. Task context, with no lock held.
    pub(crate) fn claim(&self) -> Claim<'_> {
        loop {
            match self.try_claim() {
                Some(claim) => return claim,
                None => {
                    let _ = self.platform.relax();
                }
            }
        }
    }
}
