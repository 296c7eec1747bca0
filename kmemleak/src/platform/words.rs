//! How words of scanned memory are read.

/// How the words of scanned memory are read: [`Platform::words`](crate::Platform::words).
#[derive(Clone, Copy)]
pub enum Words<'p> {
    /// As they lie in memory, by volatile loads, several at a time where that is faster.
    Plain,
    /// By functions of the platform's own, one at a time: memory that is emulated, or pointers with tags in them.
    Foreign(&'p dyn ForeignWords),
}

/// How a platform reads words that plain loads can't read, or that are not plain pointers.
///
/// # Safety
///
/// [`read`](Self::read) has no effects on memory.
pub unsafe trait ForeignWords {
    /// Reads one word, which may be written to meanwhile. Any context.
    ///
    /// # Safety
    ///
    /// `address` is a multiple of the word's size, and lies in a root or in a tracked block that the caller keeps from being
    /// freed.
    unsafe fn read(&self, address: usize) -> usize;

    /// Strips what a platform stores in a pointer beside the address (tags). Any context.
    fn untag(&self, word: usize) -> usize {
        word
    }
}

impl Words<'_> {
    /// Reads one word. Only this function, and the loop that reads several plain words, read scanned memory: the detector
    /// makes no slice of it, and no reference to it.
    ///
    /// # Safety
    ///
    /// The caller ensures what [`ForeignWords::read`] requires.
    #[inline(always)]
    pub(crate) unsafe fn read(self, address: usize) -> usize {
        match self {
            // SAFETY: the caller's promise; volatile, since others may write to the word meanwhile.
            Self::Plain => unsafe {
                core::ptr::read_volatile(core::ptr::without_provenance(address))
            },
            // SAFETY: the caller's promise.
            Self::Foreign(words) => unsafe { words.read(address) },
        }
    }

    /// Reads one word, and strips the tags if it is a foreign one: the address that it holds, if it is a pointer.
    ///
    /// # Safety
    ///
    /// The caller ensures what [`ForeignWords::read`] requires.
    #[inline(always)]
    pub(crate) unsafe fn read_pointer(self, address: usize) -> usize {
        // SAFETY: the caller's promise.
        let word = unsafe { self.read(address) };
        match self {
            Self::Plain => word,
            Self::Foreign(words) => words.untag(word),
        }
    }
}
