//! Tests of the depot alone, on stacks of the host, and on fake ones.

extern crate std;

use super::insert::{add_page, mixed};
use super::*;
use crate::metadata::page::{NewPage, NoMemory, Page};
use crate::platform::MAX_FRAMES;
use crate::stacks::frame_walk::tests::FakeStack;
use crate::stacks::frame_walk::{FRAME, frame_pointer_walk};
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::AtomicUsize;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::boxed::Box;
use std::collections::HashMap;
use std::sync::Mutex;
use std::vec::Vec;

const BASE: usize = 0x5555_1234_0000;

/// A limited number of pages of the host's heap.
struct Pages {
    left: AtomicUsize,
    out: Mutex<Vec<NonNull<u8>>>,
}

// SAFETY: it only counts pages, and frees them when all are done.
unsafe impl Sync for Pages {}

const LAYOUT: Layout = match Layout::from_size_align(METADATA_PAGE, METADATA_PAGE) {
    Ok(layout) => layout,
    Err(_) => panic!(),
};

impl Pages {
    const fn new(left: usize) -> Self {
        Self {
            left: AtomicUsize::new(left),
            out: Mutex::new(Vec::new()),
        }
    }

    fn out(&self) -> usize {
        self.out.lock().unwrap().len()
    }

    fn empty(&self, depot: &Depot) {
        assert_eq!(depot.bytes(), self.out() * METADATA_PAGE);
        // SAFETY: the tests' threads are gone.
        unsafe { depot.empty() };
        assert_eq!((depot.len(), depot.bytes()), (0, 0));
        for page in self.out.lock().unwrap().drain(..) {
            // SAFETY: from `page`, and the depot is empty.
            unsafe { dealloc(page.as_ptr(), LAYOUT) };
        }
    }
}

impl PageSource for Pages {
    fn page(&self) -> Result<NewPage, NoMemory> {
        self.left
            .try_update(Relaxed, Relaxed, |left| left.checked_sub(1))
            .map_err(|_| NoMemory)?;
        // SAFETY: the size isn't zero.
        let page = NonNull::new(unsafe { alloc_zeroed(LAYOUT) }).unwrap();
        self.out.lock().unwrap().push(page);
        // SAFETY: a zeroed page of the heap, which is freed when nobody uses it.
        Ok(unsafe { NewPage::new(page) })
    }
}

fn depot() -> Box<Depot> {
    Box::new(Depot::new())
}

/// Pseudo-random numbers (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }
}

fn record(
    depot: &Depot,
    stack: &FakeStack,
    at: usize,
    skip: Range<usize>,
    pages: &Pages,
) -> StackId {
    let walk = StackWalk {
        frame_pointer: at,
        stack: stack.range(),
        skip,
    };
    // SAFETY: the fake stack lives and holds still.
    let seen = unsafe { depot.seen(&walk, 3) };
    // SAFETY: as above.
    seen.unwrap_or_else(|| unsafe { depot.record_unseen(&walk, 3, pages) })
}

/// The addresses that `record` should store, found by the plain walk.
fn expected(stack: &FakeStack, at: usize, skip: &Range<usize>) -> Vec<usize> {
    let mut frames = [0; 512];
    // SAFETY: the fake stack lives and holds still.
    let len = unsafe { frame_pointer_walk(at, stack.range(), &mut frames) };
    frames[..len]
        .iter()
        .copied()
        .skip_while(|address| skip.contains(address))
        .take(MAX_FRAMES)
        .collect()
}

