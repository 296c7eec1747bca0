//! Who allocates: call stacks, each kept once, and the names of tasks.
//!
//! Never: an object.

pub(crate) mod crc;
pub(crate) mod depot;
pub(crate) mod frame_walk;
pub(crate) mod stack_table;
pub(crate) mod task_names;
