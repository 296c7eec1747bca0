//! The heap as a graph, against the definition of what an object retains.

use std::collections::HashSet;

use crate::made::{Heap, Random};
use kmemleak_report::graph::{
    Graph, GraphError, LEAKED, ORIGIN, UNREFERENCED, UNREPORTED, Vertex, What,
};
use kmemleak_report::log::Snapshot;
use kmemleak_report::records::{Address, Edges, Node, Root, Word};

/// The objects that roots lead to where one object, or a root of this name, is taken out.
fn reached(heap: &Heap, out_node: Option<u32>, out_roots: &str) -> HashSet<u32> {
    let roots = heap.roots.iter();
    let roots = roots.filter(|(name, _)| out_roots.is_empty() || !name.starts_with(out_roots));
    let mut left: Vec<u32> = roots.map(|(_, node)| *node).collect();
    let mut reached = HashSet::new();
    while let Some(node) = left.pop() {
        if Some(node) != out_node && reached.insert(node) {
            let words = heap.words.iter().filter(|word| word.0 == node);
            left.extend(words.map(|word| word.2));
        }
    }
    reached
}

fn bytes(heap: &Heap, nodes: &HashSet<u32>) -> u64 {
    nodes
        .iter()
        .map(|node| heap.nodes[*node as usize - 1].0)
        .sum()
}

fn named(graph: &Graph, what: What<'_>) -> Option<Vertex> {
    (0..graph.vertices()).find(|vertex| graph.what(*vertex) == what)
}

#[test]
fn what_is_retained_is_what_would_be_lost() {
    let mut random = Random(7);
    for round in 0..400 {
        let heap = Heap::random(&mut random, 14);
        let graph = heap.graph();
        let live = reached(&heap, None, "");
        let live_bytes = bytes(&heap, &live);
        assert_eq!(graph.live_bytes(), live_bytes, "round {round}");
        for vertex in 0..graph.vertices() {
            let What::Object(node) = graph.what(vertex) else {
                continue;
            };
            assert_eq!(
                graph.is_lost(vertex),
                !live.contains(&node.id),
                "round {round}, {node:?}"
            );
            if live.contains(&node.id) {
                let left = bytes(&heap, &reached(&heap, Some(node.id), ""));
                assert_eq!(
                    graph.retained(vertex),
                    live_bytes - left,
                    "round {round}, {node:?}"
                );
            }
        }
        for (prefix, what) in [
            (".bss", What::Group(".bss")),
            (".bss kernel::A", What::Root("kernel::A")),
            ("task 3", What::Group("task stacks")),
            ("not a leak", What::Group("not a leak")),
        ] {
            let left = bytes(&heap, &reached(&heap, None, prefix));
            let retained = named(&graph, what).map_or(0, |vertex| graph.retained(vertex));
            assert_eq!(retained, live_bytes - left, "round {round}, {what:?}");
        }
    }
}

#[test]
fn the_lost_hang_beside_and_keep_nothing_alive() {
    let mut random = Random(11);
    for round in 0..400 {
        let heap = Heap::random(&mut random, 14);
        let graph = heap.graph();
        let lost = named(&graph, What::Lost(UNREFERENCED)).expect("a group");
        let lost = graph.retained(lost);
        let all: u64 = heap.nodes.iter().map(|node| node.0).sum();
        assert_eq!(lost, all - graph.live_bytes(), "round {round}");
        assert_eq!(graph.retained(ORIGIN), all, "round {round}");
        assert_eq!(
            graph.in_order().len(),
            graph.vertices() as usize,
            "round {round}"
        );
        for vertex in 1..graph.vertices() {
            let above = graph.dominator(vertex).expect("a dominator");
            assert!(graph.dominated(above).contains(&vertex), "round {round}");
            if matches!(graph.what(above), What::Group(_) | What::Root(_)) {
                assert!(!graph.is_lost(vertex), "round {round}");
            }
        }
        for (group, is_listed) in [(LEAKED, true), (UNREPORTED, false)] {
            let group = named(&graph, What::Lost(group)).expect("a group");
            for entry in graph.links(group) {
                let What::Object(node) = graph.what(*entry) else {
                    panic!("round {round}: {:?}", graph.what(*entry));
                };
                assert_eq!(node.leak, is_listed, "round {round}");
            }
        }
    }
}

#[test]
fn a_lost_tree_hangs_from_its_leader_and_a_cycle_from_one() {
    // 3 -> 2 -> 1, 4 <-> 5 -> 1; a live object, to which a lost one points.
    let heap = Heap {
        nodes: [10, 20, 30, 40, 50, 60]
            .map(|size| (size, 0, size != 60))
            .into(),
        roots: vec![(".bss X".into(), 6)],
        words: vec![
            (3, 0, 2, 0),
            (2, 0, 1, 0),
            (4, 0, 5, 0),
            (5, 0, 4, 0),
            (5, 8, 1, 0),
            (3, 8, 6, 0),
        ],
        ..Heap::default()
    };
    let graph = heap.graph();
    let leaked = named(&graph, What::Lost(LEAKED)).expect("a group");
    let mut sizes: Vec<_> = graph
        .dominated(leaked)
        .iter()
        .map(|vertex| (graph.size(*vertex), graph.retained(*vertex)))
        .collect();
    sizes.sort_unstable();
    // One of the cycle keeps the other; what both parts keep is kept by the group alone.
    assert_eq!(sizes, [(10, 10), (30, 50), (40, 90)]);
    let root = named(&graph, What::Root("X")).expect("a root");
    assert_eq!((graph.live_bytes(), graph.retained(root)), (60, 60));
}

#[test]
fn lines_that_are_missing_are_counted() {
    let heap = Heap {
        nodes: vec![(1, 0, false); 3],
        roots: vec![(".bss X".into(), 1), (".bss Y".into(), 9)],
        words: vec![(1, 0, 2, 0), (1, 8, 8, 0), (7, 0, 3, 0)],
        ..Heap::default()
    };
    let graph = heap.graph();
    assert_eq!((graph.dangling(), graph.live_bytes()), (3, 2));
    assert_eq!(
        Graph::new(Snapshot::default()).err(),
        Some(GraphError::Empty)
    );
    let twice = heap.log().replace("\"id\":2", "\"id\":1");
    let log = kmemleak_report::log::Log::read(twice.as_bytes()).expect("memory can be read");
    assert_eq!(
        Graph::new(log.snapshot.expect("a snapshot")).err(),
        Some(GraphError::TwoNodes(1))
    );
}

#[test]
fn half_a_million_objects_in_a_list_are_no_trouble() {
    let len = 500_000;
    let node = |id| Node {
        id,
        address: Address(0x1000 * u64::from(id)),
        size: 16,
        birth_us: 0,
        task: 0,
        comm: "".into(),
        crc: None,
        leak: false,
    };
    let edges = |from| Edges {
        from,
        words: [from - 1, from + 1]
            .into_iter()
            .filter(|to| (1..=len).contains(to))
            .map(|to| Word::from((0, to, 0)))
            .collect(),
    };
    let graph = Graph::new(Snapshot {
        nodes: (1..=len).map(node).collect(),
        roots: vec![Root {
            name: ".bss LIST".into(),
            slot: None,
            to: 1,
            offset: 0,
        }],
        edges: (1..=len).map(edges).collect(),
        ..Snapshot::default()
    });
    let graph = graph.expect("a graph");
    let root = named(&graph, What::Root("LIST")).expect("a root");
    assert_eq!(graph.retained(root), 16 * u64::from(len));
    let last = graph.vertices() - 1;
    assert_eq!(graph.retained(last), 16);
}
