//! Calls of the detector's callbacks.

use crate::AllocOptions;
use crate::oracle::Op;
use crate::owned::{Kind, Owned, Owner, READABLE};
use crate::schedule::{me, moment};
use crate::subject::{subject, tell};
use crate::world::{ARENA, PHYSICAL, World, with};

/// Blocks at a time.
const BLOCKS: usize = 80;

/// A block of the actor's that `wanted` is true for, which is busy from now on.
fn take_block(actor: Owner, wanted: impl Fn(&Owned) -> bool) -> Option<Owned> {
    with(|world| {
        let own: Vec<usize> = (0..world.blocks.len())
            .filter(|&at| world.blocks[at].owner == actor && wanted(&world.blocks[at]))
            .collect();
        let at = world.random.any(&own)?;
        let block = world.blocks[at];
        world.blocks[at].owner = Owner::Busy;
        Some(block)
    })
}

fn give_block(block: Owned) {
    with(|world| world.set_owner(block.start, block.owner));
}

/// A place for a new block, which is busy.
fn new_block() -> Option<(usize, usize, i32)> {
    with(|world| {
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
            // It would be asked about page by page.
            true => -1,
            false => world.min_count(),
        };
        world.add_plain(start, size);
        Some((start, size, min_count))
    })
}

pub(crate) fn alloc(actor: Owner) {
    alloc_as(actor, |min_count| min_count);
}

/// Allocates a block that is recorded with another number of references.
fn alloc_as(actor: Owner, recorded: impl Fn(i32) -> i32) {
    let Some((start, size, min_count)) = new_block() else {
        return;
    };
    tell(&[Op::Alloc(start, size, recorded(min_count))], |detector| {
        detector.alloc(start, size, AllocOptions::new().min_count(min_count));
    });
    with(|world| world.set_owner(start, actor));
}

/// What is allocated between begin and end is no leak.
pub(crate) fn disabled(actor: Owner) {
    subject().disabled_begin();
    for _ in 0..with(|world| world.random.between(1, 3)) {
        moment();
        alloc_as(actor, |min_count| min_count.min(0));
    }
    subject().disabled_end();
}

pub(crate) fn free(actor: Owner) {
    if let Some(block) = take_block(actor, |_| true) {
        free_block(block);
    }
}

/// Frees a block that is busy.
pub(crate) fn free_block(block: Owned) {
    tell(&[Op::Free(block.start)], |detector| match block.kind {
        Kind::Plain => detector.free(block.start),
        Kind::Percpu { .. } => detector.free_percpu(block.start),
        Kind::Phys => detector.free_part_phys(block.start, block.size),
    });
    with(|world| world.remove(block));
}

/// A new block gets what the old one held.
pub(crate) fn realloc(actor: Owner) {
    let Some(old) = take_block(actor, |block| block.kind == Kind::Plain) else {
        return;
    };
    let Some((start, size, min_count)) = new_block() else {
        return give_block(old);
    };
    tell(&[Op::Alloc(start, size, min_count)], |detector| {
        detector.alloc(start, size, AllocOptions::new().min_count(min_count));
    });
    with(|world| {
        let len = old.size.min(size);
        let aligned = old.start.is_multiple_of(8) && start.is_multiple_of(8);
        if aligned && old.size.max(size) <= READABLE {
            for (offset, word) in world.memory.words(old.start, len) {
                if offset + 8 <= len {
                    world.write(start + offset, word);
                }
            }
        }
    });
    moment();
    free_block(old);
    with(|world| world.set_owner(start, actor));
}

