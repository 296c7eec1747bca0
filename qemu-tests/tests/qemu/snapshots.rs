//! Snapshots of the kernel's heap, read as the host tool reads them.

use std::collections::{HashMap, HashSet};

use kmemleak_report::log::{Log, Snapshot};
use qemu_tests::machines::Failure;
use serde_json::Value;

use crate::ask::{ask, json, of_kind};
use crate::leaks::plant;
use crate::shell::shell_on;

/// Run with each number of CPUs.
pub const ON_CPUS: crate::TestsOnCpus = &[
    (
        "what_the_roots_reach_is_what_a_check_finds_alive",
        what_the_roots_reach_is_what_a_check_finds_alive,
    ),
    ("the_memory_is_given_back", the_memory_is_given_back),
];

/// Bytes of a task's stack, and some more.
const STACK: u64 = 128 << 10;

/// The heap that a command has written.
fn read(text: &str) -> Result<Snapshot, Failure> {
    let log = Log::read(text.as_bytes())?;
    if log.damaged > 0 || log.cut > 0 {
        return Err(format!("{} damaged, {} cut", log.damaged, log.cut).into());
    }
    Ok(log.snapshot.ok_or("no snapshot")?)
}

/// The numbers of the nodes that the roots lead to.
fn reached(snapshot: &Snapshot) -> HashSet<u32> {
    let mut words = HashMap::<u32, Vec<u32>>::new();
    for edges in &snapshot.edges {
        let to = edges.words.iter().map(|word| word.to);
        words.entry(edges.from).or_default().extend(to);
    }
    let mut left: Vec<u32> = snapshot.roots.iter().map(|root| root.to).collect();
    let mut reached = HashSet::new();
    while let Some(node) = left.pop() {
        if reached.insert(node) {
            left.extend(words.get(&node).into_iter().flatten());
        }
    }
    reached
}

/// With leaks of each kind, one of which owns another object, and a page that is held.
fn what_the_roots_reach_is_what_a_check_finds_alive(cpus: u32) -> Result<(), Failure> {
    let mut session = shell_on(cpus)?;
    for kind in [
        "arc-cycle",
        "unlinked-node",
        "pages",
        "vmalloc",
        "percpu",
        "lost-task-stack",
    ] {
        plant(&mut session, kind)?;
    }
    let scan = json(&mut session, "scan --all --json")?;
    let lost: HashSet<&str> = of_kind(&scan, "object")
        .iter()
        .filter_map(|object| object["address"].as_str())
        .collect();
    if lost.len() < 7 {
        return Err(format!("{} leaks, where 7 were planted", lost.len()).into());
    }
    let snapshot = read(&ask(&mut session, "snapshot")?)?;
    if !snapshot.end.complete || !snapshot.end.stopped {
        return Err(format!("{:?}", snapshot.end).into());
    }
    let reached = reached(&snapshot);
    for node in &snapshot.nodes {
        let address = format!("{:#018x}", node.address.0);
        let is_lost = lost.contains(address.as_str());
        if reached.contains(&node.id) == is_lost || node.leak != is_lost {
            return Err(format!("lost: {is_lost}, and {node:?}").into());
        }
    }
    let status = json(&mut session, "status --json")?;
    let (objects, bytes) = (snapshot.nodes.len(), snapshot.end.bytes);
    // A task that had ended when the snapshot was taken may have been reaped since, with its stack.
    let near = |field: &str, sum: u64, most: u64| {
        let told = status[0][field].as_u64().unwrap_or_default();
        told.abs_diff(sum) <= most
    };
    let names: Vec<&str> = snapshot.roots.iter().map(|root| &*root.name).collect();
    let named = names.iter().any(|name| name.starts_with(".bss kernel::"));
    match near("objects", objects as u64, 4) && near("bytes", bytes, 4 * STACK) && named {
        true => Ok(()),
        false => Err(format!("{objects} objects, {bytes} bytes, {status:?}, {names:?}").into()),
    }
}

fn the_memory_is_given_back(cpus: u32) -> Result<(), Failure> {
    let mut session = shell_on(cpus)?;
    ask(&mut session, "scan")?;
    let mut metadata = || -> Result<Value, Failure> {
        ask(&mut session, "snapshot")?;
        Ok(json(&mut session, "status --json")?[0]["metadata_bytes"].take())
    };
    let (first, again) = (metadata()?, metadata()?);
    match first == again {
        true => Ok(()),
        false => Err(format!("{first} bytes, then {again}").into()),
    }
}
