//! KLW-1, the workload: a seeded graph of objects, the same for every leak detector that is measured.
//!
//! N objects of 32 to 1024 bytes, each with two pointers. The last N/1000 of them are leaked; all others hang in
//! a random tree below 64 roots, with the pointers that the tree has no use for pointing anywhere in it. All that is
//! random is drawn from streams of one seed, so that a *check value* over sizes, places of the pointers and their
//! targets tells whether two programs have built the same graph.
//!
//! The generator knows objects by number only. Where they lie is decided by [`Workload::place`] and by the
//! caller that gives that an address, so nothing here can keep an object alive.

use clap::ValueEnum;

/// Pointers to the first so many objects are the roots.
pub const ROOTS: usize = 64;
/// Objects that a workload has at least: the roots point at as many, all of them reachable.
pub const MIN_OBJECTS: u32 = ROOTS as u32;
/// Objects that a workload has at most.
pub const MAX_OBJECTS: u32 = 100_000_000;

const WORD: usize = 8;
/// Bytes of the memory that objects of one size share.
const SLAB: usize = 64 * 1024;
/// Sizes of objects, each with the hundredths of them that are at most as large.
const SIZES: [(u64, u16); 6] = [
    (30, 32),
    (55, 64),
    (75, 128),
    (87, 256),
    (95, 512),
    (100, 1024),
];

/// What the words hold that are none of an object's two pointers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Fill {
    /// Numbers that are no addresses
    #[default]
    Random,
    /// Zeros
    Zero,
    /// More pointers
    Dense,
}

/// splitmix64.
pub struct Random(u64);

impl Random {
    const SEED: u64 = 0x6b6d_656d_6c65_616b;