pub(crate) fn free_part(actor: Owner) {
    let Some(block) = take_block(actor, |block| block.kind == Kind::Plain) else {
        return;
    };
    let (offset, len) = with(|world| {
        let random = &mut world.random;
        let offset = match random.below(3) {
            0 => 0,
            1 => random.below(block.size),
            _ => random.below(block.size) & !7,
        };
        let left = block.size - offset;
        // No object begins at an error code: such a tail would count as not recorded.
        let errors = usize::MAX - 4095;
        let len = match block.start + (block.size - 1) > errors {
            true => left,
            false => 0,
        };
        let len = match random.below(3) {
            _ if len > 0 => len,
            0 => left,
            1 => random.between(1, left),
            _ => left.min(8 * random.between(1, 64)),
        };
        (offset, len)
    });
    tell(&[Op::FreePart(block.start + offset, len)], |detector| {
        detector.free_part(block.start + offset, len);
    });
    with(|world| {
        world.remove(block);
        for (from, to) in [(0, offset), (offset + len, block.size)] {
            if from < to {
                world.memory.map(block.start + from, to - from);
                world.blocks.push(Owned {
                    start: block.start + from,
                    size: to - from,
                    ..block
                });
            }
        }
    });
}

/// How a block is to be treated.
pub(crate) fn colour(actor: Owner) {
    let Some(block) = take_block(actor, |_| true) else {
        return;
    };
    let (what, offset, len) = with(|world| {
        let random = &mut world.random;
        let offset = random.below(block.size);
        let len = random.between(1, block.size - offset);
        (random.below(12), offset, len)
    });
    let start = block.start;
    match what {
        0 | 1 if block.kind != Kind::Phys => {
            tell(&[Op::MinCount(start, 0)], |detector| {
                detector.not_leak(start)
            });
        }
        2 => tell(&[Op::MinCount(start, -1)], |detector| match block.kind {
            Kind::Plain => detector.ignore(start),
            Kind::Percpu { .. } => detector.ignore_percpu(start),
            Kind::Phys => detector.ignore_phys(start),
        }),
        3 => tell(&[Op::NoScan(start)], |detector| detector.no_scan(start)),
        4..8 if block.kind != Kind::Phys => {
            tell(&[Op::ScanArea(start + offset, len)], |detector| {
                detector.scan_area(start + offset, len);
            });
        }
        _ => tell(&[Op::TransientLeak(start)], |detector| {
            detector.transient_leak(start);
        }),
    }
    give_block(block);
}

pub(crate) fn percpu(actor: Owner) {
    let new = with(|world| {
        if world.blocks.len() >= BLOCKS {
            return None;
        }
        let size = world.random.between(1, 120);
        let (handle, copies, distance) = world.place_percpu(size)?;
        let all = distance * world.setting.cpus as usize;
        world.memory.map(copies, all);
        world.clear(copies, all);
        if handle != copies {
            world.memory.map(handle, size);
        }
        world.percpu.insert(handle, (copies, distance));
        world.blocks.push(Owned {
            start: handle,
            size,
            owner: Owner::Busy,
            kind: Kind::Percpu { copies, distance },
            dark: false,
        });
        let copies = (0..world.setting.cpus as usize).map(|cpu| copies + cpu * distance);
        Some((handle, size, copies.collect()))
    });
    let Some((handle, size, copies)) = new else {
        return;
    };
    tell(&[Op::Percpu(handle, size, copies)], |detector| {
        detector.alloc_percpu(handle, size);
    });
    with(|world| world.set_owner(handle, actor));
}

/// A block with an area that describes it.
pub(crate) fn vmalloc(actor: Owner) {
    let Some(area) = take_block(actor, |block| block.kind == Kind::Plain) else {
        return;
    };
    if let Some((start, size, _)) = new_block() {
        let ops = [Op::Alloc(start, size, 2), Op::Excess(area.start, start)];
        tell(&ops, |detector| detector.vmalloc(start, size, area.start));
        with(|world| world.set_owner(start, actor));
    }
    give_block(area);
}

