//! Call stacks, each stored once.
//!
//! A stack is named by the place of its entry in the depot. Entries are found by a hash of their
//! addresses and never move or go while the detector is on: kernels have thousands of allocating call
//! stacks, not millions.
//!
//! An entry: one word of hash, length and marks; one word with the next entry of its bucket; then the
//! return addresses, inverted.

use crate::pages::{Directory, PAGE_WORDS, Source, Usage};
use crate::platform::MAX_FRAMES;

/// Buckets of the hash table.
const BUCKETS: usize = 1024;

/// Words of an entry before its addresses.
const HEADER: usize = 2;

/// The name of a call stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace(u32);

impl Trace {
    /// No call stack: none was to be had, or there was no memory to keep it.
    pub(crate) const NONE: Self = Self(0);
}

/// A call stack, taken out of the depot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frames {
    pub(crate) addresses: [usize; MAX_FRAMES],
    pub(crate) len: usize,
}

impl Frames {
    pub(crate) const NONE: Self = Self {
        addresses: [0; MAX_FRAMES],
        len: 0,
    };

    pub(crate) fn as_slice(&self) -> &[usize] {
        &self.addresses[..self.len]
    }

    /// Checksum of the addresses: CRC-32 as in IEEE 802.3.
    pub(crate) fn crc(&self) -> u32 {
        crc32(
            self.as_slice()
                .iter()
                .flat_map(|address| address.to_le_bytes()),
        )
    }
}

/// CRC-32 (polynomial 0x04c11db7, reflected, IEEE 802.3).
pub(crate) fn crc32(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 != 0 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            }
        })
    })
}

pub(crate) struct Depot {
    pages: Directory,
    /// Words used of the newest page.
    used: usize,
    /// First entries of the buckets; 0 is none.
    buckets: [u32; BUCKETS],
    stacks: u32,
}

impl Depot {
    pub(crate) const fn new() -> Self {
        Self {
            pages: Directory::new(),
            used: PAGE_WORDS,
            buckets: [0; BUCKETS],
            stacks: 0,
        }
    }

    /// How many different call stacks there are.
    pub(crate) fn len(&self) -> u32 {
        self.stacks
    }

    /// The name of this call stack, which is kept if it is new. `NONE` where there is no memory.
    pub(crate) fn store(
        &mut self,
        frames: &Frames,
        usage: &mut Usage,
        source: &Source<'_>,
    ) -> Trace {
        let addresses = frames.as_slice();
        if addresses.is_empty() {
            return Trace::NONE;
        }
        let hash = hash(addresses);
        let bucket = hash as usize % BUCKETS;
        let mut entry = self.buckets[bucket];
        while entry != 0 {
            if self.matches(entry, hash, addresses) {
                return Trace(entry);
            }
            entry = self.word(entry, 1) as u32;
        }
        let Some(entry) = self.append(HEADER + addresses.len(), usage, source) else {
            return Trace::NONE;
        };
        self.set_word(entry, 0, u64::from(hash) | (addresses.len() as u64) << 32);
        self.set_word(entry, 1, u64::from(self.buckets[bucket]));
        for (index, &address) in addresses.iter().enumerate() {
            self.set_word(entry, HEADER + index, !(address as u64));
        }
        self.buckets[bucket] = entry;
        self.stacks += 1;
        Trace(entry)
    }

    /// The call stack of this name.
    pub(crate) fn get(&self, trace: Trace) -> Frames {
        let mut frames = Frames::NONE;
        if trace != Trace::NONE {
            frames.len = self.frames_of(trace.0);
            for index in 0..frames.len {
                frames.addresses[index] = !self.word(trace.0, HEADER + index) as usize;
            }
        }
        frames
    }

    /// Sets a mark on a call stack and tells whether it was new. There are 16 marks, for the depot's user.
    pub(crate) fn mark(&mut self, trace: Trace, mark: u32) -> bool {
        if trace == Trace::NONE {
            return true;
        }
        let header = self.word(trace.0, 0);
        let bit = 1 << (48 + mark);
        self.set_word(trace.0, 0, header | bit);
        header & bit == 0
    }

    pub(crate) fn empty(&mut self, give_back: &mut dyn FnMut(core::ptr::NonNull<u8>)) {
        self.pages.empty(give_back);
        self.used = PAGE_WORDS;
        self.buckets = [0; BUCKETS];
        self.stacks = 0;
    }

    fn append(&mut self, words: usize, usage: &mut Usage, source: &Source<'_>) -> Option<u32> {
        if self.used + words > PAGE_WORDS {
            let page = self.pages.grow(usage, source)?;
            // Name 0 is no entry: the first page's first word stays unused.
            self.used = usize::from(page == 0);
        }
        let entry = (self.pages.len() as usize - 1) * PAGE_WORDS + self.used;
        self.used += words;
        u32::try_from(entry).ok()
    }

    fn frames_of(&self, entry: u32) -> usize {
        (self.word(entry, 0) >> 32) as usize & 0xffff
    }

    fn matches(&self, entry: u32, hash: u32, addresses: &[usize]) -> bool {
        self.word(entry, 0) as u32 == hash
            && self.frames_of(entry) == addresses.len()
            && addresses
                .iter()
                .enumerate()
                .all(|(index, &address)| self.word(entry, HEADER + index) == !(address as u64))
    }

    fn place(&self, entry: u32, word: usize) -> *mut u64 {
        let at = entry as usize + word;
        self.pages
            .page((at / PAGE_WORDS) as u32)
            .wrapping_add(at % PAGE_WORDS)
    }

    fn word(&self, entry: u32, word: usize) -> u64 {
        // SAFETY: inside a page of ours; an entry lies in one page.
        unsafe { self.place(entry, word).read() }
    }

    fn set_word(&mut self, entry: u32, word: usize, value: u64) {
        // SAFETY: as above; `self` is borrowed exclusively, and the lock is held.
        unsafe { self.place(entry, word).write(value) };
    }
}

/// FNV-1a over the addresses' words, folded to 32 bits.
fn hash(addresses: &[usize]) -> u32 {
    let hash = addresses
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &address| {
            (hash ^ address as u64).wrapping_mul(0x0100_0000_01b3)
        });
    (hash ^ hash >> 32) as u32
}

const _: () = assert!(HEADER + MAX_FRAMES < PAGE_WORDS);
