//! Snapshots of the heap: what they have, and what they cost. (Random graphs are in `graph.rs`.)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kmemleak::{AllocOptions, CommandError, Detector, METADATA_PAGE, Platform, Reading};
use kmemleak_emulated::{Emulated, Machine, Place, Stop};

use crate::lab::{Lab, many, try_to};

/// A word of an object: its offset there, the object that it points to, and the offset in that.
pub type Word = (u64, usize, u64);

/// A snapshot, with objects by their addresses.
#[derive(Debug, Default)]
pub struct Heap {
    /// Sizes.
    pub nodes: BTreeMap<usize, u64>,
    pub leaks: BTreeSet<usize>,
    /// Addresses of words in roots, with the object that they point to and the offset in that.
    pub roots: BTreeSet<(usize, usize, u64)>,
    /// Objects that are alive without a pointer, and the name of what they count as.
    pub held: BTreeSet<(usize, String)>,
    /// Words of objects, in order: those of the copies of a block may be equal.
    pub words: BTreeMap<usize, Vec<Word>>,
    end: String,
    /// Lines of each kind.
    pub kinds: BTreeMap<String, usize>,
}

/// The value of a field, as it stands in the line, text without its quotation marks. (That lines are JSON is tested with the
/// formats.)
pub fn value<'l>(line: &'l str, field: &str) -> &'l str {
    let name = format!("\"{field}\":");
    let (_, rest) = line
        .split_once(&name)
        .unwrap_or_else(|| panic!("{field} in {line}"));
    if let Some(text) = rest.strip_prefix('"') {
        return text.split('"').next().expect("text");
    }
    let mut depth = 0;
    let end = rest.find(|character| {
        match character {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        depth == 0 && matches!(character, ',' | '}')
    });
    &rest[..end.expect("an end")]
}

