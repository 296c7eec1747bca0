//! Tables with a row for each of some keys: a hash table in pages of metadata.

use core::cell::Cell;
use core::cmp::Reverse;

use crate::metadata::MetaAlloc;
use crate::metadata::heap::{Places, heapsort};
use crate::metadata::page::NoMemory;
use crate::metadata::page_vec::PageVec;
use crate::platform::METADATA_PAGE;

/// Chains of rows at first: a page of them, and a power of two. They become twice as many whenever there are more rows than that.
const BUCKETS: usize = METADATA_PAGE / size_of::<u32>();

/// What a table has rows for.
pub(crate) trait Key: Copy + Eq {
    /// Bits of it that tell most keys apart.
    fn bits(self) -> u32;
}

/// What is kept of a key.
struct KeyedRow<K, R> {
    key: K,
    /// The next row of the chain, by its number plus one.
    next: u32,
    /// The number of the row that stands in this place of the order.
    ordered: Cell<u32>,
    row: R,
}

/// A table of rows, which are numbered in the order in which they were added.
pub(crate) struct KeyedTable<K, R> {
    rows: PageVec<KeyedRow<K, R>>,
    /// The first row of each chain, by its number plus one.
    buckets: PageVec<u32>,
}

impl<K: Key, R> KeyedTable<K, R> {
    pub(crate) const fn new() -> Self {
        Self {
            rows: PageVec::new(),
            buckets: PageVec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The row of a key, by its number.
    pub(crate) fn find(&self, key: K) -> Option<usize> {
        let mut next = *self.buckets.get(self.bucket_of(key)?)?;
        loop {
            let number = next.checked_sub(1)? as usize;
            let row = self.rows.get(number)?;
            if row.key == key {
                return Some(number);
            }
            next = row.next;
        }
    }

    /// The row of a key, by its number; a blank one if there was none.
    pub(crate) fn find_or_add(&mut self, key: K, meta: &MetaAlloc<'_>) -> Result<usize, NoMemory>
    where
        R: Default,
    {
        if let Some(number) = self.find(key) {
            return Ok(number);
        }
        self.grow(meta)?;
        let bucket = self.bucket_of(key).ok_or(NoMemory)?;
        let first = self.buckets.get_mut(bucket).ok_or(NoMemory)?;
        let row = KeyedRow {
            key,
            next: *first,
            ordered: Cell::new(0),
            row: R::default(),
        };
        let number = self.rows.push(row, meta)?;
        *first = number as u32 + 1;
        Ok(number)
    }

    /// The key of the row with this number.
    pub(crate) fn key(&self, number: usize) -> Option<K> {
        self.rows.get(number).map(|row| row.key)
    }

    pub(crate) fn get(&self, number: usize) -> Option<&R> {
        self.rows.get(number).map(|row| &row.row)
    }

    pub(crate) fn get_mut(&mut self, number: usize) -> Option<&mut R> {
        self.rows.get_mut(number).map(|row| &mut row.row)
    }

    /// Calls `work` with each row.
    pub(crate) fn each_mut(&mut self, mut work: impl FnMut(&mut R)) {
        for number in 0..self.len() {
            self.get_mut(number).into_iter().for_each(&mut work);
        }
    }

    /// Orders the rows by weight, largest first; of rows with equal weights, the one that was added first comes first.
    pub(crate) fn order_by<W: Ord>(&self, weight: impl Fn(&R) -> W) {
        for number in 0..self.len() {
            self.set_ordered(number, number as u32);
        }
        let mut order = Order {
            table: self,
            weight,
        };
        heapsort(&mut order, self.len());
    }

    /// The number of the row that stands in this place of the order.
    fn ordered(&self, place: usize) -> Option<usize> {
        Some(self.rows.get(place)?.ordered.get() as usize)
    }

    fn set_ordered(&self, place: usize, number: u32) {
        if let Some(row) = self.rows.get(place) {
            row.ordered.set(number);
        }
    }

    /// All rows with their keys, in the order that [`order_by`](Self::order_by) has made.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (K, &R)> {
        let rows = (0..self.len()).filter_map(|place| self.rows.get(self.ordered(place)?));
        rows.map(|row| (row.key, &row.row))
    }

    /// Drops all rows; the memory is kept. Takes time proportional to the number of rows.
    pub(crate) fn clear(&mut self) {
        for number in 0..self.len() {
            if let Some(bucket) = self.bucket_of_row(number)
                && let Some(first) = self.buckets.get_mut(bucket)
            {
                *first = 0;
            }
        }
        self.rows.clear();
    }

    /// Makes chains for the first row, and twice as many if there are more rows than chains. Without memory for that, chains become
    /// longer.
    fn grow(&mut self, meta: &MetaAlloc<'_>) -> Result<(), NoMemory> {
        let Some(bits) = self.chain_bits() else {
            return self.buckets.extend(BUCKETS, meta);
        };
        let chains = 1 << bits;
        if self.len() < chains || self.buckets.extend(2 * chains, meta).is_err() {
            return Ok(());
        }
        for bucket in 0..2 * chains {
            if let Some(first) = self.buckets.get_mut(bucket) {
                *first = 0;
            }
        }
        for number in 0..self.len() {
            if let Some(bucket) = self.bucket_of_row(number)
                && let Some(first) = self.buckets.get_mut(bucket)
                && let Some(row) = self.rows.get_mut(number)
            {
                row.next = core::mem::replace(first, number as u32 + 1);
            }
        }
        Ok(())
    }

    /// log2 of the number of chains; `None` while there are none. Buckets of a doubling that memory was too short for don't count.
    fn chain_bits(&self) -> Option<u32> {
        self.buckets.len().checked_ilog2()
    }

    fn bucket_of_row(&self, number: usize) -> Option<usize> {
        self.bucket_of(self.rows.get(number)?.key)
    }

    /// The chain of a key; `None` while there are none.
    fn bucket_of(&self, key: K) -> Option<usize> {
        // Multiplied by 2^32 divided by the golden ratio, of which the upper bits are well mixed.
        let bits = self.chain_bits()?;
        Some((key.bits().wrapping_mul(0x9e37_79b9) >> (u32::BITS - bits)) as usize)
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&mut self) {
        self.rows.empty();
        self.buckets.empty();
    }
}

/// The order of a table's rows, while it is made.
struct Order<'t, K, R, F> {
    table: &'t KeyedTable<K, R>,
    weight: F,
}

impl<K: Key, R, W: Ord, F: Fn(&R) -> W> Places for Order<'_, K, R, F> {
    fn is_after(&self, one: usize, other: usize) -> bool {
        let weight = |place| {
            let number = self.table.ordered(place)?;
            Some(((self.weight)(self.table.get(number)?), Reverse(number)))
        };
        weight(one) < weight(other)
    }

    fn exchange(&mut self, one: usize, other: usize) {
        let rows = &self.table.rows;
        if let (Some(one), Some(other)) = (rows.get(one), rows.get(other)) {
            one.ordered.swap(&other.ordered);
        }
    }
}
