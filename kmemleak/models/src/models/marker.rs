//! The marker while other code runs: what it reads, and what is allocated meanwhile.
//!
//! The hazard, the locks of chunks and the mark of new objects are the detector's; a chunk of one object, and what is done
//! with it under the lock, is written here after `Registry::insert`, `Registry::take` and the marker.

use std::sync::atomic::Ordering::Relaxed;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::atomic::{AtomicU16, AtomicU32, AtomicUsize};
use crate::models::Protocol;
use crate::objects::hazard::Hazard;
use crate::objects::word_lock;
use crate::search::Model;
use crate::tracker::mode_word::{ModeWord, Unusual};

/// The protocol as it is: these models must hold.
pub const PROTOCOL: Protocol = Protocol {
    sources: &[
        include_str!("../../../src/objects/hazard.rs"),
        include_str!("../../../src/objects/word_lock.rs"),
        include_str!("../../../src/tracker/mode_word.rs"),
    ],
    models: &[
        Model {
            name: "a block is read while it is freed",
            preemptions: 3,
            run: || read_and_free(Reader::SaysSoUnderTheLock, Freer::Waits),
        },
        Model {
            name: "a region is read while it is removed",
            preemptions: 3,
            run: || read_and_remove(Order::SaysSoAndLooks, Freer::Waits),
        },
        Model {
            name: "two CPUs count under a lock",
            preemptions: 3,
            run: count,
        },
        Model {
            name: "a block is allocated while a pass begins",
            preemptions: 3,
            run: || allocate_and_pass(Judge::ByBirth, Mark::UnderTheLock, Whiten::ButWhatIsBorn),
        },
    ],
};

/// The protocol with one thing wrong in each model: these must fail.
pub const WRONG: &[Model] = &[
    Model {
        name: "the block that is read is said when the chunk is unlocked",
        preemptions: 3,
        run: || read_and_free(Reader::SaysSoLater, Freer::Waits),
    },
    Model {
        name: "a free does not wait",
        preemptions: 3,
        run: || read_and_free(Reader::SaysSoUnderTheLock, Freer::DoesNotWait),
    },
    Model {
        name: "the piece of a region that is read is said when the regions have been looked at",
        preemptions: 3,
        run: || read_and_remove(Order::LooksAndSaysSo, Freer::Waits),
    },
    Model {
        name: "a removal does not wait",
        preemptions: 3,
        run: || read_and_remove(Order::SaysSoAndLooks, Freer::DoesNotWait),
    },
    Model {
        name: "what is unmarked is suspected whenever it was born",
        preemptions: 3,
        run: || {
            allocate_and_pass(
                Judge::ByMarkAlone,
                Mark::UnderTheLock,
                Whiten::ButWhatIsBorn,
            )
        },
    },
    Model {
        name: "a new object is marked before its chunk is locked",
        preemptions: 3,
        run: || allocate_and_pass(Judge::ByBirth, Mark::Before, Whiten::ButWhatIsBorn),
    },
    Model {
        name: "a pass clears the marks of what has been born since",
        preemptions: 3,
        run: || allocate_and_pass(Judge::ByBirth, Mark::UnderTheLock, Whiten::All),
    },
];

const START: usize = 0x1200;

#[derive(Clone, Copy, PartialEq)]
enum Reader {
    SaysSoUnderTheLock,
    SaysSoLater,
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    SaysSoAndLooks,
    LooksAndSaysSo,
}

#[derive(Clone, Copy, PartialEq)]
enum Freer {
    Waits,
    DoesNotWait,
}

/// A chunk with one object, and the object's memory.
struct Chunk {
    lock: AtomicU16,
    starts: AtomicU32,
    marks: AtomicU32,
    born: AtomicU32,
    birth: AtomicUsize,
    hazard: Hazard,
    pass: ModeWord,
    clock: AtomicUsize,
    memory: UnsafeCell<u32>,
}

impl Chunk {
    /// All its words exist.
    fn new() -> Arc<Self> {
        let chunk = Self {
            lock: AtomicU16::new(0),
            starts: AtomicU32::new(0),
            marks: AtomicU32::new(0),
            born: AtomicU32::new(0),
            birth: AtomicUsize::new(0),
            hazard: Hazard::new(),
            pass: ModeWord::new(),
            clock: AtomicUsize::new(1),
            memory: UnsafeCell::new(7),
        };
        chunk.lock.load(Relaxed);
        for word in [&chunk.starts, &chunk.marks, &chunk.born] {
            word.load(Relaxed);
        }
        for word in [&chunk.birth, &chunk.clock] {
            word.load(Relaxed);
        }
        chunk.hazard.wait(START);
        chunk.pass.has(Unusual::PASS);
        Arc::new(chunk)
    }

    fn locked<R>(&self, work: impl FnOnce() -> R) -> R {
        word_lock::lock(&self.lock);
        let result = work();
        word_lock::unlock(&self.lock);
        result
    }
}

