//! The heap as a graph: what keeps how much alive.
//!
//! From one vertex, the *origin*, links lead to groups of roots (a section, a CPU, the task stacks, what is declared to be no leak),
//! from these to roots (a variable, a stack), and on to objects. An object *retains* what would be lost with it: itself, and all
//! that only ways through it lead to. That is its part of the dominator tree.
//!
//! What no root leads to is *lost*. It hangs below a group of its own, beside those of roots, and keeps nothing alive: words in lost objects
//! that point to live ones are no links. So the sums of what is alive are the same as if nothing had been lost.
//!
//! # Invariants
//!
//! - Each vertex is dominated by the origin, so each has a place in the tree.
//! - A vertex of a group or root has no bytes, so the bytes of all objects are what the origin retains.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};

use crate::dominators::{Dominators, Links, NONE};
use crate::log::Snapshot;
use crate::records::{Crc, Node, Root, Stack, Word};
use crate::roots::{NOT_A_LEAK, group_of};

/// The name of the group of all lost objects.
pub const UNREFERENCED: &str = "(unreferenced)";
/// The name of the group in it of lost objects that the last verdict lists.
pub const LEAKED: &str = "(leaked)";
/// The name of the group of lost objects that it does not list: suppressed, or lost since.
pub const UNREPORTED: &str = "(not reported)";

/// Number of a vertex: the origin is 0.
pub type Vertex = u32;
/// The origin.
pub const ORIGIN: Vertex = 0;

/// What a vertex is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What<'a> {
    /// From where all is reached.
    Origin,
    /// A group of roots.
    Group(&'a str),
    /// A variable, a stack or the like, in a group of roots.
    Root(&'a str),
    /// A group of lost objects.
    Lost(&'a str),
    /// An object.
    Object(&'a Node),
}

/// Why a snapshot can't be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphError {
    /// It has no nodes.
    Empty,
    /// It has more vertices or words than this reader can number.
    TooLarge,
    /// Two nodes have this number.
    TwoNodes(u32),
}

impl Display for GraphError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the snapshot has no objects"),
            Self::TooLarge => write!(f, "the snapshot has more than 2^31 objects or words"),
            Self::TwoNodes(id) => write!(f, "the snapshot has two objects with the number {id}"),
        }
    }
}

impl std::error::Error for GraphError {}

/// A vertex that is no object.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Made {
    Origin,
    Group(String),
    Root(String),
    Lost(&'static str),
}

/// The heap as a graph.
#[derive(Clone, Debug)]
pub struct Graph {
    snapshot: Snapshot,
    stacks: HashMap<Crc, usize>,
    /// The vertices before those of the nodes.
    made: Vec<Made>,
    /// Groups, and the vertex of the root in which each word of a root lies; a group, where that has no roots.
    held_by: Vec<Vertex>,
    links: Links,
    dominators: Dominators,
    retained: Vec<u64>,
    children: Links,
    is_lost: Vec<bool>,
    live_bytes: u64,
    dangling: u64,
}

/// Vertices before the nodes, and how words and nodes refer to them.
struct Vertices {
    made: Vec<Made>,
    held_by: Vec<Vertex>,
    /// A group above each root.
    above: Vec<(Vertex, Vertex)>,
}

impl Vertices {
    fn of(roots: &[Root]) -> Self {
        let mut vertices = Self {
            made: [UNREFERENCED, LEAKED, UNREPORTED].map(Made::Lost).into(),
            held_by: Vec::with_capacity(roots.len()),
            above: Vec::new(),
        };
        vertices.made.insert(ORIGIN as usize, Made::Origin);
        let (mut groups, mut holders) = (HashMap::new(), HashMap::new());
        for root in roots {
            let (group_name, name) = group_of(&root.name);
            let group = *groups.entry(group_name).or_insert_with(|| {
                let group = vertices.push(Made::Group(group_name.to_owned()));
                vertices.above.push((ORIGIN, group));
                group
            });
            let holder = match group_name == NOT_A_LEAK || name.is_empty() {
                true => group,
                false => *holders.entry((group, name)).or_insert_with(|| {
                    let holder = vertices.push(Made::Root(name.to_owned()));
                    vertices.above.push((group, holder));
                    holder
                }),
            };
            vertices.held_by.push(holder);
        }
        vertices
    }

    fn push(&mut self, made: Made) -> Vertex {
        self.made.push(made);
        self.made.len() as Vertex - 1
    }
}

const UNREFERENCED_AT: Vertex = 1;
const LEAKED_AT: Vertex = 2;
const UNREPORTED_AT: Vertex = 3;
const MOST: usize = 1 << 31;

