//! A short list of keys, each with a value and a count, in metadata: for what there are few of.
//!
//! # Locks
//!
//! One, with interrupts off; nothing but memory is asked for under it.

use core::sync::atomic::{AtomicUsize, Ordering};

use spin::mutex::SpinMutex;

use crate::metadata::hidden::Hidden;
use crate::metadata::kept::Kept;
use crate::metadata::{Class, MetaAlloc, Piece};

const KEY: usize = 2;
const VALUE: usize = 3;
const COUNT: usize = 4;

/// The list. A key that is added again has to be removed as often; the value that was added last goes first.
pub(crate) struct KeyedList {
    /// The one that was added last.
    first: SpinMutex<Hidden>,
    /// Relaxed: changed under the lock. Without it, zero spares the lock: of what is being added at this moment, whoever asks
    /// has come before; what the task itself has added it sees.
    len: AtomicUsize,
}

fn key_of(piece: Piece) -> usize {
    Hidden::from_bits(piece.get(KEY)).get()
}

impl KeyedList {
    pub(crate) const fn new() -> Self {
        Self {
            first: SpinMutex::new(Hidden::NONE),
            len: AtomicUsize::new(0),
        }
    }

    /// Adds a key with a value, or counts it once more if its last value is the same.
    pub(crate) fn add(&self, key: usize, value: usize, meta: &MetaAlloc<'_>) -> Kept {
        let mut first = self.first.lock();
        let last = find(*first, key).filter(|last| last.get(VALUE) == value as u64);
        if let Some(piece) = last {
            piece.set(COUNT, piece.get(COUNT) + 1);
            return Kept::Yes;
        }
        let Some(piece) = meta.take(Class::NOTE).map(Piece) else {
            return Kept::NoMemory;
        };
        piece.set(KEY, Hidden::new(key).bits());
        piece.set(VALUE, value as u64);
        piece.set(COUNT, 1);
        piece.set_next(*first);
        *first = piece.hidden();
        self.len.fetch_add(1, Ordering::Relaxed);
        Kept::Yes
    }

    /// Takes one count of a key's last value away, and that with its last count. False if the key is not there.
    pub(crate) fn remove(&self, key: usize, meta: &MetaAlloc<'_>) -> bool {
        let mut first = self.first.lock();
        let Some(piece) = find(*first, key) else {
            return false;
        };
        let count = piece.get(COUNT);
        if count > 1 {
            piece.set(COUNT, count - 1);
            return true;
        }
        let after = piece.link();
        match pieces(*first).find(|before| before.next() == Some(piece)) {
            Some(before) => before.set_next(after),
            None => *first = after,
        }
        self.len.fetch_sub(1, Ordering::Relaxed);
        meta.give(Class::NOTE, piece.0);
        true
    }

    /// Whether a key is there.
    #[inline(always)]
    pub(crate) fn has(&self, key: usize) -> bool {
        !self.is_empty() && find(*self.first.lock(), key).is_some()
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Relaxed) == 0
    }

    /// Does something with all keys and their values, in no order, under the lock.
    pub(crate) fn with_all<R>(&self, work: impl FnOnce(All) -> R) -> R {
        work(All(*self.first.lock()))
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&self) {
        *self.first.lock() = Hidden::NONE;
        self.len.store(0, Ordering::Relaxed);
    }
}

/// All keys and values of a list that is locked.
#[derive(Clone, Copy)]
pub(crate) struct All(Hidden);

impl All {
    pub(crate) fn each(self) -> impl Iterator<Item = (usize, usize)> {
        pieces(self.0).map(|piece| (key_of(piece), piece.get(VALUE) as usize))
    }
}

fn pieces(first: Hidden) -> impl Iterator<Item = Piece> {
    core::iter::successors(Piece::at(first), |piece| piece.next())
}

fn find(first: Hidden, key: usize) -> Option<Piece> {
    pieces(first).find(|&piece| key_of(piece) == key)
}