#[test]
fn the_same_stack_has_the_same_name() {
    let (depot, pages) = (depot(), Pages::new(100));
    let stack: Vec<usize> = (0..20).map(|frame| BASE + frame * 0x123).collect();
    let mut ids = Vec::new();
    for len in 1..=MAX_FRAMES {
        let id = depot.store(&stack[..len], &pages);
        assert_ne!(id, StackId::NONE);
        assert!(!ids.contains(&id), "another length is another stack");
        assert_eq!(depot.store(&stack[..len], &pages), id);
        assert_eq!(depot.get(id).as_slice(), &stack[..len]);
        ids.push(id);
    }
    assert_eq!(
        depot.store(&stack, &pages),
        ids[15],
        "what is too long is cut"
    );
    assert_eq!(depot.store(&[], &pages), StackId::NONE);
    assert_eq!(depot.get(StackId::NONE), Frames::NONE);
    assert_eq!(depot.len(), 16);
    assert_eq!(depot.bytes(), 2 * METADATA_PAGE, "a table and a page");
    pages.empty(&depot);
    assert_eq!(depot.get(ids[3]), Frames::NONE);
    assert_ne!(
        depot.store(&stack, &pages),
        StackId::NONE,
        "it can be filled again"
    );
    pages.empty(&depot);
}

#[test]
fn addresses_are_kept_whole() {
    let (depot, pages) = (depot(), Pages::new(100));
    let far = [
        BASE - 1,
        BASE + (1 << 32),
        BASE + (1 << 32) - 1,
        usize::MAX,
        1,
        BASE,
    ];
    for address in far {
        for len in 1..=MAX_FRAMES {
            let mut stack = [BASE + 5; MAX_FRAMES];
            stack[len - 1] = address;
            let id = depot.store(&stack[..len], &pages);
            assert_eq!(depot.get(id).as_slice(), &stack[..len]);
            assert_eq!(depot.store(&stack[..len], &pages), id);
        }
    }
    assert_eq!(depot.len(), 6 * 16);
    // Their low halves are equal, their high halves are not.
    let near = depot.store(&[BASE + 7], &pages);
    assert_ne!(depot.store(&[BASE + 7 + (1 << 32)], &pages), near);
    pages.empty(&depot);
}

/// What frames make of a hash depends on what is before them only by its exclusive or with the next address.
#[test]
fn stacks_with_equal_hashes_are_told_apart() {
    let (depot, pages) = (depot(), Pages::new(100));
    let after_first = |first: usize| {
        let mixed = (2 ^ first as u64).wrapping_mul(SPREAD);
        mixed ^ mixed >> 29
    };
    let stack_of = |first: usize| {
        let second = BASE as u64 ^ after_first(first) ^ after_first(BASE);
        [first, second as usize]
    };
    let stacks: Vec<[usize; 2]> = (BASE..BASE + 5).map(stack_of).collect();
    let ids: Vec<StackId> = stacks
        .iter()
        .map(|stack| depot.store(stack, &pages))
        .collect();
    for (number, stack) in stacks.iter().enumerate() {
        assert_eq!(mixed(stack), mixed(&stacks[0]), "all hashes are equal");
        assert_eq!(depot.store(stack, &pages), ids[number]);
        assert_eq!(depot.get(ids[number]).as_slice(), stack);
    }
    assert_eq!(depot.len(), 5);
    pages.empty(&depot);
}

#[test]
fn each_of_many_stacks_has_a_name() {
    let (depot, pages) = (depot(), Pages::new(10_000));
    let stack = |number: usize| [BASE + number % 100, BASE + number / 100, BASE];
    let ids: Vec<StackId> = (0..100_000)
        .map(|number| depot.store(&stack(number), &pages))
        .collect();
    assert_eq!(depot.len(), 100_000);
    for (number, &id) in ids.iter().enumerate() {
        assert_eq!(depot.store(&stack(number), &pages), id);
        assert_eq!(depot.get(id).as_slice(), stack(number));
    }
    assert_eq!(depot.len(), 100_000);
    pages.empty(&depot);
}

