//! What keeps most memory alive.

use kmemleak_report::graph::{Graph, What};
use kmemleak_report::suspects;

use crate::made::Heap;

/// Names, or bytes of objects, of the first and the last of each suspect, and how many links it has.
fn told(graph: &Graph) -> Vec<(String, String, u64)> {
    let name = |vertex| match graph.what(vertex) {
        What::Object(node) => node.size.to_string(),
        What::Root(name) | What::Group(name) | What::Lost(name) => name.to_owned(),
        What::Origin => "origin".into(),
    };
    let suspects = suspects::of(graph).into_iter();
    suspects
        .map(|suspect| (name(suspect.first), name(suspect.last), suspect.links))
        .collect()
}

fn suspect(first: &str, last: &str, links: u64) -> (String, String, u64) {
    (first.into(), last.into(), links)
}

#[test]
fn a_chain_is_one_suspect_and_ends_where_the_memory_divides() {
    // Of 1000 live bytes: X -> 1 -> 2 -> (30 of 10), Y -> 300 -> 299; 101 and 100 by themselves; 4000 are lost.
    let mut heap = Heap {
        nodes: [1, 2, 300, 299, 101, 100, 4000]
            .map(|size| (size, 0, size == 4000))
            .into(),
        roots: vec![
            (".bss X+0x8".into(), 1),
            (".bss Y".into(), 3),
            (".bss Z".into(), 5),
            (".bss W".into(), 6),
        ],
        words: vec![(1, 0, 2, 0), (3, 0, 4, 0)],
        ..Heap::default()
    };
    for child in 0..19 {
        heap.nodes.push((10, 0, false));
        heap.words.push((2, 8 * child, 8 + child as u32, 0));
    }
    heap.nodes.push((7, 0, false));
    heap.words.push((2, 800, 27, 0));
    let graph = heap.graph();
    assert_eq!(graph.live_bytes(), 1000);
    let expected = [
        suspect("Y", "299", 3),
        suspect("X", "2", 3),
        suspect("Z", "101", 2),
    ];
    assert_eq!(told(&graph), expected);
}

#[test]
fn where_a_chain_branches_others_begin() {
    let heap = Heap {
        nodes: [1, 500, 400, 99].map(|size| (size, 0, false)).into(),
        roots: vec![(".bss X".into(), 1)],
        words: vec![(1, 0, 2, 0), (1, 8, 3, 0), (1, 16, 4, 0)],
        ..Heap::default()
    };
    let expected = [
        suspect("X", "1", 2),
        suspect("500", "500", 1),
        suspect("400", "400", 1),
    ];
    assert_eq!(told(&heap.graph()), expected);
}
