//! How a snapshot is collected, after a pass: objects, then ways in from roots, then the words of objects.
//!
//! Roots come before words: where memory is short, what there is of the graph still hangs together.
//!
//! An object's record holds the number of its node in the place of its checksum meanwhile, so a word leads to a node by one
//! look-up. The checksum is put back from the node's copy of the record.

use super::rows::{Edge, LastPass, SnapshotRows};
use crate::marker::objects::WordSet;
use crate::marker::{GivenUp, Marker};
use crate::metadata::borrowed::BorrowedPages;
use crate::metadata::hidden::Hidden;
use crate::objects::access::Access;
use crate::objects::object::Object;
use crate::objects::record::{Record, flag};
use crate::platform::Platform;
use crate::platform::address::Extent;

/// A node that a word points to.
struct Pointed {
    node: usize,
    into: usize,
}

/// Collects all rows. What is alive is marked.
pub(super) fn collect<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    rows: &mut SnapshotRows,
    pages: &BorrowedPages<'_>,
) -> Result<(), GivenUp> {
    objects(marker, rows, pages)?;
    number(marker, rows);
    let collected = ways_in(marker, rows, pages).and_then(|()| words(marker, rows, pages));
    each_record(marker, rows, &|object, _, record| {
        object.record.set_checksum(record.checksum());
    });
    collected
}

/// Makes a node of each object.
fn objects<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    rows: &mut SnapshotRows,
    pages: &BorrowedPages<'_>,
) -> Result<(), GivenUp> {
    let registry = marker.registry();
    marker.each_object(&mut |marker, start| {
        marker.without_interrupts(|marker| {
            registry.starting_at(marker.access(), start, |object| {
                let record = object.record.read();
                if !record.has(flag::ALIAS) {
                    let size = registry.size(start, object.record);
                    rows.push_node(start, size, record, alive(object), pages);
                }
            })
        });
        Ok(())
    })
}

fn alive(object: Object<'_>) -> LastPass {
    match object.mark.is_set() || object.record.has(flag::REACHED) {
        true => LastPass::Reached,
        false => LastPass::Lost,
    }
}

/// Does something with the record of each node that is still there, its number, and the copy of the record.
fn each_record<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    rows: &SnapshotRows,
    change: &dyn Fn(Object<'_>, usize, &Record),
) {
    let registry = marker.registry();
    let nodes = (0..rows.nodes.len()).filter_map(|node| Some((node, rows.nodes.get(node)?)));
    for (node, row) in nodes {
        marker.without_interrupts(|marker| {
            registry.starting_at(marker.access(), row.start.get(), |object| {
                if object.record.read().birth_us() == row.record.birth_us() {
                    change(object, node, &row.record);
                }
            })
        });
    }
}

/// Writes the number of its node into each record.
fn number<P: Platform, A: Access>(marker: &mut Marker<'_, P, A>, rows: &SnapshotRows) {
    each_record(marker, rows, &|object, node, _| {
        object.record.set_checksum(node as u32);
    });
}

/// The node of an object. Its record may hold no number: there was no memory for it, or it was born meanwhile.
fn node_of(rows: &SnapshotRows, start: usize, record: &Record) -> Option<usize> {
    let node = record.checksum() as usize;
    let row = rows.nodes.get(node)?;
    (row.start == Hidden::new(start)).then_some(node)
}

/// The node that a word points to. A word in a copy of a per-CPU block points to the block.
fn pointed<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    rows: &SnapshotRows,
    word: usize,
) -> Option<Pointed> {
    let registry = marker.registry();
    let found = marker.without_interrupts(|marker| {
        registry.block_containing(marker.access(), word, |object, into| {
            (object.start, object.record.read(), into)
        })
    });
    let (start, record, into) = found?;
    let node = node_of(rows, start, &record)?;
    Some(Pointed { node, into })
}

