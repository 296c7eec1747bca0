//! Files that QEMU hands to its guest: the firmware configuration device.
//!
//! A number, written to the first port, selects a file; each read of the second gives its next byte. File 0x19 is the
//! list of those that have names: a count, then entries of 64 bytes, all big-endian.

use alloc::vec::Vec;

use x86_64::instructions::port::{PortReadOnly, PortWriteOnly};

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;

/// The file that lists the others.
const LIST: u16 = 0x19;

/// Reads the file of this name, if there is one. By one task at a time.
pub fn read(name: &str) -> Option<Vec<u8>> {
    select(LIST);
    let count = u32::from_be_bytes(next());
    let mut entries = (0..count).map(|_| Entry::next());
    let entry = entries.find(|entry| entry.is_named(name))?;
    select(entry.selector);
    Some((0..entry.len).map(|_| next_byte()).collect())
}

/// An entry of the list.
struct Entry {
    len: u32,
    selector: u16,
    name: [u8; 56],
}

impl Entry {
    /// The next one of the list that is being read.
    fn next() -> Self {
        let len = u32::from_be_bytes(next());
        let selector = u16::from_be_bytes(next());
        let [_, _] = next::<2>();
        let name = next();
        Self {
            len,
            selector,
            name,
        }
    }

    fn is_named(&self, name: &str) -> bool {
        let len = self.name.iter().position(|&byte| byte == 0);
        self.name[..len.unwrap_or(self.name.len())] == *name.as_bytes()
    }
}

fn select(file: u16) {
    // SAFETY: QEMU's device, which changes nothing but what is read from it.
    unsafe { PortWriteOnly::new(SELECTOR).write(file) };
}

fn next<const LEN: usize>() -> [u8; LEN] {
    core::array::from_fn(|_| next_byte())
}

fn next_byte() -> u8 {
    // SAFETY: as above.
    unsafe { PortReadOnly::new(DATA).read() }
}
