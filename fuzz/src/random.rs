//! Decisions that are made by an input: a fuzzer that changes a byte of it changes one of them.

/// Numbers from the bytes of an input, as few bytes for each as hold it. When there are no more, all are zero.
pub struct Random {
    rest: std::vec::IntoIter<u8>,
}

impl Random {
    /// From an input.
    pub fn of(input: &[u8]) -> Self {
        Self {
            rest: Vec::from(input).into_iter(),
        }
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.bytes(8)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        let last = end.saturating_sub(1) as u64;
        let bytes = (64 - last.leading_zeros()).div_ceil(8);
        (self.bytes(bytes) % (last + 1)) as usize
    }

    /// A number from `first` to `last`.
    pub fn between(&mut self, first: usize, last: usize) -> usize {
        first + self.below(last - first + 1)
    }

    /// Any of these.
    pub fn any<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.below(of.len())])
    }

    fn bytes(&mut self, count: u32) -> u64 {
        let bytes = self.rest.by_ref().take(count as usize);
        bytes.fold(0, |number, byte| number << 8 | u64::from(byte))
    }
}
