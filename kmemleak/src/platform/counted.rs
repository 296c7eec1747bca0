//! How a type counts the references to its values, in the values themselves.

/// Where a reference-counted block keeps its count, and what the count says: see
/// [`counted`](crate::Platform::counted).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    strong_at: u32,
    bias: i32,
    width: CountWidth,
    has_weak: bool,
}

/// How large a count is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CountWidth {
    Word,
    Half,
}

const WORD: usize = size_of::<usize>();

impl Counted {
    /// `Arc` and `Rc` of the standard library, whose blocks begin with two words: the strong count, then the weak one, in which all
    /// strong references together are one. (`ArcInner` in `alloc/src/sync.rs`, `RcInner` in `alloc/src/rc.rs`.)
    pub(crate) const STD: Self = Self {
        strong_at: 0,
        bias: 0,
        width: CountWidth::Word,
        has_weak: true,
    };

    /// A count of type `usize` or `AtomicUsize`, `strong_at` bytes from the block's start: a multiple of eight.
    pub const fn word(strong_at: u32) -> Self {
        Self {
            strong_at,
            bias: 0,
            width: CountWidth::Word,
            has_weak: false,
        }
    }

    /// A count of type `u32` or `AtomicU32`, `strong_at` bytes from the block's start: a multiple of four.
    pub const fn half(strong_at: u32) -> Self {
        Self {
            width: CountWidth::Half,
            ..Self::word(strong_at)
        }
    }

    /// The count is this much more than the number of references: 1 where the block itself, or a table that holds no pointer to it,
    /// counts as one; -1 where a count of zero stands for one reference.
    pub const fn bias(mut self, bias: i32) -> Self {
        self.bias = bias;
        self
    }

    /// The word of the block with the strong count, by its offset; `None` if the count lies across words.
    pub(crate) const fn strong_word(self) -> Option<usize> {
        let (at, bytes) = (self.strong_at as usize, self.bytes());
        match at.is_multiple_of(bytes) {
            true => Some(at - at % WORD),
            false => None,
        }
    }

    /// The word of the block with the weak count, by its offset.
    pub(crate) const fn weak_word(self) -> Option<usize> {
        match self.has_weak {
            true => Some(WORD),
            false => None,
        }
    }

    const fn bytes(self) -> usize {
        match self.width {
            CountWidth::Word => WORD,
            CountWidth::Half => size_of::<u32>(),
        }
    }

    /// How many references there are, by the word with the count. A count that was decremented below zero is negative.
    pub(crate) const fn references(self, word: usize) -> i64 {
        let count = match self.width {
            CountWidth::Word => word as isize as i64,
            CountWidth::Half => {
                let upper =
                    (self.strong_at as usize).is_multiple_of(WORD) == cfg!(target_endian = "big");
                let half = if upper { word >> 32 } else { word };
                half as u32 as i32 as i64
            }
        };
        count.saturating_sub(self.bias as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::Counted;

    #[test]
    fn a_count_is_read_where_and_as_it_is_stored() {
        assert_eq!(Counted::STD.references(3), 3);
        assert_eq!(Counted::STD.references(usize::MAX), -1);
        assert_eq!(Counted::word(16).bias(1).references(3), 2);
        assert_eq!(Counted::word(16).bias(-1).references(0), 1);
        assert_eq!(Counted::word(16).strong_word(), Some(16));
        assert_eq!(Counted::word(12).strong_word(), None);
        assert_eq!(Counted::half(6).strong_word(), None);
        assert_eq!(Counted::half(12).strong_word(), Some(8));
        assert_eq!(Counted::half(12).weak_word(), None);
        assert_eq!(Counted::STD.weak_word(), Some(8));
        assert_eq!(
            Counted::word(0)
                .bias(i32::MIN)
                .references(isize::MAX as usize),
            i64::MAX
        );
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn half_a_word_is_a_count_of_its_own() {
        let word = 0xffff_ffff_0000_0002;
        assert_eq!(Counted::half(8).references(word), 2);
        assert_eq!(Counted::half(12).references(word), -1);
    }
}
