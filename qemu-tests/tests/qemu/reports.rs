//! The commands that check and report, line by line.

use boot::session::Session;
use qemu_tests::machines::Failure;
use qemu_tests::transcript::expect_lines;

use crate::ask::{BACKTRACE, START, ask, expect, expect_fields, expect_from, json, lines, of_kind};
use crate::leaks::plant;
use crate::shell::{expect_in, shell};

crate::tests![
    scan_tells_leaders,
    scan_all_tells_what_they_own,
    scan_tells_a_groups_call_stack_once,
    scan_json,
    report,
    clear,
    mark_and_new,
    sites,
    sites_since_a_mark,
    a_climb_is_told_from_what_stands,
    objects_are_pursued_by_their_addresses,
    naming_is_no_call_site
];

/// What `leak arc-cycle` leaves: the leader.
const CYCLE: [&str; 10] = [
    "unreferenced object 0xffff88… (size 32), #…:",
    "  comm \"leak\", pid …, cpu …, age ….…s",
    "  owns 1 object (32 bytes)",
    "  in a cycle: Arc<Partner> -> Arc<Partner> -> (back)",
    "  hex dump (first 32 bytes):",
    "    01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00  ................",
    "    00 00 00 00 00 00 00 00 … … … … … 88 ff ff  ........…",
    "  type Arc<kernel::shell::leak::Partner>",
    "  backtrace (crc …):",
    "    kernel::shell::leak::arc_cycle+0x…/0x… (kernel/src/shell/leak.rs:…)",
];
/// And the other one.
const OWNED: [&str; 9] = [
    "unreferenced object 0xffff88… (size 32), #…:",
    "  comm \"leak\", pid …, cpu …, age ….…s",
    "  owned by 0xffff88…, #…",
    "  hex dump (first 32 bytes):",
    "    01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00  ................",
    "    00 00 00 00 00 00 00 00 … … … … … 88 ff ff  ........…",
    "  type Arc<kernel::shell::leak::Partner>",
    "  backtrace (crc …):",
    "    kernel::shell::leak::arc_cycle+0x…/0x… (kernel/src/shell/leak.rs:…)",
];
/// What `leak forgotten-free` leaves, up to its call stack.
const FORGOTTEN: [&str; 5] = [
    "unreferenced object 0xffff88… (size 64), #…:",
    "  comm \"leak\", pid …, cpu …, age ….…s",
    "  hex dump (first 32 bytes):",
    "    6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b  kkkkkkkkkkkkkkkk",
    "    *",
];
const TYPE: &str = "  type [u8; 64]";
const BY_FORGOTTEN: &str =
    "    kernel::shell::leak::forgotten_free+0x…/0x… (kernel/src/shell/leak.rs:…)";

fn scan_tells_leaders() -> Result<(), Failure> {
    let mut session = shell()?;
    let none = ["kmemleak: 0 unreferenced objects (0 bytes)"];
    expect(&mut session, "scan", &none)?;
    plant(&mut session, "forgotten-free")?;
    let one = ["kmemleak: 1 unreferenced object (64 bytes)"];
    let forgotten = lines(&[&FORGOTTEN, &[TYPE, BACKTRACE, BY_FORGOTTEN, START]]);
    expect(&mut session, "scan --full", &lines(&[&forgotten, &one]))?;
    plant(&mut session, "arc-cycle")?;
    // Those with the most bytes first: the cycle has as many, of which only one half is a leader's.
    let end = [
        "kmemleak: 2 leaders (96 bytes) from 2 call stacks; they own 1 object (32 bytes) from 1 more call stack",
        "kmemleak: 3 unreferenced objects (128 bytes)",
    ];
    let answer = ask(&mut session, "scan --full")?;
    let cycle = lines(&[&CYCLE, &[START]]);
    expect_lines(&answer, &lines(&[&forgotten, &cycle, &end]))
        .or_else(|_| expect_lines(&answer, &lines(&[&cycle, &forgotten, &end])))
}

