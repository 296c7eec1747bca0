//! Images given as files.

use kmemleak::RootCursor;
use kmemleak::elf::{Image, ImageError};

use crate::made::{self, EXECUTE, READ, RELRO, Segment, TLS, WRITE, file, kept, load, put, relro};
use crate::roots;

/// What is loaded read-only in each of these images: headers and code.
fn read_only() -> [Segment; 2] {
    [
        load(READ, 0x20_0000, 0x400),
        load(READ | EXECUTE, 0x20_1400, 0x900),
    ]
}

fn roots_of(segments: &[Segment]) -> Vec<(usize, usize)> {
    roots(&Image::in_file(kept(file(segments)), 0))
}

fn error_of(file: Vec<u8>) -> Option<ImageError> {
    let image = Image::in_file(kept(file), 0);
    let error = image.check().err();
    if error.is_some() {
        assert_eq!(roots(&image), [], "an image with an error has no roots");
    }
    error
}

#[test]
fn what_is_writable_is_a_root_less_what_is_constant_after_relocation() {
    let [header, code] = read_only();
    // lld: a segment of its own for what is constant. ld: both in one segment.
    let lld = [
        header,
        code,
        load(READ | WRITE, 0x20_3000, 0x400),
        load(READ | WRITE, 0x20_5000, 0x800),
        relro(0x20_3000, 0x400),
    ];
    assert_eq!(roots_of(&lld), [(0x20_5000, 0x20_5800)]);
    let ld = [
        header,
        code,
        load(READ | WRITE, 0x20_3000, 0x2800),
        relro(0x20_3000, 0x400),
    ];
    assert_eq!(roots_of(&ld), [(0x20_3400, 0x20_5800)]);
    let middle = [
        load(READ | WRITE, 0x20_3000, 0x2800),
        relro(0x20_4000, 0x400),
    ];
    assert_eq!(
        roots_of(&middle),
        [(0x20_3000, 0x20_4000), (0x20_4400, 0x20_5800)]
    );
}

#[test]
fn bss_is_a_root_though_the_file_has_no_bytes_for_it() {
    let data = Segment {
        in_file: 0x10,
        ..load(READ | WRITE, 0x20_3000, 0x2800)
    };
    assert_eq!(roots_of(&[data]), [(0x20_3000, 0x20_5800)]);
    let bss = Segment { in_file: 0, ..data };
    assert_eq!(roots_of(&[bss]), [(0x20_3000, 0x20_5800)]);
    let empty = Segment {
        in_file: 0,
        in_memory: 0,
        ..data
    };
    assert_eq!(error_of(file(&[empty])), Some(ImageError::NothingWritable));
}

#[test]
fn a_size_that_is_rounded_up_to_a_page_takes_no_variable_out() {
    let constant = Segment {
        in_memory: 0x1000,
        ..relro(0x20_3000, 0x400)
    };
    let data = load(READ | WRITE, 0x20_3400, 0x2400);
    let segments = [load(READ | WRITE, 0x20_3000, 0x400), data, constant];
    assert_eq!(roots_of(&segments), [(0x20_3400, 0x20_5800)]);
}

#[test]
fn the_pattern_of_thread_local_variables_changes_nothing() {
    let tls = Segment {
        kind: TLS,
        in_file: 0x20,
        ..load(READ, 0x20_3000, 0x1000)
    };
    let segments = [tls, load(READ | WRITE, 0x20_3000, 0x2800)];
    assert_eq!(roots_of(&segments), [(0x20_3000, 0x20_5800)]);
}

#[test]
fn segments_in_any_order_are_named_once() {
    let data = |address, len| load(READ | WRITE, address, len);
    let segments = [
        data(0x9000, 0x100),
        data(0x5000, 0x2000),
        data(0x6000, 0x2000),
        data(0x5000, 0x2000),
    ];
    assert_eq!(
        roots_of(&segments),
        [(0x5000, 0x7000), (0x7000, 0x8000), (0x9000, 0x9100)]
    );
}

#[test]
fn addresses_are_those_of_the_loaded_image() {
    let segments = [
        load(READ | WRITE, 0x3000, 0x800),
        load(READ | WRITE, 0x5000, 0x10),
        relro(0x3000, 0x400),
    ];
    let file = kept(file(&segments));
    let high = 0xffff_ffff_8000_0000_usize;
    let image = Image::in_file(file, high);
    assert_eq!(image.bias(), Ok(high));
    assert_eq!(
        roots(&image),
        [
            (high + 0x3400, high + 0x3800),
            (high + 0x5000, high + 0x5010)
        ]
    );
    // Below the addresses that it was linked at.
    let image = Image::in_file(file, 0_usize.wrapping_sub(0x2000));
    assert_eq!(roots(&image), [(0x1400, 0x1800), (0x3000, 0x3010)]);
}

#[test]
fn an_image_may_end_where_the_address_space_does() {
    let top = 0xffff_ffff_ffff_f000_usize;
    let segments = [
        load(READ | WRITE, top as u64, 0x1000),
        load(READ | WRITE, 0x5000, 0x10),
    ];
    assert_eq!(roots_of(&segments), [(0x5000, 0x5010), (top, 0)]);
    let low = [load(READ | WRITE, 0x1000, 0x1000)];
    assert_eq!(
        roots(&Image::in_file(kept(file(&low)), top - 0x1000)),
        [(top, 0)]
    );
}

