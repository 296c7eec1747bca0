//! Writes the heap in the format of Chrome DevTools' memory panel (`.heapsnapshot`), which memlab reads as well.
//!
//! An object's name is the function that allocated it, so the panel groups objects by call site. Its id is its number in the
//! snapshot's records. An edge has the name of its word: where the word lies in its object, `+0x10`, and where it points, if not to
//! the start: `+0x10 to +0x8`. What is lost hangs below a group `(unreferenced)`; its words that point to live objects are *weak*
//! edges, so they retain nothing, as in [`Graph`].
//!
//! The format is not documented, but stable: it is what V8 writes (`HeapSnapshotJSONSerializer`). Readers keep nodes and edges as
//! numbers of 32 bits; an object of 4 GiB or more is shown as one byte less than 4 GiB.

use std::collections::HashMap;
use std::io::{self, Write};

use crate::function::callers_of;
use crate::graph::{Graph, Vertex, What};
use crate::records::Word;

/// Names of the fields and types, as V8 writes them.
const META: &str = r#"{"node_fields":["type","name","id","self_size","edge_count","trace_node_id","detachedness"],"node_types":[["hidden","array","string","object","code","closure","regexp","number","native","synthetic","concatenated string","sliced string","symbol","bigint","object shape"],"string","number","number","number","number","number"],"edge_fields":["type","name_or_index","to_node"],"edge_types":[["context","element","property","internal","hidden","shortcut","weak"],"string_or_number","node"],"trace_function_info_fields":["function_id","name","script_name","script_id","line","column"],"trace_node_fields":["id","function_info_index","count","size","children"],"sample_fields":["timestamp_us","last_assigned_id"],"location_fields":["object_index","script_id","line","column"]}"#;
/// How many numbers a node has.
const NODE_FIELDS: u64 = 7;
/// Places in the list of node types.
const OBJECT: u64 = 3;
const SYNTHETIC: u64 = 9;
/// Places in the list of edge types.
const ELEMENT: u64 = 1;
const PROPERTY: u64 = 2;
const WEAK: u64 = 6;

/// Texts, each once.
#[derive(Default)]
struct Strings {
    numbers: HashMap<String, u64>,
    texts: Vec<String>,
}

impl Strings {
    fn number(&mut self, text: &str) -> u64 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u64;
        self.numbers.insert(text.to_owned(), number);
        self.texts.push(text.to_owned());
        number
    }
}

/// Writes a graph.
pub fn write(graph: &Graph, out: &mut dyn Write) -> io::Result<()> {
    let mut strings = Strings::default();
    // Readers expect that the first text stands for none.
    strings.number("");
    let edges = edges(graph, &mut strings);
    write!(
        out,
        "{{\"snapshot\":{{\"meta\":{META},\"node_count\":{},\"edge_count\":{},\"trace_function_count\":0}},\n\"nodes\":[",
        graph.vertices(),
        edges.len()
    )?;
    let mut counts = vec![0_u64; graph.vertices() as usize];
    edges
        .iter()
        .for_each(|edge| counts[edge.from as usize] += 1);
    for vertex in 0..graph.vertices() {
        let [kind, name, id, size] = node(graph, vertex, &mut strings);
        let separator = if vertex == 0 { "" } else { "," };
        let count = counts[vertex as usize];
        writeln!(out, "{separator}{kind},{name},{id},{size},{count},0,0")?;
    }
    write!(out, "],\n\"edges\":[")?;
    for (place, edge) in edges.iter().enumerate() {
        let separator = if place == 0 { "" } else { "," };
        let to = NODE_FIELDS * u64::from(edge.to);
        writeln!(out, "{separator}{},{},{to}", edge.kind, edge.name)?;
    }
    write!(
        out,
        "],\n\"trace_function_infos\":[],\n\"trace_tree\":[],\n\"samples\":[],\n\"locations\":[],\n\"strings\":"
    )?;
    serde_json::to_writer(&mut *out, &strings.texts)?;
    writeln!(out, "}}")
}

/// Type, name, id and bytes.
fn node(graph: &Graph, vertex: Vertex, strings: &mut Strings) -> [u64; 4] {
    // Behind those of the objects.
    let made_id = u64::from(u32::MAX - vertex);
    match graph.what(vertex) {
        What::Origin => [SYNTHETIC, strings.number(""), made_id, 0],
        What::Group(name) | What::Root(name) | What::Lost(name) => {
            [SYNTHETIC, strings.number(name), made_id, 0]
        }
        What::Object(node) => {
            let callers = graph.stack(node).map(callers_of).unwrap_or_default();
            let name = callers
                .first()
                .map_or("(no call stack)", |caller| caller.name);
            let name = strings.number(name);
            let size = node.size.min(u64::from(u32::MAX));
            [OBJECT, name, u64::from(node.id), size]
        }
    }
}

struct Edge {
    from: Vertex,
    to: Vertex,
    kind: u64,
    name: u64,
}

/// All edges, in the order of the vertices that they come from.
fn edges(graph: &Graph, strings: &mut Strings) -> Vec<Edge> {
    let roots = &graph.snapshot().roots;
    let mut words_of: HashMap<Vertex, Vec<usize>> = HashMap::new();
    for root in 0..roots.len() {
        words_of.entry(graph.holder(root)).or_default().push(root);
    }
    let mut edges = Vec::new();
    for from in 0..graph.vertices() {
        if let What::Object(_) = graph.what(from) {
            edges.extend(
                graph
                    .words(from)
                    .map(|word| of_word(graph, from, word, strings)),
            );
            continue;
        }
        let words = words_of.remove(&from).unwrap_or_default();
        // Its other links are those to groups and roots, or to lost objects.
        let others = graph.links(from).len() - words.len();
        for (index, to) in graph.links(from)[..others].iter().enumerate() {
            let (to, kind, name) = (*to, ELEMENT, index as u64);
            edges.push(Edge {
                from,
                to,
                kind,
                name,
            });
        }
        for root in words {
            let (to, name) = (roots[root].to, strings.number(&roots[root].name));
            let kind = PROPERTY;
            edges.push(Edge {
                from,
                to,
                kind,
                name,
            });
        }
    }
    edges
}

fn of_word(graph: &Graph, from: Vertex, word: Word, strings: &mut Strings) -> Edge {
    let name = match word.into {
        0 => format!("+{:#x}", word.offset),
        into => format!("+{:#x} to +{into:#x}", word.offset),
    };
    let is_weak = graph.is_lost(from) != graph.is_lost(word.to);
    Edge {
        from,
        to: word.to,
        kind: if is_weak { WEAK } else { PROPERTY },
        name: strings.number(&name),
    }
}
