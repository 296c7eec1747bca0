//! Tests of entries, and of queues beside the standard library's.

extern crate std;

use std::boxed::Box;
use std::collections::VecDeque;
use std::vec::Vec;

use super::{BATCH, Entry, FEW, LONG, OnePage, Queue, Segment, WorkQueues};
use crate::AllocOptions;
use crate::metadata::PAGE_WORDS;
use crate::objects::access::Locked;
use crate::objects::info::MAX_COMMON_WORDS;
use crate::platform::bare::Bare;
use crate::tracker::Tracker;

fn tracker() -> Box<Tracker<Bare>> {
    Box::new(Tracker::new(Bare))
}

/// Queues with memory for so many workers and objects.
fn prepared(workers: usize, objects: usize) -> Box<WorkQueues> {
    let (queues, tracker) = (Box::new(WorkQueues::new()), tracker());
    queues.prepare(workers, objects, &mut |work: OnePage<'_>| {
        tracker.without_interrupts(|meta| work(meta));
    });
    // Its memory is never given back.
    Box::leak(tracker);
    queues
}

/// An entry that can be told from others.
fn entry(number: usize) -> Entry {
    Entry::of_words(0x1000 + 8 * number, 1)
}

/// How many entries find room.
fn fill(queue: &mut Queue<'_>) -> usize {
    (0..)
        .take_while(|&number| queue.push(entry(number)))
        .count()
}

#[test]
fn an_entry_of_a_plain_object_says_where_it_lies() {
    for start in [
        0x1000,
        0x7fff_ffff_e008,
        0xffff_8000_0000_0010,
        0xffff_ffff_ffff_e000,
    ] {
        for words in [0, 1, 2, 31, 32, 33, 4096, MAX_COMMON_WORDS] {
            let entry = Entry::of_words(start, words);
            let len = words as usize * 8;
            assert_eq!(entry.start(), start, "{words} words");
            assert_eq!(entry.plain(), Some((start, len)));
            assert_eq!(entry.plain_len(), Some(len));
            assert_eq!(entry.extent_to_prefetch(256), (start, start + len.min(256)));
            assert_ne!(entry, Entry::NONE);
        }
    }
}

#[test]
fn an_entry_of_a_recorded_object_says_what_can_be_read_at_once() {
    let tracker = tracker();
    let made = |start: usize, size: usize, min_count: i32| {
        let options = AllocOptions::new().min_count(min_count);
        tracker.alloc(start, size, options);
        let entry =
            |object: crate::objects::object::Object<'_>| Entry::new(object.start, object.record);
        let entry = tracker.registry().starting_at(Locked, start, entry);
        tracker.free(start);
        entry.expect("it was recorded")
    };
    let base = 0xffff_8880_0000_0000;
    let long = LONG as usize * 8;
    for (size, plain) in [
        (1, 0),
        (8, 8),
        (15, 8),
        (16, 16),
        (4096, 4096),
        (long - 1, long - 8),
    ] {
        let entry = made(base, size, 1);
        assert_eq!(entry.start(), base);
        assert_eq!(entry.plain(), Some((base, plain)), "{size} bytes");
    }
    for size in [long, long + 1, u32::MAX as usize, 1 << 40] {
        let entry = made(base, size, 1);
        assert_eq!((entry.start(), entry.plain()), (base, None), "{size} bytes");
    }
    for low in 0..8 {
        for min_count in [0, 2] {
            let entry = made(base + low, 64, min_count);
            assert_eq!((entry.start(), entry.plain()), (base + low, None));
        }
        let entry = made(base + low, 64, 1);
        assert_eq!(entry.start(), base + low);
        assert_eq!(entry.plain().is_some(), low == 0);
    }
}

#[test]
fn room_grows_with_the_objects_up_to_a_fourth_of_them() {
    for (workers, objects, room) in [
        (1, 0, 512),
        (1, 1024, 512),
        (1, 1026, 1024),
        (1, 8192, 4096),
        (1, 16_384, 4096),
        (1, 16_388, 4608),
        (1, 100_000, 25_088),
        (2, 0, 512),
        (2, 8192, 2048),
        (4, 100_000, 6656),
        // The ring's page names so many.
        (1, usize::MAX / 2, PAGE_WORDS * PAGE_WORDS),
    ] {
        let queues = prepared(workers, objects);
        for worker in 0..workers {
            let mut queue = queues.queue(worker);
            let what = std::format!("{objects} objects, worker {worker} of {workers}");
            assert_eq!(queue.room, room, "{what}");
            assert_eq!(fill(&mut queue), room, "{what}");
            assert_eq!(queue.len(), room, "{what}");
            assert!(!queue.push(entry(0)), "{what}");
        }
        let mut other = queues.queue(workers);
        assert_eq!(fill(&mut other), FEW);
    }
    // No queue is for more workers than can work.
    assert_eq!(prepared(65, 0).queue(63).room, 512);
}

#[test]
fn without_memory_there_is_room_for_few() {
    let (queues, tracker) = (WorkQueues::new(), tracker());
    tracker.exhaust_metadata(true);
    let mut pages = 0;
    queues.prepare(1, 100_000, &mut |work: OnePage<'_>| {
        pages += 1;
        tracker.without_interrupts(|meta| work(meta));
    });
    assert!(pages <= 2, "{pages} pages were asked for in vain");
    let mut queue = queues.queue(0);
    assert_eq!(fill(&mut queue), FEW);
    for number in 0..FEW {
        assert_eq!(queue.pop(), Some(entry(number)));
    }
    assert_eq!(queue.pop(), None);
}

