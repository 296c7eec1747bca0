//! What becomes of a log, line by line, with names that are made up.

use std::collections::HashMap;
use std::rc::Rc;

use kmemleak_report::{Found, Frame, FramesShown, LinesShown, Names, Rewriter, Word};

/// Names for these addresses; all others are not in the code.
struct Made {
    functions: HashMap<u64, &'static str>,
    /// Those with arguments, where they are others.
    instances: HashMap<u64, &'static str>,
}

impl Names for Made {
    fn frame(&mut self, address: u64) -> Rc<Frame> {
        let functions = self.functions.get(&address).map_or("", |name| *name);
        let instances = self.instances.get(&address).map_or(functions, |name| *name);
        Rc::new(Frame {
            is_machinery: functions.starts_with("alloc::"),
            is_code: !functions.is_empty(),
            functions: functions.lines().map(str::to_owned).collect(),
            instances: instances.lines().map(str::to_owned).collect(),
        })
    }

    fn field(&mut self, word: &Word<'_>) -> Option<String> {
        let next = Word {
            block_type: "Arc<net::Route>",
            size: 48,
            offset: 0x18,
        };
        (*word == next).then(|| "Route.next".into())
    }
}

fn rewritten_as(log: &[u8], frames: FramesShown, lines: LinesShown) -> (String, Found) {
    let functions = HashMap::from([
        (0xa1, "alloc::raw_vec::grow"),
        (0xa2, "alloc::vec::push"),
        (0xc1, "net::open+0x1/0x2 (net.rs:7)"),
        (0xc2, "main+0x1/0x2 (main.rs:3)"),
        (
            0xc3,
            "net::Table<u64,net::Route<u8>>::add (table.rs:1)\nnet::route+0x1/0x2 (net.rs:9)",
        ),
        (0xb1, "net::route+0x1/0x2 (net.rs:9)"),
        (0xb2, "hashbrown::new+0x1/0x2 (mod.rs:1)"),
        (0xb3, "hashbrown::reserve+0x1/0x2 (mod.rs:2)"),
    ]);
    let instances = HashMap::from([
        (0xb1, "alloc::boxed::Box<T>::new<net::Route>\nnet::route"),
        (
            0xb2,
            "hashbrown::raw::RawTableInner::new_uninitialized<alloc::alloc::Global>",
        ),
        (
            0xb3,
            "hashbrown::raw::RawTable<T,A>::reserve_rehash<(u8, net::Route), alloc::alloc::Global>",
        ),
    ]);
    let names = Made {
        functions,
        instances,
    };
    let mut out = Vec::new();
    let rewriter = Rewriter::new(names, &mut out, frames, lines);
    let (found, _) = rewriter.run(log).expect("memory takes all");
    (String::from_utf8_lossy(&out).into_owned(), found)
}

fn rewritten(log: &str) -> String {
    rewritten_as(log.as_bytes(), FramesShown::FromCaller, LinesShown::All).0
}

#[test]
fn a_report_gets_names_and_begins_with_the_caller() {
    let log = "\
boot: ready
unreferenced object 0xffff888000476400 (size 64):
  hex dump (first 32 bytes):
    6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b  kkkkkkkkkkkkkkkk
  backtrace (crc 571ec1ae):
    0x00000000000000a1
    0x00000000000000a2
    0x00000000000000c1
    0x00000000000000a1
    0x00000000000000c2
kmemleak: 1 unreferenced object (64 bytes)
    0x00000000000000c1
";
    let expected = "\
boot: ready
unreferenced object 0xffff888000476400 (size 64):
  hex dump (first 32 bytes):
    6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b  kkkkkkkkkkkkkkkk
  backtrace (crc 571ec1ae, 2 frames skipped):
    net::open+0x1/0x2 (net.rs:7)
    alloc::raw_vec::grow
    main+0x1/0x2 (main.rs:3)
kmemleak: 1 unreferenced object (64 bytes)
    0x00000000000000c1
";
    assert_eq!(rewritten(log), expected);
    let all = rewritten_as(log.as_bytes(), FramesShown::All, LinesShown::All).0;
    assert!(all.contains(
        "(crc 571ec1ae):\n    alloc::raw_vec::grow\n    alloc::vec::push\n    net::open"
    ));
}

