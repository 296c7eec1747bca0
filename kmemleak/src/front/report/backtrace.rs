//! A call stack as reports show it: from the code that asked for memory on.
//!
//! The innermost frames are those of the allocation machinery ([`machinery`](super::machinery)), of which a kernel can leave out
//! its own hooks only. They are skipped by the names that the platform gives. A frame into which functions were inlined is
//! skipped if all of them are machinery. If all frames are, none is skipped. So all that shows a call stack, or the call site of
//! an object, shows the same, and says how many frames are missing.
//!
//! What is stored, grouped, checksummed and compared with suppressions is the whole call stack.

use core::fmt::{self, Write};

use super::machinery::is_allocation_machinery;
use crate::platform::Platform;
use crate::stacks::crc::crc_of;
use crate::tracker::Tracker;
use crate::tracker::call_stack::NoCallStack;

/// The functions that are left out at the inner end of a call stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machinery {
    /// Of a call stack that allocated something.
    Allocation,
    /// Of one in which a task waits.
    Waiting,
}

impl Machinery {
    /// Whether a function is one of them, by its name.
    pub(super) fn has<P: Platform>(self, platform: &P, name: &str) -> bool {
        match self {
            Self::Allocation => is_allocation_machinery(name),
            Self::Waiting => platform.is_waiting_machinery(name) || is_allocation_machinery(name),
        }
    }
}

/// A call stack that is to be shown. Naming its functions may sleep: task context.
pub(super) struct Backtrace<'a> {
    addresses: &'a [usize],
    /// How many innermost frames are machinery; `None` if all are.
    machinery: Option<usize>,
}

impl<'a> Backtrace<'a> {
    /// The call stack of these return addresses, innermost first.
    pub(super) fn of<P: Platform>(tracker: &Tracker<P>, addresses: &'a [usize]) -> Self {
        Self::without(tracker, Machinery::Allocation, addresses)
    }

    /// The same, without other machinery at its inner end.
    pub(super) fn without<P: Platform>(
        tracker: &Tracker<P>,
        machinery: Machinery,
        addresses: &'a [usize],
    ) -> Self {
        let platform = tracker.platform();
        let is_part = |name: &str| machinery.has(platform, name);
        let is_caller = |address: &usize| !is_machinery(platform, *address, &is_part);
        Self {
            addresses,
            machinery: addresses.iter().position(is_caller),
        }
    }

    /// All return addresses.
    pub(super) fn whole(&self) -> &'a [usize] {
        self.addresses
    }

    /// Those that are shown.
    pub(super) fn shown(&self) -> &'a [usize] {
        &self.addresses[self.skipped()..]
    }

    /// How many frames are not shown.
    pub(super) fn skipped(&self) -> usize {
        self.machinery.unwrap_or(0)
    }

    /// Whether it is known that the first frame that is shown has functions that are not machinery.
    pub(super) fn begins_with_caller(&self) -> bool {
        self.machinery.is_some()
    }

    /// The return address into the code that asked for memory; `None` in an empty call stack.
    pub(super) fn call_site(&self) -> Option<usize> {
        self.shown().first().copied()
    }

    /// Checksum of all return addresses.
    pub(super) fn crc(&self) -> u32 {
        crc_of(self.addresses)
    }
}

/// Whether some of the call stacks that were shown are empty.
#[derive(Clone, Copy, Default)]
pub(in crate::front) struct EmptyStacks {
    any: bool,
}

impl EmptyStacks {
    /// Notes a call stack that is shown.
    pub(in crate::front) fn note(&mut self, addresses: &[usize]) {
        self.any |= addresses.is_empty();
    }

    /// Why call stacks are empty, if some are and that can be told.
    pub(in crate::front) fn why<P: Platform>(self, tracker: &Tracker<P>) -> Option<NoCallStack> {
        match self.any {
            true => tracker.no_call_stack(),
            false => None,
        }
    }
}

/// Whether all functions that a return address leads into are parts of a machinery. Code without a name is not.
fn is_machinery<P: Platform>(platform: &P, address: usize, is_part: &IsPart<'_>) -> bool {
    let mut names = FunctionNames::new(is_part);
    let written = platform.functions(address, &mut names);
    written.is_ok() && names.all_machinery()
}

/// Bytes of a name that are looked at: where a longer one does not show its author in these, it is not taken for machinery.
const NAME: usize = 256;

/// Whether a function of this name is a part of a machinery.
type IsPart<'p> = dyn Fn(&str) -> bool + 'p;

/// Names of functions, a line each, of which only one is kept at a time.
struct FunctionNames<'p> {
    is_part: &'p IsPart<'p>,
    name: [u8; NAME],
    len: usize,
    /// Whether a name has come, and whether all that came are machinery.
    any: bool,
    all: bool,
}

impl<'p> FunctionNames<'p> {
    const fn new(is_part: &'p IsPart<'p>) -> Self {
        Self {
            is_part,
            name: [0; NAME],
            len: 0,
            any: false,
            all: true,
        }
    }

    /// Looks at the name that has come.
    fn end_name(&mut self) {
        // A character that was cut is left out.
        let whole = self.name[..self.len].utf8_chunks().next();
        if let Some(name) = whole.map(|chunk| chunk.valid()) {
            self.any = true;
            self.all &= (self.is_part)(name);
        }
        self.len = 0;
    }

    fn all_machinery(mut self) -> bool {
        self.end_name();
        self.any && self.all
    }
}

impl Write for FunctionNames<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.end_name();
            } else if let Some(place) = self.name.get_mut(self.len) {
                *place = byte;
                self.len += 1;
            }
        }
        Ok(())
    }
}
