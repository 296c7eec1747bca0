//! All short histories over three chunks of the page map, held against the model. Random histories seldom put one block where
//! another has just been, and then ask; here, all that few operations can do to each other is done.
//!
//! The operations ([`OPERATIONS`]) are on three neighbouring chunks of 512 bytes. Blocks begin a chunk, end one, are one, reach from
//! one into the next, cover one and reach into both others, or begin at no multiple of 8. Some overlap others, so that an allocation also
//! evicts. Blocks are freed, cut in front, in the middle and behind; a root and a word of two blocks point to
//! starts and into the middle; checks, scans and `clear` come anywhere. A check ends each history.
//!
//! Only histories of the full length are replayed, for replaying one compares after each operation: the shorter ones are their
//! beginnings. Of histories that the detector cannot tell from each other one is replayed:
//!
//! - No callback reads a block's words, only passes do. So stores stand directly before a pass, one for each word, by address.
//! - A store of what the word already holds changes nothing at all, so there is none.
//!
//! Two bounds are no symmetries, and leave histories out: at most one operation of a history means nothing (the free of what is no
//! block, a part of what is none, a `clear` of no leaks), and no pass follows a pass of the same kind at once.
//!
//! ```text
//! KMEMLEAK_OPERATIONS=7 cargo test --release -p kmemleak --test model short -- --nocapture  # all of up to seven operations
//! KMEMLEAK_IDLE=0                                                                   # and none that means nothing
//! ```
//!
//! One machine and one detector have many histories, one after the other: what a history leaves is freed, and then nothing may be tracked.

use std::collections::BTreeMap;

use kmemleak_emulated::Stop;

use crate::history::{History, Operation, Value, Where};
use crate::model::Model;

/// Bytes of a chunk: what one entry of the page map is for.
const CHUNK: usize = 512;
/// Two blocks that begin there: one ends its chunk, one reaches into the next.
const LAST: usize = CHUNK - 64;
/// A block begins there that covers the second chunk.
const WIDE: usize = CHUNK - 56;
/// No multiple of 8, four bytes before the third chunk.
const ODD: usize = 2 * CHUNK - 4;

/// All that a history is made of; starts are those of the arena, which begins with a chunk.
const OPERATIONS: [Operation; 22] = [
    Operation::Alloc(0, 64, 1),
    Operation::Alloc(LAST, 64, 1),
    Operation::Alloc(LAST, 128, 1),
    Operation::Alloc(CHUNK, CHUNK, 1),
    Operation::Alloc(WIDE, CHUNK + 128, 2),
    Operation::Alloc(ODD, 44, 1),
    Operation::Free(0),
    Operation::Free(LAST),
    Operation::Free(CHUNK),
    Operation::Free(WIDE),
    Operation::Free(ODD),
    // The end of one chunk's block, the middle of those that reach on.
    Operation::FreePart(LAST + 32, 64),
    // The front of a chunk, and all of the block that is one; from the middle of its block to its end.
    Operation::FreePart(CHUNK, 8),
    Operation::FreePart(CHUNK + 256, 256),
    Operation::Store(Where::Root(0), Value::Arena(LAST)),
    Operation::Store(Where::Root(0), Value::Arena(CHUNK + 264)),
    Operation::Store(Where::Arena(8), Value::Arena(ODD)),
    Operation::Store(Where::Arena(CHUNK), Value::Arena(0)),
    Operation::Store(Where::Arena(CHUNK), Value::Arena(WIDE)),
    Operation::Check,
    Operation::Scan,
    Operation::Clear,
];

/// A history as far as it is written, and what there is then.
#[derive(Clone, Default)]
struct Begun {
    operations: Vec<Operation>,
    model: Model,
    /// What was stored: the words of the arena by offset, the root's under [`ROOT`].
    words: BTreeMap<usize, usize>,
    /// Operations that may still mean nothing.
    idle: usize,
}

/// Before all offsets, as roots come first.
const ROOT: usize = 0;

/// The word of a store, and what it holds then.
fn stored(operation: &Operation) -> Option<(usize, usize)> {
    match *operation {
        Operation::Store(Where::Root(_), Value::Arena(value)) => Some((ROOT, value)),
        Operation::Store(Where::Arena(at), Value::Arena(value)) => Some((at, value)),
        _ => None,
    }
}

fn is_pass(operation: &Operation) -> bool {
    matches!(operation, Operation::Check | Operation::Scan)
}

impl Begun {
    /// With one more operation; `None` where that would be no history of its own, or beyond the bounds.
    fn then(&self, operation: Operation) -> Option<Self> {
        let last = self.operations.last();
        let mut then = self.clone();
        then.operations.push(operation);
        if let Some((at, value)) = stored(&operation) {
            let ascends = last.and_then(stored).is_none_or(|(last, _)| last < at);
            let changes = then.words.insert(at, value) != Some(value);
            return (ascends && changes).then_some(then);
        }
        if is_pass(&operation) {
            let again = last.is_some_and(|last| {
                std::mem::discriminant(last) == std::mem::discriminant(&operation)
            });
            then.pass();
            return (!again).then_some(then);
        }
        if last.and_then(stored).is_some() {
            return None;
        }
        then.call(operation);
        if then.model == self.model {
            then.idle = then.idle.checked_sub(1)?;
        }
        Some(then)
    }

    /// A check or a scan, which agree here: no block is young, and no word changes in between.
    fn pass(&mut self) {
        for (&at, &value) in &self.words {
            match at {
                ROOT => self.model.store_root(0, value),
                _ => self.model.store(at, value),
            }
        }
        self.model.check();
    }

    fn call(&mut self, operation: Operation) {
        let now = self.operations.len() as u64;
        match operation {
            Operation::Alloc(start, size, min) => self.model.alloc(start, size, min, now),
            Operation::Free(start) => self.model.free(start),
            Operation::FreePart(start, len) => self.model.free_part(start, len),
            Operation::Clear => self.model.clear(),
            _ => unreachable!("{operation:?} is none of the operations"),
        }
    }
}

/// Visits all histories of so many operations and a check, of which so many mean nothing at most.
pub fn each_history(operations: usize, idle: usize, visit: &mut impl FnMut(&History)) {
    let begun = Begun {
        idle,
        ..Begun::default()
    };
    each_that_begins(&begun, operations, visit);
}

fn each_that_begins(begun: &Begun, more: usize, visit: &mut impl FnMut(&History)) {
    if more == 0 {
        let check = [Operation::Check];
        return visit(&History {
            cpus: 1,
            stop: Stop::Works,
            operations: [begun.operations.as_slice(), &check].concat(),
        });
    }
    for operation in OPERATIONS {
        if let Some(longer) = begun.then(operation) {
            each_that_begins(&longer, more - 1, visit);
        }
    }
}
