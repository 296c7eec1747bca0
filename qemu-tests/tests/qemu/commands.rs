//! What each of the detector's commands answers, line by line.

use boot::session::Session;
use qemu_tests::machines::{Failure, LIMIT};
use qemu_tests::transcript::expect_lines;
use serde_json::Value;

use crate::leaks::{plant, same_but_unread};
use crate::shell::{expect_in, shell, shell_on, shell_with};

/// Run with each number of CPUs.
pub const ON_CPUS: crate::TestsOnCpus = &[("selftest", selftest)];

crate::tests![
    scan_tells_leaders,
    scan_all_tells_what_they_own,
    scan_tells_a_groups_call_stack_once,
    scan_json,
    report,
    status,
    clear,
    mark_and_new,
    sites,
    sites_since_a_mark,
    naming_is_no_call_site,
    interior,
    dump,
    holders_and_path,
    holders_and_path_json,
    path_from_a_stack,
    path_of_the_unreachable,
    suppress_hides,
    suppress_the_end_of_a_path,
    suppress_with_a_ceiling,
    suppress_at_boot,
    stack,
    background,
    off,
    help,
    unknown_words,
    wrong_arguments,
];

fn ask(session: &mut Session, line: &str) -> Result<String, Failure> {
    Ok(session.command(&format!("kmemleak {line}"), LIMIT)?)
}

/// The answer must have these lines, in which `…` is any text.
fn expect(session: &mut Session, line: &str, expected: &[&str]) -> Result<(), Failure> {
    let answer = ask(session, line)?;
    expect_lines(&answer, expected).map_err(|error| format!("{line}: {error}").into())
}

/// Each line of the answer must be a JSON object of the one schema there is.
fn json(session: &mut Session, line: &str) -> Result<Vec<Value>, Failure> {
    let answer = ask(session, line)?;
    let lines = answer.lines().map(|line| {
        let value: Value =
            serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        match value["schema"] == 2 && value["kind"].is_string() {
            true => Ok(value),
            false => Err(Failure::from(format!("no schema 2: {line}"))),
        }
    });
    lines.collect()
}

/// Those of a kind.
fn of_kind<'v>(values: &'v [Value], kind: &str) -> Vec<&'v Value> {
    let of_kind = values.iter().filter(|value| value["kind"] == kind);
    of_kind.collect()
}

/// The fields must have these values.
fn expect_fields(value: &Value, expected: &Value) -> Result<(), Failure> {
    for (field, expected) in expected.as_object().into_iter().flatten() {
        if value[field] != *expected {
            return Err(format!("{field} is not {expected} in {value}").into());
        }
    }
    Ok(())
}

/// The innermost function of a JSON object's call stack must be this one.
fn expect_from(value: &Value, function: &str) -> Result<(), Failure> {
    let innermost = value["backtrace"][0].as_str().unwrap_or_default();
    match innermost.strip_prefix(function) {
        Some(rest) if rest.starts_with("+0x") => Ok(()),
        _ => Err(format!("not from {function}: {value}").into()),
    }
}

