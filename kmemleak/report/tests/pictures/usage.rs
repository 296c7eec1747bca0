//! What each call stack has allocated: folded, as pprof, and as a flame graph.

use std::io::Read;
use std::process::Command;

use crate::made::Heap;
use flate2::read::GzDecoder;
use kmemleak_report::folded::{self, Bytes};
use kmemleak_report::log::Log;
use kmemleak_report::pprof;
use kmemleak_report::usage::{Usage, by_call_stack};

const NET: &str = r#""crc":"00000001","skipped":1,"backtrace":["alloc::f","net::open+0x1/0x2 (net.rs:7), inlined net::<[u8; 4]>::new (new.rs:9)","main+0x1/0x2 (main.rs:3)"]"#;
const DISK: &str =
    r#""crc":"00000002","skipped":0,"backtrace":["disk<&str>","main+0x3/0x9 (main.rs:4)"]"#;

fn group(objects: u64, bytes: u64, stack: &str) -> String {
    format!("{{\"schema\":2,\"kind\":\"group\",\"objects\":{objects},\"bytes\":{bytes},{stack}}}\n")
}

fn site(objects: u64, bytes: u64, stack: &str) -> String {
    format!("{{\"schema\":2,\"kind\":\"site\",\"objects\":{objects},\"bytes\":{bytes},{stack}}}\n")
}

const SUMMARY: &str = "{\"schema\":2,\"kind\":\"summary\",\"objects\":3}\n";

fn sites_end(shown: u64) -> String {
    format!(
        "{{\"schema\":2,\"kind\":\"sites\",\"shown\":{shown},\"total\":2,\"by\":\"bytes\",\"complete\":true}}\n"
    )
}

fn log() -> String {
    [
        group(3, 300, NET),
        SUMMARY.into(),
        site(4, 1000, NET),
        site(9, 50, DISK),
        sites_end(2),
    ]
    .concat()
}

fn usages(log: &str) -> Vec<Usage> {
    by_call_stack(&Log::read(log.as_bytes()).expect("memory can be read"))
}

fn folded(log: &str) -> String {
    let mut out = Vec::new();
    folded::write(&usages(log), &mut out).expect("memory takes all");
    String::from_utf8(out).expect("text")
}

const FOLDED: &str = "\
lost;main;net::open;net::<[u8: 4]>::new 300
in use;main;disk<&str> 50
in use;main;net::open;net::<[u8: 4]>::new 700
";

#[test]
fn call_stacks_are_folded_and_no_byte_counts_twice() {
    assert_eq!(folded(&log()), FOLDED);
}

#[test]
fn call_stacks_of_the_same_functions_are_one_line() {
    let other = DISK
        .replace("00000002", "00000003")
        .replace("+0x3/0x9 (main.rs:4)", "+0x5/0x9 (main.rs:5)");
    let log = [site(1, 50, DISK), site(2, 7, &other), sites_end(2)].concat();
    assert_eq!(folded(&log), "in use;main;disk<&str> 57\n");
}

#[test]
fn without_groups_the_objects_count() {
    let object = |size: u64| {
        format!(
            "{{\"schema\":2,\"kind\":\"object\",\"address\":\"0x10\",\"size\":{size},{DISK}}}\n"
        )
    };
    let log = [object(5), object(6), SUMMARY.into()].concat();
    assert_eq!(folded(&log), "lost;main;disk<&str> 11\n");
    assert_eq!(folded(SUMMARY), "");
}

#[test]
fn a_snapshot_stands_in_for_a_list_of_some_call_sites() {
    let heap = Heap {
        nodes: vec![(10, 1, false), (20, 1, false), (40, 9, false)],
        stacks: [(1, vec!["f".into()])].into(),
        ..Heap::default()
    };
    let some = [site(4, 1000, NET), sites_end(1)].concat();
    assert_eq!(
        folded(&[some.clone(), heap.log()].concat()),
        "in use;(no call stack) 40\nin use;f 30\n"
    );
    assert_eq!(
        folded(&some),
        "in use;main;net::open;net::<[u8: 4]>::new 1000\n"
    );
}

