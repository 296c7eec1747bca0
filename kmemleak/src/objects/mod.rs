//! What is known of memory: which objects there are, by address, and which ranges the kernel has named as roots.
//!
//! Other modules use the [`registry`]. Below it lie the page map, the chunks that it leads to, their records, and the side table
//! for rare properties.
//!
//! This module does not know who looks at an object, or why.

pub(crate) mod access;
pub(crate) mod chunk;
pub(crate) mod emptied;
pub(crate) mod frozen;
pub(crate) mod hazard;
pub(crate) mod info;
pub(crate) mod moves;
pub(crate) mod object;
pub(crate) mod page_map;
pub(crate) mod record;
pub(crate) mod registry;
pub(crate) mod root_ranges;
pub(crate) mod side_table;
pub(crate) mod spacing;
pub(crate) mod spill;
pub(crate) mod vouching;
pub(crate) mod word_lock;
