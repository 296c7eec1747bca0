//! Snapshots: all objects of a moment, all words that the marker follows, and all ways in from roots. A host draws the heap as a
//! graph from them, and computes what each object keeps alive.
//!
//! All CPUs mark what is alive, in a stopped world; then one of them collects the rows. If the world can't be stopped, one task
//! does both while other code runs, and the snapshot says so. It is written when the world goes on, and functions, tasks and
//! roots get their names only then.
//!
//! The rows lie in pages that are given back at the end ([`BorrowedPages`]): 48 bytes for an object, 16 for a word of an object,
//! 56 for a word of a root. A heap of half a million objects with a million words takes 38 MiB. Where memory is short, rows are
//! missing, and the snapshot says so. There is room for 4 million objects and 12 million words, whatever memory there is.
//!
//! # Invariants
//!
//! - Nodes are in the order of addresses; the rows of words are in the order of their nodes.
//! - Words are those that the marker shows ([`Marker::each_word`], [`Marker::each_root_word`]): of blocks that are scanned, as
//!   they are read, no word twice. What lies in a root is read there, and its words are words of the root.
//! - A word of a root or of a reached object leads to reached objects only. One that leads to an object that needs more pointers
//!   than it has is left out. So what can be reached from the roots is what the pass has reached, and nothing else.
//!
//! # Locks
//!
//! The claim. A chunk's, one at a time, where other code runs.
//!
//! [`Marker::each_word`]: crate::marker::Marker::each_word
//! [`Marker::each_root_word`]: crate::marker::Marker::each_root_word

mod collect;
mod rows;

use self::collect::collect;
pub(crate) use self::rows::Edge;
pub(super) use self::rows::SnapshotRows;
use crate::checker::claim::Claim;
use crate::checker::pass::NotSeen;
use crate::checker::references::NoAnswer;
use crate::marker::GivenUp;
use crate::metadata::borrowed::BorrowedPages;
use crate::objects::record::flag;
use crate::platform::arch::in_own_frame;
use crate::platform::{Platform, Root};
use crate::stacks::task_names::Round;
use crate::verdict::leak_list::Named;

/// The heap at one moment.
pub(crate) struct Snapshot<'r> {
    rows: &'r SnapshotRows,
    copied: Round,
    /// When it was collected, in microseconds of the platform's clock.
    pub(crate) at_us: u64,
    /// Whether the world was stopped. If not, other code ran meanwhile.
    pub(crate) stopped: bool,
}

/// An object of a snapshot.
pub(crate) struct SnapshotNode {
    pub(crate) named: Named,
    pub(crate) size: usize,
    /// Whether no node before it has its call stack.
    pub(crate) is_first_of_stack: bool,
    /// Its words, among those of all nodes.
    words: core::ops::Range<usize>,
}

impl SnapshotNode {
    /// Whether the last verdict lists it.
    pub(crate) fn is_leak(&self) -> bool {
        self.named.record.has(flag::LISTED)
    }

    /// Whether it is declared to be no leak, and so is a root itself.
    pub(crate) fn is_no_leak(&self) -> bool {
        self.named.record.min_count() <= 0
    }
}

/// A way in from a root.
#[derive(Clone, Copy)]
pub(crate) struct WayIn {
    pub(crate) root: Root,
    /// The address of the word; `None` if the object lies in the root itself.
    pub(crate) slot: Option<usize>,
    /// The number of the node.
    pub(crate) to: usize,
    /// How many bytes into the object the word points.
    pub(crate) into: usize,
}

impl Snapshot<'_> {
    /// Whether there was memory for all.
    pub(crate) fn is_complete(&self) -> bool {
        !self.rows.short
    }

    /// The objects, in the order of addresses.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = SnapshotNode> {
        let mut next = 0;
        (0..self.rows.nodes.len()).map_while(move |number| {
            let row = self.rows.nodes.get(number)?;
            let words = next..next + row.words();
            next = words.end;
            Some(SnapshotNode {
                named: Named {
                    start: row.start.get(),
                    record: row.record,
                    copied: self.copied,
                },
                size: row.size,
                is_first_of_stack: row.is_first_of_stack(),
                words,
            })
        })
    }

    /// The words of an object that point to others.
    pub(crate) fn edges(&self, node: &SnapshotNode) -> impl Iterator<Item = Edge> {
        let words = node.words.clone();
        words.filter_map(|word| Some(self.rows.edges.get(word)?.edge()))
    }

    /// The ways in from roots, but for the objects that are roots themselves.
    pub(crate) fn ways_in(&self) -> impl Iterator<Item = WayIn> {
        let rows = (0..self.rows.roots.len()).filter_map(|way| self.rows.roots.get(way));
        rows.map(|row| WayIn {
            root: row.root(),
            slot: row.slot(),
            to: row.to as usize,
            into: row.into,
        })
    }

    /// The address of a node.
    pub(crate) fn address(&self, node: usize) -> Option<usize> {
        self.rows.nodes.get(node).map(|row| row.start.get())
    }
}

impl<P: Platform> Claim<'_, P> {
    /// Takes a snapshot, and shows it.
    pub(crate) fn show_snapshot<R>(
        &mut self,
        look: impl FnOnce(&Snapshot<'_>) -> R,
    ) -> Result<R, NoAnswer> {
        let tracker = self.tracker();
        if !tracker.is_on() {
            return Err(NoAnswer::Off);
        }
        let mut pages = tracker.borrowed_pages();
        let copied = tracker.task_names().now();
        // After a panic rows may be left that name pages which are gone.
        self.findings.snapshot.empty();
        let shown = self.collect_snapshot(&mut pages).map(|(at_us, stopped)| {
            self.findings.snapshot.find_stacks(&pages);
            let _outside = self.outside();
            let snapshot = Snapshot {
                rows: &self.findings.snapshot,
                copied,
                at_us,
                stopped,
            };
            // What the caller needs of the stack is not there while the stack is read.
            in_own_frame(|| look(&snapshot))
        });
        self.findings.snapshot.empty();
        let _outside = self.outside();
        // SAFETY: the rows alone lay there, and have forgotten it.
        unsafe { pages.give_back() };
        shown
    }

    /// Collects the rows. When that was, and whether the world was stopped.
    fn collect_snapshot(&mut self, pages: &mut BorrowedPages<'_>) -> Result<(u64, bool), NoAnswer> {
        let tracker = self.tracker();
        let taken = self.on_unscanned_stack(|claim| {
            let handle = claim.handle();
            let rows = &mut claim.findings.snapshot;
            // Whoever is alone has them: they are shared with nobody.
            let (own_rows, own_pages) = (&mut *rows, &mut *pages);
            let stopped = handle.stopped(
                &|marker, _| {
                    marker.run()?;
                    marker.barrier()
                },
                move |marker| collect(marker, own_rows, own_pages),
            );
            match stopped {
                Ok(seen) if seen.figures.in_flight > 0 => Ok(Err(NoAnswer::InFlight)),
                Ok(seen) => Ok(Ok((seen.start_us, true))),
                Err(NotSeen::GivenUp) => Err(GivenUp),
                Err(NotSeen::Unstopped(_)) => {
                    let running = handle.running(|marker, start_us| {
                        marker.run()?;
                        marker.barrier()?;
                        collect(marker, rows, pages)?;
                        Ok(start_us)
                    });
                    running.map(|(start_us, _)| Ok((start_us, false)))
                }
            }
        });
        taken.unwrap_or(Err(match tracker.is_on() {
            true => NoAnswer::Stopped,
            false => NoAnswer::Off,
        }))
    }
}
