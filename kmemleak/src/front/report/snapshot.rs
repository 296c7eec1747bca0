//! A snapshot of the heap, as JSON: call stacks and objects, ways in from roots, words of objects, then the sums.

use core::fmt::{self, Write};

use super::json::{Escaped, OrNull, Quoted, begin, frames_json, string};
use super::refusal::Refusal;
use super::{Format, refuse};
use crate::checker::claim::{Claim, NotDone};
use crate::checker::snapshot::{Snapshot, SnapshotNode};
use crate::front::outcome::{Answered, CommandError};
use crate::platform::Platform;
use crate::stacks::crc::crc_of;
use crate::tracker::Tracker;

/// How many words of an object a line has at most.
const WORDS: usize = 32;

/// The name that an object has as a root, if it is declared to be no leak.
const NOT_A_LEAK: &str = "not a leak";

/// What was written.
#[derive(Default)]
struct SnapshotSums {
    nodes: usize,
    bytes: usize,
    edges: usize,
    roots: usize,
}

/// Takes a snapshot and writes it.
pub(in crate::front) fn write_snapshot<P: Platform>(
    claim: &mut Claim<'_, P>,
    out: &mut dyn Write,
) -> Answered {
    let tracker = claim.tracker();
    let shown = claim.show_snapshot(|snapshot| {
        write_all(tracker, snapshot, out).map(|()| snapshot.is_complete())
    });
    match shown {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(CommandError::NotDone),
        Ok(Err(error)) => Err(error.into()),
        Err(why) => refuse(Format::Json, &why, out),
    }
}

fn write_all<P: Platform>(
    tracker: &Tracker<P>,
    snapshot: &Snapshot<'_>,
    out: &mut dyn Write,
) -> fmt::Result {
    let mut sums = SnapshotSums::default();
    for node in snapshot.nodes() {
        sums.nodes += 1;
        sums.bytes += node.size;
        write_node(tracker, sums.nodes, &node, out)?;
    }
    for way in snapshot.ways_in() {
        sums.roots += 1;
        // One that lies in the root itself has the name of its own place there.
        let place = way.slot.or_else(|| snapshot.address(way.to));
        begin("root", out)?;
        write!(out, ",\"name\":\"")?;
        let platform = tracker.platform();
        platform.name_root(way.root, place.unwrap_or(0), &mut Escaped(out))?;
        write!(out, "\"")?;
        write_way_in(way.slot, way.to + 1, way.into, out)?;
    }
    for (number, node) in snapshot.nodes().enumerate() {
        if node.is_no_leak() {
            sums.roots += 1;
            begin("root", out)?;
            write!(out, ",\"name\":\"{NOT_A_LEAK}\"")?;
            write_way_in(None, number + 1, 0, out)?;
        }
    }
    for (number, node) in snapshot.nodes().enumerate() {
        sums.edges += write_edges(snapshot, number + 1, &node, out)?;
    }
    write_sums(tracker, snapshot, &sums, out)
}

fn write_node<P: Platform>(
    tracker: &Tracker<P>,
    id: usize,
    node: &SnapshotNode,
    out: &mut dyn Write,
) -> fmt::Result {
    let (named, record) = (&node.named, &node.named.record);
    let frames = tracker.depot().get(record.stack_id());
    let frames = frames.as_slice();
    if node.is_first_of_stack && !frames.is_empty() {
        begin("stack", out)?;
        frames_json(tracker, frames, out)?;
        writeln!(out, "}}")?;
    }
    begin("node", out)?;
    write!(
        out,
        ",\"id\":{id},\"address\":{},\"size\":{},\"birth_us\":{},\"task\":{},\"comm\":",
        Quoted(named.start),
        node.size,
        tracker.birth_us(record),
        record.task()
    )?;
    string(&named.comm(tracker).as_str(), out)?;
    let crc = (!frames.is_empty()).then(|| crc_of(frames));
    write!(out, ",\"crc\":")?;
    match crc {
        Some(crc) => write!(out, "\"{crc:08x}\"")?,
        None => write!(out, "null")?,
    }
    writeln!(out, ",\"leak\":{}}}", node.is_leak())
}

fn write_way_in(slot: Option<usize>, to: usize, into: usize, out: &mut dyn Write) -> fmt::Result {
    let slot = OrNull(slot.map(Quoted));
    writeln!(out, ",\"slot\":{slot},\"to\":{to},\"offset\":{into}}}")
}

/// Writes the words of an object; how many there are.
fn write_edges(
    snapshot: &Snapshot<'_>,
    id: usize,
    node: &SnapshotNode,
    out: &mut dyn Write,
) -> Result<usize, fmt::Error> {
    let mut count = 0;
    for edge in snapshot.edges(node) {
        if count % WORDS == 0 {
            if count > 0 {
                writeln!(out, "]}}")?;
            }
            begin("edges", out)?;
            write!(out, ",\"from\":{id},\"words\":[")?;
        } else {
            out.write_char(',')?;
        }
        write!(out, "[{},{},{}]", edge.offset, edge.to + 1, edge.into)?;
        count += 1;
    }
    if count > 0 {
        writeln!(out, "]}}")?;
    }
    Ok(count)
}

fn write_sums<P: Platform>(
    tracker: &Tracker<P>,
    snapshot: &Snapshot<'_>,
    sums: &SnapshotSums,
    out: &mut dyn Write,
) -> fmt::Result {
    begin("snapshot", out)?;
    let complete = snapshot.is_complete();
    write!(
        out,
        ",\"nodes\":{},\"bytes\":{},\"edges\":{},\"roots\":{},\"complete\":{complete},\"stopped\":{},\"at_us\":{},\"unrecorded\":{}",
        sums.nodes,
        sums.bytes,
        sums.edges,
        sums.roots,
        snapshot.stopped,
        snapshot.at_us,
        tracker.unrecorded()
    )?;
    if complete {
        return writeln!(out, ",\"code\":null,\"error\":null}}");
    }
    writeln!(
        out,
        ",\"code\":\"{}\",\"error\":\"no memory for the whole snapshot: objects, words or roots are missing\"}}",
        NotDone::NoMemory.code()
    )
}
