//! `leak KIND`: plants one leak of a kind that occurs in kernels.
//!
//! Each leak is planted by a function of that name, which the detector must report. It runs in a task of its own, which has
//! ended and whose stack is freed before the prompt returns: so no stale word of it points to the block by chance.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt::Write;
use core::hint::black_box;
use core::ptr::NonNull;

use line_editor::nearest;

use super::commands::Answered;
use crate::leak::CommandError;
use crate::mm::buddy::{self, Tracking};
use crate::mm::percpu::alloc_percpu;
use crate::mm::vmalloc as virt;
use crate::sync::SpinLock;
use crate::task::{self, Priority, STACK_LEN};

/// A kind of leak.
struct Kind {
    name: &'static str,
    plant: fn(),
    planted: &'static str,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "forgotten-free",
        plant: forgotten_free,
        planted: "a box of 64 bytes, forgotten",
    },
    Kind {
        name: "arc-cycle",
        plant: arc_cycle,
        planted: "two Arcs that own each other",
    },
    Kind {
        name: "unlinked-node",
        plant: unlinked_node,
        planted: "a list node, unlinked but not freed",
    },
    Kind {
        name: "error-path",
        plant: error_path,
        planted: "a buffer of 200 bytes, lost by an early return",
    },
    Kind {
        name: "lost-task-stack",
        plant: lost_task_stack,
        planted: "a stack for a task that was never created",
    },
    Kind {
        name: "pages",
        plant: pages,
        planted: "four pages, never freed",
    },
    Kind {
        name: "vmalloc",
        plant: vmalloc,
        planted: "a vmalloc block of three pages",
    },
    Kind {
        name: "percpu",
        plant: percpu,
        planted: "a per-CPU block of 48 bytes",
    },
];

/// The names of the kinds.
pub fn names() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.name)
}

/// Runs the command.
pub fn run(name: &str, out: &mut dyn Write) -> Answered {
    let Some(kind) = KINDS.iter().find(|kind| kind.name == name) else {
        return list(name, out);
    };
    match task::spawn("leak", Priority::Normal, kind.plant) {
        Ok(planter) => planter.join(),
        Err(error) => {
            writeln!(out, "leak: {error}")?;
            return Err(CommandError::NotDone);
        }
    }
    Ok(writeln!(out, "planted: {}", kind.planted)?)
}

/// Lists the kinds if no name was given; complains if there is no such kind.
fn list(name: &str, out: &mut dyn Write) -> Answered {
    let nearest = nearest(name, &mut |take| names().for_each(take));
    match (name, nearest) {
        ("", _) => write!(out, "kinds:")?,
        (_, None) => write!(out, "leak: unknown kind `{name}`; there are:")?,
        (_, Some(nearest)) => {
            let nearest = nearest.word();
            writeln!(
                out,
                "leak: unknown kind `{name}`; did you mean `{nearest}`?"
            )?;
            return Err(CommandError::NotUnderstood);
        }
    }
    names().try_for_each(|name| write!(out, " {name}"))?;
    writeln!(out)?;
    match name {
        "" => Ok(()),
        _ => Err(CommandError::NotUnderstood),
    }
}

/// Hides a pointer from the compiler, and forgets it.
fn lose<T: ?Sized>(pointer: *const T) {
    black_box(pointer);
}

#[inline(never)]
fn forgotten_free() {
    lose(Box::into_raw(Box::new([0x6b_u8; 64])));
}

/// Half of a cycle.
struct Partner {
    other: SpinLock<Option<Arc<Partner>>>,
}

#[inline(never)]
fn arc_cycle() {
    let one = Arc::new(Partner {
        other: SpinLock::new(None),
    });
    let two = Arc::new(Partner {
        other: SpinLock::new(Some(one.clone())),
    });
    *one.other.lock() = Some(two);
    lose(Arc::as_ptr(&one));
}

/// A node of a list that owns its nodes by raw pointers.
struct Node {
    next: Option<NonNull<Node>>,
    payload: [u8; 40],
}

/// The list's head. A pointer to a node is valid in any task.
struct Head(Option<NonNull<Node>>);

// SAFETY: the list owns its nodes, and the lock around it lets one task at a time reach them.
unsafe impl Send for Head {}

static LIST: SpinLock<Head> = SpinLock::new(Head(None));

#[inline(never)]
fn unlinked_node() {
    // Frees what an earlier call has left in the list.
    while take_first().is_some() {}
    for payload in 1..=3 {
        push(payload);
    }
    // The node in the middle is unlinked, but not freed: the leak. The others stay in use.
    let list = LIST.lock();
    if let Some(first) = list.0 {
        // SAFETY: the list's own node, and the lock is held.
        let first = unsafe { &mut *first.as_ptr() };
        if let Some(middle) = first.next {
            // SAFETY: as above.
            first.next = unsafe { middle.as_ref() }.next;
            lose(middle.as_ptr());
        }
    }
}

#[inline(never)]
fn push(payload: u8) {
    let node = Box::new(Node {
        next: None,
        payload: [payload; 40],
    });
    let node = NonNull::from(Box::leak(node));
    let mut list = LIST.lock();
    // SAFETY: only this function has the node until it is in the list.
    unsafe { &mut *node.as_ptr() }.next = list.0;
    list.0 = Some(node);
}

fn take_first() -> Option<u8> {
    let mut list = LIST.lock();
    let first = list.0?;
    // SAFETY: the list's nodes come from boxes; the next line takes this one out of the list, whose lock is held.
    let node = unsafe { Box::from_raw(first.as_ptr()) };
    list.0 = node.next;
    drop(list);
    Some(black_box(node.payload)[0])
}

#[inline(never)]
fn error_path() {
    // Like a driver that allocates its buffer and then finds that its device is missing.
    fn set_up(buffer: *mut [u8]) -> Result<(), &'static str> {
        black_box(buffer);
        Err("no such device")
    }
    let buffer = Box::into_raw(alloc::vec![0_u8; 200].into_boxed_slice());
    if black_box(set_up(buffer)).is_err() {
        return;
    }
    // SAFETY: made from a box above.
    drop(unsafe { Box::from_raw(buffer) });
}

#[inline(never)]
fn lost_task_stack() {
    if let Some(stack) = virt::vmalloc(STACK_LEN, virt::Kind::Stack) {
        lose(stack.as_ptr());
    }
}

#[inline(never)]
fn pages() {
    if let Some(pages) = buddy::alloc(2, Tracking::Tracked) {
        lose(pages.as_ptr());
    }
}

#[inline(never)]
fn vmalloc() {
    if let Some(block) = virt::vmalloc(3 * 4096, virt::Kind::Data) {
        lose(block.as_ptr());
    }
}

#[inline(never)]
fn percpu() {
    if let Some(handle) = alloc_percpu(48, 8) {
        black_box(handle);
    }
}
