//! What [`Platform::stop_world`](crate::Platform::stop_world) tells of the CPUs that it stops, and its errors.

use core::fmt;

/// One CPU of a stopped world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoppedCpu {
    /// Its number, below `of`.
    pub index: u32,
    /// How many CPUs run the closure.
    pub of: u32,
    /// Whether this CPU asked for the stop; true for exactly one CPU.
    pub initiator: bool,
}

/// Why the world could not be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopError {
    /// The platform has no way to do it.
    Unsupported,
    /// This CPU did not stop in time.
    Missing(u32),
}

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported => f.write_str("this platform cannot stop the world"),
            Self::Missing(cpu) => write!(f, "cpu {cpu} did not stop in time"),
        }
    }
}

impl core::error::Error for StopError {}
