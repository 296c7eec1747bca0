//! For unit tests: a pass on a machine that notes what the pass asks of it.

extern crate std;

use core::ops::{ControlFlow, Range};
use core::ptr::NonNull;
use std::boxed::Box;
use std::sync::{Mutex, MutexGuard};
use std::vec::Vec;

use crate::atomic::AtomicBool;
use crate::marker::queue::WorkQueues;
use crate::marker::{Marker, SharedPass, Stacks, Tools};
use crate::metadata::WORD;
use crate::objects::access::{Access, Stopped};
use crate::platform::bare::leaked_page;
use crate::platform::{IrqState, Platform, Progress, Root, RootCursor, RootKind};
use crate::tracker::Tracker;

/// What a machine has noted.
#[derive(Default)]
pub(in crate::marker) struct Noted {
    /// How far the pass was at each checkpoint.
    pub(in crate::marker) progress: Vec<Progress>,
    /// How often other code was let run.
    pub(in crate::marker) relaxed: usize,
    /// The bytes that it was asked to vouch for in each window, and in which places.
    pub(in crate::marker) windows: Vec<usize>,
    pub(in crate::marker) asked: Vec<Range<usize>>,
    interrupts_off: u64,
}

/// A machine with one root.
pub(in crate::marker) struct Noting {
    root: Range<usize>,
    unreadable: Mutex<Vec<Range<usize>>>,
    noted: Mutex<Noted>,
}

impl Noting {
    pub(in crate::marker) fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().expect("nobody panics under it")
    }
}

// SAFETY: the root is memory that is never given back, and so are the metadata pages; there are no interrupts.
unsafe impl Platform for Noting {
    fn now_us(&self) -> u64 {
        1
    }

    fn irq_save(&self) -> IrqState {
        let mut noted = self.noted();
        if noted.interrupts_off == 0 {
            noted.windows.push(0);
        }
        noted.interrupts_off += 1;
        IrqState(noted.interrupts_off as usize - 1)
    }

    fn irq_restore(&self, state: IrqState) {
        self.noted().interrupts_off = state.0 as u64;
    }

    fn next_root(&self, cursor: &mut RootCursor) -> Option<Root> {
        cursor.index += 1;
        (cursor.index == 1).then(|| Root {
            kind: RootKind::Section,
            start: self.root.start,
            len: self.root.len(),
        })
    }

    fn metadata_alloc(&self) -> Option<NonNull<u8>> {
        Some(leaked_page())
    }

    fn readable(&self, start: usize, len: usize) -> bool {
        let mut noted = self.noted();
        if noted.interrupts_off > 0
            && let Some(window) = noted.windows.last_mut()
        {
            *window += len;
        }
        let range = start..start + len;
        noted.asked.push(range.clone());
        let unreadable = self.unreadable.lock().expect("nobody panics under it");
        (unreadable.iter()).all(|other| other.end <= range.start || range.end <= other.start)
    }

    fn relax(&self) -> ControlFlow<()> {
        self.noted().relaxed += 1;
        ControlFlow::Continue(())
    }

    fn checkpoint(&self, progress: Progress) -> ControlFlow<()> {
        self.noted().progress.push(progress);
        ControlFlow::Continue(())
    }
}

/// Words of memory, which is never given back; where they begin, at a multiple of a page.
pub(in crate::marker) fn memory(words: usize) -> (&'static mut [usize], usize) {
    const PAGE: usize = 4096 / WORD;
    let memory = Vec::leak(std::vec![0; words + PAGE]);
    let start = memory.as_mut_ptr().expose_provenance();
    let skipped = (start.next_multiple_of(PAGE * WORD) - start) / WORD;
    (
        &mut memory[skipped..skipped + words],
        start + skipped * WORD,
    )
}

/// A tracker on such a machine, and what a marker needs besides.
pub(in crate::marker) struct Bench {
    pub(in crate::marker) tracker: Box<Tracker<Noting>>,
    queues: Box<WorkQueues>,
}

impl Bench {
    pub(in crate::marker) fn new() -> Self {
        Self::with_root(0..0)
    }

    pub(in crate::marker) fn with_root(root: Range<usize>) -> Self {
        let noting = Noting {
            root,
            unreadable: Mutex::default(),
            noted: Mutex::default(),
        };
        Self {
            tracker: Box::new(Tracker::new(noting)),
            queues: Box::new(WorkQueues::new()),
        }
    }

    /// Nothing vouches for these bytes.
    pub(in crate::marker) fn make_unreadable(&self, range: Range<usize>) {
        let unreadable = &self.tracker.platform().unreadable;
        unreadable
            .lock()
            .expect("nobody panics under it")
            .push(range);
    }

    /// Runs `work` with a marker, and returns what the machine has noted meanwhile.
    pub(in crate::marker) fn mark<A: Access>(
        &self,
        access: A,
        objects: usize,
        work: impl FnOnce(&mut Marker<'_, Noting, A>),
    ) -> Noted {
        let tracker = &*self.tracker;
        self.queues.prepare(1, objects, &mut |take| {
            tracker.without_interrupts(|meta| take(meta));
        });
        let [itself, pool] = tracker.own();
        let (stopping, unfinished) = (AtomicBool::new(false), AtomicBool::new(false));
        let tools = Tools {
            platform: tracker.platform(),
            strangers: tracker.strangers(),
            registry: tracker.registry(),
            root_ranges: tracker.root_ranges(),
            queues: &self.queues,
            hazard: tracker.hazard(),
            moves: tracker.moves(),
            frozen: tracker.frozen(),
            stopping: &stopping,
            unfinished: &unfinished,
            own: [itself, 0..0, pool],
            own_stack: None,
            tasks: None,
            meta: tracker.meta_for_marker(0),
        };
        let shared = SharedPass::new(1, Stacks::Scan, 2);
        *tracker.platform().noted() = Noted::default();
        work(&mut Marker::new(&tools, &shared, 0, access));
        core::mem::take(&mut *tracker.platform().noted())
    }

    /// What the machine notes of a pass over so many objects, while other code runs or not.
    pub(in crate::marker) fn pass<A: Access>(&self, access: A, objects: usize) -> Noted {
        self.mark(access, objects, |marker| {
            marker.run().expect("nobody asks it to stop");
        })
    }
}

/// A stopped world, as long as one thread does all.
pub(in crate::marker) fn stopped() -> Stopped {
    // SAFETY: nothing else runs.
    unsafe { Stopped::assume() }
}