#[test]
fn a_flame_graph_shows_the_bytes_of_its_kind() {
    let usages = usages(&log());
    let svg = folded::flame_graph(&usages, Bytes::InUse, "Live <bytes>").expect("memory takes all");
    let svg = svg.expect("a graph");
    assert!(svg.contains("Live &lt;bytes&gt;"), "{svg}");
    assert!(
        svg.contains("disk&lt;&amp;str&gt; (50 bytes, 6.67%)"),
        "{svg}"
    );
    assert!(!svg.contains("lost"), "{svg}");
    let none = folded::flame_graph(&usages[1..], Bytes::Lost, "").expect("memory takes all");
    assert_eq!(none, None);
}

fn profile() -> Vec<u8> {
    let mut out = Vec::new();
    pprof::write(&usages(&log()), &mut out).expect("memory takes all");
    out
}

/// The fields of a message of protobuf: number, and a number or bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, &[u8])> {
    fn number(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for (place, byte) in bytes.iter().enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                *bytes = &bytes[place + 1..];
                return value;
            }
        }
        panic!("a number is cut");
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = number(&mut bytes);
        let value = number(&mut bytes);
        let (inside, rest) = match tag & 7 {
            0 => (&bytes[..0], bytes),
            2 => bytes.split_at(value as usize),
            wire => panic!("wire type {wire}"),
        };
        fields.push((tag >> 3, value, inside));
        bytes = rest;
    }
    fields
}

#[test]
fn a_profile_has_the_fields_of_the_format() {
    let mut bytes = Vec::new();
    GzDecoder::new(&*profile())
        .read_to_end(&mut bytes)
        .expect("compressed");
    let all = fields(&bytes);
    let inside = |number: u64| -> Vec<&[u8]> {
        let of = all.iter().filter(|field| field.0 == number);
        of.map(|field| field.2).collect()
    };
    let texts: Vec<_> = inside(6)
        .into_iter()
        .map(|text| std::str::from_utf8(text).expect("text"))
        .collect();
    assert_eq!(texts[0], "");
    let text = |field: &(u64, u64, &[u8])| texts[field.1 as usize];
    let types: Vec<_> = inside(1)
        .into_iter()
        .map(|kind| fields(kind).iter().map(text).collect::<Vec<_>>())
        .collect();
    let expected = [
        ["lost_objects", "count"],
        ["lost_space", "bytes"],
        ["inuse_objects", "count"],
        ["inuse_space", "bytes"],
    ];
    assert_eq!(types, expected);
    let default = all.iter().find(|field| field.0 == 14).expect("a default");
    assert_eq!(text(default), "lost_space");
    // The first sample: its places, packed, and its values, as numbers of 7 bits.
    let sample = fields(inside(2)[0]);
    assert_eq!(sample[0].2, [1, 2]);
    assert_eq!(sample[1].2, [3, 0xac, 2, 1, 0xbc, 5]);
    // The place of the inlined function: two lines, innermost first.
    let place = fields(inside(4)[0]);
    assert_eq!(place[0].1, 1);
    let lines: Vec<_> = place[1..]
        .iter()
        .map(|line| {
            fields(line.2)
                .iter()
                .map(|field| field.1)
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(lines, [[1, 9], [2, 7]]);
    let functions: Vec<_> = inside(5)
        .into_iter()
        .map(|function| fields(function)[1..].iter().map(text).collect::<Vec<_>>())
        .collect();
    assert_eq!(
        functions[..2],
        [["net::<[u8; 4]>::new", "new.rs"], ["net::open", "net.rs"]]
    );
}

#[test]
fn go_reads_the_profile() {
    if Command::new("go").arg("version").output().is_err() {
        println!("skipped: go is not installed");
        return;
    }
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("profile.pb.gz");
    std::fs::write(&file, profile()).expect("a file");
    for (sample, line) in [
        ("lost_space", "300B   100%"),
        ("inuse_space", "700B 93.33%"),
    ] {
        let output = Command::new("go")
            .args(["tool", "pprof", "-top", "-sample_index", sample])
            .arg(&file)
            .output()
            .expect("go runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            text.contains(line) && text.contains("net::<[u8; 4]>::new"),
            "{text}{errors}"
        );
    }
}
