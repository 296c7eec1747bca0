//! How long the detector keeps interrupts off during passes of the background scan, in several heaps.
//!
//! A line has the heap, the time of a pass (`tsc`), how often a pass turns interrupts off (`windows`), how long they were off at most
//! (`tsc_longest`), and where that was: the functions, innermost first (`at`). A pass looks at other things in each of them: the words of roots and of large blocks, look-ups of pointers into the middle of
//! objects, chunks with many objects or with a few, objects that start at odd addresses, regions, suspects.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::ptr::NonNull;

use super::{in_forest, in_own_task};
use crate::dev::time;
use crate::leak::window::{Longest, longest};
use crate::leak::{KMEMLEAK, hooks};
use crate::mm::PAGE;
use crate::mm::buddy::{self, Tracking};
use crate::symbols::{self, Detail};

/// Passes over each heap: the first remembers contents, the second suspects, the third suspects the same objects.
const PASSES: usize = 3;

/// Bytes of memory that each of the heaps but the first needs at most, with what the detector notes of it.
const NEEDED: usize = 32 << 20;

/// An object of most heaps.
type Block = Box<[usize; 8]>;

/// Objects of the heaps in which they are special; the first heap has as many as is asked for.
const SPECIAL: usize = 4096;

/// Objects of a byte each that lie side by side.
const BYTES: usize = 32 << 10;

/// Measures each heap; the first has so many objects.
pub(super) fn run(objects: usize, out: &mut dyn Write) -> fmt::Result {
    begin("forest", objects, out)?;
    in_forest(objects, out, |_, out| measure(out))?;
    if buddy::free_pages() * PAGE < NEEDED {
        return writeln!(
            out,
            "{{\"bench\":\"window\",\"skipped\":\"the other heaps need {} MiB of memory\"}}",
            NEEDED >> 20
        );
    }
    in_heap("interior pointers", SPECIAL, interior(), out)?;
    in_heap("a large block", SPECIAL, large(), out)?;
    in_heap("sparse", SPECIAL, sparse(), out)?;
    in_heap("unaligned", SPECIAL, Unaligned::new(SPECIAL, 4), out)?;
    in_heap("bytes", BYTES, Unaligned::new(BYTES, 1), out)?;
    in_heap("regions", SPECIAL, Regions::new(), out)?;
    in_heap("suspects", SPECIAL, Suspects::new(), out)?;
    // The last verdict names no object that was freed since.
    let _ = KMEMLEAK.check();
    Ok(())
}

fn begin(heap: &str, objects: usize, out: &mut dyn Write) -> fmt::Result {
    write!(
        out,
        "{{\"bench\":\"window\",\"heap\":\"{heap}\",\"objects\":{objects},"
    )
}

/// Measures while there is this heap, and drops it.
fn in_heap<T>(name: &str, objects: usize, heap: T, out: &mut dyn Write) -> fmt::Result {
    begin(name, objects, out)?;
    let written = measure(out);
    drop(heap);
    written
}

/// Makes passes, and ends the line. The last one is timed, and nothing else is measured meanwhile.
fn measure(out: &mut dyn Write) -> fmt::Result {
    let (scanned, longest) = longest(|| (0..PASSES).try_for_each(|_| KMEMLEAK.scan().map(drop)));
    let start = time::tsc();
    let scanned = scanned.and_then(|()| KMEMLEAK.scan());
    let tsc = time::tsc() - start;
    if let Err(why) = scanned {
        return writeln!(out, "\"skipped\":\"{why}\"}}");
    }
    let Longest {
        tsc: most,
        windows,
        frames,
    } = longest;
    write!(
        out,
        "\"tsc\":{tsc},\"windows\":{},\"tsc_longest\":{most},\"at\":[",
        windows / PASSES as u64
    )?;
    for (number, frame) in frames
        .into_iter()
        .take_while(|frame| *frame != 0)
        .enumerate()
    {
        let comma = if number > 0 { "," } else { "" };
        write!(
            out,
            "{comma}\"{}\"",
            symbols::of_return(frame).with(Detail::Names)
        )?;
    }
    writeln!(out, "]}}")
}

fn blocks(count: usize) -> Vec<Block> {
    (0..count).map(|number| Box::new([number; 8])).collect()
}

/// Pages full of pointers into the middle of objects, to each of them one.
fn interior() -> (Vec<Block>, Vec<usize>) {
    let blocks = blocks(SPECIAL);
    let pointers = blocks.iter().map(|block| address(block) + 8).collect();
    (blocks, pointers)
}

/// A block of a few MiB full of pointers to objects.
fn large() -> (Vec<Block>, Vec<usize>) {
    const TIMES: usize = 64;
    let blocks = blocks(SPECIAL);
    let pointers = (0..TIMES * SPECIAL).map(|number| address(&blocks[number % SPECIAL]));
    let pointers = pointers.collect();
    (blocks, pointers)
}

fn address(block: &Block) -> usize {
    core::ptr::from_ref(&**block).addr()
}

/// Objects each of which lies alone where many lay before.
fn sparse() -> Vec<Block> {
    const SHARE: usize = 16;
    let mut number = 0;
    let mut all = blocks(SPECIAL * SHARE);
    all.retain(|_| {
        number += 1;
        number % SHARE == 0
    });
    all
}

/// Objects of which most start at no multiple of eight, side by side. They are the detector's alone: no allocator of this kernel hands
/// out such.
struct Unaligned {
    pages: NonNull<u8>,
    order: u32,
    count: usize,
    /// How far apart they start, in bytes.
    step: usize,
}

impl Unaligned {
    fn new(count: usize, step: usize) -> Option<Self> {
        let order = (2 * count * step / PAGE).ilog2();
        let new = Self {
            pages: buddy::alloc(order, Tracking::Untracked)?,
            order,
            count,
            step,
        };
        for start in new.starts() {
            hooks::alloc(start, 1);
        }
        Some(new)
    }

    fn starts(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, step) = (self.pages.addr().get() + 1, self.step);
        (0..self.count).map(move |number| first + number * step)
    }
}

impl Drop for Unaligned {
    fn drop(&mut self) {
        self.starts().for_each(|start| KMEMLEAK.free(start));
        buddy::free(self.pages, self.order, Tracking::Untracked);
    }
}

/// Blocks that are registered as regions.
struct Regions(Vec<Block>);

impl Regions {
    const COUNT: usize = SPECIAL;

    fn new() -> Self {
        let blocks = blocks(Self::COUNT);
        for block in &blocks {
            KMEMLEAK.region_add(address(block), size_of_val(&**block));
        }
        Self(blocks)
    }
}

impl Drop for Regions {
    fn drop(&mut self) {
        for block in &self.0 {
            KMEMLEAK.region_remove(address(block));
        }
    }
}

/// Lost objects: their addresses, inverted.
struct Suspects(Vec<usize>);

impl Suspects {
    fn new() -> Self {
        // On a stack of its own, that keeps none of them.
        let lost = in_own_task(|| {
            let lose = |block: Block| !Box::into_raw(block).expose_provenance();
            blocks(SPECIAL).into_iter().map(lose).collect()
        });
        Self(lost.unwrap_or_default())
    }
}

impl Drop for Suspects {
    fn drop(&mut self) {
        for &inverted in &self.0 {
            let block = core::ptr::with_exposed_provenance_mut::<[usize; 8]>(!inverted);
            // SAFETY: made of a box, once, and given up.
            drop(unsafe { Box::from_raw(block) });
        }
    }
}