/// What `leak arc-cycle` leaves: the leader.
const CYCLE: [&str; 8] = [
    "unreferenced object 0xffff88… (size 32):",
    "  comm \"leak\", pid …, cpu …, age ….…s",
    "  owns 1 object (32 bytes)",
    "  hex dump (first 32 bytes):",
    "    01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00  ................",
    "    00 00 00 00 00 00 00 00 … … … … … 88 ff ff  ........…",
    "  backtrace (crc …):",
    "    kernel::shell::leak::arc_cycle+0x…/0x… (kernel/src/shell/leak.rs:…)",
];
/// And the other one.
const OWNED: [&str; 8] = [
    "unreferenced object 0xffff88… (size 32):",
    "  comm \"leak\", pid …, cpu …, age ….…s",
    "  owned by 0xffff88…",
    "  hex dump (first 32 bytes):",
    "    01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00  ................",
    "    00 00 00 00 00 00 00 00 … … … … … 88 ff ff  ........…",
    "  backtrace (crc …):",
    "    kernel::shell::leak::arc_cycle+0x…/0x… (kernel/src/shell/leak.rs:…)",
];
/// What `leak forgotten-free` leaves, up to its call stack.
const FORGOTTEN: [&str; 5] = [
    "unreferenced object 0xffff88… (size 64):",
    "  comm \"leak\", pid …, cpu …, age ….…s",
    "  hex dump (first 32 bytes):",
    "    6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b  kkkkkkkkkkkkkkkk",
    "    6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b  kkkkkkkkkkkkkkkk",
];
const BY_FORGOTTEN: &str =
    "    kernel::shell::leak::forgotten_free+0x…/0x… (kernel/src/shell/leak.rs:…)";
const BACKTRACE: &str = "  backtrace (crc …):";
const START: &str = "    kernel::task::start+0x…/0x… (kernel/src/task/mod.rs:…)";
const COST: &str = "kmemleak: … objects tracked, … words read in … us on 2 cpus, stopped for … us; candidates …, hits …, misses …, unrecorded 0";

fn lines<'l>(parts: &[&[&'l str]]) -> Vec<&'l str> {
    parts.concat()
}

fn scan_tells_leaders() -> Result<(), Failure> {
    let mut session = shell()?;
    let none = [COST, "kmemleak: 0 unreferenced objects (0 bytes)"];
    expect(&mut session, "scan", &none)?;
    plant(&mut session, "forgotten-free")?;
    let one = [COST, "kmemleak: 1 unreferenced object (64 bytes)"];
    let forgotten = lines(&[&FORGOTTEN, &[BACKTRACE, BY_FORGOTTEN, START]]);
    expect(&mut session, "scan", &lines(&[&forgotten, &one]))?;
    plant(&mut session, "arc-cycle")?;
    // Those with the most bytes first: the cycle has as many, of which only one half is a leader's.
    let end = [
        "kmemleak: 2 leaders (96 bytes) and 1 owned (32 bytes), from 3 call stacks",
        COST,
        "kmemleak: 3 unreferenced objects (128 bytes)",
    ];
    let answer = ask(&mut session, "scan")?;
    let cycle = lines(&[&CYCLE, &[START]]);
    expect_lines(&answer, &lines(&[&forgotten, &cycle, &end]))
        .or_else(|_| expect_lines(&answer, &lines(&[&cycle, &forgotten, &end])))
}

fn scan_all_tells_what_they_own() -> Result<(), Failure> {
    let mut session = shell()?;
    plant(&mut session, "arc-cycle")?;
    let end = [
        "kmemleak: 1 leader (32 bytes) and 1 owned (32 bytes), from 2 call stacks",
        COST,
        "kmemleak: 2 unreferenced objects (64 bytes)",
    ];
    let answer = ask(&mut session, "scan --all")?;
    expect_lines(&answer, &lines(&[&CYCLE, &[START], &OWNED, &[START], &end]))?;
    // The one is owned by the other.
    let mut addresses = answer
        .lines()
        .filter_map(|line| line.strip_prefix("unreferenced object "))
        .filter_map(|rest| rest.split(' ').next());
    let leader = addresses.next().ok_or("no leader")?;
    expect_in(&answer, &format!("  owned by {leader}\n"))?;
    expect(&mut session, "scan", &lines(&[&CYCLE, &[START], &end]))
}

