//! The name of the function that asked for memory, whole, as a suppression's pattern: what a report shows may be shortened.

use core::fmt::{self, Write};

use super::backtrace::Backtrace;
use super::machinery::is_allocation_machinery;
use crate::platform::Platform;
use crate::tracker::Tracker;

/// Bytes of a name.
const ROOM: usize = 512;

/// The innermost function of a call site that is not allocation machinery.
pub(in crate::front) struct UserFunction {
    /// The last such name that has come.
    name: FunctionName,
    /// The name that comes.
    next: FunctionName,
}

/// Why there is no name to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::front) enum NoFunction {
    /// No call stack is known.
    NoCallStack,
    /// The platform has no name for the code.
    Unnamed,
    /// It has more than so many bytes.
    TooLong(usize),
}

impl fmt::Display for NoFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCallStack => f.write_str("no call stack is known of it"),
            Self::Unnamed => f.write_str("the function that allocated it has no name"),
            Self::TooLong(most) => write!(
                f,
                "the name of the function that allocated it has more than {most} bytes: type a part of it, with *"
            ),
        }
    }
}

#[derive(Clone, Copy)]
struct FunctionName {
    bytes: [u8; ROOM],
    /// More than there is room for, if it is too long.
    len: usize,
}

impl FunctionName {
    const EMPTY: Self = Self {
        bytes: [0; ROOM],
        len: 0,
    };

    fn push(&mut self, byte: u8) {
        if let Some(room) = self.bytes.get_mut(self.len) {
            *room = byte;
        }
        self.len += 1;
    }

    /// `None` if it is too long.
    fn as_str(&self) -> Option<&str> {
        core::str::from_utf8(self.bytes.get(..self.len)?).ok()
    }
}

impl UserFunction {
    /// Of the call stack with these return addresses. May sleep: task context.
    pub(in crate::front) fn of<P: Platform>(
        tracker: &Tracker<P>,
        addresses: &[usize],
    ) -> Result<Self, NoFunction> {
        let backtrace = Backtrace::of(tracker, addresses);
        let address = backtrace.call_site().ok_or(NoFunction::NoCallStack)?;
        let mut function = Self {
            name: FunctionName::EMPTY,
            next: FunctionName::EMPTY,
        };
        let written = tracker.platform().functions(address, &mut function);
        function.end_name();
        match function.name.as_str() {
            None => Err(NoFunction::TooLong(ROOM)),
            Some(name) if written.is_err() || name.is_empty() || name.starts_with("0x") => {
                Err(NoFunction::Unnamed)
            }
            Some(_) => Ok(function),
        }
    }

    /// Its path, without offset and place.
    pub(in crate::front) fn name(&self) -> &str {
        let name = self.name.as_str().unwrap_or_default();
        name.split("+0x").next().unwrap_or(name)
    }

    /// Functions come outermost first, so the last one counts; machinery if there is nothing else.
    fn end_name(&mut self) {
        let next = core::mem::replace(&mut self.next, FunctionName::EMPTY);
        let is_machinery = next.as_str().is_some_and(is_allocation_machinery);
        if next.len > 0 && (self.name.len == 0 || !is_machinery) {
            self.name = next;
        }
    }
}

impl Write for UserFunction {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            match byte {
                b'\n' => self.end_name(),
                byte => self.next.push(byte),
            }
        }
        Ok(())
    }
}

/// The pattern that matches it. A platform may write offset and place behind the name: the pattern leaves them open.
impl fmt::Display for UserFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_str().unwrap_or_default();
        match name.split_once("+0x") {
            Some((function, _)) => write!(f, "{function}+0x*"),
            None => f.write_str(name),
        }
    }
}

/// Text of a suppression: a pattern, and a ceiling.
pub(in crate::front) struct SuppressionText(FunctionName);

impl SuppressionText {
    /// What hides what the function allocates, with a ceiling as it was typed.
    pub(in crate::front) fn of(function: &UserFunction, max: &str) -> Result<Self, NoFunction> {
        let mut text = Self(FunctionName::EMPTY);
        // What is too long is told by its length.
        let _ = write!(text, "{function}{max}");
        match text.0.as_str() {
            Some(_) => Ok(text),
            None => Err(NoFunction::TooLong(ROOM)),
        }
    }

    pub(in crate::front) fn as_str(&self) -> &str {
        self.0.as_str().unwrap_or_default()
    }
}

impl Write for SuppressionText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.0.push(byte));
        Ok(())
    }
}
