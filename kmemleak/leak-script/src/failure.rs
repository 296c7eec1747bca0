//! Why a script fails.

use alloc::string::String;
use core::fmt;

/// A script failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// At this line, the first being 1.
    pub line: usize,
    /// For this reason.
    pub reason: Reason,
}

/// The reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The line is no statement.
    Syntax(String),
    /// It asks for what can't be done with the objects there are.
    Misuse(String),
    /// The detector said something else.
    Mismatch {
        /// What the line expects.
        expected: String,
        /// What there was.
        got: String,
    },
    /// The detector can't do this statement.
    Unsupported(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.reason {
            Reason::Syntax(what) | Reason::Misuse(what) => f.write_str(what),
            Reason::Mismatch { expected, got } => write!(f, "expected {expected}, got {got}"),
            Reason::Unsupported(statement) => write!(f, "not supported: {statement}"),
        }
    }
}

impl core::error::Error for Failure {}