fn scan_tells_a_groups_call_stack_once() -> Result<(), Failure> {
    let mut session = shell()?;
    for _ in 0..3 {
        plant(&mut session, "forgotten-free")?;
    }
    let member = lines(&[&FORGOTTEN, &["  backtrace (crc …): as above"]]);
    let expected = lines(&[
        &[
            "group of 3 unreferenced objects (192 bytes), age ….…s to ….…s:",
            BACKTRACE,
            BY_FORGOTTEN,
            START,
        ],
        &member,
        &member,
        &member,
        &[
            "kmemleak: 3 leaders (192 bytes) and 0 owned (0 bytes), from 1 call stack",
            COST,
            "kmemleak: 3 unreferenced objects (192 bytes)",
        ],
    ]);
    expect(&mut session, "scan", &expected)
}

fn scan_json() -> Result<(), Failure> {
    let mut session = shell()?;
    let [nothing] = &json(&mut session, "report --json")?[..] else {
        return Err("not one line".into());
    };
    expect_fields(
        nothing,
        &serde_json::json!({"kind": "error", "error": "no check so far, or none since the last clear"}),
    )?;
    plant(&mut session, "arc-cycle")?;
    plant(&mut session, "forgotten-free")?;
    let values = json(&mut session, "scan --json")?;
    let (groups, objects) = (of_kind(&values, "group"), of_kind(&values, "object"));
    if (groups.len(), objects.len(), values.len()) != (3, 2, 6) {
        return Err(format!("not what there should be: {values:#?}").into());
    }
    let forgotten = objects.iter().find(|object| object["size"] == 64);
    let forgotten = forgotten.ok_or("the box is missing")?;
    expect_from(forgotten, "kernel::shell::leak::forgotten_free")?;
    let expected = serde_json::json!({
        "rank": "leader", "leader": null, "owned_objects": 0, "owned_bytes": 0, "comm": "leak",
        "interrupt": false, "reported": false, "freed": false, "dump": "6b".repeat(32),
    });
    expect_fields(forgotten, &expected)?;
    let leader = objects.iter().find(|object| object["size"] == 32);
    let leader = leader.ok_or("the cycle is missing")?;
    expect_from(leader, "kernel::shell::leak::arc_cycle")?;
    let expected = serde_json::json!({"rank": "leader", "owned_objects": 1, "owned_bytes": 32});
    expect_fields(leader, &expected)?;
    let summary = values.last().ok_or("no summary")?;
    let expected = serde_json::json!({
        "kind": "summary", "how": "stopped", "passes": 1, "reason": null, "objects": 3, "bytes": 128,
        "leaders": 2, "leader_bytes": 96, "groups": 3, "suppressed_objects": 0, "cpus": 2, "unrecorded": 0,
    });
    expect_fields(summary, &expected)?;
    let sum: u64 = groups
        .iter()
        .filter_map(|group| group["objects"].as_u64())
        .sum();
    if sum != 3 {
        return Err(format!("the groups don't add up: {groups:#?}").into());
    }
    // What it owns as well.
    let values = json(&mut session, "report --all --json")?;
    let objects = of_kind(&values, "object");
    let owned = objects.iter().find(|object| object["rank"] == "owned");
    let owned = owned.ok_or("what is owned is missing")?;
    expect_fields(
        owned,
        &serde_json::json!({"leader": leader["address"], "size": 32}),
    )
}

fn report() -> Result<(), Failure> {
    let mut session = shell()?;
    expect(
        &mut session,
        "report",
        &["kmemleak: no check so far, or none since the last clear"],
    )?;
    plant(&mut session, "arc-cycle")?;
    for options in ["", " --all"] {
        let scan = ask(&mut session, &format!("scan{options}"))?;
        let report = ask(&mut session, &format!("report{options}"))?;
        if report != scan {
            return Err(format!("{report}\nis not\n{scan}").into());
        }
    }
    Ok(())
}

fn status() -> Result<(), Failure> {
    let mut session = shell()?;
    let status = |last| {
        [
            "state        enabled",
            "objects      … (… bytes)",
            "metadata     … bytes, of which … call stacks take …",
            "unrecorded   0 (ever: 0)",
            "missed frees 0",
            "warnings     0",
            "suppressions 0, hiding 0 objects (0 bytes)",
            last,
            "next scan    in … s",
        ]
    };
    expect(&mut session, "status", &status("last check   none"))?;
    plant(&mut session, "pages")?;
    ask(&mut session, "scan")?;
    let last =
        "last check   … s ago, took … us, world stopped for … us, … words, 1 unreferenced object";
    expect(&mut session, "status", &status(last))
}

