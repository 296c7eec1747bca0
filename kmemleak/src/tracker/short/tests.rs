//! That the short path comes to what the general one comes to, and leaves to it what is unusual.

extern crate std;

use core::cell::Cell;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;
use std::boxed::Box;
use std::vec::Vec;

use crate::objects::access::{Access, Locked};
use crate::objects::chunk::{Chunk, GRANULE, granule_of, info};
use crate::objects::object::Object;
use crate::objects::page_map::{CHUNK, Leaf, Look, chunk_of};
use crate::platform::bare::leaked_page;
use crate::platform::{Context, Level};
use crate::stacks::depot::StackId;
use crate::tracker::mode_word::Unusual;
use crate::tracker::{Mode, Tracker};
use crate::{AllocOptions, IrqState, Platform, Root, RootCursor};

/// A kernel of one CPU without memory of its own. The test says what runs.
struct Bare {
    context: Cell<Context>,
    /// How often it was asked how slabs are laid out.
    asked: Cell<usize>,
}

// SAFETY: each test uses its own, from its own thread.
unsafe impl Sync for Bare {}

// SAFETY: there are no roots and no interrupts; metadata pages are boxes that are never given back.
unsafe impl Platform for Bare {
    fn now_us(&self) -> u64 {
        0x1_2345_6789
    }

    fn irq_save(&self) -> IrqState {
        IrqState(0)
    }

    fn irq_restore(&self, _: IrqState) {}

    fn next_root(&self, _: &mut RootCursor) -> Option<Root> {
        None
    }

    fn context(&self) -> Context {
        self.context.get()
    }

    fn slab_stride(&self, _: usize) -> Option<usize> {
        self.asked.set(self.asked.get() + 1);
        None
    }

    fn metadata_alloc(&self) -> Option<NonNull<u8>> {
        Some(leaked_page())
    }
}

type Subject = Tracker<Bare>;

const BASE: usize = 0xffff_8880_0000_0000;
const STACK: StackId = StackId(77);
const RUNNING: Context = Context {
    task: 5,
    cpu: 0,
    level: Level::Task,
};

fn subject() -> Box<Subject> {
    Box::new(Tracker::new(Bare {
        context: Cell::new(RUNNING),
        asked: Cell::new(0),
    }))
}

fn short(subject: &Subject, start: usize, size: usize) -> bool {
    let context = subject.platform().context();
    (subject.record_named_short(start, size, STACK, context)).is_ok()
}

fn long(subject: &Subject, start: usize, size: usize) {
    let entered = subject.interrupts_off();
    subject.record_generally(start, size, STACK, &entered.meta());
}

fn free_short(subject: &Subject, start: usize) -> bool {
    subject.forget_short(start, 0).is_ok()
}

fn free_long(subject: &Subject, start: usize) {
    subject.forget_generally(start, subject.interrupts_off());
}

fn chunk(subject: &Subject, address: usize) -> Chunk {
    match subject.registry().map.look(chunk_of(address)) {
        Look::Entry(chunk) => chunk,
        _ => panic!("no chunk at {address:#x}"),
    }
}

/// All that is known of the memory from `BASE` on: the object that starts in each granule, the marks and the common size of each
/// chunk.
fn known(subject: &Subject, len: usize) -> Vec<impl PartialEq + core::fmt::Debug + use<>> {
    let registry = subject.registry();
    let granule = |start: usize| {
        let object = |object: Object<'_>| object.record.read();
        let record = registry.starting_at(Locked, start, object);
        let chunk = chunk(subject, start);
        let marks = chunk.marks().load(Relaxed);
        let words = match chunk.is_used() {
            true => chunk.now().common_words(),
            false => 0,
        };
        (start, record, marks, words)
    };
    (BASE..BASE + len).step_by(GRANULE).map(granule).collect()
}

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }
}

