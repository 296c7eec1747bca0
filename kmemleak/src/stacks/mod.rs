//! Who allocates: call stacks and names of tasks, each stored once.
//!
//! Never: an object.

pub(crate) mod crc;
pub(crate) mod depot;
pub(crate) mod frame_walk;
pub(crate) mod stack_table;
pub(crate) mod task_names;