impl Graph {
    /// The graph of a snapshot. Takes time in proportion to its words, times a logarithm.
    pub fn new(mut snapshot: Snapshot) -> Result<Self, GraphError> {
        let words: usize = snapshot.edges.iter().map(|edges| edges.words.len()).sum();
        if snapshot.nodes.is_empty() {
            return Err(GraphError::Empty);
        }
        if snapshot.nodes.len() + words + 2 * snapshot.roots.len() > MOST {
            return Err(GraphError::TooLarge);
        }
        let dangling = name_by_places(&mut snapshot)?;
        let Vertices {
            made,
            held_by,
            above,
        } = Vertices::of(&snapshot.roots);
        name_by_vertices(&mut snapshot, made.len() as Vertex);
        snapshot.edges.sort_by_key(|edges| edges.from);
        let vertices = made.len() + snapshot.nodes.len();
        let live = Links::new(vertices, |each| {
            above.iter().for_each(|(from, to)| each(*from, *to));
            for (root, from) in snapshot.roots.iter().zip(&held_by) {
                each(*from, root.to);
            }
            each_word(&snapshot, |from, word| each(from, word.to));
        });
        let is_lost = not_reached(&live);
        let entries = entries(&live, &is_lost, made.len() as Vertex);
        let links = Links::new(vertices, |each| {
            each(ORIGIN, UNREFERENCED_AT);
            each(UNREFERENCED_AT, LEAKED_AT);
            each(UNREFERENCED_AT, UNREPORTED_AT);
            for entry in &entries {
                let node = &snapshot.nodes[*entry as usize - made.len()];
                each(if node.leak { LEAKED_AT } else { UNREPORTED_AT }, *entry);
            }
            for from in 0..vertices as Vertex {
                let to = live.of(from).iter();
                to.filter(|to| is_lost[from as usize] == is_lost[**to as usize])
                    .for_each(|to| each(from, *to));
            }
        });
        let dominators = Dominators::of(&links);
        let mut stacks = HashMap::new();
        for (place, stack) in snapshot.stacks.iter().enumerate() {
            stack.crc.map(|crc| stacks.insert(crc, place));
        }
        let mut graph = Self {
            retained: Vec::new(),
            children: Links::default(),
            live_bytes: 0,
            stacks,
            snapshot,
            made,
            held_by,
            links,
            dominators,
            is_lost,
            dangling,
        };
        graph.measure();
        Ok(graph)
    }

    fn measure(&mut self) {
        let all = self.vertices();
        let mut retained: Vec<u64> = (0..all).map(|vertex| self.size(vertex)).collect();
        for vertex in self.dominators.order.iter().rev() {
            let above = self.dominators.immediate[*vertex as usize];
            if above != NONE {
                retained[above as usize] += retained[*vertex as usize];
            }
        }
        self.retained = retained;
        self.children = Links::new(all as usize, |each| {
            for vertex in &self.dominators.order {
                let above = self.dominators.immediate[*vertex as usize];
                if above != NONE {
                    each(above, *vertex);
                }
            }
        });
        self.live_bytes = self.retained(ORIGIN) - self.retained(UNREFERENCED_AT);
    }

    /// How many vertices there are.
    pub fn vertices(&self) -> Vertex {
        (self.made.len() + self.snapshot.nodes.len()) as Vertex
    }

    /// What a vertex is.
    pub fn what(&self, vertex: Vertex) -> What<'_> {
        match self.made.get(vertex as usize) {
            Some(Made::Origin) => What::Origin,
            Some(Made::Group(name)) => What::Group(name),
            Some(Made::Root(name)) => What::Root(name),
            Some(Made::Lost(name)) => What::Lost(name),
            None => What::Object(&self.snapshot.nodes[vertex as usize - self.made.len()]),
        }
    }

    /// Its own bytes: 0 of all but objects.
    pub fn size(&self, vertex: Vertex) -> u64 {
        match self.what(vertex) {
            What::Object(node) => node.size,
            _ => 0,
        }
    }

    /// The bytes that would be lost with it, its own included; of a lost object, those that were.
    pub fn retained(&self, vertex: Vertex) -> u64 {
        self.retained[vertex as usize]
    }

    /// The vertex next to the origin by which all ways lead to this one; `None` of the origin.
    pub fn dominator(&self, vertex: Vertex) -> Option<Vertex> {
        let above = self.dominators.immediate[vertex as usize];
        (above != NONE).then_some(above)
    }

    /// The vertices that it dominates immediately.
    pub fn dominated(&self, vertex: Vertex) -> &[Vertex] {
        self.children.of(vertex)
    }

    /// All vertices, each behind its dominator.
    pub fn in_order(&self) -> &[Vertex] {
        &self.dominators.order
    }

    /// Whether no root leads to it.
    pub fn is_lost(&self, vertex: Vertex) -> bool {
        self.is_lost[vertex as usize]
    }

    /// The bytes of all objects that roots lead to.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// The call stack that allocated an object; `None` where none is known.
    pub fn stack(&self, node: &Node) -> Option<&Stack> {
        let place = self.stacks.get(&node.crc?)?;
        Some(&self.snapshot.stacks[*place])
    }

    /// The snapshot. In its roots and edges, nodes are named by the numbers of their vertices.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The vertex in which a word of a root lies: of a root, or of a group that has none.
    pub fn holder(&self, root: usize) -> Vertex {
        self.held_by[root]
    }

    /// Where all ways begin and lead on: to groups, to roots, to objects. Several words that point to one object are several links.
    pub fn links(&self, vertex: Vertex) -> &[Vertex] {
        self.links.of(vertex)
    }

    /// The words of an object that point to objects: also those of a lost object that point to live ones, which are no links.
    pub fn words(&self, vertex: Vertex) -> impl Iterator<Item = Word> {
        let edges = &self.snapshot.edges;
        let first = edges.partition_point(|edges| edges.from < vertex);
        let of = edges[first..].iter();
        let of = of.take_while(move |edges| edges.from == vertex);
        of.flat_map(|edges| edges.words.iter().copied())
    }

    /// Words that point to objects that the log does not have: some of its lines are missing.
    pub fn dangling(&self) -> u64 {
        self.dangling
    }
}