#[test]
fn without_memory_for_a_fork_there_is_no_name() {
    let (depot, pages) = (depot(), Pages::new(2));
    let stack = |number: usize| [BASE + number, BASE];
    let ids: Vec<StackId> = (0..1000)
        .map(|number| depot.store(&stack(number), &pages))
        .collect();
    let named = ids.iter().filter(|&&id| id != StackId::NONE).count();
    assert!((50..500).contains(&named), "the page is full");
    assert_eq!(depot.len() as usize, named);
    pages.left.store(100, Relaxed);
    for (number, &id) in ids.iter().enumerate() {
        let now = depot.store(&stack(number), &pages);
        assert_ne!(now, StackId::NONE);
        assert!(now == id || id == StackId::NONE, "a name stays");
    }
    pages.empty(&depot);
}

#[test]
fn marks_are_new_once() {
    let (depot, pages) = (depot(), Pages::new(100));
    let one = depot.store(&[BASE + 1, BASE + 2], &pages);
    let other = depot.store(&[BASE + 1], &pages);
    for mark in 0..16 {
        assert!(depot.mark(one, mark));
        assert!(!depot.mark(one, mark));
    }
    assert!(depot.mark(other, 15));
    assert!(depot.mark(StackId::NONE, 1));
    assert!(depot.mark(StackId::NONE, 1));
    assert_eq!(depot.store(&[BASE + 1, BASE + 2], &pages), one);
    assert_eq!(depot.get(one).as_slice(), &[BASE + 1, BASE + 2]);
    pages.empty(&depot);
}

#[test]
fn what_is_no_id_does_no_harm() {
    let (depot, pages) = (depot(), Pages::new(100));
    for number in 0..100 {
        depot.store(&[usize::MAX - number; 7], &pages);
    }
    for number in (0..3000).chain([u32::MAX, 1 << 24, 1 << 23]) {
        let _ = depot.get(StackId(number)).crc();
    }
    pages.empty(&depot);
}

#[test]
fn without_memory_there_is_no_name() {
    for limit in 0..4 {
        let (depot, pages) = (depot(), Pages::new(limit));
        let ids: Vec<StackId> = (1..200)
            .map(|number| depot.store(&[BASE + number; 9], &pages))
            .collect();
        let kept = ids.iter().filter(|&&id| id != StackId::NONE).count();
        assert_eq!(kept, depot.len() as usize);
        assert!(kept < 199);
        assert_eq!(kept > 0, limit >= 2);
        for (number, &id) in (1..).zip(&ids[..kept]) {
            assert_eq!(depot.store(&[BASE + number; 9], &pages), id);
        }
        // What was refused is kept once there is memory again.
        pages.left.store(100, Relaxed);
        assert_ne!(depot.store(&[BASE + 199; 9], &pages), StackId::NONE);
        pages.empty(&depot);
    }
}

#[test]
fn threads_that_store_the_same_stacks_agree() {
    // An interpreter is asked for many interleavings of a short run.
    let (rounds, count) = if cfg!(miri) { (1, 50) } else { (20, 1000) };
    for round in 1..=rounds {
        let mut random = Random(0x1234_5678_9abc * round);
        let (depot, pages) = (depot(), Pages::new(1000));
        let mut stacks = Vec::new();
        for number in 0..count {
            let mut stack = Vec::new();
            for _ in 0..random.below(MAX_FRAMES) {
                stack.push(BASE + random.below(1 << 30));
            }
            stack.push(if number % 10 == 0 {
                number + 1
            } else {
                BASE + number
            });
            stacks.push(stack);
        }
        let barrier = std::sync::Barrier::new(4);
        let ids: Vec<Vec<StackId>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        stacks
                            .iter()
                            .map(|stack| depot.store(stack, &pages))
                            .collect()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(depot.len() as usize, count);
        for thread in &ids {
            assert_eq!(*thread, ids[0]);
        }
        for (stack, &id) in stacks.iter().zip(&ids[0]) {
            assert_eq!(depot.get(id).as_slice(), stack);
        }
        pages.empty(&depot);
    }
}

