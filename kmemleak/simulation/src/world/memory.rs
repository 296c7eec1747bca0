//! Memory as a map: words at any address, and who may read them.

use std::collections::BTreeMap;

const WORD: usize = 8;

/// What memory holds, and which of it can be read.
#[derive(Debug, Default)]
pub struct Memory {
    /// Those that are not zero.
    words: BTreeMap<usize, usize>,
    /// What they held when memory was frozen.
    frozen: Option<BTreeMap<usize, usize>>,
    /// Starts and last bytes of what may be read now.
    mapped: BTreeMap<usize, usize>,
    /// Starts and lengths of what may always be read. Blocks may lie there as well.
    always: Vec<(usize, usize)>,
}

impl Memory {
    /// Writes a word.
    pub fn write(&mut self, address: usize, word: usize) {
        assert!(
            address.is_multiple_of(WORD),
            "no word begins at {address:#x}"
        );
        match word {
            0 => self.words.remove(&address),
            _ => self.words.insert(address, word),
        };
    }

    /// Clears `len` bytes.
    pub fn clear(&mut self, start: usize, len: usize) {
        let inside = self.words.range(start..=start.saturating_add(len - 1));
        for address in inside.map(|word| *word.0).collect::<Vec<_>>() {
            self.words.remove(&address);
        }
    }

    /// A word.
    pub fn read(&self, address: usize) -> usize {
        self.words.get(&address).copied().unwrap_or(0)
    }

    /// The words of `len` bytes that are not zero, with their distances.
    pub fn words(&self, start: usize, len: usize) -> Vec<(usize, usize)> {
        let inside = self.words.range(start..=start.saturating_add(len - 1));
        inside
            .map(|(address, &word)| (address - start, word))
            .collect()
    }

    /// From here on `len` bytes may be read.
    pub fn map(&mut self, start: usize, len: usize) {
        self.mapped.insert(start, start + (len - 1));
    }

    /// `len` bytes may be read all the time.
    pub fn map_always(&mut self, start: usize, len: usize) {
        self.always.push((start, len));
    }

    /// From here on what begins there may not be read any more.
    pub fn unmap(&mut self, start: usize) {
        self.mapped.remove(&start);
    }

    /// What may be read from `start` on, if it may.
    pub fn mapped(&self, start: usize) -> Option<(usize, usize)> {
        let (&first, &last) = self.mapped.range(..=start).next_back()?;
        (start <= last).then_some((first, last))
    }

    /// Whether none of `len` bytes may be read.
    pub fn is_free(&self, start: usize, len: usize) -> bool {
        let last = start + (len - 1);
        self.mapped(start).is_none() && self.mapped.range(start..=last).next().is_none()
    }

    /// Panics where a word may not be read.
    pub fn assert_mapped(&self, address: usize) {
        let mapped = self.mapped(address);
        let in_block = mapped.is_some_and(|(_, last)| WORD - 1 <= last - address);
        let mut always = self.always.iter();
        assert!(
            in_block || always.any(|&(start, len)| address.wrapping_sub(start) <= len - WORD),
            "the detector reads {address:#x}, which nothing vouches for (any more)"
        );
    }

    /// Keeps what memory holds now.
    pub fn freeze(&mut self) {
        self.frozen = Some(self.words.clone());
    }

    /// Forgets what was kept.
    pub fn thaw(&mut self) {
        assert!(self.frozen.take().is_some(), "memory is not frozen");
    }

    /// What a word held when memory was frozen.
    pub fn read_frozen(&self, address: usize) -> usize {
        let frozen = self.frozen.as_ref().expect("memory is frozen");
        frozen.get(&address).copied().unwrap_or(0)
    }
}
