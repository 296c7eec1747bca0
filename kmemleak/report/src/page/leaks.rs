//! The leaks as the page shows them: by call stack, and one by one with what holds them.
//!
//! A report's objects are those that it lists. Where it has no groups, as an answer of `new`, they are made from the objects. What
//! holds an object, and by which way it is reached, comes from the snapshot, which was taken at another time: an object is only
//! looked up there if its birth is the same.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::Serialize;

use super::names::{Names, StackNumber};
use crate::graph::{Graph, ORIGIN, Vertex, What};
use crate::log::Report;
use crate::records::{Address, Crc, Group, Object, Rank, Stack};

/// Objects that are shown one by one, at most; and of each call stack; holders of each; steps of a way.
const MOST_OBJECTS: usize = 4_000;
const MOST_OF_GROUP: usize = 100;
const MOST_HOLDERS: usize = 8;
const MOST_STEPS: usize = 24;

#[derive(Debug, Serialize)]
pub(super) struct LeakGroup {
    stack: StackNumber,
    objects: u64,
    bytes: u64,
    leaders: u64,
    owned_objects: u64,
    owned_bytes: u64,
    oldest_us: u64,
    newest_us: u64,
    /// Places in the list of objects.
    listed: Vec<usize>,
}

#[derive(Debug, Serialize)]
pub(super) struct LeakObject {
    address: Address,
    size: u64,
    age_us: u64,
    task: u64,
    comm: String,
    cpu: u64,
    rank: &'static str,
    leader: Option<Address>,
    owned_objects: Option<u64>,
    owned_bytes: Option<u64>,
    freed: Option<bool>,
    dump: Option<String>,
    /// What the snapshot says of it; null if it is not in there.
    seen: Option<Seen>,
}

#[derive(Debug, Serialize)]
struct Seen {
    retained: u64,
    holders: Vec<Holder>,
    /// How many words point to it.
    words: usize,
    /// The shortest way to it, from a root or from the group of what is lost.
    way: Vec<Step>,
    /// Whether that way begins at a root: then something has pointed to it when the snapshot was taken.
    is_live: bool,
}

#[derive(Debug, Serialize)]
struct Holder {
    address: Address,
    stack: StackNumber,
    offset: u64,
    into: u64,
}

/// A root or group by its name, or an object.
#[derive(Debug, Serialize)]
struct Step {
    name: Option<String>,
    address: Option<Address>,
    stack: Option<StackNumber>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Leaks {
    groups: Vec<LeakGroup>,
    objects: Vec<LeakObject>,
}

impl Leaks {
    pub(super) fn of(report: &Report, graph: Option<&Graph>, names: &mut Names) -> Self {
        let mut leaks = Self::default();
        let mut by_stack: BTreeMap<Option<Crc>, Vec<&Object>> = BTreeMap::new();
        for object in &report.objects {
            by_stack.entry(object.stack.crc).or_default().push(object);
        }
        let made;
        let groups = match report.groups[..] {
            [] => {
                made = by_stack
                    .values()
                    .map(|objects| group_of(objects))
                    .collect::<Vec<_>>();
                &made
            }
            _ => &report.groups,
        };
        let seen = graph.map(|graph| Lookup::new(graph, &report.objects));
        for group in groups {
            let objects = by_stack
                .get(&group.stack.crc)
                .map_or(&[][..], Vec::as_slice);
            let room = MOST_OBJECTS.saturating_sub(leaks.objects.len());
            let listed = objects.iter().take(MOST_OF_GROUP.min(room));
            let first = leaks.objects.len();
            for object in listed {
                let seen = seen.as_ref().and_then(|lookup| lookup.seen(object, names));
                leaks.objects.push(leak(object, seen));
            }
            leaks.groups.push(LeakGroup {
                stack: names.number(&group.stack),
                objects: group.objects,
                bytes: group.bytes,
                leaders: group.leaders,
                owned_objects: group.owned_objects,
                owned_bytes: group.owned_bytes,
                oldest_us: group.oldest_age_us,
                newest_us: group.newest_age_us,
                listed: (first..leaks.objects.len()).collect(),
            });
        }
        leaks
    }
}

/// The group of some objects of one call stack.
fn group_of(objects: &[&Object]) -> Group {
    let leaders = objects
        .iter()
        .filter(|object| object.rank == Some(Rank::Leader));
    let sum = |of: fn(&Object) -> u64| objects.iter().map(|object| of(object)).sum();
    let ages = || objects.iter().map(|object| object.age_us);
    Group {
        objects: objects.len() as u64,
        bytes: sum(|object| object.size),
        leaders: leaders.clone().count() as u64,
        leader_bytes: leaders.map(|object| object.size).sum(),
        owned_objects: sum(|object| object.owned_objects.unwrap_or(0)),
        owned_bytes: sum(|object| object.owned_bytes.unwrap_or(0)),
        oldest_age_us: ages().max().unwrap_or(0),
        newest_age_us: ages().min().unwrap_or(0),
        stack: objects
            .first()
            .map(|object| object.stack.clone())
            .unwrap_or_default(),
    }
}

fn leak(object: &Object, seen: Option<Seen>) -> LeakObject {
    LeakObject {
        address: object.address,
        size: object.size,
        age_us: object.age_us,
        task: object.task,
        comm: object.comm.clone(),
        cpu: object.cpu,
        rank: match object.rank {
            Some(Rank::Leader) => "leader",
            Some(Rank::Owned) => "owned",
            None => "",
        },
        leader: object.leader,
        owned_objects: object.owned_objects,
        owned_bytes: object.owned_bytes,
        freed: object.freed,
        dump: object.dump.clone(),
        seen,
    }
}

/// Finds objects in the snapshot.
struct Lookup<'g> {
    graph: &'g Graph,
    vertices: HashMap<(Address, u64), Vertex>,
    /// Of those objects: which vertices have words that point there.
    holders: HashMap<Vertex, Vec<Vertex>>,
    /// Of each vertex the one before it on a shortest way from the origin.
    before: Vec<Vertex>,
}

