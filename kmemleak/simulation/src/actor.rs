//! What tasks and interrupt handlers do.
//!
//! An *actor* is a task, or the handlers that run on top of it. Each block has an owner, who alone tells the detector of it: so callbacks
//! at one time name different blocks. Blocks change hands. Words are stored by anybody anywhere.

use crate::oracle::{Listed, Op};
use crate::schedule::{me, moment};
use crate::world::platform::Kernel;
use crate::world::{self, PERCPU, ROOT_WORDS, SECTION, STACKS, World, with};
use crate::{AllocOptions, Detector, How};

/// Larger blocks are not mapped.
pub const READABLE: usize = 1 << 15;

/// Blocks at a time.
const BLOCKS: usize = 80;

/// The detector of a run.
pub type Subject = Detector<Kernel>;

thread_local! {
    static SUBJECT: std::cell::Cell<Option<&'static Subject>> = const { std::cell::Cell::new(None) };
}

/// The detector that all actors speak to.
pub(crate) fn set_subject(subject: Option<&'static Subject>) {
    SUBJECT.set(subject);
}

fn subject() -> &'static Subject {
    SUBJECT.get().expect("a run goes on")
}

/// Who owns a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A task.
    Task(usize),
    /// The handlers on top of it.
    Handler(usize),
    /// Whoever takes it.
    Nobody,
    /// A callback for it is under way.
    Busy,
}

/// A block that was handed out.
#[derive(Clone, Copy, Debug)]
pub struct Owned {
    /// Its address.
    pub start: usize,
    /// Its bytes.
    pub size: usize,
    /// Who may tell of it.
    pub owner: Owner,
}

/// The calls of a task, until there have been enough.
pub(crate) fn live(operations: usize) {
    world::wait_for_cpu();
    for _ in 0..operations {
        moment();
        step(Owner::Task(me()));
    }
    with(|world| world.tasks[me()].over = true);
    while with(|world| !world.is_over()) {
        world::idle();
    }
}

/// What an interrupt handler does: a few calls.
pub(crate) fn handle_interrupt() {
    let calls = with(|world| world.random.between(1, 3));
    for _ in 0..calls {
        moment();
        match with(|world| world.random.below(10)) {
            0..4 => alloc(Owner::Handler(me())),
            4..7 => free(Owner::Handler(me())),
            _ => store(),
        }
    }
}

fn step(actor: Owner) {
    match with(|world| world.random.below(1000)) {
        0..300 => alloc(actor),
        300..550 => free(actor),
        550..900 => store(),
        900..990 => hand_over(actor),
        _ => check(),
    }
}

/// Tells the detector, and the oracle before and after.
fn tell(ops: &[Op], call: impl FnOnce(&Subject)) {
    let number = with(|world| {
        world.log.callbacks += 1;
        for op in ops {
            world.log.note(match *op {
                Op::Alloc(start, size, _) => start ^ size.rotate_left(20),
                Op::Free(start) => !start,
                _ => 1,
            });
        }
        let now_us = world.now_us;
        world.oracle.begin(me(), ops, now_us)
    });
    call(subject());
    with(|world| world.oracle.end(number));
}

/// A block of the actor's, which is busy from now on.
fn take_block(actor: Owner) -> Option<Owned> {
    with(|world| {
        let own: Vec<usize> = (0..world.blocks.len())
            .filter(|&at| world.blocks[at].owner == actor)
            .collect();
        let at = world.random.any(&own)?;
        let block = world.blocks[at];
        world.blocks[at].owner = Owner::Busy;
        Some(block)
    })
}

fn alloc(actor: Owner) {
    let new = with(|world| {
        if world.blocks.len() >= BLOCKS {
            return None;
        }
        let size = world.size();
        let start = world.place(size)?;
        let longest = match world.setting.pace {
            0..300 => 1 << 18,
            _ => 1 << 27,
        };
        let min_count = match size > longest {
            true => -1,
            false => world.min_count(),
        };
        world.memory.map(start, size);
        if size > READABLE {
            // Nothing is mapped there, so nothing can have been written.
            world.memory.clear(start, size);
            world.oracle.model.clear_words(start, size);
        }
        world.blocks.push(Owned {
            start,
            size,
            owner: Owner::Busy,
        });
        Some((start, size, min_count))
    });
    let Some((start, size, min_count)) = new else {
        return;
    };
    tell(&[Op::Alloc(start, size, min_count)], |detector| {
        detector.alloc(start, size, AllocOptions::new().min_count(min_count));
    });
    with(|world| world.set_owner(start, actor));
}

fn free(actor: Owner) {
    let Some(block) = take_block(actor) else {
        return;
    };
    tell(&[Op::Free(block.start)], |detector| {
        detector.free(block.start)
    });
    with(|world| {
        world.memory.unmap(block.start);
        world.blocks.retain(|one| one.start != block.start);
    });
}

fn hand_over(actor: Owner) {
    with(|world| {
        let (from, to) = match world.random.below(2) {
            0 => (actor, Owner::Nobody),
            _ => (Owner::Nobody, actor),
        };
        let own: Vec<usize> = (0..world.blocks.len())
            .filter(|&at| world.blocks[at].owner == from)
            .collect();
        if let Some(at) = world.random.any(&own) {
            world.blocks[at].owner = to;
        }
    });
}

/// A word is written.
fn store() {
    with(|world| {
        let word = world.value();
        let Some(address) = world.slot() else { return };
        world.write(address, word);
    });
}

fn check() {
    world::begin_pass();
    check_alone();
    world::end_pass();
}

