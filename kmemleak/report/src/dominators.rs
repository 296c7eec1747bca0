//! Dominators in a graph: the vertices that are on every path from the first vertex to another one.
//!
//! This is the algorithm of Lengauer and Tarjan, "A fast algorithm for finding dominators in a flowgraph" (1979), in its simple
//! form: O(m log n) for any graph. The iterative algorithm of Cooper, Harvey and Kennedy, which libraries have, takes quadratic
//! time where two long lists run side by side and each element of one points to its partner; in a heap such lists are common.
//! Nothing here recurses, since lists have a million elements.

/// Vertices, and which leads to which.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    /// Where the links of each vertex begin in `to`; one more than there are vertices.
    first: Vec<u32>,
    to: Vec<u32>,
}

impl Links {
    /// Of so many vertices; `each` calls its argument for each link, twice in the same order.
    pub(crate) fn new(vertices: usize, each: impl Fn(&mut dyn FnMut(u32, u32))) -> Self {
        let mut first = vec![0_u32; vertices + 1];
        each(&mut |from, _| first[from as usize + 1] += 1);
        for vertex in 0..vertices {
            first[vertex + 1] += first[vertex];
        }
        let mut next = first.clone();
        let mut to = vec![0; first[vertices] as usize];
        each(&mut |from, target| {
            let place = &mut next[from as usize];
            to[*place as usize] = target;
            *place += 1;
        });
        Self { first, to }
    }

    pub(crate) fn vertices(&self) -> usize {
        self.first.len() - 1
    }

    pub(crate) fn of(&self, vertex: u32) -> &[u32] {
        let vertex = vertex as usize;
        &self.to[self.first[vertex] as usize..self.first[vertex + 1] as usize]
    }

    fn reversed(&self) -> Self {
        Self::new(self.vertices(), |each| {
            for from in 0..self.vertices() as u32 {
                self.of(from).iter().for_each(|to| each(*to, from));
            }
        })
    }
}

/// What has no dominator: the first vertex, and what it does not lead to.
pub(crate) const NONE: u32 = u32::MAX;

/// The dominator tree of all vertices that vertex 0 leads to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dominators {
    /// Of each vertex the one that dominates it immediately, or [`NONE`].
    pub(crate) immediate: Vec<u32>,
    /// The vertices that vertex 0 leads to, each behind its dominator.
    pub(crate) order: Vec<u32>,
}

impl Dominators {
    pub(crate) fn of(links: &Links) -> Self {
        let (order, parents) = depth_first(links);
        let mut search = Search::new(links, order, parents);
        search.run(&links.reversed());
        search.result()
    }
}

/// Vertices in the order in which a search from vertex 0 comes to them, and of each the number of its parent there.
fn depth_first(links: &Links) -> (Vec<u32>, Vec<u32>) {
    let mut numbers = vec![NONE; links.vertices()];
    let (mut order, mut parents) = (vec![0], vec![0]);
    numbers[0] = 0;
    let mut path = vec![(0_u32, 0_usize)];
    while let Some((vertex, next)) = path.last_mut() {
        let Some(&to) = links.of(*vertex).get(*next) else {
            path.pop();
            continue;
        };
        *next += 1;
        if numbers[to as usize] == NONE {
            parents.push(numbers[*vertex as usize]);
            numbers[to as usize] = order.len() as u32;
            order.push(to);
            path.push((to, 0));
        }
    }
    (order, parents)
}

/// The state of the algorithm. All vertices in it are numbers in the order of the search.
struct Search {
    order: Vec<u32>,
    number: Vec<u32>,
    parent: Vec<u32>,
    semi: Vec<u32>,
    dominator: Vec<u32>,
    /// The forest of processed vertices, with compressed paths, and of each the vertex with the least `semi` on its path.
    ancestor: Vec<u32>,
    label: Vec<u32>,
    /// Lists of the vertices that have a `semi`: first, and next.
    bucket: Vec<u32>,
    next_in_bucket: Vec<u32>,
}

impl Search {
    fn new(links: &Links, order: Vec<u32>, parent: Vec<u32>) -> Self {
        let reached = order.len();
        let mut number = vec![NONE; links.vertices()];
        for (place, vertex) in order.iter().enumerate() {
            number[*vertex as usize] = place as u32;
        }
        let own: Vec<u32> = (0..reached as u32).collect();
        Self {
            order,
            number,
            parent,
            semi: own.clone(),
            dominator: vec![0; reached],
            ancestor: vec![NONE; reached],
            label: own,
            bucket: vec![NONE; reached],
            next_in_bucket: vec![NONE; reached],
        }
    }

