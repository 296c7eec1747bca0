//! The callbacks as kernels call them; nothing is recorded yet.
use crate::*;
use core::fmt::{self, Write};
/// Recorded later.
pub struct Detector<P, const B: usize>(P);
/// Recorded later.
pub struct AllocOptions;
impl AllocOptions {
    /// Recorded later.
    pub const fn new() -> Self {
        Self
    }
}
/// Recorded later.
pub enum NextStep {
    /// Recorded later.
    Wait {
        /// Recorded later.
        us: u64,
    },
    /// Recorded later.
    Stopped,
}
impl<P: Platform, const B: usize> Detector<P, B> {
    /// Recorded later.
    pub const fn new(p: P) -> Self {
        Self(p)
    }
    /// Recorded later.
    pub fn alloc(&self, _: usize, _: usize, _: AllocOptions) {}
    /// Recorded later.
    pub fn free(&self, _: usize) {}
    /// Recorded later.
    pub fn alloc_percpu(&self, _: usize, _: usize) {}
    /// Recorded later.
    pub fn free_percpu(&self, _: usize) {}
    /// Recorded later.
    pub fn no_scan(&self, _: usize) {}
    /// Recorded later.
    pub fn command(&self, _: &str, out: &mut dyn Write) -> fmt::Result {
        let r = self.0.stop_world(&|_c| {});
        let mut frames = [0; 16];
        let n = self.0.call_stack(&mut frames);
        for f in &frames[..n] {
            self.0.symbol(*f, out)?;
            writeln!(out)?;
        }
        writeln!(
            out,
            "{}",
            match r {
                Ok(()) => "stopped",
                Err(_) => "not stopped",
            }
        )
    }
    /// Recorded later.
    pub fn background_step(&self, _: &mut dyn Write) -> NextStep {
        NextStep::Stopped
    }
    /// Recorded later.
    pub fn drain_warnings(&self, _: &mut dyn Write) {}
    /// Recorded later.
    pub fn boot_parameter(&self, _: &str) -> Result<(), StopError> {
        Ok(())
    }
}