fn scan_all_tells_what_they_own() -> Result<(), Failure> {
    let mut session = shell()?;
    plant(&mut session, "arc-cycle")?;
    let end = [
        "kmemleak: 1 leader (32 bytes) from 1 call stack; it owns 1 object (32 bytes) from 1 more call stack",
        "kmemleak: 2 unreferenced objects (64 bytes)",
    ];
    let answer = ask(&mut session, "scan --all --full")?;
    expect_lines(&answer, &lines(&[&CYCLE, &[START], &OWNED, &[START], &end]))?;
    // The one is owned by the other.
    let mut addresses = answer
        .lines()
        .filter_map(|line| line.strip_prefix("unreferenced object "))
        .filter_map(|rest| rest.split(' ').next());
    let leader = addresses.next().ok_or("no leader")?;
    expect_in(&answer, &format!("  owned by {leader}, #3\n"))?;
    expect(
        &mut session,
        "scan --full",
        &lines(&[&CYCLE, &[START], &end]),
    )
}

fn scan_tells_a_groups_call_stack_once() -> Result<(), Failure> {
    let mut session = shell()?;
    for _ in 0..3 {
        plant(&mut session, "forgotten-free")?;
    }
    let member = lines(&[&FORGOTTEN, &["  backtrace (crc …): as above"]]);
    let expected = lines(&[
        &[
            "group of 3 unreferenced objects (192 bytes), age ….…s to ….…s, #1:",
            TYPE,
            BACKTRACE,
            BY_FORGOTTEN,
            START,
        ],
        &member,
        &member,
        &member,
        &[
            "kmemleak: 3 leaders (192 bytes) from 1 call stack",
            "kmemleak: 3 unreferenced objects (192 bytes)",
        ],
    ]);
    expect(&mut session, "scan --full", &expected)
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
        "kind": "summary", "how": "frozen", "passes": 1, "reason": null, "objects": 3, "bytes": 128,
        "leaders": 2, "leader_bytes": 96, "groups": 3, "suppressed_objects": 0, "cpus": 1, "unrecorded": 0,
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
    for options in ["", " --all", " --full", " --top 1"] {
        let scan = ask(&mut session, &format!("scan{options}"))?;
        let report = ask(&mut session, &format!("report{options}"))?;
        if report != scan {
            return Err(format!("{report}\nis not\n{scan}").into());
        }
    }
    Ok(())
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
    let none = ["kmemleak: 0 unreferenced objects (0 bytes)"];
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
            "kmemleak: 1 leader (32 bytes) from 1 call stack; it owns 1 object (32 bytes) from 1 more call stack",
            last,
        ]
    };
    let last = "kmemleak: 2 unreferenced objects (64 bytes)";
    expect(&mut session, "new", &end(last))?;
    plant(&mut session, "forgotten-free")?;
    let expected = lines(&[
        &FORGOTTEN,
        &[TYPE, BACKTRACE, BY_FORGOTTEN, START],
        &[
            "kmemleak: 1 object (64 bytes) new since the mark",
            "kmemleak: 2 leaders (96 bytes) from 2 call stacks; they own 1 object (32 bytes) from 1 more call stack",
            "kmemleak: 3 unreferenced objects (128 bytes)",
        ],
    ]);
    expect(&mut session, "new --full", &expected)?;
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
        "327680 bytes in 20 objects, #1:",
        BACKTRACE,
        "    kernel::shell::leak::pages+0x…/0x… (kernel/src/shell/leak.rs:…)",
        START,
        "kmemleak: 1 of … call sites, by bytes",
    ];
    expect(&mut session, "sites 1 --full", &expected)?;
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
    let sites = ask(&mut session, "sites 100 --full")?;
    expect_in(
        &sites,
        "49152 bytes in 3 objects, grown by +32768 bytes (+2), #1:\n",
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

/// What grows between all marks is steady, and what only is large has no such word.
fn a_climb_is_told_from_what_stands() -> Result<(), Failure> {
    let mut session = shell()?;
    for _ in 0..3 {
        plant(&mut session, "forgotten-free")?;
        ask(&mut session, "mark")?;
    }
    plant(&mut session, "forgotten-free")?;
    let expected = [
        "256 bytes in 4 objects, grown by +64 bytes (+1), steady, #1:",
        "  bytes at the last 3 marks: 64, 128, 192, now 256",
        TYPE,
        BACKTRACE,
        BY_FORGOTTEN,
        START,
        "kmemleak: 1 of … call sites, by growth",
    ];
    expect(&mut session, "sites 1 --full", &expected)?;
    let values = json(&mut session, "sites 1000 --json")?;
    let steady = of_kind(&values, "site");
    let steady = steady.iter().filter(|site| site["trend"] == "steady");
    match steady.count() {
        1 => Ok(()),
        count => Err(format!("{count} sites climb: {values:#?}").into()),
    }
}

/// From the list of live objects to the path of one that is held, and to none for one that is lost; the list itself, though it
/// has all addresses, keeps nothing alive.
fn objects_are_pursued_by_their_addresses() -> Result<(), Failure> {
    let mut session = shell()?;
    plant(&mut session, "unlinked-node")?;
    let values = json(&mut session, "objects --top 1000 --json")?;
    let objects = of_kind(&values, "live_object");
    let end = of_kind(&values, "live_objects");
    let [end] = end[..] else {
        return Err(format!("not one end: {values:#?}").into());
    };
    let count = objects.len();
    let all = serde_json::json!({"shown": count, "total": count, "complete": true});
    expect_fields(end, &all)?;
    let ages: Vec<_> = objects.iter().map(|one| one["age_us"].as_u64()).collect();
    if !ages.is_sorted_by(|one, other| one >= other) {
        return Err(format!("not the oldest first: {ages:?}").into());
    }
    let nodes: Vec<_> = objects
        .iter()
        .filter(|object| expect_from(object, "kernel::shell::leak::push").is_ok())
        .collect();
    let mut answers = Vec::new();
    for node in &nodes {
        let (address, crc) = (node["address"].as_str(), node["crc"].as_str());
        let (address, crc) = (address.ok_or("no address")?, crc.ok_or("no crc")?);
        // All of them are from one call stack, or each is from its own: as the loop was compiled.
        let count = nodes.iter().filter(|other| other["crc"] == node["crc"]);
        let of = match count.count() {
            1 => "1 of 1 object (48 bytes)",
            _ => "3 of 3 objects (144 bytes)",
        };
        let site = ask(&mut session, &format!("site {crc} --top 3"))?;
        expect_in(&site, &format!(" {address}      48 B "))?;
        expect_in(&site, &format!("kmemleak: {of}\n"))?;
        answers.push(ask(&mut session, &format!("path {address}"))?);
    }
    let lost = |answer: &&String| *answer == "kmemleak: no root leads there\n";
    if (answers.len(), answers.iter().filter(lost).count()) != (3, 1) {
        return Err(format!("not one of three is lost: {answers:#?}").into());
    }
    expect_in(
        &ask(&mut session, "scan")?,
        "kmemleak: 1 unreferenced object (48 bytes)\n",
    )
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
        expect_in(&found, " kernel/src/shell/leak.rs:")?;
        let after = counts(&mut session)?;
        if after.0 > before.0 + 4 || after.1 > before.1 + 20_000 {
            return Err(format!("round {round}: {before:?} have become {after:?}").into());
        }
    }
    // With all that is inlined, asked twice: the first time reads more of the debug information.
    for _ in 0..2 {
        let sites = ask(&mut session, "sites 1000 --full")?;
        expect_in(&sites, "kernel::shell::leak::forgotten_free+0x")?;
        let naming = ["gimli", "addr2line", "kernel::symbols"];
        if naming.iter().any(|name| sites.contains(name)) {
            return Err(sites.into());
        }
    }
    Ok(())
}
