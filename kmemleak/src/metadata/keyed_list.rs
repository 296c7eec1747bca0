//! A short list of keys in metadata, each with a value and a count. It is searched from one end to the other.
//!
//! # Locks
//!
//! One, taken with interrupts off. The locks of metadata memory are taken under it.

use core::sync::atomic::Ordering;

use crate::atomic::{AtomicUsize, Lock};
use crate::metadata::MetaAlloc;
use crate::metadata::hidden::Hidden;
use crate::metadata::kept::Kept;
use crate::metadata::list::{List, MetaBox};
use crate::metadata::page::NoMemory;

/// A key with a value.
struct Keyed<V> {
    key: Hidden,
    value: V,
    /// How often it was added.
    count: usize,
}

/// The list. A key that was added several times has to be removed as often; the value that was added last is removed first.
pub(crate) struct KeyedList<V = usize> {
    /// The entry that was added last comes first.
    list: Lock<List<Keyed<V>>>,
    /// How many keys there are; if none, the lock is not taken. Relaxed: changed under the lock. A task sees what it has added
    /// itself; a look-up that misses a key which another CPU adds at that moment counts as done before.
    len: AtomicUsize,
}

impl<V: Copy + PartialEq> KeyedList<V> {
    pub(crate) const fn new() -> Self {
        Self {
            list: Lock::new(List::new()),
            len: AtomicUsize::new(0),
        }
    }

    /// Adds a key with a value, or counts it once more if its last value is the same.
    pub(crate) fn add(&self, key: usize, value: V, meta: &MetaAlloc<'_>) -> Kept {
        let key = Hidden::new(key);
        let mut list = self.list.lock();
        if let Some(last) = list.find_mut(|one| one.key == key)
            && last.value == value
        {
            last.count += 1;
            return Kept::Yes;
        }
        let count = 1;
        match MetaBox::new(Keyed { key, value, count }, meta) {
            Ok(new) => list.push(new),
            Err(NoMemory) => return Kept::NoMemory,
        }
        self.len.fetch_add(1, Ordering::Relaxed);
        Kept::Yes
    }

    /// Decrements the count of a key's last value, and removes the value when the count is zero. Returns the value; `None` if the
    /// key is not there.
    pub(crate) fn remove(&self, key: usize, meta: &MetaAlloc<'_>) -> Option<V> {
        let key = Hidden::new(key);
        let mut list = self.list.lock();
        let last = list.find_mut(|one| one.key == key)?;
        let value = last.value;
        last.count -= 1;
        if last.count == 0
            && let Some(last) = list.take_first(|one| one.key == key)
        {
            self.len.fetch_sub(1, Ordering::Relaxed);
            last.give_back(meta);
        }
        Some(value)
    }

    /// Whether a key is there.
    #[inline(always)]
    pub(crate) fn has(&self, key: usize) -> bool {
        self.len.load(Ordering::Relaxed) != 0 && self.is_listed(key)
    }

    fn is_listed(&self, key: usize) -> bool {
        let key = Hidden::new(key);
        self.list.lock().iter().any(|one| one.key == key)
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&self) {
        self.list.lock().empty();
        self.len.store(0, Ordering::Relaxed);
    }
}
