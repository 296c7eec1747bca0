//! CPUs that look names of tasks up while rounds free numbers, and others give them again.
//!
//! What must hold: the number of a record that is in a chunk has the name that it was recorded with; a copy has that name or
//! none.

use loom::sync::Arc;
use loom::thread;

use crate::atomic::{AtomicU32, Lock};
use crate::models::{Pages, Protocol};
use crate::platform::Comm;
use crate::search::Model;
use crate::stacks::task_names::{NamesInUse, TaskNames};

use std::sync::atomic::Ordering::Relaxed;

/// The names of tasks.
pub const PROTOCOL: Protocol = Protocol {
    sources: &[
        include_str!("../../../src/metadata/page.rs"),
        include_str!("../../../src/stacks/task_names/mod.rs"),
        include_str!("../../../src/stacks/task_names/names.rs"),
        include_str!("../../../src/stacks/task_names/index.rs"),
        include_str!("../../../src/stacks/task_names/rows.rs"),
        include_str!("../../../src/stacks/task_names/states.rs"),
        include_str!("../../../src/stacks/task_names/round.rs"),
    ],
    models: &[
        Model {
            name: "a known name is looked up in a round",
            preemptions: 3,
            run: looked_up,
        },
        Model {
            name: "a name is looked up while its number is given to another",
            preemptions: 2,
            run: given_to_another,
        },
        Model {
            name: "a CPU goes from task to task in a round",
            preemptions: 2,
            run: from_task_to_task,
        },
        Model {
            name: "a task comes back while its number is given to another",
            preemptions: 2,
            run: comes_back,
        },
        Model {
            name: "a record is taken out and put in again in a round",
            preemptions: 3,
            run: taken_out,
        },
        Model {
            name: "a copy outlives its name",
            preemptions: 2,
            run: copied,
        },
        Model {
            name: "two CPUs beyond the first rows",
            preemptions: 2,
            run: beyond,
        },
    ],
};

/// Chunks of one record each, or none.
struct Chunks([(Lock<()>, AtomicU32); 2]);

impl Chunks {
    fn new() -> Self {
        let chunks = Self([const { (Lock::new(()), AtomicU32::new(0)) }; 2]);
        (0..2).for_each(|chunk| chunks.set(chunk, 0));
        chunks
    }

    fn set(&self, chunk: usize, number: u32) {
        let (lock, record) = &self.0[chunk];
        let _locked = lock.lock();
        record.store(number, Relaxed);
    }

    fn get(&self, chunk: usize) -> u32 {
        let (lock, record) = &self.0[chunk];
        let _locked = lock.lock();
        record.load(Relaxed)
    }
}

impl NamesInUse for Chunks {
    fn numbers(&self, from: usize, look: &mut dyn FnMut(u32)) -> Option<usize> {
        look(self.get(from));
        (from + 1 < self.0.len()).then_some(from + 1)
    }
}

struct World {
    names: TaskNames,
    chunks: Chunks,
}

impl World {
    /// All words of it exist, and the first number is that of "a", which no record and no row has; CPU 1 is task 98's, "q".
    fn new() -> Arc<Self> {
        let world = Self {
            names: TaskNames::new(),
            chunks: Chunks::new(),
        };
        world.names.empty();
        world.number(1, 99, "a");
        world.number(1, 98, "q");
        Arc::new(world)
    }

    fn number(&self, cpu: u32, task: u32, name: &str) -> u32 {
        match self.names.remembered(task, cpu) {
            Some(who) => who.number(),
            None => {
                let name = || Comm::new(name);
                (self.names).number(task, cpu, name, &Pages, &self.chunks)
            }
        }
    }

    /// An allocation: a record in a chunk.
    fn record(&self, cpu: u32, task: u32, name: &str, chunk: usize) {
        let number = self.number(cpu, task, name);
        assert_ne!(number, 0, "there is room");
        self.chunks.set(chunk, number);
    }

    fn round(&self) {
        while self.names.step(&self.chunks) {}
    }

    /// The record in a chunk has this name, also when all other numbers have been given.
    fn assert_named(&self, chunk: usize, name: &str) {
        for (task, other) in ["x", "y", "z"].into_iter().enumerate() {
            self.number(1, 1000 + task as u32, other);
        }
        let told = self.names.get(self.chunks.get(chunk), self.names.now());
        assert_eq!(told, Comm::new(name), "a record's number is another's");
    }
}

/// Runs both at once.
fn beside(
    world: &Arc<World>,
    one: impl FnOnce(&World) + 'static,
    other: impl FnOnce(&World) + 'static,
) {
    let its = world.clone();
    let thread = thread::spawn(move || one(&its));
    other(world);
    thread.join().expect("it panics where it fails");
}

fn looked_up() {
    let world = World::new();
    beside(&world, |world| world.record(0, 1, "a", 0), World::round);
    world.assert_named(0, "a");
}

fn given_to_another() {
    let world = World::new();
    let other = |world: &World| {
        world.round();
        world.number(1, 2, "b");
    };
    beside(&world, |world| world.record(0, 1, "a", 0), other);
    world.assert_named(0, "a");
}

fn from_task_to_task() {
    let world = World::new();
    let one = |world: &World| {
        world.record(0, 1, "a", 0);
        world.number(0, 2, "b");
    };
    beside(&world, one, World::round);
    world.assert_named(0, "a");
}

fn comes_back() {
    let world = World::new();
    world.number(0, 1, "a");
    world.number(0, 2, "q");
    let other = |world: &World| {
        world.round();
        world.number(1, 3, "b");
    };
    beside(&world, |world| world.record(0, 1, "a", 0), other);
    world.assert_named(0, "a");
}

fn taken_out() {
    let world = World::new();
    world.record(0, 1, "a", 1);
    world.number(0, 2, "b");
    let one = |world: &World| {
        let held = world.names.hold(world.chunks.get(1), 0, &Pages);
        world.chunks.set(1, 0);
        world.chunks.set(0, held.number());
    };
    beside(&world, one, World::round);
    world.assert_named(0, "a");
}

fn copied() {
    let world = World::new();
    world.record(0, 1, "a", 0);
    world.number(0, 97, "q");
    let one = |world: &World| {
        let now = world.names.now();
        let number = world.chunks.get(0);
        if number != 0 {
            let name = world.names.get(number, now);
            assert!(
                name == Comm::new("a") || name == Comm::new("?"),
                "a copy has another's name"
            );
        }
    };
    let other = |world: &World| {
        world.chunks.set(0, 0);
        world.round();
        world.number(1, 2, "bbbbbbbbbbbbbbbb");
    };
    beside(&world, one, other);
}

fn beyond() {
    let world = World::new();
    beside(
        &world,
        |world| world.record(2, 1, "a", 0),
        |world| world.record(3, 2, "b", 1),
    );
    for (cpu, task) in [(2, 1), (3, 2)] {
        let asked = || unreachable!("the row is lost");
        let number = world.names.number(task, cpu, asked, &Pages, &world.chunks);
        assert_eq!(number, world.chunks.get(task as usize - 1));
    }
    world.round();
    world.assert_named(0, "a");
    world.assert_named(1, "b");
}