fn clear() -> Result<(), Failure> {
    let mut session = shell()?;
    plant(&mut session, "arc-cycle")?;
    ask(&mut session, "scan")?;
    let cleared = "kmemleak: 2 reported objects are no leaks from now on";
    expect(&mut session, "clear", &[cleared])?;
    expect(
        &mut session,
        "report",
        &["kmemleak: no check so far, or none since the last clear"],
    )?;
    let none = [COST, "kmemleak: 0 unreferenced objects (0 bytes)"];
    expect(&mut session, "scan", &none)
}

fn mark_and_new() -> Result<(), Failure> {
    let mut session = shell()?;
    plant(&mut session, "arc-cycle")?;
    let marked = "kmemleak: remembered 2 unreferenced objects (64 bytes), and what is alive at each call site";
    expect(&mut session, "mark", &[marked])?;
    let end = |last| {
        [
            "kmemleak: 0 objects (0 bytes) new since the mark",
            "kmemleak: 1 leader (32 bytes) and 1 owned (32 bytes), from 2 call stacks",
            COST,
            last,
        ]
    };
    let last = "kmemleak: 2 unreferenced objects (64 bytes)";
    expect(&mut session, "new", &end(last))?;
    plant(&mut session, "forgotten-free")?;
    let expected = lines(&[
        &FORGOTTEN,
        &[BACKTRACE, BY_FORGOTTEN, START],
        &[
            "kmemleak: 1 object (64 bytes) new since the mark",
            "kmemleak: 2 leaders (96 bytes) and 1 owned (32 bytes), from 3 call stacks",
            COST,
            "kmemleak: 3 unreferenced objects (128 bytes)",
        ],
    ]);
    expect(&mut session, "new", &expected)?;
    let values = json(&mut session, "new --json")?;
    let [object, summary] = &values[..] else {
        return Err(format!("not two lines: {values:#?}").into());
    };
    expect_from(object, "kernel::shell::leak::forgotten_free")?;
    let expected =
        serde_json::json!({"kind": "summary", "objects": 3, "new_objects": 1, "new_bytes": 64});
    expect_fields(summary, &expected)
}

fn sites() -> Result<(), Failure> {
    let mut session = shell()?;
    for _ in 0..20 {
        plant(&mut session, "pages")?;
    }
    let expected = [
        "327680 bytes in 20 objects:",
        BACKTRACE,
        "    kernel::shell::leak::pages+0x…/0x… (kernel/src/shell/leak.rs:…)",
        START,
        "kmemleak: 1 of … call sites",
    ];
    expect(&mut session, "sites 1", &expected)?;
    let values = json(&mut session, "sites 1000 --json")?;
    let (site, sites) = (of_kind(&values, "site"), of_kind(&values, "sites"));
    let [sites] = sites[..] else {
        return Err(format!("not one end: {values:#?}").into());
    };
    expect_fields(
        sites,
        &serde_json::json!({"shown": site.len(), "total": site.len(), "complete": true}),
    )?;
    let bytes: Vec<_> = site
        .iter()
        .filter_map(|site| site["bytes"].as_u64())
        .collect();
    if !bytes.is_sorted_by(|one, other| one >= other) || bytes.len() != site.len() {
        return Err(format!("not the most first: {bytes:?}").into());
    }
    let mut pages = site
        .iter()
        .filter(|site| expect_from(site, "kernel::shell::leak::pages").is_ok());
    let pages = pages.next().ok_or("the pages are missing")?;
    let expected = serde_json::json!({"bytes": 327_680, "objects": 20, "growth_bytes": null, "growth_objects": null});
    expect_fields(pages, &expected)?;
    // Ten, unless it is said how many.
    let shown = ask(&mut session, "sites")?;
    expect_in(&shown, "\nkmemleak: 10 of ")
}

