//! Whether a command was done: for code that runs lines and does not read the answers.

use core::fmt;

/// Why a command did not end with success. Unless the writer failed, the answer that the command wrote says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// There is no such command, or it does not take these arguments.
    NotUnderstood,
    /// The command was understood, and could not be done or has no answer: the detector is off, there was no check, no object is at
    /// the address, memory was short.
    NotDone,
    /// The writer failed. What the command does besides writing may have been done.
    Write(fmt::Error),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUnderstood => {
                f.write_str("unknown command, or an argument that it does not take")
            }
            Self::NotDone => f.write_str("the command could not be done, or has no answer"),
            Self::Write(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for CommandError {}

impl From<fmt::Error> for CommandError {
    fn from(error: fmt::Error) -> Self {
        Self::Write(error)
    }
}

/// Whether an answer was given and could be written.
pub(super) type Answered = Result<(), CommandError>;
