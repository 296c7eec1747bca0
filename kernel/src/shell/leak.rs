//! `leak KIND`: plants one leak of a kind that occurs in kernels.
//!
//! Each leak is planted by a function of that name, which the detector must report. It runs in a task of its own, which has
//! ended and whose stack is freed before the prompt returns: so no stale word of it points to the block by chance.
//!
//! `leak all-pages` takes all memory that is left, and `leak free` gives back what `pages` and `all-pages` have taken: it needs
//! no memory. Each of these blocks says in its first words which was taken before it, in a form in which the detector finds no
//! pointer.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt::Write;
use core::hint::black_box;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use line_editor::nearest;

use super::commands::Answered;
use super::miscount;
use crate::leak::CommandError;
use crate::mm::buddy::{self, Tracking};
use crate::mm::heap::{NoMemory, Room};
use crate::mm::percpu::alloc_percpu;
use crate::mm::vmalloc as virt;
use crate::sync::SpinLock;
use crate::task::{self, JoinHandle, Mutex, Priority, STACK_LEN, State, WaitQueue, channel};

/// A kind of leak.
struct Kind {
    name: &'static str,
    /// What the task runs that plants it, itself: each function in between would be a frame of its call stack.
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
        name: "all-pages",
        plant: all_pages,
        planted: "all free pages",
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

/// The word that frees pages.
const FREE: &str = "free";

/// The names of the kinds, and the word that frees pages.
pub fn names() -> impl Iterator<Item = &'static str> {
    kinds().map(|kind| kind.name).chain([FREE])
}

/// Whether the last task that was to plant a leak had no memory for it.
static IS_REFUSED: AtomicBool = AtomicBool::new(false);

/// Notes that there was no memory for a leak.
fn refuse() {
    IS_REFUSED.store(true, Ordering::Relaxed);
}

/// Runs the command.
pub fn run(name: &str, out: &mut dyn Write) -> Answered {
    if name == FREE {
        let blocks = free_pages();
        return Ok(writeln!(out, "freed: {blocks} blocks of pages")?);
    }
    let Some(kind) = kinds().find(|kind| kind.name == name) else {
        return list(name, out);
    };
    IS_REFUSED.store(false, Ordering::Relaxed);
    match task::spawn("leak", Priority::Normal, kind.plant) {
        Ok(planter) => planter.join(),
        Err(error) => {
            writeln!(out, "leak: {error}")?;
            return Err(CommandError::NotDone);
        }
    }
    if IS_REFUSED.load(Ordering::Relaxed) {
        writeln!(out, "leak: no memory for {}", kind.planted)?;
        return Err(CommandError::NotDone);
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
    let Ok(_room) = Room::for_box::<[u8; 64]>() else {
        return refuse();
    };
    lose(Box::into_raw(Box::new([0x6b_u8; 64])));
}

/// Half of a cycle.
struct Partner {
    other: SpinLock<Option<Arc<Partner>>>,
}

#[inline(never)]
fn arc_cycle() {
    let Ok(room) = Room::for_arc::<Partner>() else {
        return refuse();
    };
    let one = Arc::new(Partner {
        other: SpinLock::new(None),
    });
    drop(room);
    let Ok(room) = Room::for_arc::<Partner>() else {
        return refuse();
    };
    let two = Arc::new(Partner {
        other: SpinLock::new(Some(one.clone())),
    });
    drop(room);
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
        if push(payload).is_err() {
            return refuse();
        }
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
fn push(payload: u8) -> Result<(), NoMemory> {
    let room = Room::for_box::<Node>()?;
    let node = Box::new(Node {
        next: None,
        payload: [payload; 40],
    });
    drop(room);
    let node = NonNull::from(Box::leak(node));
    let mut list = LIST.lock();
    // SAFETY: only this function has the node until it is in the list.
    unsafe { &mut *node.as_ptr() }.next = list.0;
    list.0 = Some(node);
    Ok(())
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
    fn set_up(buffer: *mut [u8; 200]) -> Result<(), &'static str> {
        black_box(buffer);
        Err("no such device")
    }
    let Ok(room) = Room::for_box::<[u8; 200]>() else {
        return refuse();
    };
    let buffer = Box::into_raw(Box::new([0_u8; 200]));
    drop(room);
    if black_box(set_up(buffer)).is_err() {
        return;
    }
    // SAFETY: made from a box above.
    drop(unsafe { Box::from_raw(buffer) });
}

#[inline(never)]
fn lost_task_stack() {
    match virt::vmalloc(STACK_LEN, virt::Kind::Stack) {
        Some(stack) => lose(stack.as_ptr()),
        None => refuse(),
    }
}

/// What the first words of a block of pages say.
#[repr(C)]
struct Taken {
    /// The address of the block taken before, inverted.
    before: usize,
    order: u32,
}

/// The address of the block taken last, inverted; that of null, if there is none.
static LAST_TAKEN: SpinLock<usize> = SpinLock::new(!0);

/// Notes in a block of pages which was taken before.
fn note_taken(block: NonNull<u8>, order: u32) {
    let mut last = LAST_TAKEN.lock();
    let taken = Taken {
        before: *last,
        order,
    };
    // SAFETY: a fresh block, longer than that, and aligned to pages.
    unsafe { block.cast().write(taken) };
    *last = !block.addr().get();
}

#[inline(never)]
fn pages() {
    match buddy::alloc(2, Tracking::Tracked) {
        Some(block) => note_taken(block, 2),
        None => refuse(),
    }
}

#[inline(never)]
fn all_pages() {
    let mut taken = false;
    for order in (0..=2).rev() {
        while let Some(block) = buddy::alloc(order, Tracking::Tracked) {
            note_taken(block, order);
            taken = true;
        }
    }
    if !taken {
        refuse();
    }
}

/// Takes the block that was taken last out of the chain.
fn last_taken() -> Option<(NonNull<u8>, u32)> {
    let mut last = LAST_TAKEN.lock();
    let block = NonNull::new(ptr::with_exposed_provenance_mut::<Taken>(!*last))?;
    // SAFETY: written when the block was taken, and whoever takes it out of the chain frees it.
    let taken = unsafe { block.read() };
    *last = taken.before;
    Some((block.cast(), taken.order))
}

/// Frees all blocks of pages that were taken, and returns how many there were.
fn free_pages() -> usize {
    let freed = core::iter::from_fn(last_taken);
    freed
        .map(|(block, order)| buddy::free(block, order, Tracking::Tracked))
        .count()
}

#[inline(never)]
fn vmalloc() {
    match virt::vmalloc(3 * 4096, virt::Kind::Data) {
        Some(block) => lose(block.as_ptr()),
        None => refuse(),
    }
}

#[inline(never)]
fn percpu() {
    match alloc_percpu(48, 8) {
        Some(handle) => _ = black_box(handle),
        None => refuse(),
    }
}

/// Kinds that lose no block: a task waits for ever, and keeps what it holds.
const TASK_KINDS: &[Kind] = &[
    Kind {
        name: "blocked-task",
        plant: blocked_task,
        planted: "a task that waits in a queue which nobody else can reach",
    },
    Kind {
        name: "deadlock",
        plant: deadlock,
        planted: "two tasks, each of which waits for the mutex that the other one holds",
    },
    Kind {
        name: "lost-sender",
        plant: lost_sender,
        planted: "a task that waits for messages whose sender was forgotten",
    },
];

/// All kinds.
fn kinds() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().chain(TASK_KINDS).chain(COUNT_KINDS)
}

