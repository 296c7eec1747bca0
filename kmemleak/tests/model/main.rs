//! Random histories, held against a model that is too simple to be wrong.
//!
//! A history is a list of operations on one machine: blocks of any start, size and alignment come and go in an
//! arena, whole or in part, per-CPU blocks beside it; words are stored in them and in roots, some of which lie in the
//! arena; colours and scan areas are set, checks and scans are made. After each
//! operation the detector must count what the model counts; after each check it must name what the model names, in
//! the same order.
//!
//! Each history comes from a number. One that fails is shortened as long as it still fails, then shown:
//!
//! ```text
//! KMEMLEAK_SEED=1234 cargo test -p kmemleak --test model         # that one again
//! KMEMLEAK_HISTORIES=100000 cargo test -p kmemleak --test model  # more of them
//! KMEMLEAK_FIRST=100000 cargo test -p kmemleak --test model      # others
//! ```

mod history;
mod model;
mod random;
mod replay;
mod small;

use std::env;
use std::panic::{self, AssertUnwindSafe};

use crate::history::{History, Operation};
use crate::random::Random;

/// Histories, unless the environment says how many. Fewer without optimisation, few under Miri: they take their time.
const HISTORIES: u64 = if cfg!(miri) {
    2
} else if cfg!(debug_assertions) {
    60
} else {
    1000
};

fn from_environment(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

#[test]
fn detector_and_model_agree() {
    if let Some(seed) = from_environment("KMEMLEAK_SEED") {
        return examine(seed);
    }
    let histories = from_environment("KMEMLEAK_HISTORIES").unwrap_or(HISTORIES);
    let first = from_environment("KMEMLEAK_FIRST").unwrap_or(0);
    (first..first + histories).for_each(examine);
}

/// Replays the history of a seed; if that fails, shows the shortest one that was found to fail.
fn examine(seed: u64) {
    let history = History::random(Random::new(seed));
    if failure(&history).is_none() {
        return;
    }
    let shortest = shorten(history);
    let why = failure(&shortest).expect("it fails still");
    panic!("KMEMLEAK_SEED={seed}: {why}\n{shortest:#x?}");
}

/// Whichever page of memory is refused, and all after it for a while: nothing is called a leak that is none.
#[test]
fn without_memory_no_leak_is_called_that_is_none() {
    let mut refused = 0;
    for seed in 0..HISTORIES / 8 {
        let history = History::random(Random::new(seed));
        for pages in 0.. {
            match replay::replay_with_pages(&history, pages) {
                Ok(0) => break,
                Ok(more) => refused += more,
                Err(why) => panic!("KMEMLEAK_SEED={seed}, {pages} pages: {why}\n{history:#x?}"),
            }
        }
    }
    assert!(refused > 0 || HISTORIES < 8);
}

/// Why a history fails, if it does.
fn failure(history: &History) -> Option<String> {
    failure_of(|| replay::replay(history))
}

fn failure_of(replay: impl FnOnce() -> Result<(), String>) -> Option<String> {
    match panic::catch_unwind(AssertUnwindSafe(replay)) {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(why),
        Err(panic) => Some(match panic.downcast_ref::<String>() {
            Some(text) => format!("panic: {text}"),
            None => "panic".into(),
        }),
    }
}

/// Leaves out what is not needed for the failure: half of the operations at a time, then a quarter, …
fn shorten(mut history: History) -> History {
    let mut len = history.operations.len().div_ceil(2);
    loop {
        let mut at = 0;
        while at < history.operations.len() {
            let end = (at + len).min(history.operations.len());
            let rest = [&history.operations[..at], &history.operations[end..]].concat();
            let shorter = History {
                operations: rest,
                ..history.clone()
            };
            if failure(&shorter).is_some() {
                history = shorter;
            } else {
                at = end;
            }
        }
        if len == 1 {
            return history;
        }
        len = len.div_ceil(2);
    }
}

/// Of the requests for memory in a history, each is refused in turn; where nothing is optimised, each fifth.
const STEP: u64 = if cfg!(debug_assertions) { 5 } else { 1 };

/// Each request for memory refused in turn, by itself and with all that follow: the detector says what the model
/// says, or that something is missing.
#[test]
fn no_refused_request_is_passed_over() {
    let histories = from_environment("KMEMLEAK_HISTORIES").unwrap_or(HISTORIES) / 100;
    let first = from_environment("KMEMLEAK_FIRST").unwrap_or(0);
    for seed in first..first + histories.max(1) {
        let history = History::random(Random::new(seed));
        let mut number = 0;
        loop {
            let mut requests = 0;
            for refused in [number..number + 1, number..u64::MAX] {
                requests = match replay::replay_without(&history, refused.clone()) {
                    Ok(requests) => requests,
                    Err(why) => panic!("seed {seed}, requests {refused:?} refused: {why}"),
                };
            }
            number += STEP;
            if number >= requests {
                break;
            }
        }
    }
}

/// The model's own test: the smallest history that has everything.
#[test]
fn a_history_by_hand() {
    use history::{Value, Where};
    let history = History {
        cpus: 2,
        stop: kmemleak_emulated::Stop::Works,
        operations: vec![
            Operation::Alloc(0x1001, 63, 1),
            Operation::Alloc(0x2000, 64, 2),
            Operation::Store(Where::Root(0), Value::Arena(0x1010)),
            Operation::Store(Where::Arena(0x1008), Value::Arena(0x203f)),
            Operation::Check,
            Operation::Store(Where::Arena(0x1010), Value::Arena(0x2000)),
            Operation::Check,
            Operation::Free(0x1001),
            Operation::Free(0x1001),
            Operation::Check,
        ],
    };
    assert_eq!(replay::replay(&history), Ok(()));
    assert_eq!(replay::last_leaks(&history), [(0x2000, 64)]);
}

/// Operations of the short histories, unless the environment says how many. Few under Miri, where each takes its time.
const OPERATIONS: u64 = if cfg!(miri) { 1 } else { 4 };

/// Histories that one machine has, after each other.
const ON_ONE_MACHINE: u64 = 10_000;

/// All histories of so many operations and fewer: see [`small`].
#[test]
fn all_short_histories_agree() {
    let operations = from_environment("KMEMLEAK_OPERATIONS").unwrap_or(OPERATIONS);
    let idle = from_environment("KMEMLEAK_IDLE").unwrap_or(1);
    let (mut ground, mut histories) = (replay::Ground::new(1), 0);
    small::each_history(operations as usize, idle as usize, &mut |history| {
        if let Some(why) = failure_of(|| ground.replay(history)) {
            let afresh = failure(history).unwrap_or("nothing, with a machine of its own".into());
            panic!("{why}; afresh: {afresh}\n{history:#x?}");
        }
        histories += 1;
        if histories % ON_ONE_MACHINE == 0 {
            ground = replay::Ground::new(1);
        }
    });
    println!("{histories} histories of {operations} operations");
    assert!(histories > 0);
}
