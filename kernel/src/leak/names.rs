//! Readable names for words that were found in roots.
//!
//! | root | name |
//! | --- | --- |
//! | `.data`, `.bss` | `.bss kernel::shell::leak::LIST+0x8`; `.bss+0x123` where no variable is known |
//! | a CPU's static area | `cpu 1 kernel::arch::percpu::CPU_ID+0x0`; `cpu 1 .percpu+0x123` |
//! | descriptors of frames | `frame 0x1234 owner word` |
//! | a task's stack | `task 5 "shell" kernel::shell::run stack+0x1e8`, `task 5 "shell" register rbx`; `task 5 stack+0x1e8` when the task is gone |
//! | a region | `region 0xffff…+0x10` |
//!
//! Offsets in a stack count from the start of the root: the stack pointer at the time of the scan. If a running task's stack
//! pointer was unknown, all of its stack is a root; then offsets count from its lowest address, and no word is a register. Of a task that
//! waits since the scan, the function in whose frame the word lies has its name in front of that.
//!
//! # Invariants
//!
//! A name is made of addresses, symbols and the list of tasks. The root is never read: it may be unmapped by then. But the frame pointers
//! in the stack of a task that waits are followed, under the lock that keeps the task from going on.
//!
//! # Locks
//!
//! The scheduler's lock is taken to look at a task; it is not held while a name is written.

use core::fmt::{self, Write};
use core::ops::Range;

use kmemleak::{Comm, Root, RootKind};

use crate::arch::{backtrace, context, memory, percpu};
use crate::mm::frame;
use crate::symbols;
use crate::task::{State, Task, TaskId, scheduler};

const WORD: usize = size_of::<usize>();

/// Writes the name of the word at `address`, which was found in `root`. Task context.
pub(super) fn name_root(root: Root, address: usize, out: &mut dyn Write) -> fmt::Result {
    let offset = address.wrapping_sub(root.start);
    match root.kind {
        RootKind::Section => {
            let sections = [(".data", memory::data()), (".bss", memory::bss())];
            match sections
                .iter()
                .find(|(_, section)| section.contains(address))
            {
                Some((name, section)) => {
                    out.write_str(name)?;
                    name_variable(address, address - section.start, out)
                }
                None => write!(out, "section {:#018x}+{offset:#x}", root.start),
            }
        }
        RootKind::PerCpu(cpu) => {
            write!(out, "cpu {cpu} ")?;
            let in_template = percpu::in_template(cpu, address);
            match in_template.and_then(symbols::variable) {
                Some(variable) => write!(out, "{variable}"),
                None => write!(out, ".percpu+{offset:#x}"),
            }
        }
        RootKind::Frames(first) => match frame::field_at(address) {
            Some((number, field)) => write!(out, "frame {number:#x} {field}"),
            None => write!(out, "frames from {first:#x} on, +{offset:#x}"),
        },
        RootKind::Stack(task) => name_stack(task, root.start, offset, out),
        RootKind::Registers(cpu) => write!(out, "cpu {cpu} registers+{offset:#x}"),
        RootKind::Region => write!(out, "region {:#018x}+{offset:#x}", root.start),
    }
}

/// Writes the rest of a section's name: the variable at `address`, or the offset in the section.
fn name_variable(address: usize, offset: usize, out: &mut dyn Write) -> fmt::Result {
    match symbols::variable(address) {
        Some(variable) => write!(out, " {variable}"),
        None => write!(out, "+{offset:#x}"),
    }
}

/// What is known of a task whose stack is named.
struct Stacked {
    comm: Comm,
    /// False if all of the stack is the root, since the stack pointer was unknown.
    has_stack_pointer: bool,
    /// Where the function returns to in whose frame the word lies.
    returns_to: Option<usize>,
}

impl Stacked {
    /// Of a word at `address`, in a root that begins at `start`. Under the scheduler's lock.
    fn of(task: &Task, start: usize, address: usize) -> Self {
        let stack = task.stack();
        // The task has not run since, and does not until the lock is opened.
        let waits = matches!(task.state(), State::Ready | State::Blocked);
        let is_as_saved = waits && task.stack_pointer() == start && stack.contains(&start);
        Self {
            comm: task.comm(),
            has_stack_pointer: stack.start != start,
            // SAFETY: the stack of a task that has saved its registers there; it is not freed before it is taken from the list, and
            // that is done under the lock.
            returns_to: is_as_saved
                .then(|| unsafe { frame_of(address, start, stack) })
                .flatten(),
        }
    }
}

/// Where the function returns to in whose frame the word at `address` lies; none for the registers at the stack pointer.
///
/// # Safety
///
/// `stack` can be read, and is in use from `stack_pointer` on, at which [`context::PUSHED`] lies.
unsafe fn frame_of(address: usize, stack_pointer: usize, stack: Range<usize>) -> Option<usize> {
    let first = stack_pointer + (context::PUSHED.len() - 1) * WORD;
    // SAFETY: the caller's promise.
    unsafe { backtrace::frame_of(address, first, stack) }
}

/// Writes the name of a word of a task's stack, `offset` bytes above the stack pointer of the scan.
fn name_stack(id: TaskId, start: usize, offset: usize, out: &mut dyn Write) -> fmt::Result {
    write!(out, "task {id} ")?;
    let Some(found) = scheduler::find_task(id, |task| {
        (task.id() == id).then(|| Stacked::of(task, start, start + offset))
    })
    .flatten() else {
        return write!(out, "stack+{offset:#x}");
    };
    write!(out, "{:?} ", found.comm.as_str())?;
    match context::PUSHED.get(offset / WORD) {
        Some(register) if found.has_stack_pointer => return write!(out, "register {register}"),
        _ => {}
    }
    if let Some(address) = found.returns_to {
        write!(out, "{} ", symbols::function_of_return(address))?;
    }
    write!(out, "stack+{offset:#x}")
}
