//! Images given by the address of their header.

use std::ptr;

use kmemleak::elf::{Image, ImageError};

use crate::made::{self, READ, Segment, WRITE, file, load, put};
use crate::roots;

/// A page that holds a file's first bytes: as much as may be read.
#[repr(C, align(4096))]
struct Page([u8; 4096]);

fn loaded(file: &[u8]) -> (&'static Page, Image) {
    let page = Box::leak(Box::new(Page([0; 4096])));
    put(&mut page.0, 0, file);
    // SAFETY: a whole page can be read there, and nothing changes it.
    let image = unsafe { Image::loaded_at(page.0.as_ptr()) };
    (page, image)
}

fn error_of(file: &[u8]) -> Option<ImageError> {
    let (_, image) = loaded(file);
    assert_eq!(roots(&image), []);
    image.check().err()
}

/// The segment that begins with the file, and holds its headers.
fn first(address: u64) -> Segment {
    Segment {
        offset: 0,
        ..load(READ, address, 0x400)
    }
}

#[test]
fn an_image_is_found_where_it_was_loaded() {
    for linked_at in [0, 0x20_0000, 0xffff_ffff_8000_0000] {
        let data = load(READ | WRITE, linked_at + 0x3000, 0x10);
        let (page, image) = loaded(&file(&[first(linked_at), data]));
        let here = ptr::from_ref(page).addr();
        assert_eq!(image.check(), Ok(()));
        assert_eq!(image.bias(), Ok(here.wrapping_sub(linked_at as usize)));
        assert_eq!(roots(&image), [(here + 0x3000, here + 0x3010)]);
    }
}

#[test]
fn a_header_that_is_nowhere_is_told() {
    // SAFETY: null is allowed.
    let image = unsafe { Image::loaded_at(ptr::null()) };
    assert_eq!(
        (image.check(), roots(&image)),
        (Err(ImageError::NotLoaded), vec![])
    );
}

#[test]
fn headers_that_no_segment_holds_are_told() {
    let data = load(READ | WRITE, 0x3000, 0x10);
    let expected = Some(ImageError::HeadersInNoSegment);
    assert_eq!(error_of(&file(&[data])), expected);
    let short = Segment {
        in_file: 0x60,
        in_memory: 0x60,
        ..first(0)
    };
    assert_eq!(error_of(&file(&[short, data])), expected);
}

#[test]
fn no_header_beyond_the_first_page_is_read() {
    let good = file(&[first(0), load(READ | WRITE, 0x3000, 0x10)]);
    let with = |at: usize, field: &[u8]| {
        let mut changed = good.clone();
        put(&mut changed, at, field);
        error_of(&changed)
    };
    let expected = Some(ImageError::NoProgramHeaders);
    assert_eq!(with(made::TABLE, &4000_u64.to_le_bytes()), expected);
    assert_eq!(with(made::TABLE, &[0xff; 8]), expected);
    assert_eq!(with(made::ENTRIES, &[73, 0]), expected);
    assert_eq!(with(made::ENTRIES, &[0xff, 0xff]), expected);
    assert_eq!(with(made::ENTRY_SIZE, &[0, 0]), expected);
    assert_eq!(error_of(b"no ELF"), Some(ImageError::NoElf));
    // 72 end with the page, at 64 + 72 * 56 = 4096.
    let many = [first(0)]
        .into_iter()
        .chain((1..72).map(|it| load(READ | WRITE, it * 0x1000, 8)));
    let many: Vec<_> = many
        .map(|it| Segment {
            in_file: it.in_file.max(0x1000),
            in_memory: 0x1000,
            ..it
        })
        .collect();
    let (_, image) = loaded(&file(&many));
    assert_eq!((image.check(), roots(&image).len()), (Ok(()), 71));
}