/// Blocks come and go, of sizes that let some lie in one chunk and some reach into the next: where the short path does something,
/// the general one would have done the same. (It has not failed to do anything: many calls took it.) Blocks that would overlap
/// others it leaves to the general one.
#[test]
fn it_does_what_the_general_path_does() {
    const LEN: usize = 8 * CHUNK;
    for sizes in [
        &[64_usize][..],
        &[8],
        &[13],
        &[40],
        &[48],
        &[72],
        &[256],
        &[264],
        &[8, 40, 72],
        &[57, 64],
        &[1, 16, 24, 100, 511, 512, 700],
    ] {
        let mut dice = Dice(0x1234_5678_9abc_def1);
        let (tried, general) = (subject(), subject());
        let mut blocks: Vec<(usize, usize)> = Vec::new();
        let (mut calls, mut taken) = (0, 0);
        for _ in 0..4000 {
            if blocks.len() > 20 || blocks.len() > 3 && dice.below(2) == 0 {
                let (start, _) = blocks.swap_remove(dice.below(blocks.len()));
                match free_short(&tried, start) {
                    true => taken += 1,
                    false => free_long(&tried, start),
                }
                calls += 1;
                free_long(&general, start);
                let left = tried.registry().last_stack_ids(start);
                assert_eq!(left, (STACK, StackId::NONE));
            } else {
                let size = sizes[dice.below(sizes.len())];
                let start = BASE + dice.below((LEN - 1024) / 8) * 8;
                let overlaps =
                    |&(other, len): &(usize, usize)| start < other + len && other < start + size;
                if blocks.iter().any(overlaps) {
                    assert!(!short(&tried, start, size), "{size} at {start:#x}");
                    continue;
                }
                blocks.push((start, size));
                calls += 1;
                match short(&tried, start, size) {
                    true => taken += 1,
                    false => long(&tried, start, size),
                }
                long(&general, start, size);
            }
            if calls % 200 == 0 {
                let pairs = known(&tried, LEN).into_iter().zip(known(&general, LEN));
                pairs.for_each(|(tried, general)| assert_eq!(tried, general));
            }
        }
        assert!(taken * 8 > calls, "{taken} of {calls} for {sizes:?}");
        assert_eq!(tried.tracking().objects, blocks.len());
    }
}

/// A subject in which the short path takes a block of 64 bytes at `BASE`, and forgets one at `BASE + 128`.
fn ready() -> Box<Subject> {
    let subject = subject();
    long(&subject, BASE + 256, 64);
    long(&subject, BASE + 128, 64);
    assert!(short(&subject, BASE, 64));
    free_long(&subject, BASE);
    subject
}

/// Neither path of a callback takes its short form while `begin` holds, and after `end` both do.
fn is_unusual(begin: impl FnOnce(&Subject), end: impl FnOnce(&Subject)) {
    let subject = ready();
    begin(&subject);
    assert!(!short(&subject, BASE, 64));
    assert!(
        subject
            .registry()
            .starting_at(Locked, BASE, |_| ())
            .is_none()
    );
    let free = free_short(&subject, BASE + 128);
    end(&subject);
    assert!(short(&subject, BASE, 64));
    assert!(!free);
    assert!(free_short(&subject, BASE + 128));
}

#[test]
fn an_unusual_mode_takes_the_general_path() {
    let modes = [
        Unusual::OFF,
        Unusual::GONE,
        Unusual::PASS,
        Unusual::EXHAUSTED,
        Unusual::FREE_STACKS,
    ];
    for mode in modes {
        is_unusual(
            |subject| subject.word.begin(mode),
            |subject| subject.word.end(mode),
        );
    }
    is_unusual(Tracker::disabled_begin, Tracker::disabled_end);
    let subject = ready();
    subject.set_mode(Mode::Off);
    assert!(!short(&subject, BASE, 64) && !free_short(&subject, BASE + 128));
}

#[test]
fn disabled_tasks_are_counted() {
    let subject = ready();
    subject.disabled_begin();
    subject.disabled_begin();
    subject.disabled_end();
    assert!(!short(&subject, BASE, 64));
    subject.disabled_end();
    assert!(short(&subject, BASE, 64));
}

#[test]
fn nobody_waits_for_a_chunk_on_the_short_path() {
    let subject = ready();
    let open = Locked.open(chunk_of(BASE), chunk(&subject, BASE));
    assert!(!short(&subject, BASE, 64) && !free_short(&subject, BASE + 128));
    drop(open);
    assert!(short(&subject, BASE, 64) && free_short(&subject, BASE + 128));
}

#[test]
fn only_the_task_of_before_allocates_by_the_short_path() {
    let others = [
        Context { task: 6, ..RUNNING },
        Context { cpu: 1, ..RUNNING },
        Context { cpu: 64, ..RUNNING },
        Context {
            level: Level::Interrupt,
            ..RUNNING
        },
    ];
    for other in others {
        let subject = ready();
        subject.platform().context.set(other);
        assert!(!short(&subject, BASE, 64), "{other:?}");
        subject.platform().context.set(RUNNING);
        assert!(short(&subject, BASE, 64), "{other:?}");
    }
}

