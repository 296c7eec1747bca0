//! Names of tasks, each kept once: a record has a number of eleven bits.
//!
//! Looking a name up at each allocation would cost more than the rest of the callback. So each CPU remembers which
//! task ran on it last, and the number of its name; a task that is renamed keeps its old name here until another one has
//! allocated on its CPU.
//!
//! # Locks
//!
//! One, for new names.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use spin::mutex::SpinMutex;

use crate::memory::{Source, WORD, word_of};
use crate::platform::{COMM_LEN, Comm, METADATA_PAGE};
use crate::record::MAX_COMMS;

/// CPUs that remember a task of their own; beyond that they are shared.
const ROWS: usize = 64;
/// Words of a name: its length, and its bytes.
const NAME_WORDS: usize = 1 + COMM_LEN / WORD;
/// Names of a page.
const PER_PAGE: usize = METADATA_PAGE / WORD / NAME_WORDS;
/// Pages of names.
const PAGES: usize = MAX_COMMS.div_ceil(PER_PAGE);

/// What a CPU remembers: the task's number, plus one, in the upper half; its name's in the lower.
#[repr(align(64))]
struct Row(AtomicU64);

/// All names.
pub(crate) struct Comms {
    rows: [Row; ROWS],
    pages: [AtomicUsize; PAGES],
    len: AtomicUsize,
    lock: SpinMutex<()>,
}

/// The number of no name: there was no memory, or there are too many.
const NONE: u32 = 0;

impl Comms {
    pub(crate) const fn new() -> Self {
        Self {
            rows: [const { Row(AtomicU64::new(0)) }; ROWS],
            pages: [const { AtomicUsize::new(0) }; PAGES],
            len: AtomicUsize::new(1),
            lock: SpinMutex::new(()),
        }
    }

    /// The number of the name of the task that runs.
    #[inline(always)]
    pub(crate) fn number(
        &self,
        task: u32,
        cpu: u32,
        comm: impl FnOnce() -> Comm,
        source: &Source<'_>,
    ) -> u32 {
        let row = &self.rows[cpu as usize % ROWS].0;
        let seen = row.load(Ordering::Relaxed);
        if seen >> 32 == u64::from(task.wrapping_add(1)) {
            return seen as u32;
        }
        self.find(comm(), task, row, source)
    }

    #[cold]
    #[inline(never)]
    fn find(&self, comm: Comm, task: u32, row: &AtomicU64, source: &Source<'_>) -> u32 {
        let words = words_of(comm);
        let _one_at_a_time = self.lock.lock();
        let len = self.len.load(Ordering::Relaxed);
        let known = (1..len).find(|&number| self.words(number) == Some(words));
        let number = known.or_else(|| self.add(len, words, source));
        let Some(number) = number else {
            return NONE;
        };
        row.store(
            u64::from(task.wrapping_add(1)) << 32 | number as u64,
            Ordering::Relaxed,
        );
        number as u32
    }

    fn add(&self, number: usize, words: [u64; NAME_WORDS], source: &Source<'_>) -> Option<usize> {
        if number >= MAX_COMMS {
            return None;
        }
        let page = &self.pages[number / PER_PAGE];
        if page.load(Ordering::Relaxed) == 0 {
            page.store(!source.page()?.expose_provenance().get(), Ordering::Relaxed);
        }
        for (index, word) in words.into_iter().enumerate() {
            self.word(number, index)?.store(word, Ordering::Relaxed);
        }
        self.len.store(number + 1, Ordering::Release);
        Some(number)
    }

    fn word(&self, number: usize, index: usize) -> Option<&AtomicU64> {
        let page = self.pages[number / PER_PAGE].load(Ordering::Relaxed);
        let page = core::ptr::NonNull::new(core::ptr::with_exposed_provenance_mut(!page))?;
        Some(word_of(page, number % PER_PAGE * NAME_WORDS + index))
    }

    fn words(&self, number: usize) -> Option<[u64; NAME_WORDS]> {
        let mut words = [0; NAME_WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.word(number, index)?.load(Ordering::Relaxed);
        }
        Some(words)
    }

    /// The name with this number.
    pub(crate) fn get(&self, number: u32) -> Comm {
        let number = number as usize;
        if number == NONE as usize || number >= self.len.load(Ordering::Acquire) {
            return Comm::new("?");
        }
        let words = self.words(number).unwrap_or_default();
        let mut bytes = [0; COMM_LEN];
        for (part, word) in bytes.chunks_mut(WORD).zip(&words[1..]) {
            part.copy_from_slice(&word.to_le_bytes());
        }
        let len = (words[0] as usize).min(COMM_LEN);
        Comm::new(core::str::from_utf8(&bytes[..len]).unwrap_or("?"))
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&self) {
        for row in &self.rows {
            row.0.store(0, Ordering::Relaxed);
        }
        for page in &self.pages {
            page.store(0, Ordering::Relaxed);
        }
        self.len.store(1, Ordering::Relaxed);
    }
}

fn words_of(comm: Comm) -> [u64; NAME_WORDS] {
    let name = comm.as_str().as_bytes();
    let mut bytes = [0; COMM_LEN];
    bytes[..name.len()].copy_from_slice(name);
    let mut words = [0; NAME_WORDS];
    words[0] = name.len() as u64;
    for (word, part) in words[1..].iter_mut().zip(bytes.chunks(WORD)) {
        *word = u64::from_le_bytes(part.try_into().unwrap_or_default());
    }
    words
}
