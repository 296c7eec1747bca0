//! CPUs that store call stacks at once.
//!
//! What must hold: a name leads to the stack that it was given for, whatever others do; equal stacks have one name; and a
//! CPU that takes an entry from where it was published sees all of it, so that it may be read as plain words.

use std::cell::OnceCell;

use loom::sync::Arc;
use loom::thread;

use crate::atomic;
use crate::metadata::page::{NewPage, NoMemory, PageSource};
use crate::models::{Pages, Protocol};
use crate::platform::StackWalk;
use crate::search::Model;
use crate::stacks::depot::{Depot, StackId};

/// The depot.
pub const PROTOCOL: Protocol = Protocol {
    sources: &[
        include_str!("../../../src/metadata/page.rs"),
        include_str!("../../../src/stacks/depot/mod.rs"),
        include_str!("../../../src/stacks/depot/slot.rs"),
        include_str!("../../../src/stacks/depot/index.rs"),
        include_str!("../../../src/stacks/depot/insert.rs"),
    ],
    models: &[
        Model {
            name: "one stack, two CPUs",
            preemptions: 2,
            run: one_stack,
        },
        Model {
            name: "two stacks, no page yet",
            preemptions: 2,
            run: first_pages,
        },
        Model {
            name: "room that is handed back",
            preemptions: 2,
            run: room_handed_back,
        },
        Model {
            name: "a fork in room that was used",
            preemptions: 2,
            run: fork_in_used_room,
        },
        Model {
            name: "three CPUs",
            preemptions: 1,
            run: three_cpus,
        },
    ],
};

const TEXT: usize = 0x5555_0000;

/// Three call stacks of two frames each, on stacks of plain memory that stay where they are.
struct Stacks {
    words: [[usize; 4]; 3],
}

thread_local! {
    static STACKS: OnceCell<&'static Stacks> = const { OnceCell::new() };
}

/// The addresses of a call stack.
fn addresses(stack: usize) -> [usize; 2] {
    [TEXT + 0x100 + stack, TEXT + 0x200 + stack]
}

/// A place that is the same in each execution: where a stack lies tells which slot is its own.
fn stacks() -> &'static Stacks {
    STACKS.with(|stacks| {
        *stacks.get_or_init(|| {
            let stacks = Box::leak(Box::new(Stacks { words: [[0; 4]; 3] }));
            for (number, words) in stacks.words.iter_mut().enumerate() {
                let start = words.as_ptr().expose_provenance();
                let [inner, outer] = addresses(number);
                *words = [start + 2 * size_of::<usize>(), inner, 0, outer];
            }
            stacks
        })
    })
}

/// A depot whose words all exist.
fn depot() -> Arc<Depot> {
    let depot = Depot::new();
    // SAFETY: nobody else has it yet.
    unsafe { depot.empty() };
    Arc::new(depot)
}

/// Records a stack, and looks whether the name is right.
fn record(depot: &Depot, stack: usize) -> StackId {
    let words = &stacks().words[stack];
    let start = words.as_ptr().expose_provenance();
    let walk = StackWalk {
        frame_pointer: start,
        stack: start..start + size_of_val(words),
        skip: 0..0,
    };
    // SAFETY: the stack lives and holds still.
    let seen = unsafe { depot.seen(&walk, 0) };
    // SAFETY: as above.
    let id = seen.unwrap_or_else(|| unsafe { depot.record_unseen(&walk, 0, &Pages) });
    assert_ne!(id, StackId::NONE);
    assert_eq!(
        depot.get(id).as_slice(),
        addresses(stack),
        "a name leads to another stack"
    );
    id
}

/// Runs what each CPU records, and looks at all that they got.
fn run(depot: &Arc<Depot>, cpus: &[&'static [usize]]) {
    let threads: Vec<_> = cpus
        .iter()
        .map(|&stacks| {
            let depot = depot.clone();
            thread::spawn(move || -> Vec<_> {
                let name = |&stack| (stack, record(&depot, stack));
                stacks.iter().map(name).collect()
            })
        })
        .collect();
    let names: Vec<_> = threads
        .into_iter()
        .flat_map(|thread| thread.join().expect("it panics where it fails"))
        .collect();
    for &(stack, name) in &names {
        assert_eq!(depot.get(name).as_slice(), addresses(stack));
        for &(other, other_name) in &names {
            assert_eq!(stack == other, name == other_name, "equal stacks, one name");
        }
    }
}

/// A depot that has a page already.
fn warm() -> Arc<Depot> {
    let depot = depot();
    depot.store(&[TEXT], &Pages);
    depot
}

fn one_stack() {
    run(&warm(), &[&[0], &[0]]);
}

fn room_handed_back() {
    run(&warm(), &[&[0, 1, 1], &[0]]);
}

fn first_pages() {
    run(&depot(), &[&[0], &[1]]);
}

/// Pages of a depot: behind the first one, which is a table, pages in all of whose room something was written in vain.
struct UsedPages;

/// The number of no entry.
const NO_ENTRY: u16 = 9;

impl PageSource for UsedPages {
    fn page(&self) -> Result<NewPage, NoMemory> {
        let value = if atomic::pages() == 0 { 0 } else { NO_ENTRY };
        // SAFETY: as for `Pages`.
        Ok(unsafe { NewPage::new(atomic::new_page_of(value)) })
    }
}

/// A CPU comes to a fork that lies where something else was written before.
fn fork_in_used_room() {
    let depot = depot();
    depot.store(&[TEXT], &UsedPages);
    run(&depot, &[&[0], &[0]]);
}

fn three_cpus() {
    run(&warm(), &[&[0], &[0], &[1]]);
}