#[test]
fn each_function_has_a_line_with_the_same_prefix() {
    let log = "[1.0]   backtrace (crc 571ec1ae):\r\n[1.0]     0xa1\r\n[1.0]     0xc3\r\n[1.0]     0x00000000000000c3";
    let expected = "\
[1.0]   backtrace (crc 571ec1ae, 1 frame skipped):\r
[1.0]     net::Table<u64,Route<_>>::add (table.rs:1) [inlined]\r
[1.0]     net::route+0x1/0x2 (net.rs:9)\r
[1.0]     net::Table<u64,Route<_>>::add (table.rs:1) [inlined]
[1.0]     net::route+0x1/0x2 (net.rs:9)";
    assert_eq!(rewritten(log), expected);
    let json = "{\"schema\":2,\"kind\":\"site\",\"skipped\":0,\"backtrace\":[\"0xc3\"]}\n";
    let whole = "[\"net::route+0x1/0x2 (net.rs:9), inlined net::Table<u64,net::Route<u8>>::add (table.rs:1)\"]";
    let named = rewritten(json);
    assert!(named.contains(whole), "{named}");
}

#[test]
fn frames_count_not_their_lines() {
    let named = "    a::b (a.rs:1) [inlined]\n".repeat(3) + "    a::c (a.rs:2)\n";
    let log = format!(
        "  backtrace (crc 571ec1ae):\n{}    0xc1\n",
        named.repeat(15)
    );
    assert!(rewritten(&log).ends_with("    net::open+0x1/0x2 (net.rs:7)\n"));
}

#[test]
fn prefixes_ends_and_lines_between_stay() {
    let log = "\
[    1.000] \u{20} backtrace (crc 571ec1ae):\r
[    1.001] \u{20}   0x00000000000000a1\r
[    1.001] eth0: link up\r
[    1.002] \u{20}   0x00000000000000c1\r
[    1.002] eth0: link down\r
[    1.003] \u{20}   0x00000000000000c2\r
";
    let expected = "\
[    1.000] \u{20} backtrace (crc 571ec1ae, 1 frame skipped):\r
[    1.001] eth0: link up\r
[    1.002] \u{20}   net::open+0x1/0x2 (net.rs:7)\r
[    1.002] eth0: link down\r
[    1.003] \u{20}   main+0x1/0x2 (main.rs:3)\r
";
    assert_eq!(rewritten(log), expected);
}

#[test]
fn a_log_that_is_cut_is_written_to_its_end() {
    let begun = "  backtrace (crc 571ec1ae):\n    0x00000000000000a1\n";
    let named = "  backtrace (crc 571ec1ae):\n    alloc::raw_vec::grow\n";
    for cut in ["", "    0x00000000000000", "    0x0", "kmem", "\u{1b}["] {
        assert_eq!(rewritten(&format!("{begun}{cut}")), format!("{named}{cut}"));
    }
    let whole = rewritten(&format!("{begun}    0x00000000000000c1"));
    assert_eq!(
        whole,
        "  backtrace (crc 571ec1ae, 1 frame skipped):\n    net::open+0x1/0x2 (net.rs:7)"
    );
}

#[test]
fn call_stacks_that_follow_each_other_are_told_apart() {
    let log = "  called from (crc 571ec1ae):\n    0xa1\n    0xc1\n  freed last from (crc 571ec1af):\n    0xa2\n    0xc2\n";
    let expected = "  called from (crc 571ec1ae, 1 frame skipped):\n    net::open+0x1/0x2 (net.rs:7)\n  freed last from (crc 571ec1af, 1 frame skipped):\n    main+0x1/0x2 (main.rs:3)\n";
    assert_eq!(rewritten(log), expected);
}

#[test]
fn frames_that_the_kernel_skipped_or_named_are_kept_in_mind() {
    let log = "  backtrace (crc 571ec1ae, 2 frames skipped):\n    0xa1\n    module::probe\n    0xc1\n    0xdead\n";
    let expected = "  backtrace (crc 571ec1ae, 3 frames skipped):\n    module::probe\n    net::open+0x1/0x2 (net.rs:7)\n    0xdead\n";
    assert_eq!(rewritten(log), expected);
}