fn check_alone() {
    let verdict = subject().check().expect("it is on");
    let mut listed = Listed {
        objects: verdict.objects,
        shown: Vec::new(),
    };
    subject()
        .for_each_unreferenced(&mut |object| listed.shown.push((object.start, object.size)))
        .expect("asked from outside");
    with(|world| {
        world.log.passes += 1;
        world.log.note(verdict.objects);
        if verdict.how != How::Stopped {
            return;
        }
        if let Err(why) = world.oracle.judge(&listed) {
            panic!("a check by task {}: {why}", me());
        }
    });
}

impl World {
    fn set_owner(&mut self, start: usize, owner: Owner) {
        let block = self.blocks.iter_mut().find(|one| one.start == start);
        block.expect("it is there").owner = owner;
    }

    /// Mostly small, at times large, at the edges of what indexes are made for.
    fn size(&mut self) -> usize {
        let random = &mut self.random;
        match random.below(1000) {
            0..200 => random.between(1, 16),
            200..700 => random.between(1, 20) * 8,
            700..850 => random.between(1, 600),
            850..950 => random.between(1, 3000),
            950..975 => random.between(1, 4) * 4096,
            975..985 => random.between(1, READABLE),
            985..990 => random.between(1, 3) << 16,
            990..994 => random.between(1, 1 << 25),
            994..997 => 1 << 25,
            _ => random.between(1, 5) << random.between(28, 33),
        }
    }

    fn min_count(&mut self) -> i32 {
        let random = &mut self.random;
        match random.below(20) {
            0 => 0,
            1 => -1,
            2..5 => 2,
            5 => random.between(3, 20) as i32,
            _ => 1,
        }
    }

    /// Where a block of this size may lie: where none does.
    fn place(&mut self, size: usize) -> Option<usize> {
        (0..8).find_map(|_| {
            let start = self.near_a_corner(size);
            let last = start.checked_add(size - 1)?;
            let half = start >> 47;
            let in_one_half = half == last >> 47 && (half == 0 || half == 0x1_ffff);
            // What ends one byte before the address space is taken for what ends with it.
            let in_one_half = in_one_half && last != usize::MAX - 1;
            let fits = in_one_half && (0x1000..=usize::MAX - 4095).contains(&start);
            let kernels = [SECTION, PERCPU, STACKS]
                .iter()
                .any(|&one| one.wrapping_sub(start) < size || start.wrapping_sub(one) < 1 << 20);
            (fits && !kernels && self.memory.is_free(start, size)).then_some(start)
        })
    }

    fn near_a_corner(&mut self, size: usize) -> usize {
        let corners = self.setting.corners.len();
        let corner = self.setting.corners[self.random.below(corners)];
        let blocks: Vec<(usize, usize)> = self
            .blocks
            .iter()
            .map(|one| (one.start, one.size))
            .collect();
        let random = &mut self.random;
        let start = match (random.below(10), random.any(&blocks)) {
            // Behind another block, before it, a little off.
            (0..3, Some((start, size))) => start.wrapping_add(size),
            (3, Some((start, _))) => start.wrapping_sub(size),
            (4, Some((start, size))) => start.wrapping_add(size + random.below(64)),
            // Across the corner, up to it, from it on, in its page.
            (5, _) => corner.wrapping_sub(random.below(size + 1)),
            (6, _) => corner.wrapping_sub(size),
            (7, _) => corner,
            _ => corner.wrapping_sub(2048).wrapping_add(random.below(4096)),
        };
        match random.below(3) {
            0 => start,
            _ => start & !7,
        }
    }

    /// A word of a root or of a block.
    fn slot(&mut self) -> Option<usize> {
        let word = self.random.below(ROOT_WORDS) * 8;
        match self.random.below(8) {
            0 => return Some(SECTION + word),
            1 => {
                let cpu = self.random.below(self.setting.cpus as usize);
                return Some(PERCPU + cpu * 4096 + word);
            }
            2 => {
                let task = self.random.below(self.setting.tasks);
                return Some(STACKS + task * 4096 + word);
            }
            _ => {}
        }
        let block = self.random.any(&self.blocks)?;
        if block.size > READABLE {
            return None;
        }
        let offset = match self.random.below(4) {
            0 => self.random.below(block.size),
            _ => self.random.below(block.size.min(128)),
        };
        let address = (block.start + offset) & !7;
        let inside =
            address >= block.start && block.size >= 8 && address - block.start <= block.size - 8;
        inside.then_some(address)
    }

    /// What is written: a pointer, or not quite one.
    fn value(&mut self) -> usize {
        let Some(Owned { start, size, owner }) = self.random.any(&self.blocks) else {
            return 0;
        };
        if owner == Owner::Busy {
            // Of a block that is being handed out there is no pointer but the one to its start.
            return start;
        }
        let random = &mut self.random;
        match random.below(20) {
            0..10 => start,
            10..13 => start + random.below(size),
            13 => start + (size - 1),
            14 => start.wrapping_add(size),
            15 => start - 1,
            16 => random.number() as usize,
            17 => !start,
            _ => 0,
        }
    }

    /// Writes a word, in memory and in the model.
    fn write(&mut self, address: usize, word: usize) {
        self.memory.write(address, word);
        self.log.note(address ^ word.rotate_left(7));
        let root = [SECTION, PERCPU, STACKS]
            .iter()
            .any(|&one| address.wrapping_sub(one) < 1 << 20);
        match root {
            true => self.oracle.model.store_root(address, word),
            false => self.oracle.model.store(address, word),
        }
    }
}
