//! Call stacks in text: a function a line, inlined ones marked, names short enough for a line.

use crate::lab::Lab;

/// A lab with a leak from this call stack, innermost frame first.
fn leak(stack: &[&str]) -> Lab {
    let lab = Lab::new();
    lab.machine.call_from(stack);
    lab.block(64);
    lab.leaks();
    lab
}

/// The lines of the call stack of the only leak.
fn lines(lab: &Lab) -> Vec<String> {
    let dump = lab.say(&format!("dump {:x}", lab.listed()[0]));
    let frames = dump.split_once("backtrace (crc ").expect("a call stack").1;
    let lines = frames.lines().skip(1);
    lines
        .map(|line| line.strip_prefix("    ").expect("a frame").to_owned())
        .collect()
}

#[test]
fn each_function_has_a_line() {
    let lab = leak(&[
        "net::Packet::new (net/packet.rs:40)\nnet::fill (net/mod.rs:9)\nnet::receive+0x1c/0x67 (net/mod.rs:99)",
        "task::start+0x1/0x2 (task.rs:1)\n",
    ]);
    assert_eq!(
        lines(&lab),
        [
            "net::Packet::new (net/packet.rs:40) [inlined]",
            "net::fill (net/mod.rs:9) [inlined]",
            "net::receive+0x1c/0x67 (net/mod.rs:99)",
            "task::start+0x1/0x2 (task.rs:1)"
        ]
    );
    // JSON has it in one text, the function that has the frame first.
    let json = lab.say("report --json");
    let whole = "[\"net::receive+0x1c/0x67 (net/mod.rs:99), inlined net::fill (net/mod.rs:9), inlined net::Packet::new (net/packet.rs:40)\",\"task::start+0x1/0x2 (task.rs:1)\"]";
    assert!(json.contains(whole), "{json}");
}

#[test]
fn machinery_that_was_inlined_into_the_first_frame_is_left_out() {
    const MACHINERY: &str =
        "alloc::raw_vec::finish_grow (raw_vec.rs:1)\n<alloc::vec::Vec<T>>::push (vec.rs:2)\n";
    let own = [
        MACHINERY,
        "net::fill (net/mod.rs:9)\n",
        MACHINERY,
        "net::receive+0x1/0x2 (net/mod.rs:1)",
    ];
    let outer = [MACHINERY, "task::start+0x1/0x2"].concat();
    let lab = leak(&["__rust_alloc", &own.concat(), &outer]);
    assert_eq!(
        lines(&lab),
        [
            "net::fill (net/mod.rs:9) [inlined]",
            "alloc::raw_vec::finish_grow (raw_vec.rs:1) [inlined]",
            "<alloc::vec::Vec<T>>::push (vec.rs:2) [inlined]",
            "net::receive+0x1/0x2 (net/mod.rs:1)",
            // In other frames all is shown.
            "alloc::raw_vec::finish_grow (raw_vec.rs:1) [inlined]",
            "<alloc::vec::Vec<T>>::push (vec.rs:2) [inlined]",
            "task::start+0x1/0x2",
        ]
    );
    assert!(
        lab.say("objects --full")
            .contains(", from net::fill (net/mod.rs:9)\n")
    );
    // Where all is machinery, all is shown.
    let lab = leak(&[&[MACHINERY, "alloc::alloc::alloc+0x1/0x2"].concat()]);
    assert_eq!(lines(&lab).len(), 3);
    assert!(
        lab.say("objects --full")
            .contains(", from alloc::raw_vec::finish_grow (raw_vec.rs:1)\n")
    );
}

#[test]
fn lines_have_a_hundred_columns_where_they_can() {
    let deep = "Vec<".repeat(200);
    let stack = [
        format!(
            "<net::Queue<net::Packet,{deep}u8{}> as net::Sink>::push (net/queue.rs:7)\nnet::run+0x1/0x2 (net/mod.rs:1)",
            ">".repeat(200)
        ),
        String::from(
            "<net::a_module::of_a_long_name::Queue<net::Packet> as net::a_module::of_a_long_name::Sink<net::Packet>>::push+0x123/0x456 (net/queue.rs:7)",
        ),
        format!("net::{}+0x1/0x2 (net/mod.rs:5)", "x".repeat(1000)),
        format!("net::close+0x1/0x2 ({}:5)", "y".repeat(1000)),
    ];
    let lab = leak(&stack.each_ref().map(String::as_str));
    let lines = lines(&lab);
    assert_eq!(
        lines[0],
        "<net::Queue<Packet,Vec<_>> as net::Sink>::push (net/queue.rs:7) [inlined]"
    );
    assert_eq!(
        lines[2],
        "<Queue<Packet> as Sink<Packet>>::push+0x123/0x456 (net/queue.rs:7)"
    );
    // What has no brackets can't be made shorter, only cut.
    assert!(
        lines[3].starts_with("net::xxx") && lines[3].ends_with("x…+0x1/0x2 (net/mod.rs:5)"),
        "{}",
        lines[3]
    );
    assert!(
        lines[4].starts_with("net::close+0x1/0x2 (yyy"),
        "{}",
        lines[4]
    );
    assert!(lines.iter().all(|line| line.len() < 600));
    // Suppressions and JSON have whole names.
    let json = lab.say("report --json");
    assert!(
        stack[1..].iter().all(|frame| json.contains(frame.as_str())),
        "{json}"
    );
    lab.say("suppress <net::a_module::of_a_long_name::Queue<net::Packet> as*");
    assert!(lab.leaks().is_empty());
}

#[test]
fn a_platform_may_write_all_in_a_line() {
    let lab = leak(&["net::receive+0x1/0x2 (net/mod.rs:1), inlined net::fill (net/mod.rs:9)"]);
    assert_eq!(
        lines(&lab),
        ["net::receive+0x1/0x2 (net/mod.rs:1), inlined net::fill (net/mod.rs:9)"]
    );
    assert!(
        lab.say("objects --full")
            .contains(", from net::receive (net/mod.rs:1)\n")
    );
}

#[test]
fn nothing_is_written_as_an_address() {
    for nothing in ["", "\n", "\n\n"] {
        let lab = leak(&[nothing]);
        assert!(lines(&lab)[0].starts_with("0x"), "{:?}", lines(&lab));
        assert!(lab.say("objects --full").contains(", from 0x"));
        assert!(lab.say("report --json").contains("\"backtrace\":[\"0x"));
    }
}
