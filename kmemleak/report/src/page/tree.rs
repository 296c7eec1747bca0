//! The dominator tree as the page shows it: what is large one by one, what is small added up by call site.
//!
//! # Invariants
//!
//! - The retained bytes of a row are its own and those of all rows and sums right below it. So no byte is missing or shown twice.
//! - There are at most [`MOST_ROWS`] rows, and [`MOST_SUMS`] sums below each.

use std::collections::HashMap;

use serde::Serialize;

use super::names::{Names, StackNumber};
use crate::graph::{Graph, ORIGIN, Vertex, What};
use crate::records::{Address, Stack};

/// Of a heap of at most so many objects each has a row.
const SMALL_HEAP: u32 = 3_000;
/// Of a larger one those have a row that retain at least one part in so many.
const PARTS: u64 = 4_000;
const MOST_ROWS: usize = 20_000;
const MOST_SUMS: usize = 16;

/// A vertex, or a run of objects of one call stack, each of which dominates the next.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// Number of the row above; null of the first.
    above: Option<usize>,
    /// `origin`, `group`, `root`, `lost` or `object`.
    kind: &'static str,
    /// Of all but objects.
    name: Option<String>,
    /// Of objects.
    stack: Option<StackNumber>,
    /// Of objects; of a run that of the first.
    address: Option<Address>,
    /// How many vertices it stands for.
    count: u64,
    /// Bytes of its own.
    own: u64,
    retained: u64,
}

/// Objects of one call stack below a row that have no row.
#[derive(Debug, Serialize)]
pub(super) struct Sum {
    above: usize,
    /// Null for all call stacks that have no sum of their own.
    stack: Option<StackNumber>,
    objects: u64,
    /// What they retain.
    retained: u64,
}

/// What is shown of the tree.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tree {
    pub(super) rows: Vec<Row>,
    pub(super) sums: Vec<Sum>,
    /// Vertices that retain less have no row.
    threshold: u64,
    /// Rows that there are, or will be.
    #[serde(skip)]
    planned: usize,
    #[serde(skip)]
    pub(super) row_of: HashMap<Vertex, usize>,
}

impl Tree {
    pub(super) fn of(graph: &Graph, names: &mut Names) -> Self {
        let threshold = match graph.vertices() {
            ..=SMALL_HEAP => 0,
            _ => 1 + graph.retained(ORIGIN) / PARTS,
        };
        let mut tree = Self {
            threshold,
            planned: 1,
            ..Self::default()
        };
        // Level by level, so that what is near the roots has rows whatever the limit.
        let (mut level, mut next) = (vec![(None, ORIGIN)], Vec::new());
        while !level.is_empty() {
            for (above, vertex) in level.drain(..) {
                tree.add(graph, names, above, vertex, &mut next);
            }
            std::mem::swap(&mut level, &mut next);
        }
        tree
    }

    fn is_large(&self, graph: &Graph, vertex: Vertex) -> bool {
        let is_object = matches!(graph.what(vertex), What::Object(_));
        !is_object || graph.retained(vertex) >= self.threshold.max(1)
    }

    fn add(
        &mut self,
        graph: &Graph,
        names: &mut Names,
        above: Option<usize>,
        first: Vertex,
        next: &mut Vec<(Option<usize>, Vertex)>,
    ) {
        let number = self.rows.len();
        let mut row = row(graph, names, above, first);
        let mut sums = Sums::default();
        let mut vertex = first;
        loop {
            self.row_of.insert(vertex, number);
            let is_empty_group = |below: &Vertex| {
                !matches!(graph.what(*below), What::Object(_)) && graph.retained(*below) == 0
            };
            let below = graph.dominated(vertex).iter().copied();
            let below = below.filter(|below| !is_empty_group(below));
            let (mut large, small): (Vec<_>, Vec<_>) =
                below.partition(|below| self.is_large(graph, *below));
            large.sort_by_key(|below| (u64::MAX - graph.retained(*below), *below));
            small.iter().for_each(|below| sums.add(graph, *below));
            match large[..] {
                [only] if self.threshold > 0 && is_same_site(graph, vertex, only) => {
                    row.count += 1;
                    row.own += graph.size(only);
                    vertex = only;
                }
                _ => {
                    let left_out = large.split_off(large.len().min(MOST_ROWS - self.planned));
                    self.planned += large.len();
                    left_out.iter().for_each(|below| sums.add(graph, *below));
                    next.extend(large.into_iter().map(|below| (Some(number), below)));
                    break;
                }
            }
        }
        self.rows.push(row);
        sums.write(graph, names, number, &mut self.sums);
    }
}

fn is_same_site(graph: &Graph, above: Vertex, below: Vertex) -> bool {
    match (graph.what(above), graph.what(below)) {
        (What::Object(above), What::Object(below)) => above.crc == below.crc,
        _ => false,
    }
}

fn row(graph: &Graph, names: &mut Names, above: Option<usize>, vertex: Vertex) -> Row {
    let (kind, name, node) = match graph.what(vertex) {
        What::Origin => ("origin", Some("all"), None),
        What::Group(name) => ("group", Some(name), None),
        What::Root(name) => ("root", Some(name), None),
        What::Lost(name) => ("lost", Some(name), None),
        What::Object(node) => ("object", None, Some(node)),
    };
    let unknown = Stack::default();
    Row {
        above,
        kind,
        name: name.map(str::to_owned),
        stack: node.map(|node| names.number(graph.stack(node).unwrap_or(&unknown))),
        address: node.map(|node| node.address),
        count: 1,
        own: graph.size(vertex),
        retained: graph.retained(vertex),
    }
}

