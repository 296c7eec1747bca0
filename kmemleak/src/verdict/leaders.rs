//! Leaders: the unreferenced objects with which the rest was lost.
//!
//! When the root of a tree is lost, so are its leaves. A person wants one line, for the root. A *leader* is an unreferenced
//! object to which nothing that is not itself reached from there points: each strongly connected component of the unreferenced
//! objects into which no other component points has one leader, the object of it that was allocated first. All other unreferenced
//! objects are *owned*: each belongs to the leader allocated first of those that reach it.
//!
//! Pointers are those that the marker follows: in words that are scanned, to any byte of an object, no matter how many
//! references it needs.
//!
//! # Leaders in two sweeps
//!
//! No component is ever formed. The objects are numbered in the order of allocation.
//!
//! 1. Upwards, from each object that has not been reached so far, all objects are reached that it leads to. An object that the
//!    sweep starts from is *first*. Each leader is first: only its own component leads to it, and it is the lowest of that.
//! 2. Downwards, from each first object that this sweep has not reached, all objects are reached that it leads to. The objects
//!    that this sweep starts from are the leaders. Suppose a first object is no leader. Then a leader outside its component
//!    reaches it, and has a higher number: from a lower one the first sweep would have reached it. This sweep starts from higher
//!    numbers first, so it has reached the object already. A leader, on the other hand, is reached from its own component alone,
//!    of which only the leader is first: the first sweep reached the others from it.
//! 3. Upwards once more, from each leader: each object that has no owner yet belongs to it. If one of them points to the leader, that
//!    lies in a cycle.
//!
//! Each sweep reads each object once: linear in objects and pointers. The queue, the marks and the owners lie in the
//! verdict's list, so nothing is allocated and nothing recurses. Where the list itself found no room for all objects, there
//! are no leaders.
//!
//! # From a word to a number
//!
//! While this goes on, an object's record holds its number in the place of its checksum, which the list has kept. It
//! is put back at the end.

use crate::marker::objects::WordSet;
use crate::marker::{GivenUp, Marker};
use crate::objects::access::Access;
use crate::objects::object::{Object, alias_owner};
use crate::objects::record::flag;
use crate::objects::registry::Registry;
use crate::platform::Platform;
use crate::verdict::leak_list::{LeakList, NOBODY, fate};

/// Finds the leaders of the leaks in the list, which is sorted, and which leader owns each other leak. The caller has the claim,
/// and nothing else uses the list.
pub(crate) fn find<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    list: &LeakList,
) -> Result<(), GivenUp> {
    each_leak(marker, list, &|object, index| {
        object.record.set_checksum(index as u32);
    });
    let result = sweep(marker, list);
    each_leak(marker, list, &|object, index| {
        if let Some(named) = list.get(index) {
            object.record.set_checksum(named.record.checksum());
        }
    });
    result?;
    let registry = marker.registry();
    for index in leaks(list) {
        if list.leader(index) == NOBODY {
            // Its words have changed meanwhile, which is impossible in a stopped world.
            list.set_fate(index, fate::LEADER);
            list.set_leader(index, index as u32);
        }
        let leader = list.leader(index) as usize;
        if leader != index
            && let Some(named) = list.get(index)
        {
            let short = named.record.short_size();
            let size = marker.without_interrupts(|_| registry.size_from(named.start, short));
            list.add_owned(leader, size);
        }
    }
    Ok(())
}

fn leaks(list: &LeakList) -> impl DoubleEndedIterator<Item = usize> {
    (0..list.len()).filter(|&index| !list.has(index, fate::NO_LEAK))
}

/// Does something with the record of each leak that is still there.
fn each_leak<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    list: &LeakList,
    change: &dyn Fn(Object<'_>, usize),
) {
    let registry = marker.registry();
    for index in leaks(list) {
        let Some(named) = list.get(index) else {
            continue;
        };
        marker.without_interrupts(|marker| {
            registry.starting_at(marker.access(), named.start, |object| {
                let record = object.record.read();
                if record.has(flag::LISTED) && record.birth_us() == named.record.birth_us() {
                    change(object, index);
                }
            })
        });
    }
}

fn sweep<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    list: &LeakList,
) -> Result<(), GivenUp> {
    let reach = |_, index: usize| {
        let new = !list.has(index, fate::REACHED);
        list.set_fate(index, fate::REACHED);
        new
    };
    for index in leaks(list) {
        if reach(index, index) {
            list.set_fate(index, fate::FIRST);
            from(marker, list, index, &reach)?;
        }
    }
    leaks(list).for_each(|index| list.clear_fate(index, fate::REACHED));
    for index in leaks(list).rev() {
        if list.has(index, fate::FIRST) && reach(index, index) {
            list.set_fate(index, fate::LEADER);
            from(marker, list, index, &reach)?;
        }
    }
    for leader in leaks(list).filter(|&index| list.has(index, fate::LEADER)) {
        list.set_leader(leader, leader as u32);
        from(marker, list, leader, &|holder, index| {
            if index == leader && holder != leader {
                list.set_fate(leader, fate::CYCLE);
            }
            let new = list.leader(index) == NOBODY && !list.has(index, fate::LEADER);
            if new {
                list.set_leader(index, leader as u32);
            }
            new
        })?;
    }
    Ok(())
}

/// Goes from one object to all that it leads to and that `take` says is new: it is told of the object that points there, too.
fn from<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    list: &LeakList,
    first: usize,
    take: &dyn Fn(usize, usize) -> bool,
) -> Result<(), GivenUp> {
    let registry = marker.registry();
    let access = marker.access();
    let (mut head, mut tail) = (0, 1);
    list.set_queued(0, first);
    while head < tail {
        let holder = list.queued(head);
        let start = list.start(holder);
        head += 1;
        let listed = |object: Object<'_>| object.record.has(flag::LISTED);
        if !A::STOPPED
            && marker
                .without_interrupts(|marker| registry.starting_at(marker.access(), start, listed))
                != Some(true)
        {
            // It was freed, and there may be another one now.
            continue;
        }
        marker.each_word(start, WordSet::Scanned, &mut |_, _, word| {
            if let Some(index) = number_of(access, registry, list, word)
                && take(holder, index)
            {
                list.set_queued(tail, index);
                tail += 1;
            }
        })?;
    }
    Ok(())
}

/// The number of the leak that a word points to.
fn number_of<A: Access>(
    access: A,
    registry: &Registry,
    list: &LeakList,
    word: usize,
) -> Option<usize> {
    let seen = |object: Object<'_>| (object.start, object.record.read());
    let (mut start, mut record) = registry.containing(access, word, seen)?;
    if record.has(flag::ALIAS) {
        (start, record) = registry.starting_at(access, alias_owner(&record), seen)?;
    }
    let index = record.checksum() as usize;
    let known = record.has(flag::LISTED) && list.start(index) == start;
    (known && !list.has(index, fate::NO_LEAK)).then_some(index)
}
