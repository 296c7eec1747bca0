//! The roots of an image from its program headers: of files that the tests make, good and bad, of this test's own executable,
//! and of small executables in the layouts that linkers have.

mod files;
mod layouts;
mod made;
mod memory;
mod own;

use kmemleak::elf::Image;
use kmemleak::{Root, RootCursor, RootKind};

/// All roots that a walk names, by their starts and ends; it ends where a platform's own stages begin.
fn roots(image: &Image) -> Vec<(usize, usize)> {
    let mut cursor = RootCursor::default();
    let mut found = Vec::new();
    while let Some(Root { kind, start, len }) = image.next_root(&mut cursor) {
        assert_eq!(
            (kind, cursor.index > 0 || cursor.stage > 0),
            (RootKind::Section, true)
        );
        found.push((start, start.wrapping_add(len)));
        assert!(found.len() < 1000, "the walk has no end");
    }
    assert_eq!(cursor, RootCursor { stage: 1, index: 0 });
    found
}