    fn run(&mut self, back: &Links) {
        let mut path = Vec::new();
        for at in (1..self.order.len()).rev() {
            for from in back.of(self.order[at]) {
                let from = self.number[*from as usize];
                if from != NONE {
                    let best = self.best(from, &mut path);
                    self.semi[at] = self.semi[at].min(self.semi[best as usize]);
                }
            }
            let semi = self.semi[at] as usize;
            self.next_in_bucket[at] = self.bucket[semi];
            self.bucket[semi] = at as u32;
            let parent = self.parent[at];
            self.ancestor[at] = parent;
            self.empty_bucket(parent, &mut path);
        }
        for at in 1..self.order.len() {
            if self.dominator[at] != self.semi[at] {
                self.dominator[at] = self.dominator[self.dominator[at] as usize];
            }
        }
    }

    fn empty_bucket(&mut self, of: u32, path: &mut Vec<u32>) {
        let mut vertex = std::mem::replace(&mut self.bucket[of as usize], NONE);
        while vertex != NONE {
            let best = self.best(vertex, path);
            let is_less = self.semi[best as usize] < self.semi[vertex as usize];
            self.dominator[vertex as usize] = if is_less { best } else { of };
            vertex = self.next_in_bucket[vertex as usize];
        }
    }

    /// The vertex with the least `semi` on the path to the root of its tree, without that root. Compresses the path.
    fn best(&mut self, vertex: u32, path: &mut Vec<u32>) -> u32 {
        if self.ancestor[vertex as usize] == NONE {
            return vertex;
        }
        let mut at = vertex;
        while self.ancestor[self.ancestor[at as usize] as usize] != NONE {
            path.push(at);
            at = self.ancestor[at as usize];
        }
        while let Some(below) = path.pop() {
            let below = below as usize;
            let above = self.ancestor[below] as usize;
            if self.semi[self.label[above] as usize] < self.semi[self.label[below] as usize] {
                self.label[below] = self.label[above];
            }
            self.ancestor[below] = self.ancestor[above];
        }
        self.label[vertex as usize]
    }

    fn result(self) -> Dominators {
        let mut immediate = vec![NONE; self.number.len()];
        for at in 1..self.order.len() {
            immediate[self.order[at] as usize] = self.order[self.dominator[at] as usize];
        }
        Dominators {
            immediate,
            order: self.order,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(vertices: usize, pairs: &[(u32, u32)]) -> Links {
        Links::new(vertices, |each| {
            pairs.iter().for_each(|(from, to)| each(*from, *to));
        })
    }

    /// Which vertices vertex 0 leads to where one is taken out.
    fn reached_without(links: &Links, out: u32) -> Vec<bool> {
        let mut reached = vec![false; links.vertices()];
        let mut left = if out == 0 { vec![] } else { vec![0] };
        while let Some(vertex) = left.pop() {
            if vertex != out && !std::mem::replace(&mut reached[vertex as usize], true) {
                left.extend(links.of(vertex));
            }
        }
        reached
    }

    /// By the definition: what dominates a vertex is what all ways lead by, and the nearest is dominated by all others.
    fn by_definition(links: &Links) -> Vec<u32> {
        let all = links.vertices() as u32;
        let reached = reached_without(links, NONE);
        let without: Vec<_> = (0..all).map(|out| reached_without(links, out)).collect();
        let dominates = |above: u32, below: u32| {
            above != below && reached[below as usize] && !without[above as usize][below as usize]
        };
        let nearest = |below: u32| {
            let mut above = (0..all).filter(|above| dominates(*above, below));
            let is_nearest = |candidate: &u32| {
                let mut others = (0..all).filter(|other| dominates(*other, below));
                others.all(|other| other == *candidate || dominates(other, *candidate))
            };
            above.find(is_nearest).unwrap_or(NONE)
        };
        (0..all).map(nearest).collect()
    }

    #[test]
    fn random_graphs_have_the_dominators_of_the_definition() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 33) % below
        };
        for round in 0..800 {
            let vertices = 1 + random(16);
            let pairs: Vec<_> = (0..random(3 * vertices + 1))
                .map(|_| (random(vertices) as u32, random(vertices) as u32))
                .collect();
            let links = links(vertices as usize, &pairs);
            let found = Dominators::of(&links);
            assert_eq!(
                found.immediate,
                by_definition(&links),
                "round {round}: {pairs:?}"
            );
            for (place, vertex) in found.order.iter().enumerate().skip(1) {
                let above = found.immediate[*vertex as usize];
                assert!(found.order[..place].contains(&above), "round {round}");
            }
        }
    }

    #[test]
    fn long_lists_side_by_side_do_not_take_for_ever() {
        // a1 -> a2 -> ..., each a(i) -> b(i), and b1 -> b2 -> ...
        let len = 300_000_u32;
        let links = Links::new(2 * len as usize + 1, |each| {
            each(0, 1);
            for at in 1..=len {
                each(at, len + at);
                if at < len {
                    each(at, at + 1);
                    each(len + at, len + at + 1);
                }
            }
        });
        let found = Dominators::of(&links);
        assert!((2..=len).all(|at| found.immediate[at as usize] == at - 1));
        assert!((1..=len).all(|at| found.immediate[(len + at) as usize] == 1));
    }
}