impl<'g> Lookup<'g> {
    fn new(graph: &'g Graph, objects: &[Object]) -> Self {
        let wanted = objects.iter().take(MOST_OBJECTS);
        let mut wanted: HashMap<_, _> = wanted
            .map(|object| ((object.address, object.birth_us), None))
            .collect();
        for vertex in 0..graph.vertices() {
            if let What::Object(node) = graph.what(vertex)
                && let Some(place) = wanted.get_mut(&(node.address, node.birth_us))
            {
                *place = Some(vertex);
            }
        }
        let vertices = wanted.into_iter();
        let vertices: HashMap<_, _> = vertices
            .filter_map(|(key, vertex)| vertex.map(|vertex| (key, vertex)))
            .collect();
        let mut holders: HashMap<_, Vec<_>> = vertices
            .values()
            .map(|vertex| (*vertex, Vec::new()))
            .collect();
        for edges in &graph.snapshot().edges {
            for word in &edges.words {
                if let Some(of) = holders.get_mut(&word.to) {
                    of.push(edges.from);
                }
            }
        }
        Self {
            graph,
            vertices,
            holders,
            before: shortest_ways(graph),
        }
    }

    fn seen(&self, object: &Object, names: &mut Names) -> Option<Seen> {
        let vertex = *self.vertices.get(&(object.address, object.birth_us))?;
        let all = &self.holders[&vertex];
        let mut holders: Vec<_> = all.clone();
        holders.dedup();
        let graph = self.graph;
        let words = holders.into_iter().flat_map(|holder| {
            let words = graph.words(holder);
            words
                .filter(|word| word.to == vertex)
                .map(move |word| (holder, word))
        });
        let holders = words.take(MOST_HOLDERS).filter_map(|(holder, word)| {
            let What::Object(node) = graph.what(holder) else {
                return None;
            };
            Some(Holder {
                address: node.address,
                stack: names.number(graph.stack(node).unwrap_or(&Stack::default())),
                offset: word.offset,
                into: word.into,
            })
        });
        Some(Seen {
            holders: holders.collect(),
            words: all.len(),
            retained: graph.retained(vertex),
            way: self.way(vertex, names),
            is_live: !graph.is_lost(vertex),
        })
    }

    fn way(&self, to: Vertex, names: &mut Names) -> Vec<Step> {
        let (mut way, mut vertex) = (Vec::new(), to);
        while vertex != ORIGIN {
            way.push(vertex);
            vertex = self.before[vertex as usize];
        }
        way.reverse();
        // The ends say most.
        let left_out = way.len().saturating_sub(MOST_STEPS);
        let gap = MOST_STEPS / 2..MOST_STEPS / 2 + left_out;
        let mut steps = Vec::new();
        for (place, vertex) in way.into_iter().enumerate() {
            match gap.contains(&place) {
                true if place == gap.start => steps.push(Step {
                    name: Some(format!("… {left_out} more …")),
                    address: None,
                    stack: None,
                }),
                true => {}
                false => steps.push(self.step(vertex, names)),
            }
        }
        steps
    }

    fn step(&self, vertex: Vertex, names: &mut Names) -> Step {
        match self.graph.what(vertex) {
            What::Object(node) => Step {
                name: None,
                address: Some(node.address),
                stack: Some(names.number(self.graph.stack(node).unwrap_or(&Stack::default()))),
            },
            What::Origin => Step {
                name: None,
                address: None,
                stack: None,
            },
            What::Group(name) | What::Root(name) | What::Lost(name) => Step {
                name: Some(name.to_owned()),
                address: None,
                stack: None,
            },
        }
    }
}

fn shortest_ways(graph: &Graph) -> Vec<Vertex> {
    let mut before = vec![ORIGIN; graph.vertices() as usize];
    let mut seen = vec![false; graph.vertices() as usize];
    seen[ORIGIN as usize] = true;
    let mut left = VecDeque::from([ORIGIN]);
    while let Some(vertex) = left.pop_front() {
        for to in graph.links(vertex) {
            if !std::mem::replace(&mut seen[*to as usize], true) {
                before[*to as usize] = vertex;
                left.push_back(*to);
            }
        }
    }
    before
}
