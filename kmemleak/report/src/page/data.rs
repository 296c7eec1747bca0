//! What the page shows, as JSON: the scripts know no other source.

use std::io;

use serde::Serialize;

use super::leaks::Leaks;
use super::names::{NamedStack, Names, StackNumber};
use super::tree::Tree;
use crate::folded::{Bytes, flame_graph};
use crate::graph::{Graph, GraphError, What};
use crate::log::{Log, Sites};
use crate::records::{Address, Stack, Summary};
use crate::suspects;
use crate::usage::by_call_stack;

/// Call sites that are shown at most.
const MOST_SITES: usize = 2_000;

#[derive(Debug, Serialize)]
pub(super) struct Data {
    title: String,
    pub(super) verdict: Verdict,
    summary: Option<Figures>,
    leaks: Option<Leaks>,
    sites: Option<SiteList>,
    heap: Option<Heap>,
    /// Flame graphs, as SVG: of what is lost, and of what is in use.
    flames: [Option<String>; 2],
    stacks: Vec<NamedStack>,
    /// What the reader should know of the log: damage, missing answers.
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    /// `leaks`, `suspects`, `clean` or `none`.
    kind: &'static str,
    pub(super) text: String,
    /// What makes it less than certain, or complete.
    doubts: Vec<String>,
}

/// The figures of a verdict that are shown.
#[derive(Debug, Serialize)]
struct Figures {
    objects: u64,
    bytes: u64,
    suspects: u64,
    suspect_bytes: u64,
    leaders: Option<u64>,
    groups: Option<u64>,
    suppressed_objects: u64,
    suppressed_bytes: u64,
    tracked: u64,
    unrecorded: u64,
    took_us: u64,
    stopped_us: u64,
    cpus: u64,
}

#[derive(Debug, Serialize)]
struct SiteList {
    sites: Vec<SiteRow>,
    total: u64,
    by: String,
    complete: bool,
}

#[derive(Debug, Serialize)]
struct SiteRow {
    stack: StackNumber,
    bytes: u64,
    objects: u64,
    growth_bytes: Option<i64>,
    growth_objects: Option<i64>,
    history: Vec<u64>,
    trend: Option<String>,
}

#[derive(Debug, Serialize)]
struct Heap {
    objects: u64,
    bytes: u64,
    live_objects: u64,
    live_bytes: u64,
    is_whole: bool,
    is_stopped: bool,
    tree: Tree,
    suspects: Vec<SuspectRow>,
}

#[derive(Debug, Serialize)]
struct SuspectRow {
    first: Named,
    last: Named,
    links: u64,
}

/// A vertex: of all but objects a name, of objects address and call stack.
#[derive(Debug, Serialize)]
struct Named {
    name: Option<String>,
    /// Of roots: the group.
    within: Option<String>,
    address: Option<Address>,
    stack: Option<StackNumber>,
    retained: u64,
    /// Number of its row in the tree; null if it has none.
    row: Option<usize>,
}

impl Data {
    pub(super) fn of(
        log: &Log,
        graph: Option<&Result<Graph, GraphError>>,
        title: &str,
    ) -> io::Result<Self> {
        let usages = by_call_stack(log);
        let mut names = Names::default();
        let drawn = graph.and_then(|graph| graph.as_ref().ok());
        let report = log.report.as_ref();
        let lost = flame_graph(&usages, Bytes::Lost, "Lost bytes by call stack")?;
        let in_use = flame_graph(&usages, Bytes::InUse, "Bytes in use by call stack")?;
        Ok(Self {
            title: title.to_owned(),
            verdict: verdict(report.map(|report| &report.summary)),
            summary: report.map(|report| figures(&report.summary)),
            leaks: report.map(|report| Leaks::of(report, drawn, &mut names)),
            sites: log.sites.as_ref().map(|sites| site_list(sites, &mut names)),
            heap: drawn.map(|graph| heap(graph, &mut names)),
            flames: [lost, in_use],
            notes: notes(log, graph),
            stacks: names.into_stacks(),
        })
    }
}