fn address(text: &str) -> Option<usize> {
    usize::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

/// The numbers of `[[1,2,3],[4,5,6]]`, three by three.
fn triples(text: &str) -> Vec<[u64; 3]> {
    let numbers: Vec<u64> = (text.split(|character: char| !character.is_ascii_digit()))
        .filter(|digits| !digits.is_empty())
        .map(number)
        .collect();
    let (triples, rest) = numbers.as_chunks();
    assert_eq!(rest.len(), 0, "{text}");
    triples.to_vec()
}

impl Heap {
    /// Reads a snapshot; all of it must be as `FORMATS.md` says.
    pub fn of(text: &str) -> Self {
        let (mut heap, mut ids, mut stacks) = (Self::default(), Vec::new(), BTreeSet::new());
        for line in text.lines() {
            assert_eq!(heap.end, "", "a line behind the last one: {line}");
            assert!(line.starts_with("{\"schema\":2,\"kind\":"), "{line}");
            let kind = value(line, "kind");
            *heap.kinds.entry(kind.to_owned()).or_default() += 1;
            let at = |number: u64| ids[number as usize - 1];
            match kind {
                "stack" => assert!(stacks.insert(value(line, "crc")), "twice: {line}"),
                "node" => {
                    assert_eq!(number(value(line, "id")), ids.len() as u64 + 1);
                    let start = address(value(line, "address")).expect("an address");
                    assert!(ids.last().is_none_or(|last| *last < start), "{line}");
                    ids.push(start);
                    heap.nodes.insert(start, number(value(line, "size")));
                    if value(line, "leak") == "true" {
                        heap.leaks.insert(start);
                    }
                    let crc = value(line, "crc");
                    assert!(crc == "null" || stacks.contains(crc), "{line}");
                }
                "root" => {
                    let (to, into) = (at(number(value(line, "to"))), value(line, "offset"));
                    let new = match address(value(line, "slot")) {
                        Some(slot) => heap.roots.insert((slot, to, number(into))),
                        None => heap.held.insert((to, value(line, "name").to_owned())),
                    };
                    assert!(new, "twice: {line}");
                }
                "edges" => {
                    let words = triples(value(line, "words"));
                    assert!((1..=32).contains(&words.len()));
                    let from = at(number(value(line, "from")));
                    let all = heap.words.entry(from).or_default();
                    all.extend(
                        words
                            .iter()
                            .map(|&[offset, to, into]| (offset, at(to), into)),
                    );
                    all.sort_unstable();
                }
                "snapshot" => heap.end = line.to_owned(),
                other => panic!("{other}: {line}"),
            }
        }
        heap.check_sums();
        heap
    }

    fn check_sums(&self) {
        let edges: usize = self.words.values().map(Vec::len).sum();
        for (field, sum) in [
            ("nodes", self.nodes.len() as u64),
            ("bytes", self.nodes.values().sum()),
            ("edges", edges as u64),
            ("roots", (self.roots.len() + self.held.len()) as u64),
        ] {
            assert_eq!(number(self.end(field)), sum, "{field} of {}", self.end);
        }
        let (code, error) = (self.end("code"), self.end("error"));
        match self.end("complete") {
            "true" => assert_eq!([code, error], ["null", "null"]),
            _ => assert!(
                code == "no_memory" && error.starts_with("no memory for the whole snapshot: ")
            ),
        }
    }

    /// A field of the last line.
    pub fn end(&self, field: &str) -> &str {
        value(&self.end, field)
    }

    /// What can be reached from the roots.
    pub fn reached(&self) -> BTreeSet<usize> {
        let words = self.roots.iter().map(|(_, to, _)| *to);
        let mut left: Vec<usize> = words.chain(self.held.iter().map(|(to, _)| *to)).collect();
        let mut reached = BTreeSet::new();
        while let Some(start) = left.pop() {
            if reached.insert(start) {
                let words = self.words.get(&start).into_iter().flatten();
                left.extend(words.map(|(_, to, _)| *to));
            }
        }
        reached
    }

    fn words_of(&self, start: usize) -> Vec<Word> {
        let words = self.words.get(&start).into_iter().flatten();
        words.copied().collect()
    }
}

/// A snapshot for which there is enough memory.
pub fn snapshot<P: Platform>(detector: &Detector<P>) -> Heap {
    let (done, text) = try_to(detector, "snapshot");
    assert_eq!(done, Ok(()), "{text}");
    let heap = Heap::of(&text);
    assert_eq!(heap.end("complete"), "true");
    heap
}

#[test]
fn objects_words_and_roots() {
    let lab = Lab::new();
    lab.machine.call_from(&["probe", "main"]);
    let (first, second) = (lab.block(64), lab.block(32));
    lab.machine.call_from(&["open"]);
    let (third, lost, owned) = (lab.block(16), lab.block(48), lab.block(8));
    lab.hold(0, first + 8);
    lab.machine.write(first + 16, second);
    lab.machine.write(first + 24, second + 31);
    // A pointer to itself, which changes nothing, and one past the end, which points to nothing.
    lab.machine.write(first + 32, first);
    lab.machine.write(first + 40, second + 32);
    lab.machine.write(second, third);
    lab.machine.write(lost, owned);
    lab.machine.write(lost + 8, third);
    lab.say("scan");
    let text = lab.say("snapshot");
    let heap = Heap::of(&text);
    assert_eq!(
        heap.nodes,
        [
            (first, 64),
            (second, 32),
            (third, 16),
            (lost, 48),
            (owned, 8)
        ]
        .into()
    );
    assert_eq!(heap.leaks, [lost, owned].into());
    let root = lab.machine.address(Place::Bss(0));
    assert_eq!(heap.roots, [(root, first, 8)].into());
    assert_eq!(heap.held, [].into());
    assert_eq!(heap.words_of(first), [(16, second, 0), (24, second, 31)]);
    assert_eq!(heap.words_of(second), [(0, third, 0)]);
    assert_eq!(heap.words_of(lost), [(0, owned, 0), (8, third, 0)]);
    assert_eq!(heap.words.len(), 3);
    assert_eq!(heap.kinds["stack"], 2);
    assert_eq!(heap.reached(), [first, second, third].into());
    assert_eq!(heap.end("stopped"), "true");
    assert!(text.contains(r#""name":"bss 0""#), "{text}");
    assert!(text.contains(r#""backtrace":["probe","main"]"#), "{text}");
}

#[test]
fn long_rows_of_words_are_divided() {
    let lab = Lab::new();
    let (table, target) = (lab.block(8 * 70), lab.block(8));
    lab.hold(0, table);
    (0..70).for_each(|index| lab.machine.write(table + 8 * index, target));
    let heap = snapshot(&lab.detector);
    assert_eq!(heap.kinds["edges"], 3);
    let words: Vec<Word> = (0..70).map(|index| (8 * index, target, 0)).collect();
    assert_eq!(heap.words_of(table), words);
}

#[test]
fn what_is_declared_to_be_no_leak_is_a_root() {
    let lab = Lab::new();
    let [gray, black] =
        [0, -1].map(|count| lab.block_with(16, AllocOptions::new().min_count(count)));
    let (held, free) = (lab.block(8), lab.block(8));
    lab.machine.write(gray, held);
    lab.machine.write(black, free);
    let heap = snapshot(&lab.detector);
    let no_leak = |start| (start, "not a leak".to_owned());
    assert_eq!(heap.held, [no_leak(gray), no_leak(black)].into());
    assert_eq!(heap.words_of(gray), [(0, held, 0)]);
    // Its words are not followed.
    assert_eq!(heap.words_of(black), []);
    assert_eq!(heap.reached(), [gray, black, held].into());
}

/// A word is that of a per-CPU block in whichever copy it lies, and wherever it points.
#[test]
fn copies_of_a_block_are_one_node() {
    let lab = Lab::of(Machine::builder().cpus(3));
    let handle = lab.machine.percpu(24);
    lab.detector.alloc_percpu(handle, 24);
    let copy = |cpu| lab.machine.percpu_copy(handle, cpu).expect("live");
    let (one, other) = (lab.block(8), lab.block(8));
    lab.hold(0, copy(2) + 4);
    lab.machine.write(copy(0) + 8, one);
    lab.machine.write(copy(2) + 16, other + 3);
    let heap = snapshot(&lab.detector);
    assert_eq!(heap.nodes[&handle], 24);
    assert_eq!(heap.nodes.len(), 3);
    assert_eq!(heap.words_of(handle), [(8, one, 0), (16, other, 3)]);
    let slot = lab.machine.address(Place::Bss(0));
    assert_eq!(heap.roots, [(slot, handle, 4)].into());
}

#[test]
fn words_are_read_as_the_marker_reads_them() {
    let lab = Lab::new();
    let (bytes, unread, target) = (lab.block(32), lab.block(32), lab.block(8));
    lab.detector.read_as(bytes, Reading::Bytes);
    lab.detector.no_scan(unread);
    lab.hold(0, bytes);
    lab.hold(1, unread);
    lab.machine.write(unread, target);
    // At no multiple of eight.
    lab.machine.write(bytes + 8, target << 24);
    lab.machine.write(bytes + 16, target >> 40);
    let heap = snapshot(&lab.detector);
    assert_eq!(heap.words_of(bytes), [(11, target, 0)]);
    assert_eq!(heap.words_of(unread), []);
}

#[test]
fn while_other_code_runs_it_says_so() {
    let lab = Lab::new();
    lab.machine.set_stop(Stop::Unsupported);
    let (held, lost) = (lab.block(64), lab.block(64));
    lab.hold(0, held);
    let heap = snapshot(&lab.detector);
    assert_eq!(heap.end("stopped"), "false");
    assert_eq!(heap.reached(), [held].into());
    assert!(heap.nodes.contains_key(&lost));
}

#[test]
fn the_sums_are_those_of_the_status() {
    let lab = Lab::new();
    for size in 1..many(200) {
        let block = lab.block(size);
        lab.hold(size % 40, block);
    }
    let heap = snapshot(&lab.detector);
    let tracking = lab.detector.tracking();
    assert_eq!(number(heap.end("nodes")), tracking.objects as u64);
    assert_eq!(number(heap.end("bytes")), tracking.bytes as u64);
}

/// A tree, with as many words as it takes for several pages of each kind.
fn tree(lab: &Lab, count: usize) -> Vec<usize> {
    let blocks: Vec<usize> = (0..count).map(|_| lab.block(8 * 16)).collect();
    for (number, &block) in blocks.iter().enumerate() {
        for child in 1..=8 {
            if let Some(&child_start) = blocks.get(8 * number + child) {
                lab.machine.write(block + 8 * child, child_start);
            }
        }
    }
    for index in 0..60 {
        lab.hold(index, blocks[0]);
    }
    blocks
}

/// Whichever request for memory is refused, with all that follow or alone: it says that something is missing, what there is holds
/// together, all pages are given back, and the detector works as before.
#[test]
fn where_memory_is_short_it_says_so() {
    let lab = Lab::new();
    let blocks = tree(&lab, many(1500));
    assert_eq!(lab.leaks(), []);
    let all: BTreeSet<usize> = blocks.into_iter().collect();
    assert_eq!(snapshot(&lab.detector).reached(), all);
    let before = (lab.detector.metadata(), lab.machine.metadata_pages());
    let mut incomplete = 0;
    for last in [1, u64::MAX] {
        for refused in 0.. {
            lab.detector
                .refuse_metadata(refused..refused.saturating_add(last));
            let (done, text) = try_to(&lab.detector, "snapshot");
            let requests = lab.detector.metadata_requests();
            lab.detector.exhaust_metadata(false);
            let heap = Heap::of(&text);
            assert!(heap.reached().is_subset(&all));
            assert_eq!(
                (lab.detector.metadata(), lab.machine.metadata_pages()),
                before
            );
            assert_eq!(lab.leaks(), []);
            if requests <= refused {
                assert_eq!((done, heap.reached()), (Ok(()), all.clone()));
                break;
            }
            assert_eq!(
                (done, heap.end("complete")),
                (Err(CommandError::NotDone), "false")
            );
            incomplete += 1;
        }
    }
    assert!(incomplete > 40 || cfg!(miri), "{incomplete}");
}

/// Lent pages can be taken again, for the next snapshot or for anything else.
#[test]
fn lent_pages_are_given_back() {
    let machine = Machine::new();
    machine.set_metadata_budget(0);
    let detector = Arc::new(Detector::new(Emulated::of(&machine)));
    let lab = Lab { machine, detector };
    lab.detector
        .add_metadata(vec![0; 200 * METADATA_PAGE].leak());
    tree(&lab, many(1500));
    assert_eq!(lab.leaks(), []);
    let before = lab.detector.metadata();
    for _ in 0..20 {
        let heap = snapshot(&lab.detector);
        let objects = lab.detector.tracking().objects as u64;
        assert_eq!(number(heap.end("nodes")), objects);
        assert_eq!(lab.detector.metadata(), before);
    }
}

/// It changes nothing: neither the verdict, nor what the background scan has seen.
#[test]
fn a_verdict_stays_as_it_is() {
    let lab = Lab::new();
    lab.detector.set_min_age_us(0);
    let (leader, owned) = (lab.block(64), lab.block(32));
    lab.machine.write(leader, owned);
    lab.say("scan");
    let report = lab.say("report --all");
    assert_eq!(snapshot(&lab.detector).leaks, [leader, owned].into());
    assert_eq!(lab.say("report --all"), report);
    let late = lab.block(16);
    lab.machine.advance_us(1);
    let scan = || lab.detector.scan().expect("on").suspects;
    let first = scan();
    snapshot(&lab.detector);
    // What the first has seen unreferenced with these contents, the second reports.
    assert_eq!(scan(), first + 1, "{late:#x}");
}

#[test]
fn once_it_is_off_there_is_none() {
    let lab = Lab::new();
    let refused = |line: &str, code: &str| {
        let (done, text) = try_to(&lab.detector, line);
        assert_eq!(
            (value(&text, "kind"), value(&text, "code")),
            ("error", code)
        );
        done
    };
    assert_eq!(
        refused("snapshot x --json", "unexpected_argument"),
        Err(CommandError::NotUnderstood)
    );
    lab.say("off");
    assert_eq!(refused("snapshot", "off"), Err(CommandError::NotDone));
    lab.say("clear");
    assert_eq!(
        refused("snapshot --json", "off"),
        Err(CommandError::NotDone)
    );
}
