//! Leaders: shapes of lost graphs, large ones, and what is said where there is no memory to tell.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use kmemleak::{
    AllocOptions, Detector, ForeignWords, IrqState, MAX_FRAMES, Platform, Rank, Root, RootCursor,
    StopError, StoppedCpu, Words,
};
use kmemleak_emulated::{Emulated, Machine, Stop};

use crate::lab::{Lab, many, pool};

/// Objects of a large graph; fewer where the compiler does not optimise.
const LARGE: usize = many(if cfg!(debug_assertions) {
    10_000
} else {
    100_000
});

/// The ranks of the last verdict, by address.
fn ranks(lab: &Lab) -> BTreeMap<usize, Rank> {
    let mut ranks = BTreeMap::new();
    lab.detector
        .for_each_unreferenced(&mut |object| {
            ranks.insert(object.start, object.rank.expect("memory"));
        })
        .expect("asked from outside");
    ranks
}

fn owns(owned_objects: usize, owned_bytes: usize) -> Rank {
    Rank::Leader {
        owned_objects,
        owned_bytes,
    }
}

/// Judges a graph of blocks of 64 bytes in every way there is, and compares the ranks.
fn expect(count: usize, edges: &[(usize, usize)], expected: &[Rank]) {
    for way in 0..3 {
        let lab = Lab::new();
        let blocks: Vec<usize> = (0..count).map(|_| lab.block(64)).collect();
        let mut words = vec![0; count];
        for &(from, to) in edges {
            lab.machine
                .write(blocks[from] + 8 * words[from], blocks[to]);
            words[from] += 1;
        }
        lab.detector.set_min_age_us(0);
        lab.machine.advance_us(1);
        match way {
            0 => _ = lab.detector.check(),
            1 => {
                lab.machine.set_stop(Stop::Unsupported);
                lab.detector.check().expect("on");
            }
            _ => (0..2).for_each(|_| _ = lab.detector.scan()),
        }
        let ranks = ranks(&lab);
        for (number, rank) in expected.iter().enumerate() {
            let expected = match *rank {
                Rank::Owned { leader } => Rank::Owned {
                    leader: blocks[leader],
                },
                leader => leader,
            };
            assert_eq!(ranks[&blocks[number]], expected, "{number}, way {way}");
        }
    }
}

fn of(leader: usize) -> Rank {
    Rank::Owned { leader }
}

#[test]
fn a_chain_has_one_wherever_it_begins() {
    expect(3, &[(0, 1), (1, 2)], &[owns(2, 128), of(0), of(0)]);
    expect(3, &[(2, 1), (1, 0)], &[of(2), of(2), owns(2, 128)]);
    expect(3, &[(1, 0), (1, 2)], &[of(1), owns(2, 128), of(1)]);
}

#[test]
fn of_a_ring_the_first_that_was_allocated() {
    expect(3, &[(2, 1), (1, 0), (0, 2)], &[owns(2, 128), of(0), of(0)]);
    expect(2, &[(0, 0), (1, 1)], &[owns(0, 0), owns(0, 0)]);
    // Two rings that share one object.
    expect(
        3,
        &[(1, 2), (2, 1), (2, 0), (0, 2)],
        &[owns(2, 128), of(0), of(0)],
    );
}

#[test]
fn a_ring_off_a_ring_is_owned() {
    let rings = [(0, 1), (1, 0), (2, 3), (3, 2)];
    let with = |edge| [&rings[..], &[edge]].concat();
    expect(4, &with((1, 2)), &[owns(3, 192), of(0), of(0), of(0)]);
    expect(4, &with((3, 0)), &[of(2), of(2), owns(3, 192), of(2)]);
    expect(4, &rings, &[owns(1, 64), of(0), owns(1, 64), of(2)]);
}