#[test]
fn threads_that_record_at_once_agree() {
    let (depot, pages) = (depot(), Pages::new(1000));
    let (kinds, rounds) = if cfg!(miri) { (2, 100) } else { (20, 20_000) };
    std::thread::scope(|scope| {
        for seed in 1..=4 {
            let (depot, pages) = (&depot, &pages);
            scope.spawn(move || {
                let mut random = Random(0x9999_7777 * seed);
                let mut stack = FakeStack::new(128);
                for _ in 0..rounds {
                    let len = 1 + random.below(MAX_FRAMES);
                    let frames: Vec<usize> = (0..len).map(|frame| 2 + frame * 6).collect();
                    let kind = random.below(kinds);
                    let addresses: Vec<usize> =
                        (0..len).map(|frame| BASE + 1 + frame * kind).collect();
                    stack.chain(&frames, &addresses);
                    let id = record(depot, &stack, stack.at(2), 0..0, pages);
                    assert_eq!(depot.get(id).as_slice(), addresses);
                }
            });
        }
    });
    // Stacks of one frame are the same for all kinds.
    assert_eq!(depot.len() as usize, 1 + (MAX_FRAMES - 1) * kinds);
    pages.empty(&depot);
}

/// Random stacks, each changed a bit again and again: chains that are cut, bent, misaligned, looped; addresses
/// that are exchanged, zero, far away or in the range to be skipped. Whatever path `record` takes, it must name
/// what the plain walk finds.
#[test]
fn the_fast_path_finds_what_the_walk_finds() {
    let (depot, pages) = (depot(), Pages::new(10_000));
    let mut random = Random(0x0dd_ba11);
    let mut named: HashMap<Vec<usize>, StackId> = HashMap::new();
    let mut stack = FakeStack::new(256);
    for _ in 0..1500 {
        let mut frames = Vec::new();
        let mut at = random.below(4);
        for _ in 0..1 + random.below(20) {
            frames.push(at);
            at += 2 + random.below(10);
        }
        let addresses: Vec<usize> = frames
            .iter()
            .map(|_| BASE + 1 + random.below(4) * 0x100)
            .collect();
        stack.chain(&frames, &addresses);
        let skip = match random.below(3) {
            0 => 0..0,
            1 => BASE..BASE + 0x80,
            _ => BASE..BASE + 0x180,
        };
        for _ in 0..30 {
            let start = if random.below(20) == 0 {
                stack
                    .at(0)
                    .wrapping_sub(64)
                    .wrapping_add(random.below(300 * WORD))
            } else {
                stack.at(frames[0])
            };
            let expected = expected(&stack, start, &skip);
            for _ in 0..2 {
                let id = record(&depot, &stack, start, skip.clone(), &pages);
                assert_eq!(depot.get(id).as_slice(), expected);
                if !expected.is_empty() {
                    assert_eq!(*named.entry(expected.clone()).or_insert(id), id);
                }
            }
            let frame = frames[random.below(frames.len())];
            match random.below(10) {
                0 => stack.set(frame, random.below(usize::MAX)),
                1 => stack.set(frame, stack.at(random.below(256))),
                2 => stack.set(frame, stack.at(frame) + random.below(8 * WORD)),
                3 => stack.set(frame, stack.at(frames[0])),
                4 => stack.set(frame + 1, 0),
                5 => stack.set(frame + 1, random.below(usize::MAX)),
                6 => stack.set(frame + 1, BASE + 1 + (1 << 32)),
                7 => stack.set(frame + 1, BASE + 1),
                8 => stack.set(frame, 0),
                _ => stack.chain(&frames, &addresses),
            }
        }
    }
    assert_eq!(depot.len() as usize, named.len());
    pages.empty(&depot);
}

