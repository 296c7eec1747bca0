//! What the roots are.
//!
//! `.data` and `.bss`; the static per-CPU area of each CPU; the descriptors of page frames in use; each
//! task's stack from its stack pointer up, on which its registers lie as well.
//!
//! No roots are: the template of the per-CPU areas, the boot heap's arena (its blocks are objects), the detector's own
//! state, the exception stacks (a CPU that runs on one ends the machine), and what the allocators keep in free memory.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use kmemleak::{Root, RootCursor, RootKind};

use super::player::{NO_TASK, is_player};
use crate::arch::{context, memory, percpu};
use crate::mm::frame;
use crate::stop;
use crate::task::{self, State, scheduler};

/// The task that scans, and its stack pointer when the scan began: what the scan puts below it is no root.
static SCANNER: AtomicU32 = AtomicU32::new(NO_TASK);
static SCANNER_STACK: AtomicUsize = AtomicUsize::new(0);

/// Runs `scan`; what `scan` puts on this task's stack is no root.
pub(super) fn on_unscanned_stack(scan: &mut dyn FnMut()) {
    let task = percpu::task_id().unwrap_or(NO_TASK);
    if task != NO_TASK && SCANNER.load(Ordering::Relaxed) == task {
        // An outer call has recorded the stack pointer already.
        return scan();
    }
    context::with_registers_pushed(&mut |stack_pointer| {
        SCANNER_STACK.store(stack_pointer, Ordering::Relaxed);
        SCANNER.store(task, Ordering::Release);
        scan();
        SCANNER.store(NO_TASK, Ordering::Release);
    });
}

/// The stages of the walk over the roots.
mod stage {
    pub const DATA: usize = 0;
    pub const BSS: usize = 1;
    pub const PERCPU: usize = 2;
    pub const FRAMES: usize = 3;
    pub const STACKS: usize = 4;
}

pub(super) fn next_root(cursor: &mut RootCursor) -> Option<Root> {
    loop {
        let root = match cursor.stage {
            stage::DATA => section(cursor, memory::data()),
            stage::BSS => section(cursor, memory::bss()),
            stage::PERCPU => static_percpu(cursor),
            stage::FRAMES => frames(cursor),
            stage::STACKS => stack(cursor),
            _ => return None,
        };
        match root {
            Some(root) => return Some(root),
            None => {
                *cursor = RootCursor {
                    stage: cursor.stage + 1,
                    index: 0,
                }
            }
        }
    }
}

fn section(cursor: &mut RootCursor, section: memory::Section) -> Option<Root> {
    if cursor.index != 0 {
        return None;
    }
    cursor.index = 1;
    Some(Root {
        kind: RootKind::Section,
        start: section.start,
        len: section.end - section.start,
    })
}

fn static_percpu(cursor: &mut RootCursor) -> Option<Root> {
    let cpu = cursor.index as u32;
    let start = percpu::area(cpu)?;
    cursor.index += 1;
    Some(Root {
        kind: RootKind::PerCpu(cpu),
        start,
        len: percpu::area_len(),
    })
}

fn frames(cursor: &mut RootCursor) -> Option<Root> {
    let run = frame::next_in_use(cursor.index)?;
    cursor.index = run.first + run.count;
    let kind = RootKind::Frames(run.first as u64);
    Some(Root {
        kind,
        start: run.start,
        len: run.len,
    })
}

fn stack(cursor: &mut RootCursor) -> Option<Root> {
    loop {
        let (id, live) =
            scheduler::find_task(cursor.index as u32, |task| (task.id(), live_stack(task)))?;
        cursor.index = id as usize + 1;
        if let Some(live) = live {
            return Some(Root {
                kind: RootKind::Stack(id),
                start: live.start,
                len: live.len(),
            });
        }
    }
}

/// The part of a task's stack that is in use; `None` for a task that has ended, or that plays with the detector.
fn live_stack(task: &task::Task) -> Option<core::ops::Range<usize>> {
    let stack = task.stack();
    if is_player(task.id()) {
        return None;
    }
    let pointer = match task.state() {
        State::Dead => return None,
        // Also in a stopped world: below that, the scan itself has left addresses of all objects.
        State::Running if task.id() == SCANNER.load(Ordering::Acquire) => {
            SCANNER_STACK.load(Ordering::Relaxed)
        }
        State::Running if stop::is_stopped() => stop::stack_pointer(task.cpu()),
        // While the world runs, the stack pointer of a running task is unknown: all of its stack is a root.
        State::Running => stack.start,
        State::Ready | State::Blocked => task.stack_pointer(),
    };
    Some(pointer.max(stack.start)..stack.end)
}
