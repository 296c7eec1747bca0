//! What the README calls limits, and what helps: each is known to hold.
//!
//! The words are those that the containers of the standard library leave behind in true memory, so they are read there.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Wake, Waker};

use kmemleak::{AllocOptions, Detector};

use crate::lab::{Lab, pool};
use crate::tracked::{Kernel, leaks};

type Subject = Detector<Kernel>;

/// A detector that knows one block, and where that is. The memory of `held` is a root.
fn with_block(block: &u64, held: &[usize]) -> (Box<Subject>, usize) {
    let detector = Box::new(Detector::new(Kernel::new()).with_pool(pool::<64>()));
    let start = std::ptr::from_ref(block).expose_provenance();
    detector.alloc(start, size_of::<u64>(), AllocOptions::new());
    let slots = held.as_ptr().expose_provenance();
    assert!(detector.region_add(slots, size_of_val(held)));
    (detector, start)
}

fn address(block: &u64) -> usize {
    std::ptr::from_ref(block).expose_provenance()
}

#[test]
fn what_was_popped_from_a_vector_hides_a_leak_until_its_place_is_used_again() {
    let block = Box::new(0);
    let mut vec = vec![0, address(&block)];
    let (detector, start) = with_block(&block, &vec);
    vec.pop();
    assert_eq!(leaks(&detector), []);
    vec.push(0);
    assert_eq!(leaks(&detector), [start]);
}

#[test]
fn what_was_taken_from_a_ring_does() {
    let block = Box::new(0);
    let mut ring = VecDeque::from([address(&block), 0]);
    let (detector, start) = with_block(&block, ring.as_slices().0);
    ring.pop_front();
    assert_eq!(leaks(&detector), []);
    ring.push_back(0);
    assert_eq!(leaks(&detector), [start]);
}

#[test]
fn what_was_removed_from_a_hash_table_does() {
    let block = Box::new(0);
    let mut map = HashMap::from([(1, address(&block))]);
    let (detector, start) = with_block(&block, std::slice::from_ref(&map[&1]));
    // Cleared before it is removed.
    let mut cleared = map.clone();
    map.remove(&1);
    assert_eq!(leaks(&detector), []);
    let (detector, _) = with_block(&block, std::slice::from_ref(&cleared[&1]));
    *cleared.get_mut(&1).expect("it has one") = 0;
    cleared.remove(&1);
    assert_eq!(leaks(&detector), [start]);
}

/// Something with two variants, of which one needs less room.
#[repr(C, usize)]
enum State {
    Idle,
    Held(usize),
}

#[test]
fn what_an_enum_was_before_does() {
    if cfg!(miri) {
        // To Miri the old variant's bytes are not there any more.
        return;
    }
    let block = Box::new(0);
    let mut states = [State::Held(address(&block))];
    let words = states.as_ptr().cast::<[usize; 2]>();
    // SAFETY: the variant that is there has two words.
    let (detector, start) = with_block(&block, unsafe { &*words });
    assert!(matches!(std::hint::black_box(&states), [State::Held(to)] if *to == start));
    *std::hint::black_box(&mut states[0]) = State::Idle;
    assert!(matches!(std::hint::black_box(&states), [State::Idle]));
    assert_eq!(leaks(&detector), []);
    // An option of a pointer has no other place for its variant than the pointer.
    let mut option = [Some(&*block)];
    let words = option.as_ptr().cast::<[usize; 1]>();
    // SAFETY: an option of a reference is a word.
    let (detector, _) = with_block(&block, unsafe { &*words });
    assert_eq!(leaks(&detector), []);
    *std::hint::black_box(&mut option[0]) = None;
    assert_eq!(leaks(&detector), [start]);
    assert_eq!(std::hint::black_box(option), [None]);
}

#[test]
fn a_word_at_no_multiple_of_eight_is_no_reference() {
    let lab = Lab::new();
    let (owner, owned) = (lab.block(64), lab.block(64));
    lab.hold(0, owner);
    // As a packed structure stores it: half in one word, half in the next.
    lab.machine.write(owner + 8, owned << 32);
    lab.machine.write(owner + 16, owned >> 32);
    assert_eq!(lab.leaks(), [owned]);
    lab.detector.not_leak(owned);
    assert_eq!(lab.leaks(), []);
}

#[test]
fn a_pointer_with_a_tag_in_its_upper_bits_is_none_but_one_in_its_lower_bits_is() {
    let lab = Lab::new();
    let block = lab.block(64);
    lab.hold(0, block | 0x00a5 << 48);
    assert_eq!(lab.leaks(), [block]);
    lab.hold(0, block | 7);
    assert_eq!(lab.leaks(), []);
}

struct Nothing;

impl Wake for Nothing {
    fn wake(self: Arc<Self>) {}
}

/// What an `Arc` of something without fields points to lies behind its two counters, where its block ends.
#[test]
fn one_past_the_end_is_no_reference() {
    const BLOCK: usize = 2 * size_of::<usize>();
    let raw = Arc::into_raw(Arc::new(Nothing));
    let waker = Waker::from(Arc::new(Nothing));
    for data in [raw.expose_provenance(), waker.data().expose_provenance()] {
        let detector: Box<Subject> = Box::new(Detector::new(Kernel::new()).with_pool(pool::<64>()));
        let (slot, block) = ([data], data - BLOCK);
        detector.alloc(block, BLOCK, AllocOptions::new());
        assert!(detector.region_add(slot.as_ptr().expose_provenance(), size_of_val(&slot)));
        assert_eq!(leaks(&detector), [block]);
        detector.not_leak(block);
        assert_eq!(leaks(&detector), []);
    }
    // SAFETY: it comes from an `Arc`.
    let arc = unsafe { Arc::from_raw(raw) };
    // A word more makes the difference, and an `Arc` itself points to its counters.
    let detector: Box<Subject> = Box::new(Detector::new(Kernel::new()).with_pool(pool::<64>()));
    let slot = [arc];
    detector.alloc(raw.addr() - BLOCK, BLOCK, AllocOptions::new());
    assert!(detector.region_add(slot.as_ptr().expose_provenance(), size_of_val(&slot)));
    assert_eq!(leaks(&detector), []);
}