    /// A stream of numbers of its own.
    pub fn stream(number: u64) -> Self {
        Self(Self::SEED ^ number.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.0;
        let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

/// Streams of random numbers.
mod stream {
    pub const SIZES: u64 = 1;
    pub const TARGETS: u64 = 2;
    pub const SLOTS: u64 = 3;
    pub const CONTENTS: u64 = 4;
}

/// The graph.
#[derive(Debug)]
pub struct Workload {
    /// Bytes of each object.
    sizes: Vec<u16>,
    /// Which words of it are its pointers.
    slots: Vec<[u8; 2]>,
    /// The numbers of the objects that they point at.
    targets: Vec<[u32; 2]>,
}

impl Workload {
    /// The graph of `objects` objects.
    pub fn new(objects: u32) -> Self {
        let objects = objects as usize;
        let sizes = sizes(objects);
        let slots = slots(&sizes);
        let targets = targets(objects, objects - leaked(objects));
        Self {
            sizes,
            slots,
            targets,
        }
    }

    pub fn objects(&self) -> usize {
        self.sizes.len()
    }

    pub fn leaked(&self) -> usize {
        leaked(self.objects())
    }

    fn reachable(&self) -> usize {
        self.objects() - self.leaked()
    }

    /// Bytes of the object with this number.
    pub fn size(&self, object: usize) -> usize {
        usize::from(self.sizes[object])
    }

    /// The words of an object that are its pointers, with the objects that they point at.
    pub fn pointers(&self, object: usize) -> [(usize, usize); 2] {
        let (slots, targets) = (self.slots[object], self.targets[object]);
        [0, 1].map(|one| (usize::from(slots[one]), targets[one] as usize))
    }

    /// Words that a check has to read: those of all reachable objects. The roots come on top.
    pub fn words(&self) -> usize {
        let bytes: usize = (0..self.reachable()).map(|object| self.size(object)).sum();
        bytes / WORD
    }

    /// A number over all of the graph.
    pub fn check_value(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for object in 0..self.objects() {
            let [(slot, target), (other_slot, other_target)] = self.pointers(object);
            for value in [self.size(object), slot, other_slot, target, other_target] {
                hash = (hash ^ value as u64).wrapping_mul(0x0100_0000_01b3);
            }
        }
        hash
    }

    /// What [`check_value`](Self::check_value) must be, for the numbers of objects that are measured everywhere.
    pub fn known_check_value(&self) -> Option<u64> {
        match self.objects() {
            10_000 => Some(0x3f90_587a_6f53_7654),
            100_000 => Some(0x787a_b93c_e252_3edd),
            1_000_000 => Some(0xd8a1_add9_41d9_f6f1),
            _ => None,
        }
    }

    /// Where each object lies in one piece of memory, and how long that is: each size takes the next slab
    /// when its own is full, objects fill a slab upwards in the order of their numbers.
    pub fn place(&self) -> (Vec<usize>, usize) {
        let mut next_slab = 0;
        // Where the next object of a size goes, and where its slab ends.
        let mut open = [(0, 0); SIZES.len()];
        let mut places = Vec::with_capacity(self.objects());
        for object in 0..self.objects() {
            let size = self.size(object);
            let class = (size / SIZES[0].1 as usize).trailing_zeros() as usize;
            let (next, end) = &mut open[class];
            if next == end {
                (*next, *end) = (next_slab, next_slab + SLAB);
                next_slab += SLAB;
            }
            places.push(*next);
            *next += size;
        }
        (places, next_slab)
    }

    /// All words of all objects: `write` is called with the object, the word's number, and what it holds.
    pub fn fill(
        &self,
        fill: Fill,
        address: impl Fn(usize) -> usize,
        mut write: impl FnMut(usize, usize, usize),
    ) {
        let mut random = Random::stream(stream::CONTENTS);
        let reachable = self.reachable();
        for object in 0..self.objects() {
            let [(slot, target), (other_slot, other_target)] = self.pointers(object);
            for word in 0..self.size(object) / WORD {
                let value = if word == slot {
                    address(target)
                } else if word == other_slot {
                    address(other_target)
                } else {
                    match fill {
                        Fill::Random => (random.next() >> 2 | 1 << 62) as usize,
                        Fill::Zero => 0,
                        Fill::Dense => address(random.below(reachable)),
                    }
                };
                write(object, word, value);
            }
        }
    }
}

fn leaked(objects: usize) -> usize {
    objects / 1000
}

fn sizes(objects: usize) -> Vec<u16> {
    let mut random = Random::stream(stream::SIZES);
    let draw = |_| {
        let drawn = random.below(100) as u64;
        let size = SIZES.iter().find(|(bound, _)| drawn < *bound);
        size.expect("the last bound is 100").1
    };
    (0..objects).map(draw).collect()
}

fn slots(sizes: &[u16]) -> Vec<[u8; 2]> {
    let mut random = Random::stream(stream::SLOTS);
    let draw = |&size: &u16| {
        let words = usize::from(size) / WORD;
        let one = random.below(words);
        let other = random.below(words - 1);
        // Not the same word twice.
        [one as u8, (other + usize::from(other >= one)) as u8]
    };
    sizes.iter().map(draw).collect()
}

fn targets(objects: usize, reachable: usize) -> Vec<[u32; 2]> {
    /// No object has this number.
    const UNSET: u32 = u32::MAX;
    let mut random = Random::stream(stream::TARGETS);
    let mut targets = vec![[UNSET; 2]; objects];
    // A random tree: each object takes a random pointer of those before it that are still free.
    let mut free = Vec::with_capacity(reachable + ROOTS);
    for object in 0..reachable {
        if object >= ROOTS {
            let pointer: u32 = free.swap_remove(random.below(free.len()));
            targets[pointer as usize / 2][pointer as usize % 2] = object as u32;
        }
        free.extend([2 * object as u32, 2 * object as u32 + 1]);
    }
    // What is leaked: of each five, one alone and a chain of four.
    for (number, pointers) in targets[reachable..].iter_mut().enumerate() {
        let next = reachable + number + 1;
        if matches!(number % 5, 1..=3) && next < objects {
            pointers[0] = next as u32;
        }
    }
    let rest = targets.iter_mut().flatten();
    for target in rest.filter(|target| **target == UNSET) {
        *target = random.below(reachable) as u32;
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in the workload's table: objects, bytes, words to scan.
    fn matches_the_table(objects: u32, bytes: usize, words: usize) {
        let workload = Workload::new(objects);
        assert_eq!(Some(workload.check_value()), workload.known_check_value());
        let all: usize = (0..workload.objects())
            .map(|object| workload.size(object))
            .sum();
        assert_eq!((all, workload.words()), (bytes, words));
    }

    #[test]
    fn ten_thousand_objects_match_the_table() {
        matches_the_table(10_000, 1_734_752, 216_524);
    }

    #[test]
    fn a_hundred_thousand_objects_match_the_table() {
        matches_the_table(100_000, 17_287_936, 2_158_440);
    }

    #[test]
    fn a_million_objects_match_the_table() {
        matches_the_table(1_000_000, 173_750_304, 21_697_740);
    }

    #[test]
    fn objects_lie_in_slabs_of_their_size_and_never_overlap() {
        let workload = Workload::new(10_000);
        let (places, len) = workload.place();
        let mut sorted: Vec<usize> = (0..workload.objects()).collect();
        sorted.sort_by_key(|&object| places[object]);
        for pair in sorted.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            let (end, size) = (places[before] + workload.size(before), workload.size(after));
            assert!(end <= places[after]);
            assert!(places[after].is_multiple_of(size));
            if places[before] / SLAB == places[after] / SLAB {
                assert!(workload.size(before) == size && before < after);
            }
        }
        assert!(len.is_multiple_of(SLAB));
    }

    #[test]
    fn what_is_reachable_and_what_is_not_is_as_it_should_be() {
        let workload = Workload::new(10_000);
        let mut reached = vec![false; workload.objects()];
        let mut queue: Vec<usize> = (0..ROOTS).collect();
        while let Some(object) = queue.pop() {
            if !std::mem::replace(&mut reached[object], true) {
                queue.extend(workload.pointers(object).map(|(_, target)| target));
            }
        }
        let first_leaked = workload.objects() - workload.leaked();
        assert!(reached[..first_leaked].iter().all(|&reached| reached));
        assert!(!reached[first_leaked..].iter().any(|&reached| reached));
    }

    #[test]
    fn fillers_are_pointers_where_they_are_to_be() {
        let workload = Workload::new(1000);
        let address = |object| 0x1000_0000 + object * 1024;
        let count = |fill| {
            let mut pointers = 0;
            workload.fill(fill, address, |_, _, value| {
                pointers += usize::from((address(0)..address(1000)).contains(&value));
            });
            pointers
        };
        let words: usize = (0..1000).map(|object| workload.size(object) / WORD).sum();
        assert_eq!(count(Fill::Random), 2000);
        assert_eq!(count(Fill::Zero), 2000);
        assert_eq!(count(Fill::Dense), words);
    }
}
