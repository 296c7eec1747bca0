//! Values in pieces of metadata, and lists of them.
//!
//! A [`MetaBox`] is a value that has a piece for itself; a [`List`] links such boxes, without further memory, and so does what has
//! [links](Link) of its own. None has a destructor, since giving memory back takes a [`MetaAlloc`]: if one is dropped, its memory stays in use until all metadata is
//! given back.
//!
//! # Invariants
//!
//! A box, a link or a list owns its nodes: no node belongs to two of them.

use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use crate::metadata::hidden::Hidden;
use crate::metadata::page::NoMemory;
use crate::metadata::piece::Piece;
use crate::metadata::{Class, MetaAlloc, WORD};

/// A value, with the place of the next node in the first word.
#[repr(C)]
struct Node<T> {
    next: Hidden,
    value: T,
}

impl<T> Node<T> {
    const CLASS: Class = {
        assert!(align_of::<Self>() <= WORD);
        match Class::smallest_for(size_of::<Self>()) {
            Some(class) => class,
            None => panic!("no piece is so large"),
        }
    };
}

/// A value in a piece of metadata.
#[must_use = "a box is put into a list or given back"]
pub(crate) struct MetaBox<T>(NonNull<Node<T>>);

impl<T> MetaBox<T> {
    pub(crate) fn new(value: T, meta: &MetaAlloc<'_>) -> Result<Self, NoMemory> {
        let node = meta.take(Node::<T>::CLASS)?.into_raw().cast();
        let next = Hidden::NONE;
        // SAFETY: the words of a piece that is large enough, and has no other user.
        unsafe { node.write(Node { next, value }) };
        Ok(Self(node))
    }

    /// Gives the memory back.
    pub(crate) fn give_back(self, meta: &MetaAlloc<'_>) -> T {
        // SAFETY: the box owns its node, which is written.
        let node = unsafe { self.0.read() };
        // SAFETY: it came from such a piece, and the box is gone.
        meta.give(unsafe { Piece::from_raw(self.0.cast(), Node::<T>::CLASS) });
        node.value
    }
}

impl<T> Deref for MetaBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the box owns its node, which is written.
        &unsafe { self.0.as_ref() }.value
    }
}

impl<T> DerefMut for MetaBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the box owns its node, which is written, and is borrowed exclusively.
        &mut unsafe { self.0.as_mut() }.value
    }
}

/// A place for a box, for structures that link boxes in their own way.
pub(crate) struct Link<T>(Hidden, PhantomData<T>);

impl<T> Link<T> {
    pub(crate) const fn new() -> Self {
        Self(Hidden::NONE, PhantomData)
    }

    pub(crate) fn get(&self) -> Option<&T> {
        #[cfg(test)]
        crate::metadata::work_tests::count();
        // SAFETY: the node of a box that this link has taken over, and is borrowed with.
        Some(&unsafe { self.0.pointer::<Node<T>>()?.as_ref() }.value)
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        // SAFETY: as above, exclusively.
        Some(&mut unsafe { self.0.pointer::<Node<T>>()?.as_mut() }.value)
    }

    /// Puts a box in the place of what is there.
    pub(crate) fn set(&mut self, value: MetaBox<T>) -> &mut T {
        self.0 = Hidden::of(value.0);
        let mut node = value.0;
        // SAFETY: as above.
        &mut unsafe { node.as_mut() }.value
    }

    pub(crate) fn take(&mut self) -> Option<MetaBox<T>> {
        let node = self.0.pointer().map(MetaBox);
        self.0 = Hidden::NONE;
        node
    }

    /// Moves what is there to another place.
    pub(crate) fn take_link(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }
}

/// A list of values.
pub(crate) struct List<T> {
    first: Hidden,
    values: PhantomData<T>,
}

impl<T> List<T> {
    pub(crate) const fn new() -> Self {
        Self {
            first: Hidden::NONE,
            values: PhantomData,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first == Hidden::NONE
    }

    /// Puts a value at the beginning.
    pub(crate) fn push(&mut self, value: MetaBox<T>) {
        // SAFETY: the first word of a node that the box owned.
        unsafe { value.0.cast().write(self.first) };
        self.first = Hidden::of(value.0);
    }

    /// Puts a value at the end. Walks the whole list.
    pub(crate) fn push_last(&mut self, value: MetaBox<T>) {
        let mut link = NonNull::from_mut(&mut self.first);
        // SAFETY: the list's own link, or the first word of a node of it.
        while let Some(node) = unsafe { link.read() }.pointer::<Node<T>>() {
            link = node.cast();
        }
        // SAFETY: as above.
        unsafe { link.write(Hidden::of(value.0)) };
        // SAFETY: the first word of a node that the box owned.
        unsafe { value.0.cast().write(Hidden::NONE) };
    }

    /// Takes the first value out of the list.
    pub(crate) fn pop(&mut self) -> Option<MetaBox<T>> {
        self.take_first(|_| true)
    }

    /// Gives the memory of all values back.
    pub(crate) fn clear(&mut self, meta: &MetaAlloc<'_>) {
        while let Some(value) = self.pop() {
            value.give_back(meta);
        }
    }

    /// All values, from the beginning.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        // SAFETY: a node of the list, which is borrowed.
        let at = |place: Hidden| Some(unsafe { place.pointer::<Node<T>>()?.as_ref() });
        core::iter::successors(at(self.first), move |node| at(node.next)).map(|node| &node.value)
    }

    /// The first value for which `is_wanted` is true, to be changed.
    pub(crate) fn find_mut(&mut self, is_wanted: impl FnMut(&T) -> bool) -> Option<&mut T> {
        let mut node = self.link_to(is_wanted)?.1;
        // SAFETY: a node of the list, which is borrowed exclusively.
        Some(&mut unsafe { node.as_mut() }.value)
    }

    /// Takes the first value for which `is_wanted` is true out of the list.
    pub(crate) fn take_first(&mut self, is_wanted: impl FnMut(&T) -> bool) -> Option<MetaBox<T>> {
        let (link, node) = self.link_to(is_wanted)?;
        // SAFETY: the first word of a node of the list.
        let next = unsafe { node.cast::<Hidden>().read() };
        // SAFETY: the link that led to the node: the list's own, or the first word of another node.
        unsafe { link.write(next) };
        Some(MetaBox(node))
    }

    /// The first value for which `is_wanted` is true, and the link that leads to it. Borrows nodes as shared, not exclusively.
    fn link_to(
        &mut self,
        mut is_wanted: impl FnMut(&T) -> bool,
    ) -> Option<(NonNull<Hidden>, NonNull<Node<T>>)> {
        let mut link = NonNull::from_mut(&mut self.first);
        loop {
            // SAFETY: the list's own link, or the first word of a node of it.
            let node = unsafe { link.read() }.pointer::<Node<T>>()?;
            // SAFETY: a node of the list, which is borrowed.
            if is_wanted(&unsafe { node.as_ref() }.value) {
                return Some((link, node));
            }
            link = node.cast();
        }
    }

    /// Forgets everything; the memory is given back by its owner.
    pub(crate) fn empty(&mut self) {
        self.first = Hidden::NONE;
    }
}