/// Finds the ways in from roots: objects that lie in them, or hold the stack of the pass, then words. What needs more pointers
/// than it has is not followed.
fn ways_in<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    rows: &mut SnapshotRows,
    pages: &BorrowedPages<'_>,
) -> Result<(), GivenUp> {
    marker.each_object_in_roots(&mut |root, object| {
        if let Some(node) = node_of(rows, object.start, &object.record.read()) {
            rows.push_root(root, None, node, 0, pages);
            rows.set_in_root(node);
        }
    })?;
    marker.each_object_of_own_stack(&mut |root, object| {
        if let Some(node) = node_of(rows, object.start, &object.record.read()) {
            rows.push_root(root, None, node, 0, pages);
        }
    });
    marker.rewind_roots();
    marker.each_root_word(&mut |marker, root, slot, word| {
        if let Some(Pointed { node, into }) = pointed(marker, rows, word)
            && is_alive(rows, node)
        {
            rows.push_root(root, Some(slot), node, into, pages);
        }
    })
}

fn is_alive(rows: &SnapshotRows, node: usize) -> bool {
    rows.nodes.get(node).is_some_and(|row| row.is_alive())
}

/// Finds the words of each node that the marker scans and that point to another node.
fn words<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    rows: &mut SnapshotRows,
    pages: &BorrowedPages<'_>,
) -> Result<(), GivenUp> {
    for from in 0..rows.nodes.len() {
        let Some(row) = rows.nodes.get(from) else {
            break;
        };
        let (start, size, record) = (row.start.get(), row.size, row.record);
        let in_root = row.is_in_root();
        let mut look = |marker: &mut Marker<'_, P, A>, slot, word| {
            let Some(Pointed { node: to, into }) = pointed(marker, rows, word) else {
                return;
            };
            let followed = is_alive(rows, to) || !is_alive(rows, from);
            if to != from
                && followed
                && let Some(offset) = offset_of(marker.platform(), start, size, &record, slot)
            {
                rows.push_edge(from, Edge { offset, to, into }, pages);
            }
        };
        if !in_root {
            marker.each_word(start, WordSet::Scanned, &mut look)?;
        }
        if record.has(flag::EXCESS) && is_alive(rows, from) {
            pass_on(marker, rows, from, pages);
        }
        if rows.short {
            break;
        }
    }
    Ok(())
}

/// Where in its block a word lies, in whichever copy of it.
fn offset_of<P: Platform>(
    platform: &P,
    start: usize,
    size: usize,
    record: &Record,
    slot: usize,
) -> Option<usize> {
    let within = |memory: usize| slot.checked_sub(memory).filter(|offset| *offset < size);
    if record.has(flag::PHYS) {
        let memory = Extent::mapped(platform, start, size)?;
        return within(memory.start().get());
    }
    if !record.has(flag::PERCPU) {
        return within(start);
    }
    (0..platform.cpus()).find_map(|cpu| {
        let copy = Extent::copy(platform, start, cpu, size)?;
        within(copy.start().get())
    })
}

/// If an area has more pointers than it needs, they count for its block: a word behind its last byte stands for them.
fn pass_on<P: Platform, A: Access>(
    marker: &mut Marker<'_, P, A>,
    rows: &mut SnapshotRows,
    from: usize,
    pages: &BorrowedPages<'_>,
) {
    let Some((start, size, record)) =
        (rows.nodes.get(from)).map(|row| (row.start.get(), row.size, row.record))
    else {
        return;
    };
    let registry = marker.registry();
    let arrivals = marker.without_interrupts(|_| {
        let (needed, _) = registry.references(start, &record);
        let needed = u64::try_from(needed).ok()?;
        let arrivals = registry.side_table.arrivals(start)?;
        (arrivals.number > needed).then_some(arrivals.other)
    });
    if let Some(other) = arrivals
        && let Some(Pointed { node: to, into: 0 }) = pointed(marker, rows, other)
        && is_alive(rows, to)
    {
        let edge = Edge {
            offset: size,
            to,
            into: 0,
        };
        rows.push_edge(from, edge, pages);
    }
}