/// Calls `each` for each word of a node.
pub(crate) fn each_word(snapshot: &Snapshot, mut each: impl FnMut(Vertex, Word)) {
    for edges in &snapshot.edges {
        edges.words.iter().for_each(|word| each(edges.from, *word));
    }
}

/// Names nodes by their places, and removes words from or to nodes that are missing. Says how many.
fn name_by_places(snapshot: &mut Snapshot) -> Result<u64, GraphError> {
    let mut places = HashMap::with_capacity(snapshot.nodes.len());
    for (node, place) in snapshot.nodes.iter().zip(0_u32..) {
        if places.insert(node.id, place).is_some() {
            return Err(GraphError::TwoNodes(node.id));
        }
    }
    // Whether the node is there.
    let name = |node: &mut u32| places.get(node).map(|place| *node = *place).is_some();
    let mut dangling = snapshot.roots.len();
    snapshot.roots.retain_mut(|root| name(&mut root.to));
    dangling -= snapshot.roots.len();
    for edges in &mut snapshot.edges {
        dangling += edges.words.len();
        match name(&mut edges.from) {
            true => edges.words.retain_mut(|word| name(&mut word.to)),
            false => edges.words.clear(),
        }
        dangling -= edges.words.len();
    }
    snapshot.edges.retain(|edges| !edges.words.is_empty());
    Ok(dangling as u64)
}

/// Names nodes by their vertices instead of their places.
fn name_by_vertices(snapshot: &mut Snapshot, first: Vertex) {
    snapshot.roots.iter_mut().for_each(|root| root.to += first);
    for edges in &mut snapshot.edges {
        edges.from += first;
        edges.words.iter_mut().for_each(|word| word.to += first);
    }
}

/// Which vertices the origin does not lead to; the groups of lost objects among them.
fn not_reached(links: &Links) -> Vec<bool> {
    let mut lost = vec![true; links.vertices()];
    lost[ORIGIN as usize] = false;
    let mut left = vec![ORIGIN];
    while let Some(vertex) = left.pop() {
        for to in links.of(vertex) {
            if std::mem::replace(&mut lost[*to as usize], false) {
                left.push(*to);
            }
        }
    }
    lost
}

/// Few lost nodes that lead to all lost nodes: one of each set of nodes that lead to each other and that nothing else leads to.
fn entries(links: &Links, is_lost: &[bool], first: Vertex) -> Vec<Vertex> {
    let lost = || (first..links.vertices() as Vertex).filter(|vertex| is_lost[*vertex as usize]);
    let mut seen = vec![false; links.vertices()];
    let mut finished = Vec::new();
    for start in lost() {
        search(links, is_lost, start, &mut seen, |vertex| {
            finished.push(vertex)
        });
    }
    // What finished last leads to what it can, and nothing that is left leads to it, unless it leads back there.
    seen.fill(false);
    let mut entries = Vec::new();
    for start in finished.into_iter().rev() {
        if !seen[start as usize] {
            entries.push(start);
            search(links, is_lost, start, &mut seen, |_| {});
        }
    }
    entries.sort_unstable();
    entries
}

/// Goes through the lost vertices that one leads to, depth first, and tells each when all behind it has been seen.
fn search(
    links: &Links,
    is_lost: &[bool],
    start: Vertex,
    seen: &mut [bool],
    mut finish: impl FnMut(Vertex),
) {
    if std::mem::replace(&mut seen[start as usize], true) {
        return;
    }
    let mut path = vec![(start, 0)];
    while let Some((vertex, next)) = path.last_mut() {
        let Some(&to) = links.of(*vertex).get(*next) else {
            finish(*vertex);
            path.pop();
            continue;
        };
        *next += 1;
        if is_lost[to as usize] && !std::mem::replace(&mut seen[to as usize], true) {
            path.push((to, 0));
        }
    }
}
