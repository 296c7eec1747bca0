//! A task that plays with the leak detector: it makes up object graphs, and asks what is lost.
//!
//! An ordinary task would disturb such a test. Its heap and its stack are scanned, so an address that it works with keeps a
//! block alive; each of its allocations is an object; it controls neither its call stacks nor the clock. For the *player*,
//! while it `play`s, these rules hold instead:
//!
//! - The allocators are the real ones, but their hooks tell the detector nothing of what the player allocates and frees.
//!   The player itself tells the detector of its objects. So its heap is no object, and is not scanned.
//! - Its stack is no root, nor are its registers, which are saved on the stack whenever it does not run.
//! - Its call stack is one frame, with the label that it has set by `call_from`.
//! - The detector's clock stands until the player moves it.
//! - The detector gets no memory while the player says so.
//!
//! This needs the feature `scripted`. Without it the player's functions do not exist, and [`with_label`] never finds a
//! label.
//!
//! # Invariants
//!
//! - There is one player at a time. What it takes while it plays, it gives back while it plays, or never.
//! - A label's address is never given to another label: the detector warns once of a call stack, and never forgets that it
//!   has.
//!
//! # Locks
//!
//! A mutex, which may sleep, over the labels. Under it only allocators' locks are taken, and those of what a label is written to.

use alloc::string::String;
use alloc::vec::Vec;

use crate::leak::player::LABELS_START;
use crate::task::Mutex;

static LABELS: Mutex<Labels> = Mutex::new(Labels {
    first: 0,
    texts: Vec::new(),
});

/// The labels of the present play; they are numbered from `first` on.
struct Labels {
    first: usize,
    texts: Vec<String>,
}

/// Runs `look` on the label that this return address stands for, if there is one. Task context.
pub fn with_label<R>(address: usize, look: impl FnOnce(&str) -> R) -> Option<R> {
    if address < LABELS_START {
        return None;
    }
    let labels = LABELS.lock();
    let index = (address - LABELS_START).checked_sub(labels.first)?;
    labels.texts.get(index).map(|label| look(label))
}

#[cfg(feature = "scripted")]
pub use self::player::{advance_us, begin, call_from, play, refuse_metadata, spawn_apart};

/// The functions that the player calls.
#[cfg(feature = "scripted")]
mod player {
    use alloc::borrow::ToOwned;
    use core::ops::Range;
    use core::sync::atomic::Ordering;

    use super::LABELS;
    use crate::dev::time;
    use crate::leak::player::{CLOCK_US, LABELS_START, METADATA_REFUSED, NO_TASK, PLAYER, SITE};
    use crate::task::{self, JoinHandle, Priority, SpawnError, Task, scheduler};

    /// Runs `work` with this task as the player. Task context.
    ///
    /// # Panics
    ///
    /// If another task plays.
    pub fn play<R>(work: impl FnOnce() -> R) -> R {
        let task = scheduler::with_current(Task::id).unwrap_or(NO_TASK);
        let set = PLAYER.compare_exchange(NO_TASK, task, Ordering::AcqRel, Ordering::Relaxed);
        assert!(set.is_ok(), "one player at a time");
        let result = work();
        SITE.store(0, Ordering::Relaxed);
        CLOCK_US.store(0, Ordering::Relaxed);
        METADATA_REFUSED.store(false, Ordering::Relaxed);
        PLAYER.store(NO_TASK, Ordering::Release);
        result
    }

    /// Starts a task on a stack that is no object, and so is never freed: the task must never end. Task context.
    ///
    /// # Safety
    ///
    /// All of `stack` is writable and used by no one else, and its end is a multiple of 16.
    pub unsafe fn spawn_apart(
        name: &str,
        stack: Range<usize>,
        entry: impl FnOnce() + Send + 'static,
    ) -> Result<JoinHandle, SpawnError> {
        // SAFETY: the caller's promise.
        unsafe { task::spawn_on(name, Priority::Normal, stack, entry) }
    }

    /// Makes the player's call stack one frame with this name from now on. Called by the player.
    pub fn call_from(label: &str) {
        let mut labels = LABELS.lock();
        let known = labels.texts.iter().rposition(|known| known == label);
        let index = known.unwrap_or_else(|| {
            labels.texts.push(label.to_owned());
            labels.texts.len() - 1
        });
        SITE.store(LABELS_START + labels.first + index, Ordering::Relaxed);
    }

    /// Begins another play. Labels set so far are forgotten; set again, they get other addresses. The detector's clock is set
    /// to the machine's time, and stands. Called by the player, while the detector has no object of the play before: the
    /// clock may go back.
    pub fn begin() {
        let mut labels = LABELS.lock();
        SITE.store(0, Ordering::Relaxed);
        labels.first += labels.texts.len();
        labels.texts.clear();
        CLOCK_US.store(time::now_us().max(1), Ordering::Relaxed);
    }

    /// Moves the detector's clock forward. Called by the player, after [`begin`].
    pub fn advance_us(us: u64) {
        let now_us = CLOCK_US.load(Ordering::Relaxed);
        CLOCK_US.store(now_us.saturating_add(us), Ordering::Relaxed);
    }

    /// Sets whether the detector's requests for memory are refused from now on. Called by the player.
    pub fn refuse_metadata(refused: bool) {
        METADATA_REFUSED.store(refused, Ordering::Relaxed);
    }
}
