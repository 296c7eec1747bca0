//! What the machine's memory held when it was frozen: a copy of all of it, made in the stop.

use std::fmt;
use std::sync::Mutex;

use kmemleak::{ImageLost, StopError, StoppedCpu};

use crate::cpus::Cpus;
use crate::memory::{self, Memory, WORD};

/// Whether a machine can freeze its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freeze {
    /// It has no way to do it.
    Unsupported,
    /// It can.
    Works,
    /// It can, and then has lost what memory held after this number of reads.
    Loses(usize),
}

/// Shows all memory of a machine.
pub(crate) type EachMemory<'m> = dyn Fn(&mut dyn FnMut(&Memory)) + Sync + 'm;

/// The copy of a piece of memory: its address, and its words.
type Copied = (usize, Vec<usize>);

struct State {
    freeze: Freeze,
    copies: Option<Vec<Copied>>,
    /// How many reads are still answered.
    left: usize,
}

/// What memory held, as long as it is frozen.
pub struct Image(Mutex<State>);

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").finish_non_exhaustive()
    }
}

impl Image {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(State {
            freeze: Freeze::Unsupported,
            copies: None,
            left: usize::MAX,
        }))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics under it")
    }
}

/// The words of some memory now.
fn copy_of(memory: &Memory) -> Copied {
    let start = memory.start();
    let words = (start..memory.end()).step_by(WORD);
    // SAFETY: words of live memory.
    (start, words.map(|at| unsafe { memory::read(at) }).collect())
}

impl Image {
    /// Says whether memory can be frozen; at first it can't.
    pub fn set_freeze(&self, freeze: Freeze) {
        self.state().freeze = freeze;
    }

    /// Whether memory is frozen now.
    pub fn is_frozen(&self) -> bool {
        self.state().copies.is_some()
    }

    /// Stops these CPUs, copies what `each_memory` shows, and runs `at_stop`.
    pub(crate) fn freeze(
        &self,
        cpus: &Cpus,
        each_memory: &EachMemory<'_>,
        at_stop: &(dyn Fn(StoppedCpu) + Sync),
    ) -> Result<u64, StopError> {
        let left = match self.state().freeze {
            Freeze::Unsupported => return Err(StopError::Unsupported),
            Freeze::Works => usize::MAX,
            Freeze::Loses(left) => left,
        };
        cpus.stop_world(&|cpu| {
            if cpu.initiator {
                let mut copies = Vec::new();
                each_memory(&mut |memory| copies.push(copy_of(memory)));
                let mut state = self.state();
                assert!(state.copies.is_none(), "freezing what is frozen");
                (state.copies, state.left) = (Some(copies), left);
            }
            at_stop(cpu);
        })?;
        Ok(0)
    }

    pub(crate) fn thaw(&self) {
        let copies = self.state().copies.take();
        assert!(copies.is_some(), "thawing what is not frozen");
    }

    /// Panics if memory is not frozen, or the words are not the machine's.
    pub(crate) fn read_frozen(&self, address: usize, words: &mut [usize]) -> Result<(), ImageLost> {
        let mut state = self.state();
        state.left = state.left.checked_sub(1).ok_or(ImageLost)?;
        let copies = state.copies.as_ref().expect("reading what is not frozen");
        let held = copies.iter().find_map(|(start, held)| {
            let first = address.checked_sub(*start)? / WORD;
            held.get(first..first + words.len())
        });
        match held {
            Some(held) => words.copy_from_slice(held),
            // What the host has given to the machine since: no block was there.
            None => words.fill(0),
        }
        Ok(())
    }
}
