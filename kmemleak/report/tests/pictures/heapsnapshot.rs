//! The heap in Chrome DevTools' format: its parts agree, and memlab computes the same retained sizes from it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::made::{Heap, Random};
use kmemleak_report::graph::{Graph, What};
use kmemleak_report::heapsnapshot;
use serde_json::Value;

fn written(graph: &Graph) -> Vec<u8> {
    let mut out = Vec::new();
    heapsnapshot::write(graph, &mut out).expect("memory takes all");
    out
}

fn numbers(value: &Value) -> Vec<usize> {
    let list = value.as_array().expect("a list").iter();
    list.map(|number| number.as_u64().expect("a number") as usize)
        .collect()
}

#[test]
fn nodes_edges_and_texts_agree() {
    let mut random = Random(5);
    for _ in 0..100 {
        let heap = Heap::random(&mut random, 12);
        let graph = heap.graph();
        let value: Value = serde_json::from_slice(&written(&graph)).expect("JSON");
        let (nodes, edges) = (numbers(&value["nodes"]), numbers(&value["edges"]));
        let texts = value["strings"].as_array().expect("a list");
        let sum = &value["snapshot"];
        assert_eq!(sum["node_count"], nodes.len() / 7);
        assert_eq!(sum["edge_count"], edges.len() / 3);
        let counts: usize = nodes.chunks(7).map(|node| node[4]).sum();
        assert_eq!(counts, edges.len() / 3);
        assert!(nodes.chunks(7).all(|node| node[1] < texts.len()));
        let mut ids: Vec<_> = nodes.chunks(7).map(|node| node[2]).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), nodes.len() / 7);
        let bytes: usize = nodes.chunks(7).map(|node| node[3]).sum();
        assert_eq!(
            bytes as u64,
            heap.nodes.iter().map(|node| node.0).sum::<u64>()
        );
        let words = edges.chunks(3).filter(|edge| edge[0] != 1);
        assert_eq!(words.count(), heap.words.len() + heap.roots.len());
    }
}

#[test]
fn an_object_has_the_name_of_its_call_site_and_an_edge_that_of_its_word() {
    let heap = Heap {
        nodes: vec![(10, 1, false), (20, 0, true)],
        roots: vec![(".bss kernel::X+0x8".into(), 1)],
        words: vec![(1, 16, 1, 8), (2, 0, 1, 0)],
        stacks: [(
            1,
            vec!["net::open+0x1/0x2 (net.rs:7), inlined net::new (net.rs:9)".into()],
        )]
        .into(),
    };
    let value: Value = serde_json::from_slice(&written(&heap.graph())).expect("JSON");
    let texts = value["strings"].as_array().expect("a list");
    let named = |number: usize| texts[number].as_str().expect("text");
    let nodes = numbers(&value["nodes"]);
    let nodes: Vec<_> = nodes
        .chunks(7)
        .map(|node| (named(node[1]), node[3]))
        .collect();
    let expected = [
        ("", 0),
        ("(unreferenced)", 0),
        ("(leaked)", 0),
        ("(not reported)", 0),
        (".bss", 0),
        ("kernel::X", 0),
        ("net::new", 10),
        ("(no call stack)", 20),
    ];
    assert_eq!(nodes, expected);
    let edges = numbers(&value["edges"]);
    let words = edges.chunks(3).filter(|edge| edge[0] != 1);
    let words: Vec<_> = words
        .map(|edge| (edge[0], named(edge[1]), edge[2] / 7))
        .collect();
    assert_eq!(
        words,
        [
            (2, ".bss kernel::X+0x8", 6),
            (2, "+0x10 to +0x8", 6),
            (6, "+0x0", 6)
        ]
    );
}

/// Where memlab is installed: a folder `node_modules` in a place where npm puts it, or the one of `MEMLAB`.
fn memlab() -> Option<PathBuf> {
    let global = Command::new("npm").args(["root", "-g"]).output().ok();
    let global = global.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let folders = [
        env::var_os("MEMLAB").map(PathBuf::from),
        global.clone(),
        global.map(|folder| folder.join("memlab/node_modules")),
    ];
    let mut folders = folders.into_iter().flatten();
    folders.find(|folder| folder.join("@memlab/core").is_dir())
}

/// Prints, for each node of a file, its id and its retained size.
const SCRIPT: &str = r#"
const [modules, file] = process.argv.slice(-2);
const {utils, analysis} = require(modules + '/@memlab/core');
(async () => {
  const snapshot = await utils.getSnapshotFromFile(file, {buildNodeIdIndex: true});
  analysis.preparePathFinder(snapshot);
  const out = [];
  snapshot.nodes.forEach(node => { out.push(`@${node.id} ${node.retainedSize}`); });
  require('fs').writeFileSync(file + '.sizes', out.join('\n'));
})().catch(error => { console.error(error); process.exit(1); });
"#;

#[test]
fn memlab_computes_the_same_retained_sizes() {
    let Some(modules) = memlab() else {
        println!(
            "skipped: node or memlab is not installed (npm install -g memlab, or MEMLAB=.../node_modules)"
        );
        return;
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (mut random, mut keeping) = (Random(3), 0);
    for (round, most) in [5, 40, 400, 3000].into_iter().enumerate() {
        let graph = Heap::random(&mut random, most).graph();
        let file = folder.join(format!("memlab-{round}.heapsnapshot"));
        fs::write(&file, written(&graph)).expect("a file");
        let output = Command::new("node")
            .arg("-e")
            .arg(SCRIPT)
            .arg("--")
            .arg(&modules)
            .arg(&file)
            .output();
        let output = output.expect("node runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let sizes =
            fs::read_to_string(file.with_extension("heapsnapshot.sizes")).expect("its answer");
        let theirs: Vec<u64> = sizes
            .lines()
            .map(|line| {
                line.split(' ')
                    .nth(1)
                    .expect("a size")
                    .parse()
                    .expect("a number")
            })
            .collect();
        assert_eq!(theirs.len(), graph.vertices() as usize);
        for (vertex, theirs) in (0..graph.vertices()).zip(theirs) {
            let what = graph.what(vertex);
            assert_eq!(theirs, graph.retained(vertex), "round {round}, {what:?}");
        }
        let keeps = |vertex: &u32| graph.retained(*vertex) > graph.size(*vertex);
        let keepers = (0..graph.vertices()).filter(keeps);
        keeping += keepers
            .filter(|vertex| matches!(graph.what(*vertex), What::Object(_)))
            .count();
    }
    assert!(keeping > 100, "{keeping} objects keep others alive");
}
