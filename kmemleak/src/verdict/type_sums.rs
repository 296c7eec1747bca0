//! What is alive of each type: the call sites, summed up by the type of what they allocate.
//!
//! The verdict knows no names, so whoever asks says which type a call stack has, by a checksum.
//!
//! # Memory
//!
//! A row for each type, in pages that stay until all metadata is given back.

use super::call_sites::{CallSites, Growth, SiteOrder};
use crate::metadata::keyed_table::{Key, KeyedTable};
use crate::metadata::page::NoMemory;
use crate::platform::Platform;
use crate::stacks::depot::StackId;
use crate::tracker::Tracker;

/// A type, by the checksum of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TypeKey(pub(crate) u64);

impl TypeKey {
    /// Of blocks whose type is not known.
    pub(crate) const UNKNOWN: Self = Self(0);
}

impl Key for TypeKey {
    fn bits(self) -> u32 {
        (self.0 ^ self.0 >> 32) as u32
    }
}

/// What is alive of a type.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TypeSum {
    /// The call stack that comes first in the order of call sites; its blocks have this type.
    pub(crate) first: Option<StackId>,
    /// Call stacks that allocate it.
    pub(crate) sites: usize,
    pub(crate) bytes: usize,
    pub(crate) objects: usize,
    /// Since the last mark; `None` where there is none.
    pub(crate) growth: Option<Growth>,
}

impl TypeSum {
    fn weight(&self, order: SiteOrder) -> (i64, i64) {
        let (bytes, objects) = (self.bytes as i64, self.objects as i64);
        let growth = self.growth.map_or(0, |growth| growth.bytes);
        match order {
            SiteOrder::Bytes => (bytes, objects),
            SiteOrder::Growth => (growth, bytes),
            SiteOrder::Count => (objects, bytes),
        }
    }
}

/// All types.
pub(crate) struct TypeSums(KeyedTable<TypeKey, TypeSum>);

impl TypeSums {
    pub(crate) const fn new() -> Self {
        Self(KeyedTable::new())
    }

    /// Forgets everything; its owner gives the memory back.
    pub(crate) fn empty(&mut self) {
        self.0.empty();
    }

    /// Sums up the call sites that were found, by the type that `type_of` says of a call stack, and puts the types in order.
    pub(crate) fn sum_by_type<P: Platform>(
        &mut self,
        tracker: &Tracker<P>,
        sites: &CallSites,
        order: SiteOrder,
        type_of: &mut dyn FnMut(&[usize]) -> TypeKey,
    ) -> Result<(), NoMemory> {
        self.0.clear();
        let mut summed = Ok(());
        sites.each(tracker, &mut |site, stack_id| {
            if summed.is_err() {
                return;
            }
            let key = type_of(site.call_stack);
            summed = self.row(tracker, key).map(|row| {
                row.first = row.first.or(Some(stack_id));
                row.sites += 1;
                row.bytes = row.bytes.saturating_add(site.bytes);
                row.objects += site.objects;
                if let Some(more) = site.growth {
                    let growth = row.growth.get_or_insert(Growth::NONE);
                    growth.bytes += more.bytes;
                    growth.objects += more.objects;
                }
            });
        });
        self.0.order_by(|row| row.weight(order));
        summed
    }

    fn row<P: Platform>(
        &mut self,
        tracker: &Tracker<P>,
        key: TypeKey,
    ) -> Result<&mut TypeSum, NoMemory> {
        let number = tracker.without_interrupts(|meta| self.0.find_or_add(key, meta))?;
        self.0.get_mut(number).ok_or(NoMemory)
    }

    /// How many types there are, those that are not known as one.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The types, in the order that was asked for.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (TypeKey, &TypeSum)> {
        self.0.in_order()
    }
}