#[test]
fn it_is_given_back_as_a_whole() {
    let queues = prepared(2, 8192);
    queues.empty();
    let mut queue = queues.queue(0);
    assert_eq!(fill(&mut queue), FEW);
    assert_eq!(super::page(&queues.0[0].steal_buffer), None);
    assert_eq!(super::page(&queues.0[0].ring), None);
}

/// Takes out of both, and compares.
fn take<const N: usize>(queue: &mut Queue<'_>, list: &mut VecDeque<Entry>, taken: &mut usize) {
    let mut some = [Entry::NONE; N];
    let (len, segment) = queue.pop_some(&mut some);
    assert!(len <= N && (len > 0 || list.is_empty()));
    for entry in &some[..len] {
        assert_eq!(Some(*entry), list.pop_front());
    }
    let before = *taken / queue.segment_len();
    *taken += len;
    let ended = *taken / queue.segment_len() > before;
    assert_eq!(segment == Segment::Ended, ended, "{taken} were taken");
}

#[test]
fn first_in_is_first_out_in_rings_of_any_length() {
    for objects in [0, 1026, 3000, 8192] {
        let queues = prepared(1, objects);
        let mut queue = queues.queue(0);
        let (mut list, mut number, mut taken) = (VecDeque::new(), 0, 0);
        let mut random = 0x1234_5678_9abc_def1_u64;
        for round in 0..6000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // In turn it becomes full, and empty.
            let more = random % 16 < if round / 300 % 2 == 0 { 13 } else { 3 };
            for _ in 0..random >> 8 & 31 {
                if more {
                    let pushed = queue.push(entry(number));
                    assert_eq!(pushed, list.len() < queue.room);
                    if pushed {
                        list.push_back(entry(number));
                        number += 1;
                    }
                } else if random >> 20 & 1 == 0 {
                    take::<8>(&mut queue, &mut list, &mut taken);
                } else {
                    take::<1>(&mut queue, &mut list, &mut taken);
                }
                assert_eq!(queue.len(), list.len());
                assert_eq!(queue.is_filling(), list.len() > queue.room / 2);
            }
        }
        assert!(taken > 3 * queue.room, "{taken} of {}", queue.room);
    }
}

#[test]
fn the_oldest_are_offered_where_there_are_plenty() {
    let queues = prepared(3, 8192);
    let mut rich = queues.queue(1);
    (0..2 * BATCH).for_each(|number| assert!(rich.push(entry(number))));
    rich.offer();
    assert!(!queues.any_offered(3), "all of them are its own");
    assert!(rich.push(entry(2 * BATCH)));
    rich.offer();
    assert_eq!(rich.len(), BATCH + 1);
    assert!(queues.any_offered(3) && !queues.any_offered(1));
    // A second offer waits until the first one has been taken.
    (0..2 * BATCH).for_each(|number| assert!(rich.push(entry(1000 + number))));
    rich.offer();
    assert_eq!(rich.len(), 3 * BATCH + 1);

    let mut thief = queues.queue(2);
    assert!(
        !queues.steal(1, &mut thief),
        "only the first worker's was looked at"
    );
    assert!(queues.steal(3, &mut thief));
    let mut stolen: Vec<_> = core::iter::from_fn(|| thief.pop()).collect();
    stolen.reverse();
    let oldest: Vec<_> = (0..BATCH).map(entry).collect();
    assert_eq!(stolen, oldest);
    assert!(!queues.any_offered(3));
    assert!(!queues.steal(3, &mut thief));
    rich.offer();
    assert_eq!(rich.len(), 2 * BATCH + 1);
    assert!(queues.steal(3, &mut thief));
    assert_eq!(thief.pop(), Some(entry(2 * BATCH - 1)));
}

#[test]
fn a_thief_takes_what_it_has_room_for() {
    let queues = prepared(2, 0);
    let mut rich = queues.queue(0);
    (0..4 * BATCH).for_each(|number| assert!(rich.push(entry(number))));
    rich.offer();
    // It has no memory.
    let mut poor = queues.queue(5);
    assert!(queues.steal(2, &mut poor));
    assert_eq!(poor.len(), FEW);
    assert!(!queues.steal(2, &mut poor), "it is full");
    assert!(queues.any_offered(2));
    let mut thief = queues.queue(1);
    assert!(queues.steal(2, &mut thief));
    assert_eq!(thief.len(), BATCH - FEW);
    assert!(!queues.any_offered(2));
    // A queue begins without what was offered before.
    rich.offer();
    assert!(queues.any_offered(2));
    queues.queue(0);
    assert!(!queues.any_offered(2));
}

/// So long other code waits, for each page is cleared with interrupts off.
#[test]
fn each_page_of_a_queue_is_asked_for_by_itself() {
    for (workers, objects) in [(1, 0), (1, 1026), (2, 8192)] {
        let (queues, tracker) = (WorkQueues::new(), tracker());
        queues.prepare(workers, objects, &mut |work: OnePage<'_>| {
            tracker.refuse_metadata(u64::MAX..u64::MAX);
            tracker.without_interrupts(|meta| work(meta));
            assert!(tracker.metadata_requests() <= 1, "{workers} {objects}");
        });
        assert!(queues.queue(0).room >= PAGE_WORDS);
        Box::leak(tracker);
    }
}