#[test]
fn a_shared_child_is_the_first_leaders() {
    expect(3, &[(0, 2), (1, 2)], &[owns(1, 64), owns(0, 0), of(0)]);
    expect(3, &[(1, 0), (2, 0)], &[of(1), owns(1, 64), owns(0, 0)]);
    // A diamond.
    expect(
        4,
        &[(0, 1), (0, 2), (1, 3), (2, 3)],
        &[owns(3, 192), of(0), of(0), of(0)],
    );
}

#[test]
fn what_is_alive_leads_nowhere_that_is_lost() {
    let lab = Lab::new();
    let (lost, held) = (lab.block(64), lab.block(64));
    lab.hold(0, held);
    lab.machine.write(lost, held);
    lab.leaks();
    assert_eq!(ranks(&lab)[&lost], owns(0, 0));
}

#[test]
fn references_that_are_too_few_are_ownership() {
    let lab = Lab::new();
    let owner = lab.block(64);
    let twice = lab.block_with(64, AllocOptions::new().min_count(2));
    lab.machine.write(owner, twice + 5);
    lab.leaks();
    assert_eq!(ranks(&lab)[&owner], owns(1, 64));
    // Even of one that a root points to once.
    lab.hold(0, twice);
    lab.machine.write(owner, 0);
    lab.leaks();
    assert_eq!(ranks(&lab)[&twice], owns(0, 0));
}

#[test]
fn words_that_are_not_scanned_own_nothing() {
    let lab = Lab::new();
    let blocks: Vec<usize> = (0..4).map(|_| lab.block(64)).collect();
    lab.detector.no_scan(blocks[0]);
    lab.machine.write(blocks[0], blocks[1]);
    lab.detector.scan_area(blocks[1] + 8, 8);
    lab.machine.write(blocks[1], blocks[2]);
    lab.machine.write(blocks[1] + 8, blocks[3] + 63);
    lab.leaks();
    let ranks = ranks(&lab);
    assert_eq!(ranks[&blocks[0]], owns(0, 0));
    assert_eq!(ranks[&blocks[1]], owns(1, 64));
    assert_eq!(ranks[&blocks[2]], owns(0, 0));
    assert_eq!(ranks[&blocks[3]], Rank::Owned { leader: blocks[1] });
}

#[test]
fn each_copy_of_a_percpu_block_owns_and_is_owned() {
    let lab = Lab::new();
    let handle = lab.machine.percpu(16);
    lab.detector.alloc_percpu(handle, 16);
    lab.machine.advance_us(1);
    let (below, above) = (lab.block(64), lab.block(64));
    let copy = |cpu| lab.machine.percpu_copy(handle, cpu).expect("live");
    lab.machine.write(copy(1) + 8, below);
    assert_eq!(lab.leaks(), [handle, below, above]);
    assert_eq!(ranks(&lab)[&handle], owns(1, 64));
    lab.machine.write(above, copy(0) + 3);
    lab.leaks();
    assert_eq!(ranks(&lab)[&above], owns(2, 80));
    // A pointer to itself by another copy is one to itself.
    lab.machine.write(above, 0);
    lab.machine.write(copy(0), copy(1));
    lab.leaks();
    assert_eq!(ranks(&lab)[&handle], owns(1, 64));
}

/// Counts the words that are read; one CPU.
struct Counting {
    inner: Emulated,
    reads: AtomicUsize,
}

