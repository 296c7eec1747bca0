//! What a snapshot keeps: a row for each object, for each word that the marker follows, and for each way in from a root.
//!
//! A row takes 48 bytes for an object, 16 for a word of an object, and 56 for a word of a root.

use crate::metadata::borrowed::BorrowedPages;
use crate::metadata::hidden::Hidden;
use crate::metadata::page::NoMemory;
use crate::metadata::page_vec::PageVec;
use crate::objects::record::Record;
use crate::platform::{Root, RootKind};
use crate::stacks::depot::StackId;

/// An object.
pub(super) struct NodeRow {
    pub(super) start: Hidden,
    pub(super) size: usize,
    /// A copy.
    pub(super) record: Record,
    /// How many rows of words are its own, and the flags below.
    state: u32,
}

const _: () = assert!(size_of::<NodeRow>() == 48 && size_of::<EdgeRow>() == 16);

/// The last pass has reached it.
const ALIVE: u32 = 1 << 31;
/// Its words are read as words of a root.
const IN_ROOT: u32 = 1 << 30;
/// No node before it has its call stack.
const FIRST_OF_STACK: u32 = 1 << 29;
const WORDS: u32 = FIRST_OF_STACK - 1;

impl NodeRow {
    pub(super) fn is_alive(&self) -> bool {
        self.state & ALIVE != 0
    }

    pub(super) fn is_in_root(&self) -> bool {
        self.state & IN_ROOT != 0
    }

    pub(super) fn is_first_of_stack(&self) -> bool {
        self.state & FIRST_OF_STACK != 0
    }

    pub(super) fn words(&self) -> usize {
        (self.state & WORDS) as usize
    }
}

/// A word of an object that points to another one: where it lies, to which node, and how far into that. Numbers of 48, 32 and 48
/// bits, packed.
pub(super) struct EdgeRow([u64; 2]);

/// The same, unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    /// Where the word lies in its object, in bytes.
    pub(crate) offset: usize,
    /// The number of the node that it points to.
    pub(crate) to: usize,
    /// How many bytes into that object it points.
    pub(crate) into: usize,
}

impl EdgeRow {
    fn new(edge: Edge) -> Self {
        let (offset, to, into) = (edge.offset as u64, edge.to as u64, edge.into as u64);
        Self([offset << 16 | to >> 16, into << 16 | to & 0xffff])
    }

    pub(super) fn edge(&self) -> Edge {
        let [first, second] = self.0;
        Edge {
            offset: (first >> 16) as usize,
            to: ((first & 0xffff) << 16 | second & 0xffff) as usize,
            into: (second >> 16) as usize,
        }
    }
}

/// A way in from a root.
pub(super) struct RootRow {
    /// Where the word lies; nowhere if the object itself lies in the root.
    slot: Hidden,
    start: Hidden,
    len: usize,
    kind: RootKind,
    pub(super) to: u32,
    pub(super) into: usize,
}

const _: () = assert!(size_of::<RootRow>() == 56, "as the header says");

impl RootRow {
    pub(super) fn root(&self) -> Root {
        Root {
            kind: self.kind,
            start: self.start.get(),
            len: self.len,
        }
    }

    pub(super) fn slot(&self) -> Option<usize> {
        (self.slot != Hidden::NONE).then(|| self.slot.get())
    }
}

/// The rows.
pub(in crate::checker) struct SnapshotRows {
    pub(super) nodes: PageVec<NodeRow>,
    pub(super) edges: PageVec<EdgeRow>,
    pub(super) roots: PageVec<RootRow>,
    /// Bit by bit, the call stacks that a node has.
    stacks: PageVec<u64>,
    /// Whether there was no memory for all. Then no further rows are made.
    pub(super) short: bool,
}

impl SnapshotRows {
    pub(in crate::checker) const fn new() -> Self {
        Self {
            nodes: PageVec::new(),
            edges: PageVec::new(),
            roots: PageVec::new(),
            stacks: PageVec::new(),
            short: false,
        }
    }

    /// Forgets everything, before the pages are given back.
    pub(in crate::checker) fn empty(&mut self) {
        self.nodes.empty();
        self.edges.empty();
        self.roots.empty();
        self.stacks.empty();
        self.short = false;
    }

    /// Notes whether there was memory.
    fn noted<T>(&mut self, pushed: Result<T, NoMemory>) {
        self.short |= pushed.is_err();
    }

    /// Adds an object. Those of a chunk may come in any order, later chunks come later.
    pub(super) fn push_node(
        &mut self,
        start: usize,
        size: usize,
        record: Record,
        alive: LastPass,
        pages: &BorrowedPages<'_>,
    ) {
        if self.short {
            return;
        }
        let row = NodeRow {
            start: Hidden::new(start),
            size,
            record,
            state: match alive {
                LastPass::Reached => ALIVE,
                LastPass::Lost => 0,
            },
        };
        let pushed = self.nodes.push(row, pages);
        let mut place = *pushed.as_ref().unwrap_or(&0);
        self.noted(pushed);
        while place > 0 && self.start_of(place - 1) > self.start_of(place) {
            self.nodes.swap(place - 1, place);
            place -= 1;
        }
    }

    fn start_of(&self, node: usize) -> Option<usize> {
        self.nodes.get(node).map(|row| row.start.get())
    }

    /// Adds a word of the node that was begun last, or of the first node.
    pub(super) fn push_edge(&mut self, from: usize, edge: Edge, pages: &BorrowedPages<'_>) {
        if self.short {
            return;
        }
        let pushed = self.edges.push(EdgeRow::new(edge), pages);
        if let (Ok(_), Some(node)) = (&pushed, self.nodes.get_mut(from)) {
            node.state += 1;
        }
        self.noted(pushed);
    }

    pub(super) fn push_root(
        &mut self,
        root: Root,
        slot: Option<usize>,
        to: usize,
        into: usize,
        pages: &BorrowedPages<'_>,
    ) {
        if self.short {
            return;
        }
        let row = RootRow {
            slot: slot.map_or(Hidden::NONE, Hidden::new),
            start: Hidden::new(root.start),
            len: root.len,
            kind: root.kind,
            to: to as u32,
            into,
        };
        let pushed = self.roots.push(row, pages);
        self.noted(pushed);
    }

    /// Notes that a node's words are read as words of a root.
    pub(super) fn set_in_root(&mut self, node: usize) {
        if let Some(row) = self.nodes.get_mut(node) {
            row.state |= IN_ROOT;
        }
    }

    /// Finds the first node of each call stack.
    pub(super) fn find_stacks(&mut self, pages: &BorrowedPages<'_>) {
        for number in 0..self.nodes.len() {
            let Some(row) = self.nodes.get_mut(number) else {
                return;
            };
            let stack = row.record.stack_id();
            if stack == StackId::NONE {
                continue;
            }
            let (word, bit) = (stack.0 as usize / 64, 1 << (stack.0 % 64));
            let extended = self.stacks.extend(word + 1, pages);
            self.short |= extended.is_err();
            let seen = self.stacks.get_mut(word);
            // Without memory a call stack may come twice.
            if seen.as_ref().is_none_or(|seen| **seen & bit == 0) {
                row.state |= FIRST_OF_STACK;
            }
            if let Some(seen) = seen {
                *seen |= bit;
            }
        }
    }
}

/// What the last pass has found of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastPass {
    Reached,
    Lost,
}
