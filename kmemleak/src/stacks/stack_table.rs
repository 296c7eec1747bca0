//! Tables with a row for each call stack.

use crate::metadata::keyed_table::{Key, KeyedTable};
use crate::stacks::depot::StackId;

/// A table of rows, one for each call stack.
pub(crate) type StackTable<R> = KeyedTable<StackId, R>;

impl Key for StackId {
    fn bits(self) -> u32 {
        self.0
    }
}