#[test]
fn a_block_that_is_not_plain_takes_the_general_path() {
    let subject = ready();
    let (table, _) = Leaf::range_of(BASE);
    let beyond = table + (1 << 16);
    for (start, size) in [
        (BASE, 0),
        (BASE, CHUNK + 1),
        (BASE, usize::MAX),
        (BASE + CHUNK - 64, 65),
        (BASE + 1, 64),
        (BASE + 120, 16),
        (BASE + 128, 64),
        (BASE + 136, 8),
        (beyond, 64),
    ] {
        assert!(!short(&subject, start, size), "{size} at {start:#x}");
    }
    for start in [BASE, BASE + 136, BASE + 129, beyond] {
        assert!(!free_short(&subject, start), "{start:#x}");
    }
    assert_eq!(subject.tracking().objects, 2);
}

#[test]
fn a_chunk_with_something_odd_takes_the_general_path() {
    // Something reaches in, from the chunk before.
    let subject = ready();
    for start in [CHUNK, 2 * CHUNK + 128, 2 * CHUNK + 192] {
        long(&subject, BASE + start, 64);
    }
    assert!(short(&subject, BASE + 2 * CHUNK + 256, 64));
    long(&subject, BASE + 2 * CHUNK - 64, 100);
    assert!(
        !free_short(&subject, BASE + 2 * CHUNK - 64),
        "its reach would stay"
    );
    assert!(!short(&subject, BASE + 2 * CHUNK + 64, 64));
    // An object at no multiple of eight.
    long(&subject, BASE + 65, 3);
    assert!(!short(&subject, BASE, 64) && !free_short(&subject, BASE + 128));
    // One with a note, one that is counted otherwise, and one whose checksum lies where its start was.
    let change: [fn(&Subject); 3] = [
        |subject| subject.no_scan(BASE + 128),
        |subject| subject.not_leak(BASE + 128),
        |subject| {
            let set = |object: Object<'_>| object.set_checksum(9);
            subject.registry().starting_at(Locked, BASE + 128, set);
        },
    ];
    for change in change {
        let subject = ready();
        change(&subject);
        assert!(!free_short(&subject, BASE + 128));
    }
}

/// Objects of one size are known to have it, whichever path recorded them; one of another size takes that back.
#[test]
fn the_common_size_of_a_chunk_stays_right() {
    let subject = ready();
    let words = || chunk(&subject, BASE).now().common_words();
    assert!(short(&subject, BASE + 64, 64));
    assert_eq!(words(), 8);
    assert!(
        !short(&subject, BASE + 192, 40),
        "the first one of another size"
    );
    long(&subject, BASE + 192, 40);
    assert_eq!(words(), 0);
    assert!(short(&subject, BASE + 320, 56), "there is nothing to say");
    for start in [64, 128, 192, 256, 320] {
        free_long(&subject, BASE + start);
    }
    assert!(
        !short(&subject, BASE, 40),
        "an empty chunk for another size"
    );
    long(&subject, BASE, 40);
    assert_eq!(words(), 5);
    assert!(!chunk(&subject, BASE).has(info::LOOK));
}

#[test]
fn a_freed_object_is_not_marked() {
    let subject = ready();
    let marks = chunk(&subject, BASE).marks();
    marks.store(u64::MAX, Relaxed);
    assert!(free_short(&subject, BASE + 128));
    assert_eq!(marks.load(Relaxed) >> 16 & 1, 0);
    assert_eq!(marks.load(Relaxed) >> 32 & 1, 1);
}

#[test]
fn a_cpu_without_a_line_forgets_by_the_general_path() {
    let subject = ready();
    for cpu in [1, 64, u32::MAX] {
        assert!(subject.forget_short(BASE + 128, cpu).is_err());
    }
}

/// Only the general path asks how slabs are laid out, and writes to a record when it forgets its object.
#[test]
fn callbacks_take_it() {
    let subject = ready();
    let options = AllocOptions::new();
    let size = |start: usize| {
        // SAFETY: the chunk has records, and nobody else uses them.
        unsafe { chunk(&subject, start).record(granule_of(start)) }.short_size()
    };
    subject.alloc(BASE, 64, options);
    let asked = subject.platform().asked.get();
    for _ in 0..10 {
        subject.alloc(BASE + 64, 64, options);
        subject.free(BASE + 64);
        assert_eq!(size(BASE + 64), 64);
        subject.free(BASE);
        subject.alloc(BASE, 64, options);
    }
    assert_eq!(subject.platform().asked.get(), asked);
    subject.alloc(BASE + CHUNK, 64, options);
    subject.free(BASE + CHUNK);
    assert_eq!(subject.platform().asked.get(), asked + 1);
    assert_ne!(size(BASE + CHUNK), 64);
}