/// The marker reads a block, twice at most; the block is freed, and its next owner writes to it.
fn read_and_free(reader: Reader, freer: Freer) {
    let chunk = Chunk::new();
    chunk.starts.store(1, Relaxed);
    let its = chunk.clone();
    let marker = thread::spawn(move || {
        for _ in 0..2 {
            let there = its.locked(|| {
                let there = its.starts.load(Relaxed) == 1;
                if there && reader == Reader::SaysSoUnderTheLock {
                    its.hazard.set(START);
                }
                there
            });
            if there {
                if reader == Reader::SaysSoLater {
                    its.hazard.set(START);
                }
                // SAFETY: loom looks whether it is read while another writes.
                its.memory.with(|memory| unsafe { memory.read() });
                its.hazard.clear();
            }
        }
    });
    chunk.locked(|| chunk.starts.store(0, Relaxed));
    if freer == Freer::Waits {
        chunk.hazard.wait(START);
    }
    // SAFETY: loom looks whether it is read while another writes.
    chunk.memory.with_mut(|memory| unsafe { memory.write(9) });
    marker.join().expect("it panics where it fails");
}

/// The marker reads a piece of a region; the region is removed, and its memory has another owner. The chunk's lock stands for that
/// of the list of regions.
fn read_and_remove(order: Order, remover: Freer) {
    const BEFORE: usize = 0x100;
    let list = Chunk::new();
    list.hazard.wait_in(START..START + 8);
    list.starts.store(1, Relaxed);
    let its = list.clone();
    let marker = thread::spawn(move || {
        // The piece begins before the region, in another one.
        let say = || its.hazard.set_region(START - BEFORE);
        if order == Order::SaysSoAndLooks {
            say();
        }
        let there = its.locked(|| its.starts.load(Relaxed) == 1);
        if order == Order::LooksAndSaysSo {
            say();
        }
        if there {
            // SAFETY: loom looks whether it is read while another writes.
            its.memory.with(|memory| unsafe { memory.read() });
        }
        its.hazard.clear();
    });
    list.locked(|| list.starts.store(0, Relaxed));
    if remover == Freer::Waits {
        list.hazard.wait_in(START..START + 8);
    }
    // SAFETY: loom looks whether it is read while another writes.
    list.memory.with_mut(|memory| unsafe { memory.write(9) });
    marker.join().expect("it panics where it fails");
}

/// Two CPUs have the lock in turn. One only tries.
fn count() {
    let chunk = Chunk::new();
    let its = chunk.clone();
    // SAFETY: loom looks whether both write at once.
    let add = |chunk: &Chunk| chunk.memory.with_mut(|memory| unsafe { *memory += 1 });
    let other = thread::spawn(move || {
        its.locked(|| add(&its));
    });
    if word_lock::try_lock(&chunk.lock) {
        add(&chunk);
        word_lock::unlock(&chunk.lock);
    }
    other.join().expect("it panics where it fails");
}

#[derive(Clone, Copy, PartialEq)]
enum Judge {
    ByBirth,
    ByMarkAlone,
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    UnderTheLock,
    Before,
}

#[derive(Clone, Copy, PartialEq)]
enum Whiten {
    ButWhatIsBorn,
    All,
}

/// A block is allocated while a pass begins, and is suspected if it is unmarked in the end and was not born since. Nothing
/// else is suspected; nor is a block that was born as the pass started, if its callback saw the pass.
fn allocate_and_pass(judge: Judge, mark: Mark, whiten: Whiten) {
    let chunk = Chunk::new();
    let its = chunk.clone();
    let allocation = thread::spawn(move || {
        let birth = its.clock.load(Relaxed);
        let marked = its.pass.has(Unusual::PASS);
        let set_mark = || its.marks.fetch_or(u32::from(marked), Relaxed);
        if mark == Mark::Before {
            set_mark();
        }
        its.locked(|| {
            its.birth.store(birth, Relaxed);
            its.born.store(marked.into(), Relaxed);
            if mark == Mark::UnderTheLock {
                set_mark();
            }
            its.starts.store(1, Relaxed);
        });
        marked
    });
    chunk.clock.store(2, Relaxed);
    let start = chunk.clock.load(Relaxed);
    chunk.pass.begin(Unusual::PASS);
    chunk.clock.store(3, Relaxed);
    chunk.locked(|| {
        let born = chunk.born.load(Relaxed) != 0 && chunk.birth.load(Relaxed) >= start;
        if !born || whiten == Whiten::All {
            chunk.marks.store(0, Relaxed);
        }
    });
    let (suspected, birth) = chunk.locked(|| {
        let unmarked = chunk.starts.load(Relaxed) & !chunk.marks.load(Relaxed) != 0;
        let birth = chunk.birth.load(Relaxed);
        let suspected = unmarked && (judge == Judge::ByMarkAlone || birth <= start);
        (suspected, birth)
    });
    chunk.pass.end(Unusual::PASS);
    let saw_it = allocation.join().expect("it panics where it fails");
    if suspected {
        assert!(birth <= start, "born since");
        assert!(birth < start || !saw_it, "born since, as it knew itself");
    }
}
