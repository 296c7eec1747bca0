//!

pub(crate) mod depot;
pub(crate) mod frame_walk;
pub(crate) mod stack_table;
pub(crate) mod task_names;
