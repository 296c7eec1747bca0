//! What is stored of the code and the task that allocate: call stacks and names of tasks, each stored once.
//!
//! This module knows nothing of objects.

pub(crate) mod crc;
pub(crate) mod depot;
pub(crate) mod frame_walk;
pub(crate) mod stack_table;
pub(crate) mod task_names;