/// Waits until a task is blocked.
fn wait_until_blocked(started: &JoinHandle) {
    while started.task().state() != State::Blocked {
        task::yield_now();
    }
}

/// Something that only a task that waits holds.
type Held = [u8; 1000];

fn blocked_task() {
    let rooms = (Room::for_box::<Held>(), Room::for_arc::<WaitQueue>());
    let (Ok(_), Ok(_)) = rooms else {
        return refuse();
    };
    let (queue, held) = (Arc::new(WaitQueue::new()), Box::new([0x71_u8; 1000]));
    drop(rooms);
    let wait = move || {
        queue.wait_for(|| black_box(false).then_some(()));
        drop(black_box(held));
    };
    match task::spawn("waiter", Priority::Normal, wait) {
        Ok(waiter) => wait_until_blocked(&waiter),
        Err(_) => refuse(),
    }
}

/// Two accounts, each with a lock of its own.
struct Accounts {
    one: Mutex<u64>,
    other: Mutex<u64>,
    /// How many are locked.
    locked: AtomicU32,
}

/// Moves something between the accounts, and locks them in this order.
fn transfer(accounts: &Accounts, from: &Mutex<u64>, to: &Mutex<u64>) {
    let mut from = from.lock();
    accounts.locked.fetch_add(1, Ordering::AcqRel);
    while accounts.locked.load(Ordering::Acquire) < 2 {
        task::yield_now();
    }
    let mut to = to.lock();
    *from -= 1;
    *to += 1;
}

fn deadlock() {
    let Ok(room) = Room::for_arc::<Accounts>() else {
        return refuse();
    };
    let accounts = Arc::new(Accounts {
        one: Mutex::new(10),
        other: Mutex::new(10),
        locked: AtomicU32::new(0),
    });
    drop(room);
    let (here, there) = (accounts.clone(), accounts);
    let back = move || transfer(&here, &here.other, &here.one);
    let Ok(back) = task::spawn("back", Priority::Normal, back) else {
        return refuse();
    };
    let forth = move || transfer(&there, &there.one, &there.other);
    match task::spawn("forth", Priority::Normal, forth) {
        Ok(forth) => [back, forth].iter().for_each(wait_until_blocked),
        Err(_) => refuse(),
    }
}

fn lost_sender() {
    let Ok((sender, receiver)) = channel::channel::<Box<Held>>() else {
        return refuse();
    };
    let serve = move || while receiver.receive().is_some() {};
    match task::spawn("server", Priority::Normal, serve) {
        Ok(server) => {
            wait_until_blocked(&server);
            core::mem::forget(black_box(sender));
        }
        Err(_) => refuse(),
    }
}

/// Kinds that lose no block either: each block stays in use, and its count is one too high.
const COUNT_KINDS: &[Kind] = &[
    Kind {
        name: "forgotten-clone",
        plant: || planted(miscount::forgotten_clone()),
        planted: "a clone of an Arc in use, forgotten",
    },
    Kind {
        name: "double-into-raw",
        plant: || planted(miscount::double_into_raw()),
        planted: "an Arc in use, made raw twice and taken back once",
    },
    Kind {
        name: "lost-waker",
        plant: || planted(miscount::lost_waker()),
        planted: "the waker of a job in use, forgotten",
    },
];

/// Notes whether there was memory for it.
fn planted(done: Result<(), NoMemory>) {
    if done.is_err() {
        refuse();
    }
}
