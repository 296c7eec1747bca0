//! What was found in a log.

use crate::kernel::Frame;

/// What was found in a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Call stacks in reports, with names or not, and call sites that an answer names.
    pub call_stacks: u64,
    /// Addresses of code without a name.
    pub addresses: u64,
    /// Those of them that lie outside of the kernel's code.
    pub outside: u64,
    /// The first of these.
    pub first_outside: Option<u64>,
    /// Lines of JSON that are cut, or mixed with other output.
    pub damaged: u64,
}

impl Found {
    /// Counts an address, of which this is known.
    pub(crate) fn count(&mut self, address: u64, frame: &Frame) {
        self.addresses += 1;
        if !frame.is_code {
            self.outside += 1;
            self.first_outside.get_or_insert(address);
        }
    }
}