// SAFETY: as of the platform inside, which all goes to.
unsafe impl Platform for Counting {
    fn now_us(&self) -> u64 {
        self.inner.now_us()
    }
    fn irq_save(&self) -> IrqState {
        self.inner.irq_save()
    }
    fn irq_restore(&self, state: IrqState) {
        self.inner.irq_restore(state);
    }
    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        self.inner.next_root(cursor)
    }
    fn call_stack(&self, frames: &mut [usize; MAX_FRAMES]) -> usize {
        self.inner.call_stack(frames)
    }
    fn metadata_alloc(&self) -> Option<NonNull<u8>> {
        self.inner.metadata_alloc()
    }
    unsafe fn metadata_free(&self, page: NonNull<u8>) {
        // SAFETY: the caller's promise.
        unsafe { self.inner.metadata_free(page) }
    }
    fn stop_world(&self, work: &(dyn Fn(StoppedCpu) + Sync)) -> Result<(), StopError> {
        self.inner.stop_world(work)
    }
    fn relax(&self) -> ControlFlow<()> {
        self.inner.relax()
    }
    fn symbol(&self, address: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        self.inner.symbol(address, out)
    }
    fn readable(&self, start: usize, len: usize) -> bool {
        self.inner.readable(start, len)
    }
    fn words(&self) -> Words<'_> {
        Words::Foreign(self)
    }
}

// SAFETY: reads, and counts.
unsafe impl ForeignWords for Counting {
    unsafe fn read(&self, address: usize) -> usize {
        self.reads.fetch_add(1, Relaxed);
        let word = std::ptr::with_exposed_provenance::<usize>(address);
        // SAFETY: the caller's promise.
        unsafe { word.read_volatile() }
    }
}

struct Large {
    machine: Arc<Machine>,
    detector: Box<Detector<Counting>>,
    blocks: Vec<usize>,
}

impl Large {
    /// Blocks of two words.
    fn new(count: usize) -> Self {
        let machine = Machine::builder().cpus(1).build();
        let platform = Counting {
            inner: Emulated::of(&machine),
            reads: AtomicUsize::new(0),
        };
        let detector = Box::new(Detector::new(platform).with_pool(pool::<16>()));
        let blocks = (0..count).map(|_| {
            machine.advance_us(1);
            let start = machine.slab(16);
            detector.alloc(start, 16, AllocOptions::new());
            start
        });
        let blocks = blocks.collect();
        machine.advance_us(1);
        Self {
            machine,
            detector,
            blocks,
        }
    }

    /// Checks, and gives the number of reads for each word of the blocks.
    fn reads_a_word(&self) -> f64 {
        let reads = &self.detector.platform().reads;
        reads.store(0, Relaxed);
        let summary = self.detector.check().expect("on");
        assert_eq!(summary.objects, self.blocks.len());
        assert_eq!(summary.leaders, Some(1));
        let roots = 6 * 64;
        (reads.load(Relaxed) - roots) as f64 / (2 * self.blocks.len()) as f64
    }
}

#[test]
fn a_long_chain_is_read_a_few_times() {
    for (forwards, count) in [(true, LARGE), (false, LARGE), (false, LARGE / 10)] {
        let large = Large::new(count);
        for pair in large.blocks.windows(2) {
            let (from, to) = if forwards {
                (pair[0], pair[1])
            } else {
                (pair[1], pair[0])
            };
            large.machine.write(from, to);
        }
        // Upwards, downwards, and for what belongs to the leader.
        let reads = large.reads_a_word();
        assert!((2.0..=3.1).contains(&reads), "{reads}");
    }
}

#[test]
fn so_are_a_long_ring_and_a_broad_tree() {
    let ring = Large::new(LARGE);
    for (number, &block) in ring.blocks.iter().enumerate() {
        let next = ring.blocks[(number + 1) % ring.blocks.len()];
        ring.machine.write(block + 8, next + 3);
    }
    assert!(ring.reads_a_word() <= 3.1);
    // Each node has one below the other's, and the next one beside it.
    let tree = Large::new(LARGE);
    for (number, &block) in tree.blocks.iter().enumerate() {
        for child in 0..2 {
            if let Some(&below) = tree.blocks.get(2 * number + 1 + child) {
                tree.machine.write(block + 8 * child, below);
            }
        }
    }
    assert!(tree.reads_a_word() <= 3.1);
}

