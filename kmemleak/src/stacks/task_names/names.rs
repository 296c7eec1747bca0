//! The names in pages of metadata, by their numbers.
//!
//! A name may be read while another name gets its number. So the first word of a name says in which [`Round`] the name got its
//! number; it is written before the other words, and read again after them.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::atomic::{AtomicU64, fence};
use crate::metadata::page::{NoMemory, Numbers, PAGE_WORDS, PageLink, PageSource, WORD};
use crate::platform::{COMM_LEN, Comm};
use crate::sizes::MAX_TASK_NAMES;
use crate::stacks::task_names::round::Round;

/// Words of a name: one with its length and the round in which it got its number, then its bytes.
const NAME_WORDS: usize = 1 + COMM_LEN / WORD;
/// Names in a page.
const PER_PAGE: usize = PAGE_WORDS / NAME_WORDS;
/// Pages of names.
const PAGES: usize = MAX_TASK_NAMES.div_ceil(PER_PAGE);

/// The multiplier of the hash: odd, with its one bits spread evenly.
const SPREAD: u64 = 0xd6e8_feb8_6659_fd93;

/// A name as it is stored, with its hash.
pub(super) struct Name {
    words: [u64; NAME_WORDS],
    pub(super) hash: u64,
}

impl Name {
    pub(super) fn of(comm: Comm) -> Self {
        let name = comm.as_str().as_bytes();
        let mut bytes = [0; COMM_LEN];
        bytes[..name.len()].copy_from_slice(name);
        let mut words = [0; NAME_WORDS];
        words[0] = name.len() as u64;
        for (word, part) in words[1..].iter_mut().zip(bytes.chunks(WORD)) {
            *word = u64::from_le_bytes(part.try_into().unwrap_or_default());
        }
        Self::of_words(words)
    }

    fn of_words(words: [u64; NAME_WORDS]) -> Self {
        let hash = words.iter().fold(0_u64, |hash, word| {
            let mixed = (hash ^ word).wrapping_mul(SPREAD);
            mixed ^ mixed >> 32
        });
        Self { words, hash }
    }
}

/// All names. Their words are Relaxed: what publishes a name is the state of its number.
pub(super) struct Names([PageLink<Numbers>; PAGES]);

impl Names {
    pub(super) const fn new() -> Self {
        Self([const { PageLink::new() }; PAGES])
    }

    /// A word of a number's name; `None` if there is no page for it, since the number never had a name.
    fn word(&self, number: u32, index: usize) -> Option<&AtomicU64> {
        let number = number as usize % MAX_TASK_NAMES;
        let page = self.0[number / PER_PAGE].get()?;
        Some(page.word(number % PER_PAGE * NAME_WORDS + index))
    }

    fn words(&self, number: u32) -> Option<[u64; NAME_WORDS]> {
        let mut words = [0; NAME_WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.word(number, index)?.load(Relaxed);
        }
        Some(words)
    }

    /// The name of a number, in whatever round it got the name.
    pub(super) fn stored(&self, number: u32) -> Option<Name> {
        let mut words = self.words(number)?;
        words[0] &= u64::from(u32::MAX);
        Some(Name::of_words(words))
    }

    /// Whether a number has this name, in whatever round it got the name.
    pub(super) fn has(&self, number: u32, name: &Name) -> bool {
        self.words(number).is_some_and(|mut words| {
            words[0] &= u64::from(u32::MAX);
            words == name.words
        })
    }

    /// Writes the name of a number that is free.
    pub(super) fn write(
        &self,
        number: u32,
        name: &Name,
        now: Round,
        meta: &impl PageSource,
    ) -> Result<(), NoMemory> {
        self.0[number as usize / PER_PAGE].get_or_take(meta)?;
        let store = |index: usize, word: u64| {
            let place = self.word(number, index).ok_or(NoMemory)?;
            place.store(word, Relaxed);
            Ok(())
        };
        store(0, name.words[0] | u64::from(now.0) << 32)?;
        // Release: a reader that sees a byte of the new name sees its round, too.
        fence(Release);
        (1..NAME_WORDS).try_for_each(|index| store(index, name.words[index]))
    }

    /// The name of a number, unless it got the name after the round `copied`.
    pub(super) fn read(&self, number: u32, copied: Round) -> Option<Comm> {
        let words = self.words(number)?;
        // Acquire: if one of these words belongs to a newer name, so does the first word that is read next.
        fence(Acquire);
        let first = self.word(number, 0)?.load(Relaxed);
        if Round((first >> 32) as u32).is_after(copied) {
            return None;
        }
        let mut bytes = [0; COMM_LEN];
        for (part, word) in bytes.chunks_mut(WORD).zip(&words[1..]) {
            part.copy_from_slice(&word.to_le_bytes());
        }
        let len = (first as u32 as usize).min(COMM_LEN);
        core::str::from_utf8(&bytes[..len]).ok().map(Comm::new)
    }

    /// Forgets all; the memory is given back by its owner.
    pub(super) fn empty(&self) {
        self.0.iter().for_each(PageLink::clear);
    }
}
