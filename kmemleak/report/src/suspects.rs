//! The objects and roots that keep most memory alive, to be looked at first.
//!
//! A *suspect* is a root or a live object that retains more than a tenth of all live bytes. In a chain in which each keeps
//! the next alive, all links of the chain would be suspects; so a chain is one suspect, with its first link (which is
//! responsible) and its last (behind which the memory divides: usually the collection that has grown).

use crate::graph::{Graph, ORIGIN, Vertex, What};

/// A suspect retains more than one part in so many of what is alive.
pub const PARTS: u64 = 10;

/// A chain of vertices, each of which is the only one below the one before that retains so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Its first link.
    pub first: Vertex,
    /// Its last; it may be the first.
    pub last: Vertex,
    /// How many links it has.
    pub links: u64,
}

/// The suspects of a heap, those that retain most first.
pub fn of(graph: &Graph) -> Vec<Suspect> {
    let mut suspects = Vec::new();
    let mut left = vec![ORIGIN];
    while let Some(vertex) = left.pop() {
        let large = large_below(graph, vertex);
        match graph.what(vertex) {
            What::Origin | What::Group(_) => left.extend(large),
            What::Lost(_) => {}
            What::Root(_) | What::Object(_) => {
                let suspect = chain(graph, vertex);
                left.extend(large_below(graph, suspect.last));
                suspects.push(suspect);
            }
        }
    }
    suspects.sort_by_key(|suspect| (u64::MAX - graph.retained(suspect.first), suspect.first));
    suspects
}

fn chain(graph: &Graph, first: Vertex) -> Suspect {
    let (mut last, mut links) = (first, 1);
    while let [only] = large_below(graph, last)[..] {
        last = only;
        links += 1;
    }
    Suspect { first, last, links }
}

fn large_below(graph: &Graph, vertex: Vertex) -> Vec<Vertex> {
    let is_large = |vertex: &&Vertex| {
        !graph.is_lost(**vertex) && graph.retained(**vertex) > graph.live_bytes() / PARTS
    };
    let below = graph.dominated(vertex).iter();
    below.filter(is_large).copied().collect()
}
