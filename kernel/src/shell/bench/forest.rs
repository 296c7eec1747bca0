//! The forest of a benchmark's check: how it is planted, and felled.

use alloc::alloc::{Layout, alloc, dealloc};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::foreground;

/// Number of trees in the forest.
const TREES: usize = 64;
/// One object in this many is lost.
const LOST_SHARE: usize = 1000;
/// Sizes of objects, each after the percentage of objects that are at most as large. The mean is 282.
const SIZES: [(usize, usize); 6] = [
    (18, 32),
    (34, 64),
    (54, 128),
    (72, 256),
    (90, 512),
    (100, 1024),
];

/// Words of an object: its two children, or zeros; its size. The other words are not pointers.
const CHILDREN: usize = 0;
const OBJECT_SIZE: usize = 2;
const FILLER: usize = 3;

/// The trees' roots.
static FOREST: [AtomicUsize; TREES] = [const { AtomicUsize::new(0) }; TREES];
/// The address of the last lost object, inverted. The first word of each holds that of the one made before, inverted.
static LOST: AtomicUsize = AtomicUsize::new(!0);

/// Why the forest is not complete.
pub(super) enum Unplanted {
    /// There was no memory for an object.
    RanOut,
    /// Ctrl-C was typed.
    Ended,
}

/// How many objects are planted between two looks at what is typed.
const PLANTED_AT_ONCE: usize = 1024;

/// Builds the forest, and returns how many bytes it has.
pub(super) fn plant(objects: usize) -> Result<usize, Unplanted> {
    let mut random = Random(0);
    let mut bytes = 0;
    let reachable = objects - objects / LOST_SHARE;
    for number in 0..objects {
        if number % PLANTED_AT_ONCE == 0
            && let percent = 100 * number / objects
            && foreground::go_on_from(&format_args!("planting: {percent} % of {objects} objects"))
                .is_break()
        {
            return Err(Unplanted::Ended);
        }
        let object = new_object(&mut random)?;
        // SAFETY: a word of an object of ours.
        bytes += unsafe { load(object, OBJECT_SIZE) };
        if number < reachable {
            hang(object, number, &mut random);
        } else {
            // SAFETY: a word of an object of ours.
            unsafe { store(object, 0, LOST.swap(!object, Ordering::Relaxed)) };
        }
    }
    Ok(bytes)
}

fn new_object(random: &mut Random) -> Result<usize, Unplanted> {
    let drawn = random.below(100);
    let size = SIZES.iter().find(|(bound, _)| drawn < *bound);
    let size = size.map_or(SIZES[0].1, |&(_, size)| size);
    // SAFETY: the size is not zero.
    let block = NonNull::new(unsafe { alloc(layout(size)) }).ok_or(Unplanted::RanOut)?;
    let object = block.as_ptr().expose_provenance();
    let filler = (FILLER..size / 8).map(|word| (word, random.next() as usize >> 2 | 1 << 62));
    let named = [(CHILDREN, 0), (CHILDREN + 1, 0), (OBJECT_SIZE, size)];
    for (word, value) in named.into_iter().chain(filler) {
        // SAFETY: a word of the new object.
        unsafe { store(object, word, value) };
    }
    Ok(object)
}

/// Links an object at the end of a random path down a tree. The first [`TREES`] objects are the roots of the trees.
fn hang(object: usize, number: usize, random: &mut Random) {
    if number < TREES {
        FOREST[number].store(object, Ordering::Relaxed);
        return;
    }
    let mut parent = FOREST[random.below(TREES)].load(Ordering::Relaxed);
    loop {
        let place = CHILDREN + random.below(2);
        // SAFETY: a word of an object of ours.
        match unsafe { load(parent, place) } {
            // SAFETY: as above.
            0 => return unsafe { store(parent, place, object) },
            child => parent = child,
        }
    }
}

/// Frees the forest and the lost objects.
pub(super) fn fell() {
    for tree in &FOREST {
        // The objects still to be freed, linked by a word that has no other use any more.
        let mut rest = tree.swap(0, Ordering::Relaxed);
        let push = |rest: &mut usize, object: usize| {
            if object != 0 {
                // SAFETY: a word of an object of ours.
                unsafe { store(object, FILLER, core::mem::replace(rest, object)) };
            }
        };
        if rest != 0 {
            // SAFETY: a word of an object of ours.
            unsafe { store(rest, FILLER, 0) };
        }
        while rest != 0 {
            let object = core::mem::replace(&mut rest, 0);
            let words = [FILLER, CHILDREN, CHILDREN + 1];
            // SAFETY: words of an object of ours.
            let [next, children @ ..] = words.map(|word| unsafe { load(object, word) });
            rest = next;
            children
                .into_iter()
                .for_each(|child| push(&mut rest, child));
            // SAFETY: nothing leads to it any more.
            unsafe { free(object) };
        }
    }
    let mut lost = !LOST.swap(!0, Ordering::Relaxed);
    while lost != 0 {
        let object = lost;
        // SAFETY: a word of an object of ours.
        lost = !unsafe { load(object, 0) };
        // SAFETY: nothing leads to it any more.
        unsafe { free(object) };
    }
}

/// Frees an object.
///
/// # Safety
///
/// [`new_object`] has made it, and it is in no tree any more.
unsafe fn free(object: usize) {
    // SAFETY: a word of the object.
    let layout = layout(unsafe { load(object, OBJECT_SIZE) });
    let block = ptr::with_exposed_provenance_mut(object);
    // SAFETY: made by `new_object`, with this layout.
    unsafe { dealloc(block, layout) };
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, align_of::<usize>()).expect("one of a few sizes")
}

/// Reads a word of an object.
///
/// # Safety
///
/// The object is live and has that word, which was written to before.
unsafe fn load(object: usize, word: usize) -> usize {
    let place = ptr::with_exposed_provenance::<usize>(object).wrapping_add(word);
    // SAFETY: the caller's promise.
    unsafe { place.read() }
}

/// Writes a word of an object.
///
/// # Safety
///
/// The object is live and has that word; one task at a time builds or frees.
unsafe fn store(object: usize, word: usize, value: usize) {
    let place = ptr::with_exposed_provenance_mut::<usize>(object).wrapping_add(word);
    // SAFETY: the caller's promise.
    unsafe { place.write(value) };
}

/// splitmix64: the same numbers in every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.0;
        let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}
