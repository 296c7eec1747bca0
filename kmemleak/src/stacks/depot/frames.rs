//! A call stack, copied out of the depot.

use crate::platform::MAX_FRAMES;
use crate::stacks::crc::crc_of;

/// The return addresses, innermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frames {
    addresses: [usize; MAX_FRAMES],
    len: usize,
}

impl Frames {
    pub(crate) const NONE: Self = Self {
        addresses: [0; MAX_FRAMES],
        len: 0,
    };

    /// The first addresses, as many as there is room for.
    pub(crate) fn of(addresses: impl Iterator<Item = usize>) -> Self {
        let mut frames = Self::NONE;
        for (to, address) in frames.addresses.iter_mut().zip(addresses) {
            *to = address;
            frames.len += 1;
        }
        frames
    }

    pub(crate) fn as_slice(&self) -> &[usize] {
        &self.addresses[..self.len]
    }

    /// Checksum of the addresses: CRC-32 as in IEEE 802.3.
    pub(crate) fn crc(&self) -> u32 {
        crc_of(self.as_slice())
    }
}