/// What grows is told from what is large.
fn sites_since_a_mark() -> Result<(), Failure> {
    let mut session = shell()?;
    plant(&mut session, "pages")?;
    ask(&mut session, "mark")?;
    plant(&mut session, "pages")?;
    plant(&mut session, "pages")?;
    let sites = ask(&mut session, "sites 100")?;
    expect_in(
        &sites,
        "49152 bytes in 3 objects, grown by +32768 bytes (+2):\n",
    )
}

/// What `status` counts: the objects, and the words that the last check has read.
fn counts(session: &mut Session) -> Result<(u64, u64), Failure> {
    let status = ask(session, "status")?;
    let objects = status.lines().find_map(|line| {
        let (count, _) = line.strip_prefix("objects ")?.split_once('(')?;
        count.trim().parse().ok()
    });
    let words = status.lines().find_map(|line| {
        let (before, _) = line.split_once(" words, ")?;
        before.rsplit(' ').next()?.parse().ok()
    });
    Ok((objects.ok_or("no objects")?, words.ok_or("no words")?))
}

/// A report leaves nothing for the detector to see: neither a call site nor more to read.
fn naming_is_no_call_site() -> Result<(), Failure> {
    let mut session = shell()?;
    ask(&mut session, "scan")?;
    let before = counts(&mut session)?;
    plant(&mut session, "forgotten-free")?;
    for round in 0..3 {
        let found = ask(&mut session, "scan")?;
        expect_in(&found, "\nkmemleak: 1 unreferenced object (64 bytes)")?;
        expect_in(&found, "(kernel/src/shell/leak.rs:")?;
        let after = counts(&mut session)?;
        if after.0 > before.0 + 4 || after.1 > before.1 + 20_000 {
            return Err(format!("round {round}: {before:?} have become {after:?}").into());
        }
    }
    // With all that is inlined, asked twice: the first time reads more of the debug information.
    for _ in 0..2 {
        let sites = ask(&mut session, "sites 1000")?;
        expect_in(&sites, "kernel::shell::leak::forgotten_free+0x")?;
        let naming = ["gimli", "addr2line", "kernel::symbols"];
        if naming.iter().any(|name| sites.contains(name)) {
            return Err(sites.into());
        }
    }
    Ok(())
}

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
    let word = "size 48)+0x0, from kernel::shell::leak::push+0x…/0x… (kernel/src/shell/leak.rs:…)";
    // The first node of the list, which it has been given, and the lost one, in the order of addresses.
    let holder = format!("  0xffff88…: object 0xffff88… ({word}");
    let end = format!("kmemleak: 2 holders of object {next}");
    let answer = ask(&mut session, &format!("holders {next}"))?;
    expect_lines(&answer, &[&holder, &holder, &end])?;
    expect_in(&answer, &format!("  {lost}: object {lost} ("))?;
    let end = format!("kmemleak: 2 steps to object {next}");
    let root = "  0xffffffff8…: .bss kernel::shell::leak::LIST+0x…";
    expect(
        &mut session,
        &format!("path {next}"),
        &[root, &holder, &end],
    )?;
    // The address of any byte will do, without 0x as well.
    let inside = u64::from_str_radix(&next[2..], 16)? + 47;
    expect(
        &mut session,
        &format!("path={inside:x}"),
        &[root, &holder, &end],
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
    expect(&mut session, &format!("path {address}"), &[word, &end])?;
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
                "kmemleak: {word}: invalid value `here`: expected an address in hexadecimal"
            )],
        )?;
    }
    Ok(())
}

