//! A panic of a task that has just taken a lock, at a place in the source that is asked for.
//!
//! Whoever panics may hold any lock, and the end of the machine must be told all the same. To try each, a task is watched: the
//! places at which it takes spinlocks are numbered in the order in which it comes to them first, and at one of them it panics.
//! What interrupt handlers take on top of it does not count.
//!
//! For the test kernel, by the feature `scripted`.

use core::panic::Location;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::running_task;

/// Places that are told apart.
const MOST: usize = 128;

/// The number of the watched task plus one; zero if none is.
static TASK: AtomicUsize = AtomicUsize::new(0);
/// The place at which it panics.
static PLACE: AtomicUsize = AtomicUsize::new(0);
/// The places that it has come to, each by where it lies in the source. The watched task alone writes here.
static SEEN: [AtomicPtr<Location<'static>>; MOST] =
    [const { AtomicPtr::new(ptr::null_mut()) }; MOST];

/// From here on the running task is watched, and panics at this place. One task, once. Task context.
pub fn panic_at(place: usize) {
    PLACE.store(place, Ordering::Relaxed);
    let task = running_task().expect("a task calls");
    TASK.store(task as usize + 1, Ordering::Relaxed);
}

/// The task is watched no more; how many places it has come to.
pub fn places() -> usize {
    TASK.store(0, Ordering::Relaxed);
    let seen = SEEN.iter();
    seen.take_while(|place| !place.load(Ordering::Relaxed).is_null())
        .count()
}

/// A lock was taken there, and is held.
pub(super) fn taken(at: &'static Location<'static>) {
    let watched = TASK.load(Ordering::Relaxed);
    if watched == 0 || running_task().is_none_or(|task| task as usize + 1 != watched) {
        return;
    }
    // One place has one `Location`, but for those in generic code, of which there may be several: so they are compared by value.
    for (number, place) in SEEN.iter().enumerate() {
        // SAFETY: null, or a reference to a constant.
        match unsafe { place.load(Ordering::Relaxed).as_ref() } {
            Some(seen) if seen == at => return,
            Some(_) => {}
            None => {
                place.store(ptr::from_ref(at).cast_mut(), Ordering::Relaxed);
                if number == PLACE.load(Ordering::Relaxed) {
                    TASK.store(0, Ordering::Relaxed);
                    panic!("a lock was taken at {at}, and is held");
                }
                return;
            }
        }
    }
}
