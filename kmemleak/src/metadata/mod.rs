//! Memory for metadata: pages from a bootstrap pool and the platform, cut into pieces.
//!
//! Code that tracks allocations cannot allocate. So metadata comes from pages: first from a bootstrap pool, so that tracking
//! works before any allocator does, then from the platform, and where that gives none, from what the kernel has [lent]. They are cut into [pieces](piece::Piece) of a few [sizes](Class);
//! a piece that is given back is kept for the next use of its class. Each CPU has a small stash of pieces, so that the shared
//! lists are rarely used. The platform's pages are given back all at once,
//! when the detector is off; the others stay the detector's. Only the pages of large answers are given back with the answer ([borrowed]).
//!
//! # Invariants
//!
//! - A page or a piece has one owner, which decides what its words are: see [`page`] and [`piece`].
//! - A piece keeps its class: it is never split, and never merged with others.
//! - Addresses are stored inverted ([`Hidden`](hidden)), or shifted so that they are no addresses (in the entry of a chunk).
//!
//! This module knows nothing of objects.

pub(crate) mod borrowed;
mod class;
pub(crate) mod heap;
pub(crate) mod hidden;
pub(crate) mod kept;
pub(crate) mod keyed_list;
pub(crate) mod keyed_table;
pub(crate) mod lent;
pub(crate) mod list;
pub(crate) mod load;
mod memory;
pub(crate) mod page;
mod page_log;
pub(crate) mod page_vec;
pub(crate) mod piece;
pub(crate) mod piece_vec;
pub(crate) mod pool;
pub(crate) mod range_tree;
pub(crate) mod ranges;

pub(crate) use self::class::Class;
pub(crate) use self::memory::{Memory, MetaAlloc};
pub(crate) use self::page::{PAGE_WORDS, WORD, word_of};

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
pub(crate) mod work_tests;