fn suppress_hides() -> Result<(), Failure> {
    let mut session = shell()?;
    expect(&mut session, "suppress", &["kmemleak: 0 suppressions"])?;
    plant(&mut session, "arc-cycle")?;
    plant(&mut session, "error-path")?;
    let hides =
        "kmemleak: from the next check on, \"kernel::shell::leak::arc_*\" hides what matches";
    expect(
        &mut session,
        "suppress kernel::shell::leak::arc_*",
        &[hides],
    )?;
    let scan = ask(&mut session, "scan")?;
    expect_in(&scan, "\nkmemleak: 2 objects (64 bytes) suppressed\n")?;
    expect_in(&scan, "\nkmemleak: 1 unreferenced object (200 bytes)\n")?;
    let listed = [
        "  kernel::shell::leak::arc_*  2 matched, 2 objects (64 bytes) hidden",
        "kmemleak: 1 suppression",
    ];
    expect(&mut session, "suppress", &listed)?;
    let values = json(&mut session, "suppress --json")?;
    let [one, end] = &values[..] else {
        return Err(format!("not two lines: {values:#?}").into());
    };
    let expected = serde_json::json!({
        "kind": "suppression", "pattern": "kernel::shell::leak::arc_*", "max": null, "matched": 2,
        "suppressed_objects": 2, "suppressed_bytes": 64,
    });
    expect_fields(one, &expected)?;
    expect_fields(
        end,
        &serde_json::json!({"kind": "suppressions", "count": 1}),
    )?;
    let status = ask(&mut session, "status")?;
    expect_in(&status, "\nsuppressions 1, hiding 2 objects (64 bytes)\n")?;
    let none = "kmemleak: no suppression \"arc\"";
    expect(&mut session, "unsuppress arc", &[none])?;
    let gone = "kmemleak: \"kernel::shell::leak::arc_*\" hides nothing any more";
    expect(
        &mut session,
        "unsuppress kernel::shell::leak::arc_*",
        &[gone],
    )?;
    expect(&mut session, "suppress", &["kmemleak: 0 suppressions"])?;
    let scan = ask(&mut session, "scan")?;
    expect_in(&scan, "\nkmemleak: 3 unreferenced objects (264 bytes)\n")
}

/// A function's name, alone or with modules before it; no part of either.
fn suppress_the_end_of_a_path() -> Result<(), Failure> {
    let mut session = shell()?;
    for kind in ["arc-cycle", "error-path", "pages"] {
        plant(&mut session, kind)?;
    }
    for pattern in ["arc_cycle", "leak::error_path", "eak::pages", "leak"] {
        ask(&mut session, &format!("suppress {pattern}"))?;
    }
    let scan = ask(&mut session, "scan")?;
    expect_in(&scan, "\nkmemleak: 3 objects (264 bytes) suppressed\n")?;
    expect_in(&scan, "\nkmemleak: 1 unreferenced object (16384 bytes)\n")?;
    let listed = [
        "  arc_cycle  2 matched, 2 objects (64 bytes) hidden",
        "  leak::error_path  1 matched, 1 object (200 bytes) hidden",
        "  eak::pages  0 matched, 0 objects (0 bytes) hidden",
        "  leak  0 matched, 0 objects (0 bytes) hidden",
        "kmemleak: 4 suppressions",
    ];
    expect(&mut session, "suppress", &listed)
}

fn suppress_with_a_ceiling() -> Result<(), Failure> {
    let mut session = shell()?;
    ask(&mut session, "suppress *forgotten_free:max=2")?;
    for (planted, hidden, seen) in [(1, 1, 0), (2, 2, 0), (3, 0, 3)] {
        plant(&mut session, "forgotten-free")?;
        let scan = ask(&mut session, "scan")?;
        expect_in(&scan, &format!("\nkmemleak: {seen} unreferenced objects ("))?;
        let over = if hidden == 0 {
            ", over its ceiling"
        } else {
            ""
        };
        let s = if hidden == 1 { "" } else { "s" };
        let listed = format!(
            "  *forgotten_free:max=2  {planted} matched{over}, {hidden} object{s} ({} bytes) hidden",
            64 * hidden
        );
        expect(
            &mut session,
            "suppress",
            &[&listed, "kmemleak: 1 suppression"],
        )?;
    }
    Ok(())
}

