//! What blocks are like, and where they lie; which words are written, and where.

use crate::owned::{Kind, Owned, Owner, READABLE};
use crate::world::stacks::{SLEEPERS, start_of};
use crate::world::{ARENA, PERCPU, PHYSICAL, ROOT_WORDS, SECTION, STACKS, World};

/// Physical memory: its numbers lie where no block does.
const FRAMES: [usize; 2] = [0, 0x10_0000];

impl World {
    pub(super) fn set_owner(&mut self, start: usize, owner: Owner) {
        let block = self.blocks.iter_mut().find(|one| one.start == start);
        block.expect("it is there").owner = owner;
    }

    /// Mostly small, at times large, at the edges of what indexes are made for.
    pub(super) fn size(&mut self) -> usize {
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

    pub(super) fn min_count(&mut self) -> i32 {
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
    pub(super) fn place(&mut self, size: usize) -> Option<usize> {
        (0..8).find_map(|_| {
            let start = self.near_a_corner(size);
            self.fits(start, size).then_some(start)
        })
    }

    /// Whether a block may lie there.
    fn fits(&self, start: usize, size: usize) -> bool {
        let Some(last) = start.checked_add(size - 1) else {
            return false;
        };
        let half = start >> 47;
        let in_one_half = half == last >> 47 && (half == 0 || half == 0x1_ffff);
        // What ends one byte before the address space is taken for what ends with it.
        let in_one_half = in_one_half && last != usize::MAX - 1;
        let fits = in_one_half && (0x1000..=usize::MAX - 4095).contains(&start);
        let kernels = [SECTION, PERCPU, STACKS, SLEEPERS, PHYSICAL, FRAMES[1]]
            .iter()
            .any(|&one| one.wrapping_sub(start) < size || start.wrapping_sub(one) < 1 << 20);
        let in_arena = self
            .setting
            .arenas
            .iter()
            .any(|&one| one.wrapping_sub(start) < size || start.wrapping_sub(one) < ARENA);
        // What is not mapped is no region.
        let hides = size > READABLE && in_arena;
        fits && !kernels && !hides && self.memory.is_free(start, size)
    }

    /// Where a per-CPU block and its copies may lie: the handle, the first copy, and the distance of copies, which is odd at times.
    pub(super) fn place_percpu(&mut self, size: usize) -> Option<(usize, usize, usize)> {
        let cpus = self.setting.cpus as usize;
        let distance = size + self.random.below(40) + self.random.below(2) * 4096;
        let all = distance * cpus;
        let copies = self.place(all)?;
        // No copy begins at an error code.
        if copies + (all - distance) > usize::MAX - 4095 {
            return None;
        }
        match self.random.below(2) {
            // The first copy's address is the handle.
            0 if cpus > 1 => Some((copies, copies, distance)),
            _ => {
                let handle = self.place(size)?;
                let apart =
                    handle.wrapping_sub(copies) >= all && copies.wrapping_sub(handle) >= size;
                apart.then_some((handle, copies, distance))
            }
        }
    }

    /// The number of physical memory of this size that nobody has.
    pub(super) fn place_phys(&mut self, size: usize) -> Option<usize> {
        (0..4).find_map(|_| {
            let start = match self.random.below(2) {
                0 => FRAMES[0] + self.random.below(0x800),
                _ => FRAMES[1] + self.random.below(0x2000),
            };
            let fits = start >= FRAMES[1] || start + size <= 0x1000;
            let free = self.memory.is_free(PHYSICAL + start, size);
            (fits && free).then_some(start)
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
    pub(super) fn slot(&mut self) -> Option<usize> {
        let word = self.random.below(ROOT_WORDS) * 8;
        match self.random.below(8) {
            0 => return Some(SECTION + word),
            1 => {
                let cpu = self.random.below(self.setting.cpus as usize);
                return Some(PERCPU + cpu * 4096 + word);
            }
            2 => {
                let (running, sleeping) = (self.setting.tasks, self.setting.stacks.places());
                let task = self.random.below(running + sleeping);
                return Some(match task.checked_sub(running) {
                    Some(place) => start_of(place) + word,
                    None => STACKS + task * 4096 + word,
                });
            }
            _ => {}
        }
        if self.random.below(12) == 0 {
            let arena = self.random.any(&self.setting.arenas)?;
            return Some(arena + self.random.below(ARENA / 8) * 8);
        }
        let mut block = self.random.any(&self.blocks)?;
        if block.size > READABLE {
            return None;
        }
        match block.kind {
            Kind::Plain => {}
            Kind::Percpu { .. } if block.owner == Owner::Busy => return None,
            Kind::Percpu { copies, distance } => {
                block.start = copies + self.random.below(self.setting.cpus as usize) * distance;
            }
            Kind::Phys => block.start += PHYSICAL,
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
    pub(super) fn value(&mut self) -> usize {
        let Some(Owned {
            mut start,
            size,
            owner,
            kind,
            ..
        }) = self.random.any(&self.blocks)
        else {
            return 0;
        };
        if owner == Owner::Busy {
            // Of a block that is being handed out there is no pointer but the one to its start.
            return start;
        }
        let random = &mut self.random;
        match (kind, random.below(3)) {
            (Kind::Percpu { copies, distance }, 1..) => {
                start = copies + random.below(self.setting.cpus as usize) * distance;
            }
            (Kind::Phys, 1..) => start += PHYSICAL,
            _ => {}
        }
        match random.below(20) {
            0..10 => start,
            10..13 => start + random.below(size),
            13 => start + (size - 1),
            14 => start.wrapping_add(size),
            15 => start.wrapping_sub(1),
            16 => random.number() as usize,
            17 => !start,
            _ => 0,
        }
    }

    /// Writes zeros, in memory and in the model.
    pub(super) fn clear(&mut self, start: usize, len: usize) {
        self.memory.clear(start, len);
        self.oracle.clear(start, len);
    }

    /// Writes a word, in memory and in the model.
    pub(super) fn write(&mut self, address: usize, word: usize) {
        self.memory.write(address, word);
        self.log.note(address ^ word.rotate_left(7));
        let root = [SECTION, PERCPU, STACKS]
            .iter()
            .any(|&one| address.wrapping_sub(one) < 1 << 20);
        self.oracle.write(address, word, root);
    }
}
