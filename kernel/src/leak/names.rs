//! Readable names for words that were found in roots.
//!
//! | root | name |
//! | --- | --- |
//! | `.data`, `.bss` | `.bss kernel::shell::leak::LIST+0x8`; `.bss+0x123` where no variable is known |
//! | a CPU's static area | `cpu 1 kernel::arch::percpu::CPU_ID+0x0`; `cpu 1 .percpu+0x123` |
//! | descriptors of frames | `frame 0x1234 owner word` |
//! | a task's stack | `task 5 "shell" stack+0x1e8`, `task 5 "shell" register rbx`; `task 5 stack+0x1e8` when the task is gone |
//! | a region | `region 0xffff…+0x10` |
//!
//! Offsets in a stack count from the start of the root: the stack pointer at the time of the scan. If a running task's stack
//! pointer was unknown, all of its stack is a root; then offsets count from its lowest address, and no word is a register.
//!
//! # Invariants
//!
//! A name is made of addresses, symbols and the list of tasks. The root is never read: it may be unmapped by then.
//!
//! # Locks
//!
//! The scheduler's lock is taken to look at a task; it is not held while a name is written.

use core::fmt::{self, Write};

use kmemleak::{Root, RootKind};

use crate::arch::{context, memory, percpu};
use crate::mm::frame;
use crate::symbols;
use crate::task::{TaskId, scheduler};

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

/// Writes the name of a word of a task's stack, `offset` bytes above the stack pointer of the scan.
fn name_stack(id: TaskId, stack_pointer: usize, offset: usize, out: &mut dyn Write) -> fmt::Result {
    write!(out, "task {id} ")?;
    let Some((comm, stack_pointer_known)) = scheduler::find_task(id, |task| {
        let known = task.stack().start != stack_pointer;
        (task.id() == id).then(|| (task.comm(), known))
    })
    .flatten() else {
        return write!(out, "stack+{offset:#x}");
    };
    write!(out, "{:?} ", comm.as_str())?;
    match context::PUSHED.get(offset / size_of::<usize>()) {
        Some(register) if stack_pointer_known => write!(out, "register {register}"),
        _ => write!(out, "stack+{offset:#x}"),
    }
}