fn suppress_at_boot() -> Result<(), Failure> {
    let parameters = "kmemleak.suppress=*arc_cycle:max=4,error_path kmemleak.suppress=leak::pages";
    let mut session = shell_with(parameters)?;
    for kind in ["arc-cycle", "error-path", "pages"] {
        plant(&mut session, kind)?;
    }
    let hidden = [
        "kmemleak: 4 objects (16648 bytes) suppressed",
        COST,
        "kmemleak: 0 unreferenced objects (0 bytes)",
    ];
    expect(&mut session, "scan", &hidden)?;
    let listed = [
        "  *arc_cycle:max=4  2 matched, 2 objects (64 bytes) hidden",
        "  error_path  1 matched, 1 object (200 bytes) hidden",
        "  leak::pages  1 matched, 1 object (16384 bytes) hidden",
        "kmemleak: 3 suppressions",
    ];
    expect(&mut session, "suppress", &listed)?;
    plant(&mut session, "vmalloc")?;
    let scan = ask(&mut session, "scan")?;
    expect_in(&scan, "\nkmemleak: 1 unreferenced object (12288 bytes)\n")
}

fn stack() -> Result<(), Failure> {
    let mut session = shell()?;
    expect(
        &mut session,
        "stack=off",
        &["kmemleak: task stacks are no roots"],
    )?;
    expect(
        &mut session,
        "stack off",
        &["kmemleak: task stacks are no roots"],
    )?;
    expect(
        &mut session,
        "stack=on",
        &["kmemleak: task stacks are roots"],
    )
}

fn background() -> Result<(), Failure> {
    let mut session = shell()?;
    expect(&mut session, "scan=off", &["kmemleak: no background scan"])?;
    expect(
        &mut session,
        "scan=on",
        &["kmemleak: background scan every 600 s"],
    )?;
    expect(
        &mut session,
        "scan=1234",
        &["kmemleak: background scan every 1234 s"],
    )?;
    expect(&mut session, "scan=0", &["kmemleak: no background scan"])?;
    let neither = "kmemleak: scan: invalid value `often`: expected on, off or a number of seconds";
    expect(&mut session, "scan=often", &[neither])
}

/// With leaks that are there already, which it leaves alone.
fn selftest(cpus: u32) -> Result<(), Failure> {
    let mut session = shell_on(cpus)?;
    let passed = "kmemleak: selftest passed: a planted leak and what it owned were found, and nothing is left of them";
    expect(&mut session, "selftest", &[passed])?;
    plant(&mut session, "arc-cycle")?;
    ask(&mut session, "suppress *")?;
    let hidden = "kmemleak: selftest not done: a suppression hides what it plants";
    expect(&mut session, "selftest", &[hidden])?;
    ask(&mut session, "unsuppress *")?;
    expect(&mut session, "selftest", &[passed])?;
    let scan = ask(&mut session, "scan")?;
    expect_in(&scan, "\nkmemleak: 2 unreferenced objects (64 bytes)\n")
}

