//! The architecture, held by a test: who may use whom, and what is said nowhere but in its place.
//!
//! It reads the sources as text: `use` lines, paths, and calls of methods that one file alone defines. So it sees what imports
//! show and what they don't. The rules are data, in `rules`.

mod rules;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rules::{Layers, Nevers};
use tree::{File, Tree};

/// The sources that people live in; tests are not among them.
const FOLDERS: [&str; 6] = [
    "kmemleak/src",
    "kernel/src",
    "boot/src",
    "kmemleak/leak-script/src",
    "kmemleak/emulated/src",
    "kmemleak/report/src",
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn detector() -> Tree {
    Tree::read(&workspace().join("kmemleak/src"))
}

fn kernel() -> Tree {
    Tree::read(&workspace().join("kernel/src"))
}

/// Whether a file lies in a place: is that module, or inside it.
fn lies_in(file: &File, place: &str) -> bool {
    file.module
        .strip_prefix(place)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The layer of a file: the longest name of a layer that its module begins with.
fn layer(layers: Layers, file: &File) -> Option<(&'static str, &'static str)> {
    let of = layers.iter().filter(|(name, _)| lies_in(file, name));
    of.max_by_key(|(name, _)| name.len()).copied()
}

fn may_use(layers: Layers, from: &File, to: &File) -> bool {
    match (layer(layers, from), layer(layers, to)) {
        (Some((from, allowed)), Some((to, _))) => {
            from == to || allowed.split(' ').any(|name| name == to)
        }
        _ => false,
    }
}

/// Arrows that run up, or sideways.
fn wrong_arrows(tree: &Tree, layers: Layers) -> Vec<String> {
    let named = tree
        .arrows()
        .into_iter()
        .map(|(from, line, to)| (from, line, to, String::new()));
    let called = tree.calls().into_iter();
    let wrong = named
        .chain(called)
        .filter(|(from, _, to, _)| !may_use(layers, from, to));
    let told = wrong.map(|(from, line, to, method)| {
        let how = if method.is_empty() {
            "names".into()
        } else {
            format!("calls `{method}` of")
        };
        format!(
            "{} line {line} {how} {}: its layer may not use that",
            from.module, to.module
        )
    });
    told.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Files that lead to each other.
fn circles(tree: &Tree) -> Vec<String> {
    let mut leads: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, _, to) in tree.arrows() {
        leads.entry(&from.module).or_default().insert(&to.module);
    }
    let reached = |from: &str| {
        let (mut seen, mut left) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(module) = left.pop() {
            for &to in leads.get(module.as_str()).into_iter().flatten() {
                if seen.insert(to.to_owned()) {
                    left.push(to.to_owned());
                }
            }
        }
        seen
    };
    let in_circle = tree
        .0
        .iter()
        .filter(|file| reached(&file.module).contains(&file.module));
    in_circle
        .map(|file| format!("{} leads to itself through others", file.module))
        .collect()
}

/// Words in places where they are not to be.
fn misplaced(tree: &Tree, nevers: Nevers) -> Vec<String> {
    let mut told = Vec::new();
    for (word, places) in nevers {
        for file in &tree.0 {
            let allowed = places.split(' ').any(|place| lies_in(file, place));
            if !allowed && let Some(at) = file.mentions(word).next() {
                told.push(format!(
                    "{} line {} says `{word}`, which only {places} may",
                    file.module,
                    file.line_of(at)
                ));
            }
        }
    }
    told
}

/// Fields of the detector's halves that others could touch.
fn open_fields(tree: &Tree) -> Vec<String> {
    let mut told = Vec::new();
    for (file, name) in tree
        .0
        .iter()
        .flat_map(|file| rules::PRIVATE.iter().map(move |name| (file, *name)))
    {
        let Some(at) = file.mentions(&format!("struct {name}")).next() else {
            continue;
        };
        let body = file.code[at..].split('}').next().unwrap_or_default();
        if body
            .split_once('{')
            .is_some_and(|(_, fields)| fields.contains("pub"))
        {
            told.push(format!(
                "{name} in {} has a field that is not its folder's own",
                file.module
            ));
        }
    }
    told
}

/// Names that several types have.
fn shared_names(tree: &Tree) -> Vec<String> {
    let mut places: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for file in &tree.0 {
        for line in file.code.lines().filter(|line| !line.starts_with(' ')) {
            let mut words = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            if words.any(|word| ["struct", "enum", "trait", "type"].contains(&word))
                && let Some(name) = words.find(|word| !word.is_empty())
            {
                places
                    .entry(name.to_owned())
                    .or_default()
                    .push(&file.module);
            }
        }
    }
    let shared = places.into_iter().filter(|(_, places)| places.len() > 1);
    shared
        .map(|(name, places)| format!("`{name}` is a type in {}", places.join(" and ")))
        .collect()
}

#[track_caller]
fn none(what: Vec<String>) {
    assert!(what.is_empty(), "\n{}\n", what.join("\n"));
}

#[test]
fn arrows_of_the_detector_run_down() {
    none(wrong_arrows(&detector(), rules::DETECTOR));
}

#[test]
fn arrows_of_the_kernel_run_down() {
    none(wrong_arrows(&kernel(), rules::KERNEL));
}

#[test]
fn no_two_files_lead_to_each_other() {
    for folder in FOLDERS {
        none(circles(&Tree::read(&workspace().join(folder))));
    }
}

#[test]
fn each_thing_is_said_in_its_place() {
    none(misplaced(&detector(), rules::NEVERS));
    none(misplaced(&kernel(), rules::KERNEL_NEVERS));
    none(open_fields(&detector()));
    none(shared_names(&detector()));
}

#[test]
fn files_are_short() {
    let files = FOLDERS
        .iter()
        .flat_map(|folder| Tree::read(&workspace().join(folder)).0);
    let mut lines: Vec<(usize, String)> = files.map(|file| (file.lines, file.module)).collect();
    lines.sort();
    let nine_in_ten = lines[lines.len() * 9 / 10].0;
    println!(
        "median {}, nine in ten {nine_in_ten}, most {:?}",
        lines[lines.len() / 2].0,
        lines.last()
    );
    assert!(
        nine_in_ten < rules::MANY_LINES,
        "nine files in ten have up to {nine_in_ten} lines"
    );
    none(
        lines
            .into_iter()
            .filter(|(lines, _)| *lines > rules::MOST_LINES)
            .map(|file| format!("{file:?}"))
            .collect(),
    );
}

/// A small tree: paths and texts.
fn planted(files: &[(&str, &str)]) -> Tree {
    Tree(
        files
            .iter()
            .map(|(path, text)| File::new(path, text))
            .collect(),
    )
}

const TWO: Layers = &[("low", ""), ("high", "low")];

#[test]
fn an_arrow_up_is_found_and_one_down_is_none() {
    let up = |text| {
        wrong_arrows(
            &planted(&[
                ("low/mod.rs", text),
                ("high/thing.rs", "pub fn do_it(&self) {}"),
            ]),
            TWO,
        )
    };
    assert_eq!(up("use crate::high::thing;").len(), 1);
    assert_eq!(
        up("use crate::{\n    high::{thing::{self, X}, other},\n};").len(),
        1
    );
    assert_eq!(up("fn f() { crate::high::thing::g() }").len(), 1);
    assert_eq!(up("use super::high::thing::X;").len(), 1);
    assert_eq!(
        up("fn f(it: T) { it.do_it(); }").len(),
        1,
        "a call shows what imports don't"
    );
    for none in [
        "// use crate::high::thing;",
        "const A: &str = \"crate::high::thing\";",
        "#[cfg(test)]\nmod tests { use crate::high::thing; }",
    ] {
        assert!(up(none).is_empty(), "{none}");
    }
    let down = planted(&[
        ("low/mod.rs", "pub fn do_it(&self) {}"),
        (
            "high/thing.rs",
            "use crate::low; fn f(it: T) { it.do_it(); }",
        ),
    ]);
    assert!(wrong_arrows(&down, TWO).is_empty());
}

#[test]
fn a_circle_is_found_and_a_folder_is_none() {
    let circle = planted(&[
        ("a.rs", "use crate::b;"),
        ("b.rs", "use crate::c;"),
        ("c.rs", "use super::a::X;"),
    ]);
    assert_eq!(circles(&circle).len(), 3);
    let folder = planted(&[
        ("a/mod.rs", "mod b;\nuse self::b::X;"),
        ("a/b.rs", "use super::Y;"),
        ("c.rs", "use crate::a;"),
    ]);
    assert!(circles(&folder).is_empty());
}

#[test]
fn a_word_out_of_its_place_is_found() {
    let nevers: Nevers = &[("Claim", "high")];
    let tree = planted(&[
        ("low/mod.rs", "fn f(claim: &Claim) {}"),
        ("high/mod.rs", "struct Claim;"),
    ]);
    assert_eq!(misplaced(&tree, nevers).len(), 1);
    let legal = planted(&[("low/mod.rs", "// Claim\nstruct Claims; struct MyClaim;")]);
    assert!(misplaced(&legal, nevers).is_empty());
}

#[test]
fn open_fields_and_shared_names_are_found() {
    let tree = planted(&[
        ("a.rs", "pub struct Tracker<P> {\n    pub(crate) x: P,\n}"),
        ("b.rs", "enum Tracker {}"),
    ]);
    assert_eq!(
        (open_fields(&tree).len(), shared_names(&tree).len()),
        (1, 1)
    );
    let legal = planted(&[(
        "a.rs",
        "pub struct Tracker<P> {\n    x: P,\n}\npub enum Other {}",
    )]);
    assert_eq!(
        (open_fields(&legal).len(), shared_names(&legal).len()),
        (0, 0)
    );
}