#[test]
fn a_call_stack_has_sixteen_frames() {
    let frames = "    0x00000000000000c1\n".repeat(17);
    let named = rewritten(&format!("  backtrace (crc 571ec1ae):\n{frames}"));
    assert_eq!(named.matches("net::open").count(), 16);
    assert!(named.ends_with("\n    0x00000000000000c1\n"));
}

#[test]
fn other_output_does_not_wait_for_ever() {
    let other = "eth0: up\n".repeat(1000);
    let log = format!("  backtrace (crc 571ec1ae):\n    0xa1\n{other}    0xc1\n");
    let expected =
        format!("  backtrace (crc 571ec1ae):\n    alloc::raw_vec::grow\n{other}    0xc1\n");
    assert_eq!(rewritten(&log), expected);
}

#[test]
fn who_allocated_a_holder_gets_a_name() {
    let line =
        "  0x0000000000001000: object 0x0000000000001000 (size 48)+0x0, from 0x00000000000000c1\n";
    let expected = "  0x0000000000001000: object 0x0000000000001000 (size 48)+0x0, from net::open (net.rs:7)\n";
    assert_eq!(rewritten(line), expected);
}

#[test]
fn who_allocated_a_group_gets_a_name() {
    let table = "\
[1.0]     #    count     bytes     owned  oldest allocated by                 at
[1.0]    #1        1  16.0 KiB         -  259 ms 0x00000000000000c1
[1.0]    #2        2      32 B      32 B   1.1 s 0x00000000000000c3
[1.0]    #3        2      32 B      32 B   1.1 s 0x00000000000000ff
";
    let named = table
        .replace(
            "0x00000000000000c1",
            "net::open                    net.rs:7",
        )
        .replace(
            "0x00000000000000c3",
            "net::Table<_>::add           table.rs:1",
        );
    assert_eq!(rewritten(table), named);
}

#[test]
fn who_allocated_a_live_object_gets_a_name() {
    let object = "  0xffff888000476400 (size 64), age 0.011s, comm \"from 0xc1\", pid 6";
    let log = format!(
        "64 bytes in 1 object, grown by +64 bytes (+1):
  backtrace (crc 571ec1ae):
    0xa1
    0xc1
{object}, gray, crc 571ec1ae, from 0xc1
{object}, no call stack
kmemleak: no call stacks: the platform gives none
kmemleak: 2 of 2 objects (128 bytes)
"
    );
    let named = rewritten(&log);
    let expected = log
        .replace("1ae):\n    0xa1", "1ae, 1 frame skipped):")
        .replace("    0xc1", "    net::open+0x1/0x2 (net.rs:7)")
        .replace(", from 0xc1\n", ", from net::open (net.rs:7)\n");
    assert_eq!(named, expected);
}

#[test]
fn objects_end_a_call_stack_that_is_machinery_alone() {
    let object = "  0xffff888000476400 (size 64), age 0.011s, comm \"leak\", pid 6";
    for allocated in ["crc 571ec1ae, from main", "no call stack"] {
        let log =
            format!("  backtrace (crc 571ec1ae):\n    0xa1\n{object}, {allocated}\n    0xc1\n");
        let expected = log.replace("0xa1", "alloc::raw_vec::grow");
        assert_eq!(rewritten(&log), expected);
    }
}

#[test]
fn the_words_and_call_stacks_of_any_answer_get_names() {
    let log = "\
object 0xffff888000476400 (size 48): nothing points to it
  0xffff888000476380: object 0xffff888000476380 (size 64)+0x8, not scanned, from 0xc1
    near miss: it points to the byte after the object: keep a pointer to its start
0xffff888000476440: no object, but a block was freed there
  allocated by (crc 571ec1ae):
    0xa2
    0xc1
  freed by (crc 571ec1af):
    0xc2
kmemleak: look there
";
    let expected = log
        .replace("ae):\n    0xa2", "ae, 1 frame skipped):")
        .replace("    0xc2", "    main+0x1/0x2 (main.rs:3)")
        .replace("from 0xc1", "from net::open (net.rs:7)")
        .replace("0xc1", "net::open+0x1/0x2 (net.rs:7)");
    assert_eq!(rewritten(log), expected);
}

