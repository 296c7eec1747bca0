//! Registers of devices that are mapped into memory.

/// The registers of a device, mapped uncached.
#[derive(Debug)]
pub struct Registers {
    start: usize,
    len: usize,
}

impl Registers {
    /// Registers at `start`.
    ///
    /// # Safety
    ///
    /// `len` bytes there are mapped to a device, and stay so. `start` is a multiple of eight.
    pub unsafe fn new(start: usize, len: usize) -> Self {
        Self { start, len }
    }

    /// Where they are mapped.
    pub fn address(&self) -> usize {
        self.start
    }

    fn at(&self, offset: usize) -> *mut u64 {
        assert!(offset.is_multiple_of(size_of::<u64>()) && offset < self.len);
        core::ptr::with_exposed_provenance_mut(self.start + offset)
    }

    /// Reads a register of 64 bits.
    pub fn read(&self, offset: usize) -> u64 {
        // SAFETY: a mapped register, aligned.
        unsafe { self.at(offset).read_volatile() }
    }

    /// Writes a register of 64 bits.
    pub fn write(&self, offset: usize, value: u64) {
        // SAFETY: a mapped register, aligned.
        unsafe { self.at(offset).write_volatile(value) };
    }
}
