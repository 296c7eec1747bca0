//! The commands that answer questions about one object, about interior pointers, or about words of stacks, line by line.

use boot::session::Session;
use qemu_tests::machines::Failure;
use qemu_tests::transcript::expect_lines;

use crate::ask::{BACKTRACE, START, ask, expect, expect_fields, expect_from, json, of_kind};
use crate::leaks::plant;
use crate::shell::{expect_in, shell};

crate::tests![
    interior,
    stack_only,
    dump,
    holders_and_path,
    holders_and_path_json,
    path_from_a_stack,
    path_of_the_unreachable
];

fn interior() -> Result<(), Failure> {
    let mut session = shell()?;
    ask(&mut session, "scan")?;
    let none = "kmemleak: 0 objects (0 bytes) alive through interior pointers only";
    expect(&mut session, "interior", &[none])?;
    let values = json(&mut session, "interior --json")?;
    let [end] = &values[..] else {
        return Err(format!("not one line: {values:#?}").into());
    };
    expect_fields(
        end,
        &serde_json::json!({"kind": "interiors", "objects": 0, "bytes": 0}),
    )
}

/// A task that waits for ever keeps what it waits for, and a buffer, by words of its own stack.
fn stack_only() -> Result<(), Failure> {
    let mut session = shell()?;
    ask(&mut session, "scan")?;
    plant(&mut session, "blocked-task")?;
    let values = json(&mut session, "stack-only --json")?;
    let of_waiter = of_kind(&values, "stack_only").into_iter().filter(|object| {
        let root = object["root"].as_str().unwrap_or_default();
        root.starts_with("task ") && root.contains(" \"waiter\" ")
    });
    let mut types: Vec<_> = of_waiter.map(|object| object["type"].to_string()).collect();
    types.sort_unstable();
    let expected = [
        "\"Arc<kernel::task::wait_queue::WaitQueue>\"",
        "\"[u8; 1000]\"",
        "\"kernel::task::Once<kernel::shell::leak::blocked_task::{closure#0}>\"",
    ];
    if types != expected {
        return Err(format!("{types:?} instead of {expected:?}").into());
    }
    let table = ask(&mut session, "stack-only")?;
    expect_in(&table, " [u8; 1000] ")?;
    expect_in(&table, " \"waiter\" kernel::task::")?;
    expect_in(&table, " alive through stack words only\n")
}

/// The lost node's address, and that of the live one that it points to.
fn nodes(session: &mut Session) -> Result<(String, String), Failure> {
    plant(session, "unlinked-node")?;
    let values = json(session, "scan --json")?;
    let [lost] = of_kind(&values, "object")[..] else {
        return Err(format!("not one node: {values:#?}").into());
    };
    let address = lost["address"].as_str().ok_or("no address")?;
    let bytes = lost["dump"].as_str().ok_or("no dump")?;
    let next = u64::from_str_radix(bytes.get(..16).ok_or("no word")?, 16)?.swap_bytes();
    Ok((address.into(), format!("{next:#018x}")))
}

fn dump() -> Result<(), Failure> {
    let mut session = shell()?;
    let (lost, next) = nodes(&mut session)?;
    let dump = |address: &str, flags, first, byte: &str| {
        [
            format!("object {address} (size 48):"),
            "  comm \"leak\", pid …, cpu …".into(),
            "  birth … us".into(),
            "  min_count 1".into(),
            format!("  flags{flags}"),
            "  checksum … (first 32 bytes)".into(),
            "  hex dump (first 32 bytes):".into(),
            format!("    {first}{}  …", format!(" {byte}").repeat(8)),
            format!("   {}  ................", format!(" {byte}").repeat(16)),
            "  type kernel::shell::leak::Node".into(),
            BACKTRACE.into(),
            "    kernel::shell::leak::push+0x…/0x… (kernel/src/shell/leak.rs:…)".into(),
            "    kernel::shell::leak::unlinked_node+0x…/0x… (kernel/src/shell/leak.rs:…)".into(),
            START.into(),
        ]
    };
    let expected = dump(&next, " none", "00 00 00 00 00 00 00 00", "01");
    let expected: Vec<_> = expected.iter().map(String::as_str).collect();
    expect(&mut session, &format!("dump {next}"), &expected)?;
    let expected = dump(&lost, " unreferenced reported", "…", "02");
    let expected: Vec<_> = expected.iter().map(String::as_str).collect();
    expect(&mut session, &format!("dump={lost}"), &expected)
}

