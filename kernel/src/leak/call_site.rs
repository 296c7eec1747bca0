//! The call site of a block at the end of the machine: without memory, and without a lock.
//!
//! As in the detector's reports, call stacks begin at the code that asked for memory. But functions are told by their names in
//! the symbol table alone: to know what was inlined there would take memory.

use kmemleak::is_allocation_machinery;

use crate::symbols;

/// Divides the return addresses of a call stack, innermost first, into those of the allocation machinery, and those from the
/// call site on. If all are machinery, none is. Any context.
pub fn from_call_site(call_stack: &[usize]) -> (&[usize], &[usize]) {
    let is_caller =
        |&frame: &usize| !symbols::of_return(frame).function_is(is_allocation_machinery);
    call_stack.split_at(call_stack.iter().position(is_caller).unwrap_or(0))
}