fn off() -> Result<(), Failure> {
    let mut session = shell()?;
    plant(&mut session, "arc-cycle")?;
    let scan = ask(&mut session, "scan")?;
    expect(
        &mut session,
        "off",
        &["kmemleak: off; \"clear\" frees the metadata"],
    )?;
    for word in [
        "scan",
        "mark",
        "new",
        "sites",
        "interior",
        "dump 0",
        "holders 0",
        "path 0",
        "suppress",
        "suppress x",
        "unsuppress x",
        "stack=on",
        "scan=on",
        "scan=60",
        "selftest",
        "off",
    ] {
        expect(
            &mut session,
            word,
            &["kmemleak: off, and can't be switched on again"],
        )?;
    }
    same_but_unread(&ask(&mut session, "report")?, &scan)?;
    json(&mut session, "report --all --json")?;
    expect_in(&ask(&mut session, "status")?, "state        disabled\n")?;
    expect(&mut session, "clear", &["kmemleak: metadata freed"])?;
    expect(
        &mut session,
        "report",
        &["kmemleak: no check so far, or none since the last clear"],
    )?;
    expect_in(&ask(&mut session, "help")?, "  scan ")
}

const HELP: [&str; 20] = [
    "  scan [--all] [--json]     check for leaks now, and report",
    "  report [--all] [--json]   the last check's report again; --all: also what leaders own",
    "  status                    what the detector knows and does",
    "  clear                     take what is reported now for granted; after off: free the metadata",
    "  mark                      check now, and remember what is lost and what is alive",
    "  new [--json]              check now, and report what was lost since the mark",
    "  sites [N] [--json]        call sites with the most live bytes (10), and their growth since the mark",
    "  interior [--json]         what only pointers into its middle keep alive",
    "  dump ADDR                 what is known of the object at an address",
    "  holders ADDR [--json]     the words that point into an object",
    "  path ADDR [--json]        the shortest way to an object from a root",
    "  suppress [--json]         the suppressions, and what they hide",
    "  suppress PATTERN[:max=N]  hide leaks with a function in their call stack whose path ends so; * is any text",
    "  unsuppress PATTERN        hide them no longer",
    "  stack=on|off              whether task stacks are roots",
    "  scan=on|off               whether to scan in the background",
    "  scan=SECS                 scan in the background every so many seconds",
    "  selftest                  plant a leak, find it, remove it; makes a new verdict",
    "  help                      this list",
    "  off                       record nothing any more; it can't be switched on again",
];

fn help() -> Result<(), Failure> {
    let mut session = shell()?;
    expect(&mut session, "help", &HELP)?;
    expect(&mut session, "", &HELP)
}

fn unknown_words() -> Result<(), Failure> {
    let mut session = shell()?;
    for (word, told) in [
        ("frobnicate", "kmemleak: unknown command `frobnicate`"),
        (
            "scam",
            "kmemleak: unknown command `scam`; did you mean `scan`?",
        ),
        (
            "hodlers 10",
            "kmemleak: unknown command `hodlers`; did you mean `holders`?",
        ),
    ] {
        expect(&mut session, word, &lines(&[&[told], &HELP]))?;
    }
    Ok(())
}

fn wrong_arguments() -> Result<(), Failure> {
    let mut session = shell()?;
    for (word, told) in [
        (
            "scan --frob",
            &["kmemleak: scan: unexpected argument `--frob`"][..],
        ),
        ("mark x", &["kmemleak: mark: unexpected argument `x`"]),
        (
            "dump",
            &["kmemleak: dump: missing argument: expected an address in hexadecimal"],
        ),
        (
            "holders",
            &["kmemleak: holders: missing argument: expected an address in hexadecimal"],
        ),
        (
            "unsuppress",
            &["kmemleak: unsuppress: missing argument: expected a pattern"],
        ),
        (
            "stack=maybe",
            &["kmemleak: stack: invalid value `maybe`: expected on or off"],
        ),
        (
            "dump here",
            &["kmemleak: dump: invalid value `here`: expected an address in hexadecimal"],
        ),
        ("dump 10", &["kmemleak: no object at 0x0000000000000010"]),
        (
            "sites many",
            &["kmemleak: sites: invalid value `many`: expected a number"],
        ),
        (
            "suppress x:max=y",
            &["kmemleak: suppress: invalid value `x:max=y`: expected PATTERN or PATTERN:max=N"],
        ),
    ] {
        expect(&mut session, word, told)?;
    }
    Ok(())
}
