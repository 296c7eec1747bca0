//! The workload laid out in a machine's memory, and a detector that has been told of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kmemleak::{AllocOptions, BootstrapPool, Context, Detector, Level};
use kmemleak_emulated::{CallStacks, Machine, look_for_stack, set_current};

use crate::platform::{Measured, ROOTS};
use crate::workload::{Fill, Workload};

/// The detector's bootstrap pool: little, so that memory comes from where a kernel's does.
static POOL: BootstrapPool<16> = BootstrapPool::new();

/// The detector that is measured.
pub type Measuree = Detector<Measured>;

/// What went wrong.
pub type Wrong = Box<dyn std::error::Error>;

/// A machine, its detector, and the workload's objects in its memory. Lives until the process ends.
pub struct World {
    pub machine: Arc<Machine>,
    pub detector: &'static Measuree,
    pub workload: Workload,
    arena: usize,
    places: Vec<usize>,
}

impl World {
    /// Builds the workload of `objects` objects in a machine of `cpus` CPUs, and tells a detector of them.
    pub fn new(objects: u32, fill: Fill, cpus: u32) -> Result<Self, Wrong> {
        let machine = Machine::builder()
            .cpus(cpus)
            .call_stacks(CallStacks::Walked)
            .build();
        let detector = Box::leak(Box::new(
            Detector::new(Measured::of(&machine)).with_pool(&POOL),
        ));
        let workload = Workload::new(objects);
        let (places, len) = workload.place();
        let world = Self {
            arena: machine.arena(len),
            machine,
            detector,
            workload,
            places,
        };
        world.tell();
        let write = |object, word, value| {
            let address = world.address(object) + word * size_of::<usize>();
            // SAFETY: a word of an object, which lies in the machine's memory.
            unsafe { world.machine.write_unchecked(address, value) };
        };
        world
            .workload
            .fill(fill, |object| world.address(object), write);
        for (object, root) in ROOTS.iter().enumerate() {
            root.store(world.address(object), Ordering::Relaxed);
        }
        world.verify()?;
        Ok(world)
    }

    /// Tells the detector of all objects.
    #[inline(never)]
    fn tell(&self) {
        for object in 0..self.workload.objects() {
            let (start, size) = (self.address(object), self.workload.size(object));
            self.detector.alloc(start, size, AllocOptions::new());
        }
    }

    fn address(&self, object: usize) -> usize {
        self.arena + self.places[object]
    }

    /// Makes sure that the graph in memory is the one that it should be, and returns its check value.
    pub fn verify(&self) -> Result<u64, Wrong> {
        for object in 0..self.workload.objects() {
            for (word, target) in self.workload.pointers(object) {
                let address = self.address(object) + word * size_of::<usize>();
                if self.machine.read(address) != self.address(target) {
                    return Err(format!("word {word} of object {object} was changed").into());
                }
            }
        }
        let value = self.workload.check_value();
        match self.workload.known_check_value() {
            Some(known) if known != value => Err(format!(
                "the graph's check value is {value:016x}, but should be {known:016x}"
            )
            .into()),
            _ => Ok(value),
        }
    }
}

/// Makes the calling thread this CPU of its machine.
pub fn become_cpu(cpu: u32) {
    run_as(cpu + 1, cpu);
}

/// Makes the calling thread this task, on CPU 0.
pub fn become_task(task: u32) {
    run_as(task, 0);
}

fn run_as(task: u32, cpu: u32) {
    look_for_stack();
    set_current(Context {
        task,
        cpu,
        level: Level::Task,
    });
}
