//! Text of bounded length, in place.

use core::ops::Range;

/// The text does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Up to `N` bytes of UTF-8.
#[derive(Clone, Debug)]
pub(crate) struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; N],
            len: 0,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        // Only whole characters are ever put in or taken out. Looking again costs less than a byte takes on a serial line.
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Replaces a range, whose ends lie between characters, or changes nothing.
    pub(crate) fn replace(&mut self, range: Range<usize>, with: &str) -> Result<(), Full> {
        let len = self.len - range.len() + with.len();
        if len > N {
            return Err(Full);
        }
        let behind = range.start + with.len();
        self.bytes.copy_within(range.end..self.len, behind);
        self.bytes[range.start..behind].copy_from_slice(with.as_bytes());
        self.len = len;
        Ok(())
    }

    pub(crate) fn push(&mut self, text: &str) -> Result<(), Full> {
        self.replace(self.len..self.len, text)
    }

    /// Becomes this text, or stays as it is.
    pub(crate) fn set(&mut self, text: &str) -> Result<(), Full> {
        self.replace(0..self.len, text)
    }
}