/// Of each call stack, by one of its objects, how many objects have no row and what they retain.
#[derive(Default)]
struct Sums(HashMap<Option<crate::records::Crc>, (Vertex, u64, u64)>);

impl Sums {
    fn add(&mut self, graph: &Graph, vertex: Vertex) {
        let crc = match graph.what(vertex) {
            What::Object(node) => node.crc,
            _ => None,
        };
        let (_, objects, retained) = self.0.entry(crc).or_insert((vertex, 0, 0));
        *objects += 1;
        *retained += graph.retained(vertex);
    }

    fn write(self, graph: &Graph, names: &mut Names, above: usize, out: &mut Vec<Sum>) {
        let mut all: Vec<_> = self.0.into_values().collect();
        all.sort_by_key(|(vertex, _, retained)| (u64::MAX - retained, *vertex));
        let rest = all.split_off(all.len().min(MOST_SUMS - 1));
        let unknown = Stack::default();
        out.extend(all.into_iter().map(|(vertex, objects, retained)| {
            let stack = match graph.what(vertex) {
                What::Object(node) => graph.stack(node).unwrap_or(&unknown),
                _ => &unknown,
            };
            Sum {
                above,
                stack: Some(names.number(stack)),
                objects,
                retained,
            }
        }));
        if !rest.is_empty() {
            out.push(Sum {
                above,
                stack: None,
                objects: rest.iter().map(|sum| sum.1).sum(),
                retained: rest.iter().map(|sum| sum.2).sum(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Snapshot;
    use crate::records::{Crc, Edges, Node, Root, Word};

    fn heap(nodes: u32, crc: impl Fn(u32) -> u32, words: impl Fn(u32) -> Vec<u32>) -> Graph {
        let node = |id| Node {
            id,
            address: Address(u64::from(id) * 64),
            size: 64,
            birth_us: 0,
            task: 0,
            comm: "".into(),
            crc: Some(Crc(crc(id))),
            leak: false,
        };
        let edges = |from| Edges {
            from,
            words: words(from)
                .into_iter()
                .map(|to| Word::from((0, to, 0)))
                .collect(),
        };
        let stack = |crc| Stack {
            crc: Some(Crc(crc)),
            ..Stack::default()
        };
        let root = Root {
            name: ".bss X".into(),
            slot: None,
            to: 1,
            offset: 0,
        };
        Graph::new(Snapshot {
            stacks: (0..64).map(stack).collect(),
            nodes: (1..=nodes).map(node).collect(),
            edges: (1..=nodes).map(edges).collect(),
            roots: vec![root],
            ..Snapshot::default()
        })
        .expect("a graph")
    }

    /// The tree, after its sums were checked.
    fn tree(graph: &Graph) -> Tree {
        let tree = Tree::of(graph, &mut Names::default());
        assert!(tree.rows.len() <= MOST_ROWS);
        let mut below: Vec<u64> = tree.rows.iter().map(|row| row.own).collect();
        let mut sums = vec![0; tree.rows.len()];
        for row in &tree.rows {
            row.above
                .into_iter()
                .for_each(|above| below[above] += row.retained);
        }
        for sum in &tree.sums {
            below[sum.above] += sum.retained;
            sums[sum.above] += 1;
        }
        let retained: Vec<u64> = tree.rows.iter().map(|row| row.retained).collect();
        assert_eq!(below, retained);
        assert!(sums.iter().all(|sums| *sums <= MOST_SUMS));
        tree
    }

    #[test]
    fn of_a_small_heap_each_object_has_a_row() {
        let graph = heap(
            50,
            |_| 1,
            |from| if from < 50 { vec![from + 1] } else { vec![] },
        );
        let tree = tree(&graph);
        // All, `.bss`, and the variable come before.
        assert_eq!((tree.rows.len(), tree.sums.len()), (53, 0));
    }

    #[test]
    fn small_objects_are_summed_by_call_site() {
        let graph = heap(
            20_000,
            |id| id % 40,
            |from| {
                if from == 1 {
                    (2..=20_000).collect()
                } else {
                    vec![]
                }
            },
        );
        let tree = tree(&graph);
        assert_eq!((tree.rows.len(), tree.sums.len()), (4, MOST_SUMS));
        let objects: u64 = tree.sums.iter().map(|sum| sum.objects).sum();
        assert_eq!((objects, tree.sums[MOST_SUMS - 1].stack), (19_999, None));
    }

    #[test]
    fn a_long_list_is_one_row_with_what_its_nodes_own() {
        // Odd ones are nodes of the list, each of which owns the one behind it.
        let words = |from| match from % 2 {
            1 => vec![from + 1, from + 2],
            _ => vec![],
        };
        let graph = heap(
            40_001,
            |id| id % 2,
            |from| words(from).into_iter().filter(|to| *to <= 40_001).collect(),
        );
        let tree = tree(&graph);
        let run = tree.rows.iter().find(|row| row.count > 1).expect("a run");
        assert!(run.count > 19_000, "{run:?}");
        assert!(tree.rows.len() < 10, "{} rows", tree.rows.len());
    }

    #[test]
    fn a_deep_heap_has_a_bounded_number_of_rows() {
        let graph = heap(
            60_000,
            |id| id % 2,
            |from| {
                if from < 60_000 {
                    vec![from + 1]
                } else {
                    vec![]
                }
            },
        );
        assert_eq!(tree(&graph).rows.len(), MOST_ROWS);
    }
}