#[test]
fn one_that_owns_very_many() {
    let lab = Lab::new();
    let count = LARGE;
    let children: Vec<usize> = (0..count).map(|_| lab.block(8)).collect();
    let table = lab.machine.vmalloc(count * 8);
    lab.machine.advance_us(1);
    lab.detector.alloc(table, count * 8, AllocOptions::new());
    for (number, &child) in children.iter().enumerate() {
        lab.machine.write(table + 8 * number, child);
    }
    assert_eq!(lab.leaks().len(), count + 1);
    let summary = lab.detector.check().expect("on");
    assert_eq!(summary.leaders, Some(1));
    assert_eq!(ranks(&lab)[&table], owns(count, 8 * count));
    let report = lab.report();
    assert_eq!(report.matches("unreferenced object 0x").count(), 1);
    assert!(report.contains(&format!("  owns {count} objects ({} bytes", 8 * count)));
}

#[test]
fn what_checks_leave_in_records_is_put_back() {
    // Numbers are kept where the checksums of the scan are.
    let lab = Lab::new();
    lab.detector.set_min_age_us(0);
    let blocks: Vec<usize> = (0..10).map(|_| lab.block(64)).collect();
    lab.machine.advance_us(1);
    lab.detector.scan().expect("on");
    lab.leaks();
    lab.detector.scan().expect("on");
    assert_eq!(lab.listed(), blocks);
}

#[test]
fn without_memory_for_the_list_there_are_none() {
    let lab = Lab::new();
    let blocks: Vec<usize> = (0..many(4000)).map(|_| lab.block(16)).collect();
    for pair in blocks.windows(2) {
        lab.machine.write(pair[0], pair[1]);
    }
    lab.detector.exhaust_metadata(true);
    let summary = lab.detector.check().expect("on");
    assert_eq!((summary.leaders, summary.groups), (None, None));
    assert_eq!(summary.leader_bytes, summary.bytes);
    let mut seen = 0;
    lab.detector
        .for_each_unreferenced(&mut |object| {
            assert_eq!(object.rank, None);
            seen += 1;
        })
        .expect("asked from outside");
    assert_eq!(seen, blocks.len());
    lab.detector.exhaust_metadata(false);
    assert_eq!(lab.detector.check().expect("on").leaders, Some(1));
}

#[test]
fn a_check_by_many_cpus_of_a_large_graph_agrees_with_one_cpus() {
    // Words at random: large enough for queues to be handed over.
    let graph = |cpus| {
        let lab = Lab::of(Machine::builder().cpus(cpus));
        let blocks: Vec<usize> = (0..many(5_000)).map(|_| lab.block(32)).collect();
        let mut number = 1_usize;
        let mut next = || {
            number = number
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            number >> 33
        };
        for &block in &blocks {
            if next() % 4 > 0 {
                let offset = [0, 0, 0, 8][next() % 4];
                lab.machine.write(
                    block + 8 * (next() % 4),
                    blocks[next() % blocks.len()] + offset,
                );
            }
        }
        for index in 0..20 {
            lab.hold(index, blocks[next() % blocks.len()]);
        }
        // By number: addresses are others each time.
        let numbers: BTreeMap<usize, usize> = blocks.iter().copied().zip(0..).collect();
        lab.leaks();
        let verdict: BTreeMap<usize, _> = ranks(&lab)
            .into_iter()
            .map(|(start, rank)| match rank {
                Rank::Owned { leader } => (numbers[&start], Err(numbers[&leader])),
                Rank::Leader { owned_objects, .. } => (numbers[&start], Ok(owned_objects)),
            })
            .collect();
        let mut interior = Vec::new();
        lab.detector
            .for_each_interior(&mut |block| interior.push(numbers[&block.start]))
            .expect("asked from outside");
        interior.sort_unstable();
        (verdict, interior)
    };
    let one = graph(1);
    assert!(!one.0.is_empty() && !one.1.is_empty());
    for cpus in [2, 4] {
        assert_eq!(graph(cpus), one);
    }
}