#[test]
fn a_hit_takes_no_full_walk() {
    let (depot, pages) = (depot(), Pages::new(100));
    let mut stack = FakeStack::new(512);
    for len in 1..=MAX_FRAMES {
        let frames: Vec<usize> = (0..len).map(|frame| 4 + frame * 20).collect();
        let addresses: Vec<usize> = (0..len).map(|frame| BASE + 3 + frame * 7).collect();
        stack.chain(&frames, &addresses);
        let id = record(&depot, &stack, stack.at(4), 0..0, &pages);
        let entry = depot.slot(3, addresses[0], stack.at(4)).get().unwrap();
        assert_eq!(entry.number().load(Relaxed), id.0);
        let highest = stack.range().end - FRAME;
        // SAFETY: the fake stack lives and holds still.
        assert!(unsafe { entry.is_stack(stack.at(4), highest) });
        // One frame more or less room is another end.
        let short = stack.at(frames[len - 1]);
        // SAFETY: as above.
        assert!(unsafe { entry.is_stack(stack.at(4), short) });
        if len > 1 {
            // SAFETY: as above.
            assert!(!unsafe { entry.is_stack(stack.at(4), short - 1) });
        }
    }
    pages.empty(&depot);
}

/// Ends of zero, behind any number of frames: what is compared is all of the stack, and nothing else.
#[test]
fn a_return_address_of_zero_is_foretold_as_an_end() {
    for len in 1..MAX_FRAMES {
        let (depot, pages) = (depot(), Pages::new(100));
        let mut stack = FakeStack::new(128);
        let frames: Vec<usize> = (0..=len).map(|frame| 2 + frame * 6).collect();
        let mut addresses: Vec<usize> = (1..=len).map(|frame| BASE + frame).collect();
        addresses.push(0);
        stack.chain(&frames, &addresses);
        let id = record(&depot, &stack, stack.at(2), 0..0, &pages);
        assert_eq!(depot.get(id).as_slice(), &addresses[..len]);
        let entry = depot.slot(3, BASE + 1, stack.at(2)).get().unwrap();
        let highest = stack.range().end - FRAME;
        // SAFETY: the fake stack lives and holds still.
        let is_stack = |highest| unsafe { entry.is_stack(stack.at(2), highest) };
        let end = stack.at(frames[len]);
        assert!(is_stack(highest) && is_stack(end));
        assert!(!is_stack(end - 1), "no room for the end");
        // The end is told by its return address alone.
        let last = [frames[len] + 1];
        let all = frames[..len].iter().flat_map(|&frame| [frame, frame + 1]);
        for word in all.chain(last) {
            // SAFETY: a word of the fake stack.
            let before = unsafe { read(stack.at(word)) };
            stack.set(word, before ^ 8);
            // SAFETY: as for `is_stack`.
            assert!(!unsafe { entry.is_stack(stack.at(2), highest) }, "{word}");
            stack.set(word, before);
        }
        pages.empty(&depot);
    }
}

#[test]
fn a_page_too_many_is_used_later() {
    let (depot, pages) = (depot(), Pages::new(5));
    depot.ensure_page(0, &pages).unwrap();
    let table = depot.tables[0].get().unwrap();
    add_page(table, 0, depot.take(&pages).unwrap());
    let last = pages.out.lock().unwrap().last().copied();
    assert_eq!(table.link(1).get().map(Page::start), last);
    let last = FAN_OUT - 1;
    for _ in 0..2 {
        add_page(table, last, depot.take(&pages).unwrap());
    }
    assert!(!table.link(last).is_empty());
    assert_eq!(depot.ensure_page(1, &pages), Ok(()), "none is asked for");
    assert_eq!(depot.ensure_page(2, &pages), Err(NoMemory));
    pages.empty(&depot);
}

#[test]
fn frames_too_large_for_a_link_are_walked() {
    let (depot, pages) = (depot(), Pages::new(100));
    let mut stack = FakeStack::new(20_000);
    let addresses = [BASE + 1, BASE + 2, BASE + 3];
    stack.chain(&[2, 8 + 2, 8 + 2 + 8192], &addresses);
    let id = record(&depot, &stack, stack.at(2), 0..0, &pages);
    assert_eq!(record(&depot, &stack, stack.at(2), 0..0, &pages), id);
    assert_eq!(depot.get(id).as_slice(), addresses);
    assert!(depot.slot(3, addresses[0], stack.at(2)).get().is_none());
    pages.empty(&depot);
}
