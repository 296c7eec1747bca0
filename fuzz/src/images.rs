//! Files of kernels, damaged in any way: for the detector, the loader, and the host tool.

use std::fs;
use std::path::Path;

use kmemleak::RootCursor;
use kmemleak::elf::Image;
use kmemleak_report::{Kernel, Names, Word};

/// Reads the input as a kernel's file.
pub fn run(input: &[u8]) {
    roots(input);
    segments(input);
    names(input);
}

/// The detector's roots ascend, and do not overlap.
fn roots(input: &[u8]) {
    // SAFETY: `image` is gone when this returns, and the input is not.
    let file = unsafe { core::mem::transmute::<&[u8], &'static [u8]>(input) };
    let image = Image::in_file(file, 0);
    let mut cursor = RootCursor::default();
    let mut last_end = 0;
    let mut count = 0;
    while let Some(root) = image.next_root(&mut cursor) {
        assert!(
            root.len > 0 && root.start >= last_end,
            "{root:x?} below {last_end:#x}"
        );
        let last = root
            .start
            .checked_add(root.len - 1)
            .expect("the end of the address space");
        last_end = last.saturating_add(1);
        count += 1;
        assert!(count <= input.len(), "roots without end");
    }
    assert_eq!(count > 0, image.check().is_ok());
}

/// The loader's segments share no page, and their contents fit in.
fn segments(input: &[u8]) {
    let Ok(image) = loader::image::Image::parse(input) else {
        return;
    };
    let mut last_page = None;
    for segment in image.segments() {
        assert!(last_page.is_none_or(|last| last < segment.first_page()));
        assert!(segment.contents.len() as u64 <= segment.len);
        last_page = Some(segment.last_page());
    }
}

/// The host tool names an address, or knows that it can't.
fn names(input: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("kernel");
    fs::write(&path, input).expect("it is ours");
    let Ok(mut kernel) = Kernel::open(&path, None, Path::new("/")) else {
        return;
    };
    let extent = kernel.extent();
    let middle = extent.start + extent.end.saturating_sub(extent.start) / 2;
    for address in [0, extent.start, middle, extent.end, u64::MAX] {
        kernel.frame(address);
    }
    for block_type in texts(input).take(TYPES) {
        for size in [8, 16, 24] {
            kernel.field(&Word {
                block_type,
                size,
                offset: size - 8,
            });
        }
    }
}

/// Types whose fields are asked for.
const TYPES: usize = 16;

/// What may be names in the input.
fn texts(input: &[u8]) -> impl Iterator<Item = &str> {
    let texts = input.split(|byte| *byte == 0).rev();
    let texts = texts.filter_map(|text| core::str::from_utf8(text).ok());
    texts.filter(|text| (1..64).contains(&text.len()))
}