fn holders_and_path() -> Result<(), Failure> {
    let mut session = shell()?;
    let (lost, next) = nodes(&mut session)?;
    let word = "size 48)+0x0, Node from kernel::shell::leak::push (kernel/src/shell/leak.rs:…)";
    // The first node of the list, which it has been given, and the lost one, in the order of addresses.
    let holder = format!("  0xffff88…: object 0xffff88… ({word}");
    let end = format!("kmemleak: 2 holders of object {next}");
    let answer = ask(&mut session, &format!("holders {next}"))?;
    expect_lines(&answer, &[&holder, &holder, &end])?;
    expect_in(&answer, &format!("  {lost}: object {lost} ("))?;
    let way = "kmemleak: .bss kernel::shell::leak::LIST -> Node -> Node";
    let end = format!("kmemleak: 2 steps to object {next}");
    let root = "  0xffffffff8…: .bss kernel::shell::leak::LIST+0x…";
    expect(
        &mut session,
        &format!("path {next}"),
        &[root, &holder, way, &end],
    )?;
    // The address of any byte will do, without 0x as well.
    let inside = u64::from_str_radix(&next[2..], 16)? + 47;
    expect(
        &mut session,
        &format!("path={inside:x}"),
        &[root, &holder, way, &end],
    )
}

fn holders_and_path_json() -> Result<(), Failure> {
    let mut session = shell()?;
    let (lost, next) = nodes(&mut session)?;
    let values = json(&mut session, &format!("holders {next} --json"))?;
    let holders = of_kind(&values, "holder");
    for holder in &holders {
        expect_from(holder, "kernel::shell::leak::push")?;
        expect_fields(
            holder,
            &serde_json::json!({"root": null, "object_size": 48}),
        )?;
    }
    if !holders.iter().any(|holder| holder["object"] == lost[..]) || values.len() != 3 {
        return Err(format!("not the holders: {values:#?}").into());
    }
    let end = serde_json::json!({"kind": "holders", "count": 2, "target": next, "error": null});
    expect_fields(&values[2], &end)?;
    let values = json(&mut session, &format!("path {next} --json"))?;
    let [root, node, end] = &values[..] else {
        return Err(format!("not three lines: {values:#?}").into());
    };
    let name = root["root"].as_str().unwrap_or_default();
    if !name.starts_with(".bss kernel::shell::leak::LIST+0x") {
        return Err(format!("not the list: {root}").into());
    }
    expect_fields(root, &serde_json::json!({"kind": "step", "object": null}))?;
    expect_fields(
        node,
        &serde_json::json!({"kind": "step", "root": null, "object_size": 48}),
    )?;
    expect_fields(
        end,
        &serde_json::json!({"kind": "path", "count": 2, "target": next, "error": null}),
    )?;
    let values = json(&mut session, &format!("path {lost} --json"))?;
    let [end] = &values[..] else {
        return Err(format!("not one line: {values:#?}").into());
    };
    expect_fields(
        end,
        &serde_json::json!({"kind": "path", "count": 0, "error": "no root leads there"}),
    )
}

/// What seems lost when stacks are no roots is held by one.
fn path_from_a_stack() -> Result<(), Failure> {
    let mut session = shell()?;
    ask(&mut session, "stack=off")?;
    let values = json(&mut session, "scan --json")?;
    ask(&mut session, "stack=on")?;
    let objects = of_kind(&values, "object");
    // The first task's own work, which its innermost frames have.
    let of_init = objects.first().ok_or("nothing is held by stacks alone")?;
    let address = of_init["address"].as_str().ok_or("no address")?;
    let end = format!("kmemleak: 1 step to object {address}");
    let word = "  0xffffc9…: task 1 \"init\" …";
    let way = "kmemleak: task 1 \"init\" stack -> Once<start::{closure#…}>";
    expect(&mut session, &format!("path {address}"), &[word, way, &end])?;
    let holders = ask(&mut session, &format!("holders {address}"))?;
    expect_in(&holders, ": task 1 \"init\" ")?;
    expect_in(&holders, &format!(" of object {address}\n"))?;
    // Where stacks are no roots they are no holders either, though a stack is an object like any other.
    ask(&mut session, "stack=off")?;
    let none = format!("kmemleak: 0 holders of object {address}");
    expect(&mut session, &format!("holders {address}"), &[&none])
}

fn path_of_the_unreachable() -> Result<(), Failure> {
    let mut session = shell()?;
    let (lost, _) = nodes(&mut session)?;
    expect(
        &mut session,
        &format!("path {lost}"),
        &["kmemleak: no root leads there"],
    )?;
    let none = format!("kmemleak: 0 holders of object {lost}");
    expect(&mut session, &format!("holders {lost}"), &[&none])?;
    for word in ["path", "holders"] {
        expect(
            &mut session,
            &format!("{word} 10"),
            &["kmemleak: no object there"],
        )?;
        expect(
            &mut session,
            &format!("{word} here"),
            &[&format!(
                "kmemleak: {word}: invalid value `here`: expected an address in hexadecimal or a number from a report, like #1"
            )],
        )?;
    }
    Ok(())
}
