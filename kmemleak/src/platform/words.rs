//! How words of scanned memory are read.

/// How the words of scanned memory are read: [`Platform::words`](crate::Platform::words).
#[derive(Clone, Copy)]
pub enum Words<'p> {
    /// As they lie in memory, by volatile loads, several at a time where that is faster.
    Plain,
    /// As they lie in memory; then this function strips what the kernel stores in a pointer beside the address (tags). It is called
    /// for each word, pointer or not, in any context. With the upper byte of AArch64's pointers as the tag:
    ///
    /// ```
    /// # use kmemleak::Words;
    /// # fn words() -> Words<'static> {
    /// Words::Tagged(|word| ((word << 8) as isize >> 8) as usize)
    /// # }
    /// ```
    Tagged(fn(usize) -> usize),
    /// By functions of the platform's own, one at a time: memory that is emulated, or that plain loads can't read.
    Foreign(&'p dyn ForeignWords),
}

/// How a platform reads words that plain loads can't read. For pointers with tags alone there is [`Words::Tagged`].
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
    /// Reads one word. Only this function, the next one, and the loop that reads several plain words, read scanned memory: the
    /// detector makes no slice of it, and no reference to it.
    ///
    /// # Safety
    ///
    /// The caller ensures what [`ForeignWords::read`] requires.
    #[inline(always)]
    pub(crate) unsafe fn read(self, address: usize) -> usize {
        match self {
            // SAFETY: the caller's promise; volatile, since others may write to the word meanwhile.
            Self::Plain | Self::Tagged(_) => unsafe {
                core::ptr::read_volatile(core::ptr::without_provenance(address))
            },
            // SAFETY: the caller's promise.
            Self::Foreign(words) => unsafe { words.read(address) },
        }
    }

    /// Reads one byte: part of a word that does not belong to the reader as a whole. `None` where words are foreign.
    ///
    /// # Safety
    ///
    /// The byte at `address` lies in a root or in a tracked block that the caller keeps from being freed.
    pub(crate) unsafe fn read_byte(self, address: usize) -> Option<u8> {
        match self {
            Self::Plain | Self::Tagged(_) => {
                let byte = core::ptr::without_provenance(address);
                // SAFETY: the caller's promise; volatile, since others may write to the byte meanwhile.
                Some(unsafe { core::ptr::read_volatile(byte) })
            }
            Self::Foreign(_) => None,
        }
    }

    /// A word without its tags: the address that it holds, if it is a pointer.
    #[inline(always)]
    pub(crate) fn untag(self, word: usize) -> usize {
        match self {
            Self::Plain => word,
            Self::Tagged(untag) => untag(word),
            Self::Foreign(words) => words.untag(word),
        }
    }

    /// Reads one word, and strips its tags: the address that it holds, if it is a pointer.
    ///
    /// # Safety
    ///
    /// The caller ensures what [`ForeignWords::read`] requires.
    #[inline(always)]
    pub(crate) unsafe fn read_pointer(self, address: usize) -> usize {
        // SAFETY: the caller's promise.
        self.untag(unsafe { self.read(address) })
    }
}