#[test]
fn a_platform_goes_on_with_stages_of_its_own() {
    let image = Image::in_file(kept(file(&[load(READ | WRITE, 0x5000, 0x10)])), 0);
    for own in [
        RootCursor { stage: 1, index: 0 },
        RootCursor {
            stage: 7,
            index: 0x5000,
        },
    ] {
        let mut cursor = own;
        assert_eq!((image.next_root(&mut cursor), cursor), (None, own));
    }
}

#[test]
fn the_machine_does_not_matter() {
    for machine in [62_u16, 183, 243] {
        let mut file = file(&[load(READ | WRITE, 0x5000, 0x10)]);
        put(&mut file, made::MACHINE, &machine.to_le_bytes());
        assert_eq!(roots(&Image::in_file(kept(file), 0)), [(0x5000, 0x5010)]);
    }
}

#[test]
fn a_file_may_lie_at_any_address() {
    let mut buffer = vec![0; 8];
    buffer.extend(file(&[load(READ | WRITE, 0x5000, 0x10)]));
    for shift in 0..8 {
        buffer.remove(0);
        let image = Image::in_file(kept(buffer.clone()), shift);
        let bytes =
            &kept([vec![0; shift], file(&[load(READ | WRITE, 0x5000, 0x10)])].concat())[shift..];
        assert_eq!(roots(&Image::in_file(bytes, 0)), [(0x5000, 0x5010)]);
        assert_eq!(image.check().is_ok(), shift == 7);
    }
}

#[test]
fn what_is_wrong_with_a_header_is_told() {
    let good = || file(&[load(READ | WRITE, 0x5000, 0x10)]);
    let changed = |at, field: &[u8]| {
        let mut file = good();
        put(&mut file, at, field);
        error_of(file)
    };
    assert_eq!(error_of(good()), None);
    assert_eq!(error_of(vec![]), Some(ImageError::NoElf));
    assert_eq!(changed(0, b"PK"), Some(ImageError::NoElf));
    assert_eq!(
        changed(made::CLASS, &[1]),
        Some(ImageError::NoElf),
        "of 32 bits"
    );
    assert_eq!(
        changed(made::BYTE_ORDER, &[2]),
        Some(ImageError::NoElf),
        "big-endian"
    );
    for neither in [0_u8, 1, 4] {
        assert_eq!(
            changed(made::TYPE, &[neither]),
            Some(ImageError::NotExecutable)
        );
    }
    assert_eq!(changed(made::TYPE, &[3]), None, "a PIE");
    let headers = Some(ImageError::NoProgramHeaders);
    assert_eq!(changed(made::ENTRIES, &[0, 0]), headers);
    assert_eq!(
        changed(made::ENTRIES, &[2, 0]),
        headers,
        "one is beyond the end"
    );
    assert_eq!(
        changed(made::ENTRIES, &[0xff, 0xff]),
        headers,
        "a number that is said elsewhere"
    );
    assert_eq!(changed(made::ENTRY_SIZE, &[32]), headers);
    assert_eq!(changed(made::TABLE, &[0; 8]), headers);
    assert_eq!(changed(made::TABLE, &[0xff; 8]), headers);
    assert_eq!(
        error_of(file(&read_only())),
        Some(ImageError::NothingWritable)
    );
}

#[test]
fn segments_that_no_address_space_has_are_told_by_number() {
    let [header, code] = read_only();
    let bad = |segment, bias| {
        let image = Image::in_file(kept(file(&[header, code, segment])), bias);
        assert_eq!(roots(&image), []);
        image.check().err()
    };
    let number = Some(ImageError::BadSegment(2));
    assert_eq!(bad(load(READ | WRITE, 0x5000, u64::MAX), 0), number);
    assert_eq!(bad(load(READ | WRITE, u64::MAX - 7, 9), 0), number);
    assert_eq!(
        bad(load(READ | WRITE, 0x5000, 0x10), usize::MAX - 0x5007),
        number,
        "once it is loaded"
    );
    let larger = Segment {
        in_file: 0x20,
        ..load(READ | WRITE, 0x5000, 0x10)
    };
    assert_eq!(bad(larger, 0), number, "more in the file than in memory");
    assert_eq!(
        bad(
            Segment {
                kind: RELRO,
                ..larger
            },
            0
        ),
        number
    );
    let ignored = Segment {
        flags: READ,
        ..larger
    };
    assert_eq!(
        bad(ignored, 0),
        Some(ImageError::NothingWritable),
        "what is not used may be anything"
    );
    assert_eq!(
        ImageError::BadSegment(2).to_string(),
        "program header 2 names impossible addresses"
    );
}

#[test]
fn no_file_makes_it_panic() {
    let [header, code] = read_only();
    let good = file(&[
        header,
        code,
        load(READ | WRITE, 0x20_3000, 0x2800),
        relro(0x20_3000, 0x400),
    ]);
    for len in 0..good.len() {
        assert!(
            error_of(good[..len].to_vec()).is_some(),
            "cut to {len} bytes"
        );
    }
    for at in 0..good.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut file = good.clone();
            file[at] = byte;
            let image = Image::in_file(kept(file), 0);
            assert!(roots(&image).len() <= 3, "{byte:#x} at {at}");
        }
    }
}
