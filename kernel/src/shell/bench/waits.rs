//! What a wait costs: two tasks take turns, and each sleeps in a queue until the other has had its turn.
//!
//! A turn is one wait, one wake-up and one switch to the other task, which on one CPU is all that happens.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicUsize, Ordering};

use super::in_own_task;
use crate::dev::time;
use crate::task::{self, Priority, SpawnError, WaitQueue};

/// Turns of each task.
const TURNS: usize = 10_000;

/// Whose turn it is.
static TURN: AtomicUsize = AtomicUsize::new(0);
static QUEUES: [WaitQueue; 2] = [const { WaitQueue::new() }; 2];

/// Writes a line with the time of a turn.
pub(super) fn run(out: &mut dyn Write) -> fmt::Result {
    match in_own_task(time_turns) {
        Ok(Ok(tsc)) => {
            let turns = 2 * TURNS as u64;
            let (whole, hundredths) = (tsc / turns, tsc % turns * 100 / turns);
            writeln!(
                out,
                "{{\"bench\":\"waits\",\"waits\":{turns},\"tsc_per_wait\":{whole}.{hundredths:02}}}"
            )
        }
        Ok(Err(SpawnError)) | Err(SpawnError) => writeln!(
            out,
            "{{\"bench\":\"waits\",\"skipped\":\"no memory for another task\"}}"
        ),
    }
}

fn time_turns() -> Result<u64, SpawnError> {
    TURN.store(0, Ordering::Release);
    let other = task::spawn("bench", Priority::Normal, || take_turns(1))?;
    let began = time::tsc();
    take_turns(0);
    let tsc = time::tsc() - began;
    other.join();
    Ok(tsc)
}

fn take_turns(mine: usize) {
    for _ in 0..TURNS {
        QUEUES[mine].wait_for(|| (TURN.load(Ordering::Acquire) == mine).then_some(()));
        TURN.store(1 - mine, Ordering::Release);
        QUEUES[1 - mine].wake_one();
    }
}
