//! Blocks, and the list of those that were lost on purpose.
//!
//! The list knows an address only inverted. Its memory is taken before anything is lost, so noting a block allocates nothing.
//!
//! # Locks
//!
//! `LOST` is a leaf: under it nothing is allocated, freed or asked.

use alloc::alloc::{Layout, alloc, dealloc};
use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::mem;
use core::ptr::{self, NonNull};

use crate::sync::SpinLock;

/// How blocks are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Shape {
    /// One block, forgotten.
    Single,
    /// Blocks each of which points to the next, and the last one to the first.
    Cycle,
    /// Blocks each of which points to the next.
    List,
    /// A binary tree.
    Tree,
    /// A block that was allocated beside one that stays in use.
    Sibling,
    /// Popped from a `Vec` that lives on: its slot keeps the pointer until something else is pushed.
    Popped,
    /// Taken from a ring that lives on: so does that slot.
    Ring,
    /// Pointed to from a `Vec` that was freed: freed memory keeps the pointers until it is written to.
    Container,
    /// Held by an array on the stack of a function that has returned.
    Returned,
}

/// All shapes, in the order of their numbers.
pub const SHAPES: [Shape; 9] = [
    Shape::Single,
    Shape::Cycle,
    Shape::List,
    Shape::Tree,
    Shape::Sibling,
    Shape::Popped,
    Shape::Ring,
    Shape::Container,
    Shape::Returned,
];

impl Shape {
    /// As figures name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Cycle => "cycle",
            Self::List => "list",
            Self::Tree => "tree",
            Self::Sibling => "sibling",
            Self::Popped => "popped",
            Self::Ring => "ring",
            Self::Container => "container",
            Self::Returned => "returned",
        }
    }
}

/// A block that was lost.
#[derive(Clone, Copy, Debug)]
pub struct Lost {
    /// Its address, inverted.
    pub inverted: usize,
    words: u32,
    /// How it was lost.
    pub shape: Shape,
    /// Whether the check lists it.
    pub is_listed: bool,
}

static LOST: SpinLock<Vec<Lost>> = SpinLock::new(Vec::new());

/// Takes the memory for a list of so many blocks.
pub fn make_room(blocks: usize) -> Result<(), TryReserveError> {
    let mut list = Vec::new();
    list.try_reserve_exact(blocks)?;
    drop(mem::replace(&mut *LOST.lock(), list));
    Ok(())
}

/// How many blocks are lost.
pub fn count() -> usize {
    LOST.lock().len()
}

/// For how many more there is room in the list.
pub fn room() -> usize {
    let list = LOST.lock();
    list.capacity() - list.len()
}

/// Takes the list, sorted by inverted addresses.
pub fn take_sorted() -> Vec<Lost> {
    let mut list = mem::take(&mut *LOST.lock());
    list.sort_unstable_by_key(|block| block.inverted);
    list
}

/// Gives the list back.
pub fn put_back(list: Vec<Lost>) {
    drop(mem::replace(&mut *LOST.lock(), list));
}

/// Frees all lost blocks, and the list.
pub fn free_all() {
    for lost in mem::take(&mut *LOST.lock()) {
        let block = ptr::with_exposed_provenance_mut(!lost.inverted);
        // SAFETY: `Block::lose` gave it up, with this number of words; the list had its only address, and is gone.
        unsafe { dealloc(block, layout(lost.words as usize)) };
    }
}

/// A block of words that its owner frees or loses.
#[derive(Debug)]
pub struct Block {
    start: NonNull<usize>,
    words: u32,
}

impl Block {
    /// Allocates so many words, full of small numbers; `None` if there is no memory.
    pub fn new(words: u32) -> Option<Self> {
        let count = words.max(1);
        // SAFETY: the layout has a size.
        let start = NonNull::new(unsafe { alloc(layout(count as usize)) })?.cast::<usize>();
        for word in 0..count as usize {
            let place = start.as_ptr().wrapping_add(word);
            // SAFETY: a word of the new block.
            unsafe { place.write(word) };
        }
        Some(Self {
            start,
            words: count,
        })
    }

    /// Makes one of its words a pointer to the start of another block, or of itself. Words that it does not have are left out.
    pub fn point(&mut self, word: usize, target: NonNull<usize>) {
        if word < self.words as usize {
            let place = self.start.as_ptr().wrapping_add(word);
            // SAFETY: a word of the block.
            unsafe { place.write(target.expose_provenance().get()) };
        }
    }

    /// Where it starts.
    pub fn start(&self) -> NonNull<usize> {
        self.start
    }

    /// Loses it: it is noted as lost, and nothing else. Where the list has no room, it is freed.
    pub fn lose(self, shape: Shape) {
        let lost = Lost {
            inverted: !self.start.expose_provenance().get(),
            words: self.words,
            shape,
            is_listed: false,
        };
        let mut list = LOST.lock();
        if list.len() < list.capacity() {
            list.push(lost);
            mem::forget(self);
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; its owner ends.
        unsafe { dealloc(self.start.as_ptr().cast(), layout(self.words as usize)) };
    }
}

fn layout(words: usize) -> Layout {
    Layout::array::<usize>(words).expect("a few words")
}
