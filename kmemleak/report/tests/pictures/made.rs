//! Logs and snapshots that are made up, in the format of `kmemleak/FORMATS.md`.

use std::collections::BTreeMap;
use std::fmt::Write;

use kmemleak_report::graph::Graph;
use kmemleak_report::log::{Log, Snapshot};

/// Numbers that look random, the same in each run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % bound
    }
}

/// A snapshot that is to be written.
#[derive(Default)]
pub struct Heap {
    /// Bytes, number of the call stack, and whether it is a leak.
    pub nodes: Vec<(u64, u32, bool)>,
    /// Name, and number of the node, which counts from 1.
    pub roots: Vec<(String, u32)>,
    /// From, offset, to, into.
    pub words: Vec<(u32, u64, u32, u64)>,
    /// Call stacks by number, innermost frame first.
    pub stacks: BTreeMap<u32, Vec<String>>,
}

impl Heap {
    pub fn log(&self) -> String {
        let mut out = String::from("> kmemleak snapshot\r\n");
        let quoted = |text: &str| serde_json::to_string(text).expect("text");
        for (number, frames) in &self.stacks {
            let frames: Vec<_> = frames.iter().map(|frame| quoted(frame)).collect();
            let frames = frames.join(",");
            writeln!(out, "{{\"schema\":2,\"kind\":\"stack\",\"crc\":\"{number:08x}\",\"skipped\":0,\"backtrace\":[{frames}]}}").expect("memory");
        }
        for (place, (size, stack, leak)) in self.nodes.iter().enumerate() {
            let address = 0xffff_8880_0000_0000 + place * 0x1000;
            let crc = match self.stacks.contains_key(stack) {
                true => format!("\"{stack:08x}\""),
                false => "null".into(),
            };
            writeln!(out, "{{\"schema\":2,\"kind\":\"node\",\"id\":{},\"address\":\"{address:#018x}\",\"size\":{size},\"birth_us\":{place},\"task\":3,\"comm\":\"init\",\"crc\":{crc},\"leak\":{leak}}}", place + 1).expect("memory");
        }
        for (place, (name, to)) in self.roots.iter().enumerate() {
            let slot = match name.as_str() {
                "not a leak" => "null".into(),
                _ => format!("\"{:#018x}\"", 0xffff_ffff_8010_0000_u64 + 8 * place as u64),
            };
            writeln!(out, "{{\"schema\":2,\"kind\":\"root\",\"name\":{},\"slot\":{slot},\"to\":{to},\"offset\":0}}", quoted(name)).expect("memory");
        }
        let mut by_node: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for (from, offset, to, into) in &self.words {
            by_node
                .entry(*from)
                .or_default()
                .push(format!("[{offset},{to},{into}]"));
        }
        for (from, words) in &by_node {
            for some in words.chunks(32) {
                writeln!(
                    out,
                    "{{\"schema\":2,\"kind\":\"edges\",\"from\":{from},\"words\":[{}]}}",
                    some.join(",")
                )
                .expect("memory");
            }
        }
        let bytes: u64 = self.nodes.iter().map(|node| node.0).sum();
        writeln!(out, "{{\"schema\":2,\"kind\":\"snapshot\",\"nodes\":{},\"bytes\":{bytes},\"edges\":{},\"roots\":{},\"complete\":true,\"stopped\":true,\"at_us\":7000}}", self.nodes.len(), self.words.len(), self.roots.len()).expect("memory");
        out
    }

    pub fn snapshot(&self) -> Snapshot {
        let log = Log::read(self.log().as_bytes()).expect("memory can be read");
        assert_eq!(log.damaged, 0);
        log.snapshot.expect("a snapshot")
    }

    pub fn graph(&self) -> Graph {
        Graph::new(self.snapshot()).expect("a graph")
    }

    /// Some nodes, roots in several groups, and words between them.
    pub fn random(random: &mut Random, most: u64) -> Self {
        let nodes = 1 + random.below(most);
        let names = [
            ".bss kernel::A+0x8",
            ".bss kernel::A+0x10",
            ".bss kernel::B",
            "cpu 1 kernel::C+0x0",
            "task 3 stack+0x8",
            "not a leak",
        ];
        let node = |random: &mut Random| 1 + random.below(nodes) as u32;
        Self {
            nodes: (0..nodes)
                .map(|_| {
                    (
                        1 + random.below(100),
                        random.below(4) as u32,
                        random.below(2) == 0,
                    )
                })
                .collect(),
            roots: (0..random.below(6))
                .map(|_| (names[random.below(6) as usize].to_owned(), node(random)))
                .collect(),
            words: (0..random.below(2 * nodes + 1))
                .map(|at| (node(random), 8 * at, node(random), 8 * random.below(2)))
                .collect(),
            stacks: (1..4)
                .map(|number| {
                    (
                        number,
                        vec![
                            format!("site{number}+0x1/0x2 (a.rs:{number})"),
                            "main".into(),
                        ],
                    )
                })
                .collect(),
        }
    }
}