#[test]
fn lines_of_nobody_pass_byte_for_byte() {
    let log = b"\xff\xfe\r\r\n\n\0}\n:\n{\"schema\":2\n  \x1b[1m0xc1\n0x";
    let (text, found) = rewritten_as(log, FramesShown::FromCaller, LinesShown::All);
    assert_eq!(text, String::from_utf8_lossy(log));
    assert_eq!(found, Found::default());
}

#[test]
fn json_gets_names_and_keeps_addresses() {
    let line = r#"t=1 {"schema":2,"kind":"site","bytes":18446744073709551615,"crc":"571ec1ae","skipped":0,"backtrace":["0x00000000000000a1","0xc1","mod::f"]}"#;
    let named = r#"{"schema":2,"kind":"site","bytes":18446744073709551615,"crc":"571ec1ae","skipped":1,"backtrace":["alloc::raw_vec::grow","net::open+0x1/0x2 (net.rs:7)","mod::f"],"addresses":["0x00000000000000a1","0xc1","mod::f"]}"#;
    assert_eq!(
        rewritten(&format!("{line}\r\n")),
        format!("t=1 {named}\r\n")
    );
    let log = format!("boot\n{line}\n  backtrace (crc 571ec1ae):\n    0xc1\n{{\"schema\":2}}\n");
    let (alone, found) = rewritten_as(log.as_bytes(), FramesShown::All, LinesShown::Json);
    assert_eq!(alone, format!("{named}\n{{\"schema\":2}}\n"));
    assert_eq!((found.call_stacks, found.addresses), (2, 3));
}

#[test]
fn json_without_addresses_or_without_an_end_stays() {
    let sum = r#"{"schema":2, "kind":"summary", "objects":1}"#;
    let cut = r#"{"schema":2,"kind":"site","backtrace":["0xc1"]  eth0: up}"#;
    let log = format!("{sum}\n{cut}\n");
    let (text, found) = rewritten_as(log.as_bytes(), FramesShown::FromCaller, LinesShown::All);
    assert_eq!((text, found.damaged), (log, 1));
}

#[test]
fn addresses_of_another_kernel_are_counted() {
    let log = b"  backtrace (crc 571ec1ae):\n    0xdead\n    0xbeef\n    0xc1\n";
    let (text, found) = rewritten_as(log, FramesShown::FromCaller, LinesShown::All);
    assert!(text.contains("    0xdead\n    0xbeef\n    net::open"));
    assert_eq!((found.addresses, found.outside), (3, 2));
    assert_eq!(found.first_outside, Some(0xdead));
}

#[test]
fn the_type_stands_before_the_call_stack() {
    let log = "[1.0]   backtrace (crc 571ec1ae):\r\n[1.0]     0xa1\r\n[1.0]     0xb1\r\n[1.0]     0xc2\r\n";
    let expected = "\
[1.0]   type net::Route\r
[1.0]   backtrace (crc 571ec1ae, 1 frame skipped):\r
[1.0]     net::route+0x1/0x2 (net.rs:9)\r
[1.0]     main+0x1/0x2 (main.rs:3)\r
";
    assert_eq!(rewritten(log), expected);
    let all = rewritten_as(log.as_bytes(), FramesShown::All, LinesShown::All).0;
    let begin = "[1.0]   type net::Route\r\n[1.0]   backtrace (crc 571ec1ae):\r\n[1.0]     alloc::raw_vec::grow\r\n[1.0]     net::route+";
    assert!(all.starts_with(begin), "{all}");
}

#[test]
fn a_type_that_a_later_frame_tells_is_waited_for() {
    let log = "  backtrace (crc 571ec1ae):\n    0xa1\n    0xb2\neth0: up\n    0xb3\n    0xc2\n";
    let expected = "  type RawTable<(u8, net::Route)>
  backtrace (crc 571ec1ae, 1 frame skipped):
    hashbrown::new+0x1/0x2 (mod.rs:1)
eth0: up
    hashbrown::reserve+0x1/0x2 (mod.rs:2)
    main+0x1/0x2 (main.rs:3)
";
    assert_eq!(rewritten(log), expected);
    let cut = rewritten("  backtrace (crc 571ec1ae):\n    0xa1\n    0xb2\nkmemleak: end\n");
    let expected = "  backtrace (crc 571ec1ae, 1 frame skipped):\n    hashbrown::new+0x1/0x2 (mod.rs:1)\nkmemleak: end\n";
    assert_eq!(cut, expected);
}