pub(crate) fn phys(actor: Owner) {
    let new = with(|world| {
        let size = world.random.between(1, 0x400);
        let start = world.place_phys(size)?;
        world.memory.map(PHYSICAL + start, size);
        world.blocks.push(Owned {
            start,
            size,
            owner: Owner::Busy,
            kind: Kind::Phys,
            dark: false,
        });
        Some((start, size))
    });
    let Some((start, size)) = new else { return };
    tell(&[Op::Phys(start, size, PHYSICAL + start)], |detector| {
        detector.alloc_phys(start, size);
    });
    with(|world| world.set_owner(start, actor));
}

/// A region of the task's comes or goes. No two regions of different tasks begin at one address.
pub(crate) fn region() {
    let (start, len, add) = with(|world| {
        let tasks = world.setting.tasks;
        let random = &mut world.random;
        let arena = world.setting.arenas[random.below(world.setting.arenas.len())];
        let start = arena + random.below(ARENA / 2 / tasks) * tasks + me();
        let len = match random.below(3) {
            0 => random.below(64),
            _ => random.below(ARENA - (start - arena)),
        };
        let own: Vec<usize> = (world.regions.iter())
            .filter(|(task, _)| *task == me())
            .map(|(_, start)| *start)
            .collect();
        match random.any(&own) {
            Some(own) if own_is_removed(random.below(4)) => (own, 0, false),
            _ => (start, len, true),
        }
    });
    if add {
        with(|world| world.regions.push((me(), start)));
        tell(&[Op::RegionAdd(start, len)], |detector| {
            detector.region_add(start, len);
        });
    } else {
        tell(&[Op::RegionRemove(start)], |detector| {
            detector.region_remove(start);
        });
        with(|world| {
            let at = world.regions.iter().rposition(|&one| one == (me(), start));
            world.regions.remove(at.expect("it was there"));
        });
    }
}

/// Unmaps some blocks, or maps them again, where all others stand still. Not where regions may lie: of these a page at a time is unmapped.
pub(crate) fn unmap_some() {
    for at in 0..with(|world| world.blocks.len()) {
        let flipped = with(|world| {
            let (block, cpus) = (world.blocks[at], world.setting.cpus as usize);
            let mut arenas = world.setting.arenas.iter();
            let in_arena =
                block.kind != Kind::Phys && arenas.any(|&one| block.meets(one, ARENA, cpus));
            (world.random.below(8) == 0 && !in_arena).then(|| {
                world.blocks[at].dark = !block.dark;
                Op::Dark(block.start, !block.dark)
            })
        });
        if let Some(op) = flipped {
            tell(&[op], |_| ());
        }
    }
}

/// Frees all blocks and removes all regions, whosever they are, where all others stand still.
pub(crate) fn end_all() {
    while let Some(block) = with(|world| world.blocks.last().copied()) {
        free_block(block);
    }
    while let Some((_, start)) = with(|world| world.regions.pop()) {
        tell(&[Op::RegionRemove(start)], |detector| {
            detector.region_remove(start);
        });
    }
}

/// Regions come about as often as they go.
fn own_is_removed(choice: usize) -> bool {
    choice != 0
}

impl World {
    /// A block that is busy.
    fn add_plain(&mut self, start: usize, size: usize) {
        self.memory.map(start, size);
        if size > READABLE {
            // Nothing is mapped there, so nothing can have been written.
            self.clear(start, size);
        }
        self.blocks.push(Owned {
            start,
            size,
            owner: Owner::Busy,
            kind: Kind::Plain,
            dark: false,
        });
    }

    /// The detector has been told that a block is gone.
    fn remove(&mut self, block: Owned) {
        match block.kind {
            Kind::Plain => self.memory.unmap(block.start),
            Kind::Phys => self.memory.unmap(PHYSICAL + block.start),
            Kind::Percpu { copies, .. } => {
                self.memory.unmap(copies);
                self.memory.unmap(block.start);
                self.percpu.remove(&block.start);
            }
        }
        self.blocks.retain(|one| one.start != block.start);
    }
}