fn count(number: u64, one: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {one}{ending}")
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut units = ["KiB", "MiB", "GiB", "TiB"].iter();
    let mut unit = "B";
    while value >= 1023.95
        && let Some(next) = units.next()
    {
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

fn verdict(summary: Option<&Summary>) -> Verdict {
    let Some(summary) = summary else {
        return Verdict {
            kind: "none",
            text: "The log has no report of a check for leaks.".into(),
            doubts: Vec::new(),
        };
    };
    let listed = |objects: u64, bytes: u64, what: &str| {
        let from = match summary.groups {
            Some(groups) => format!(", from {}", count(groups, "call stack")),
            None => String::new(),
        };
        format!("{} ({}){from}.", count(objects, what), size(bytes))
    };
    let (kind, text) = match (summary.objects, summary.suspects) {
        (0, 0) => ("clean", "No leaks: a pointer leads to every block.".into()),
        (0, suspects) => (
            "suspects",
            listed(suspects, summary.suspect_bytes, "suspected leak"),
        ),
        (leaks, _) => ("leaks", listed(leaks, summary.bytes, "leak")),
    };
    Verdict {
        kind,
        text,
        doubts: doubts(summary),
    }
}

fn doubts(summary: &Summary) -> Vec<String> {
    let mut doubts = Vec::new();
    let reason = summary
        .reason
        .as_deref()
        .unwrap_or("the world was not stopped");
    match summary.how.as_str() {
        "repeated" => doubts.push(format!("{reason}: what is listed was found while other code ran")),
        "scanned" => {
            doubts.push("what is listed was found while other code ran, and no check in a stopped world has confirmed it".into())
        }
        _ => {}
    }
    if !summary.settled && !matches!(summary.how.as_str(), "stopped" | "frozen") {
        doubts.push(
            "the suspects still changed in the last pass: what is in use may be among them".into(),
        );
    }
    for (number, what) in [
        (
            summary.unread,
            "blocks were not read, since the platform does not say which memory is readable: what only these point to is listed",
        ),
        (
            summary.in_flight,
            "blocks were being reallocated and were not read: what only these point to is listed",
        ),
        (
            summary.unrecorded,
            "records are missing for lack of memory: what they would keep alive is listed",
        ),
        (
            summary.suppressed_objects,
            "unreferenced objects are hidden by suppressions",
        ),
    ] {
        if number > 0 {
            doubts.push(format!("{number} {what}"));
        }
    }
    if !summary.stacks {
        doubts.push("no stack was read: what only a stack holds is listed".into());
    }
    doubts.extend(
        summary
            .no_call_stacks
            .as_ref()
            .map(|why| format!("no call stacks: {why}")),
    );
    doubts
}

fn figures(summary: &Summary) -> Figures {
    Figures {
        objects: summary.objects,
        bytes: summary.bytes,
        suspects: summary.suspects,
        suspect_bytes: summary.suspect_bytes,
        leaders: summary.leaders,
        groups: summary.groups,
        suppressed_objects: summary.suppressed_objects,
        suppressed_bytes: summary.suppressed_bytes,
        tracked: summary.tracked,
        unrecorded: summary.unrecorded,
        took_us: summary.took_us,
        stopped_us: summary.stopped_us,
        cpus: summary.cpus,
    }
}

fn site_list(sites: &Sites, names: &mut Names) -> SiteList {
    let shown = sites.sites.iter().take(MOST_SITES);
    let row = |site: &crate::records::Site| SiteRow {
        stack: names.number(&site.stack),
        bytes: site.bytes,
        objects: site.objects,
        growth_bytes: site.growth_bytes,
        growth_objects: site.growth_objects,
        history: site.history.clone(),
        trend: site.trend.clone(),
    };
    SiteList {
        sites: shown.map(row).collect(),
        total: sites.end.total,
        by: sites.end.by.clone(),
        complete: sites.end.complete,
    }
}

fn heap(graph: &Graph, names: &mut Names) -> Heap {
    let tree = Tree::of(graph, names);
    let end = &graph.snapshot().end;
    let is_live =
        |vertex: &u32| !graph.is_lost(*vertex) && matches!(graph.what(*vertex), What::Object(_));
    let mut named = |vertex: u32| {
        let (name, node) = match graph.what(vertex) {
            What::Origin => (None, None),
            What::Group(name) | What::Root(name) | What::Lost(name) => {
                (Some(name.to_owned()), None)
            }
            What::Object(node) => (None, Some(node)),
        };
        let above = graph.dominator(vertex).map(|above| graph.what(above));
        Named {
            within: match (graph.what(vertex), above) {
                (What::Root(_), Some(What::Group(group))) => Some(group.to_owned()),
                _ => None,
            },
            name,
            address: node.map(|node| node.address),
            stack: node.map(|node| names.number(graph.stack(node).unwrap_or(&Stack::default()))),
            retained: graph.retained(vertex),
            row: tree.row_of.get(&vertex).copied(),
        }
    };
    let suspects = suspects::of(graph);
    let suspects = suspects.iter().map(|suspect| SuspectRow {
        first: named(suspect.first),
        last: named(suspect.last),
        links: suspect.links,
    });
    let suspects = suspects.collect();
    Heap {
        objects: graph.snapshot().nodes.len() as u64,
        bytes: graph.retained(crate::graph::ORIGIN),
        live_objects: (0..graph.vertices()).filter(is_live).count() as u64,
        live_bytes: graph.live_bytes(),
        is_whole: end.complete && graph.dangling() == 0,
        is_stopped: end.stopped,
        tree,
        suspects,
    }
}

fn notes(log: &Log, graph: Option<&Result<Graph, GraphError>>) -> Vec<String> {
    let mut notes = Vec::new();
    for (number, what) in [
        (
            log.damaged,
            "lines of JSON in the log are cut or mixed with other output",
        ),
        (log.cut, "answers in the log are cut"),
        (
            log.other_schema,
            "records in the log are of another version of the schema",
        ),
    ] {
        if number > 0 {
            notes.push(format!("{number} {what}."));
        }
    }
    match graph {
        Some(Err(error)) => notes.push(format!("The heap is not shown: {error}.")),
        Some(Ok(graph)) => {
            let end = &graph.snapshot().end;
            if !end.complete {
                notes.push(
                    "The snapshot of the heap is not complete: there was not enough memory.".into(),
                );
            }
            if !end.stopped {
                notes.push("The snapshot was taken while other code ran: some words may be missing, or out of date.".into());
            }
            if graph.dangling() > 0 {
                let words = graph.dangling();
                notes.push(format!(
                    "{words} words of the snapshot point to objects that the log does not have."
                ));
            }
        }
        None => {}
    }
    notes.extend(
        log.errors
            .iter()
            .map(|error| format!("A command gave no answer: {error}.")),
    );
    notes
}