#[test]
fn a_type_that_is_told_or_uncertain_is_not_added() {
    for log in [
        "  type net::Other\n  backtrace (crc 571ec1ae):\n    0xb1\n",
        "  freed by (crc 571ec1ae):\n    0xb1\n",
        "  backtrace (crc 571ec1ae, 1 frame skipped):\n    0xb1\n",
        "  backtrace (crc 571ec1ae):\n    module::alloc\n    0xb1\n",
        "  backtrace (crc 571ec1ae):\n    0xdead\n    0xb1\n",
        "  backtrace (crc 571ec1ae):\n    0xc1\n    0xb1\n",
    ] {
        let named = rewritten(log);
        assert_eq!(
            named.matches("type net::").count(),
            log.matches("type net::").count()
        );
        assert!(named.contains("net::route+"), "{named}");
    }
    // The type of the block before.
    let log = "  type net::Other\n  backtrace (crc 571ec1ae): as above\n  backtrace (crc 571ec1af):\n    0xb1\n";
    assert!(rewritten(log).contains("above\n  type net::Route\n  backtrace"));
}

#[test]
fn json_gets_types_where_it_has_none() {
    let of = |told: &str, frames: &str| {
        let line = format!("{{\"schema\":2,{told}\"skipped\":0,\"backtrace\":[{frames}]}}\n");
        rewritten(&line)
    };
    let typed = of("\"type\":null,", "\"0xa1\",\"0xb1\",\"0xc2\"");
    assert!(
        typed.starts_with("{\"schema\":2,\"type\":\"net::Route\",\"skipped\":1,"),
        "{typed}"
    );
    let table = of("\"type\":null,", "\"0xb2\",\"0xb3\"");
    assert!(
        table.contains("\"type\":\"RawTable<(u8, net::Route)>\""),
        "{table}"
    );
    for (told, frames) in [
        ("\"type\":\"net::Other\",", "\"0xb1\""),
        ("\"type\":null,", "\"0xdead\",\"0xb1\""),
        ("\"type\":null,", "\"module::alloc\",\"0xb1\""),
        ("", "\"0xb1\""),
    ] {
        let named = of(told, frames);
        assert!(
            named.starts_with(&format!("{{\"schema\":2,{told}\"skipped\":")),
            "{named}"
        );
        assert!(named.contains("net::route+"), "{named}");
    }
}

#[test]
fn the_field_of_a_word_is_named() {
    let text = |field: &str, offset: &str, block_type: &str| {
        format!(
            "[1.0]   0x0000000000001018: object 0x0000000000001000 (size 48)+{offset}{field}, {block_type} from net::open (net.rs:7)\r\n"
        )
    };
    let json = |field: &str, kind: &str, offset: &str, frame: &str| {
        format!(
            "{{\"schema\":2,\"kind\":\"{kind}\",\"object_size\":48,\"offset\":{offset},\"type\":\"Arc<net::Route>\",\"backtrace\":[\"{frame}\"]{field}}}\n"
        )
    };
    let (route, next) = ("Arc<net::Route>", ",\"field\":\"Route.next\"");
    let came = [
        text("", "0x18", route),
        text("", "0x10", route),
        text("", "0x18", "Arc<net::Other>"),
        json("", "holder", "24", "net::open"),
        json("", "step", "24", "net::open"),
        json("", "step", "16", "net::open"),
        json("", "step", "null", "net::open"),
        json("", "site", "24", "net::open"),
        json("", "step", "24", "0xc1"),
    ];
    let named = [
        text(" (Route.next)", "0x18", route),
        text("", "0x10", route),
        text("", "0x18", "Arc<net::Other>"),
        json(next, "holder", "24", "net::open"),
        json(next, "step", "24", "net::open"),
        json("", "step", "16", "net::open"),
        json("", "step", "null", "net::open"),
        json("", "site", "24", "net::open"),
        json(
            ",\"skipped\":0,\"addresses\":[\"0xc1\"],\"field\":\"Route.next\"",
            "step",
            "24",
            "net::open+0x1/0x2 (net.rs:7)",
        ),
    ];
    let (rewritten, _) = rewritten_as(
        came.concat().as_bytes(),
        FramesShown::FromCaller,
        LinesShown::All,
    );
    assert_eq!(rewritten, named.concat());
}
