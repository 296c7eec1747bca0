//! The table of a report, and what has a number in it.

use kmemleak_emulated::Stop;
use serde_json::Value;

use crate::lab::Lab;

fn block(lab: &Lab, function: &str, size: usize) -> usize {
    lab.machine.call_from(&[function, "main"]);
    lab.machine.advance_us(999_999);
    lab.block(size)
}

fn json(lab: &Lab, command: &str, kind: &str) -> Vec<Value> {
    let answer = lab.say(command);
    let values = answer
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    values
        .filter(|value: &Value| value["kind"] == kind)
        .collect()
}

/// Of each line of the table: the number, the count, and the function.
fn rows(report: &str) -> Vec<(String, String, String)> {
    let lines = report
        .lines()
        .filter(|line| line.trim_start().starts_with("#") && !line.contains("allocated by"));
    lines
        .map(|line| {
            let mut words = line.split_whitespace().map(String::from);
            let mut next = || words.next().expect("a column");
            let (handle, count) = (next(), next());
            (handle, count, words.next_back().expect("a function"))
        })
        .collect()
}

fn row(handle: &str, count: &str, function: &str) -> (String, String, String) {
    (handle.into(), count.into(), function.into())
}

#[test]
fn a_line_for_each_call_stack() {
    let lab = Lab::new();
    let owner = block(&lab, "kernel::net::socket::owner", 8);
    lab.machine.call_from(&["owned"]);
    lab.machine.advance_us(999_999);
    let owned = lab.machine.vmalloc(3_500_000);
    lab.detector
        .alloc(owned, 3_500_000, kmemleak::AllocOptions::new());
    lab.machine.write(owner, owned);
    (0..400).for_each(|_| _ = block(&lab, "kernel::shell::leak::of_many_words_in_its_path", 64));
    block(&lab, "last", 1);
    lab.machine.call_from(&[]);
    lab.block(1500);
    lab.machine.advance_us(12_345);
    let table = "    \
    #    count     bytes     owned  oldest allocated by                 at
   #1        1       8 B   3.3 MiB   6 min kernel::net::socket::owner
   #2      400  25.0 KiB         -   6 min of_many_words_in_its_path
   #3        1   1.5 KiB         -   12 ms (no call stack)
   #4        1       1 B         -  1.0 s last
";
    let table = table.replace("-  1.0 s", "-   12 ms");
    let end = "\
kmemleak: no call stacks: the platform gives none (Platform::stack_bounds, stack_walk, call_stack)
kmemleak: 403 leaders (27109 bytes, 26.5 KiB) from 4 call stacks; they own 1 object (3500000 bytes, 3.3 MiB) from 1 more call stack
kmemleak: 404 unreferenced objects (3527109 bytes)
next: kmemleak show #1
";
    assert_eq!(lab.say("scan"), format!("{table}{end}"));
    assert_eq!(lab.say("report"), format!("{table}{end}"));
    // Each object for the call stack that allocated it.
    let all = "    \
    #    count     bytes  oldest allocated by                 at
   #5        1   3.3 MiB   6 min owned
   #2      400  25.0 KiB   6 min of_many_words_in_its_path
   #3        1   1.5 KiB   12 ms (no call stack)
   #1        1       8 B   6 min kernel::net::socket::owner
   #4        1       1 B   12 ms last
";
    let next = end.replace("#1", "#5");
    assert_eq!(lab.say("report --all"), format!("{all}{next}"));
}

#[test]
fn twenty_lines_and_how_to_see_the_others() {
    let lab = Lab::new();
    for number in 0..25 {
        block(&lab, &format!("site_{number}."), 100 - number);
    }
    let scan = lab.say("scan");
    assert_eq!(rows(&scan).len(), 20);
    assert_eq!(rows(&scan)[19], row("#20", "1", "site_19."));
    assert!(scan.contains("\n  ... and 5 more groups (390 bytes): kmemleak report --top 25\n"));
    let more = lab.say("report --top 24");
    assert_eq!(rows(&more).len(), 24);
    assert!(more.contains("\n  ... and 1 more group (76 bytes): kmemleak report --top 25\n"));
    assert!(!lab.say("report --top 25").contains("more"));
    assert!(
        lab.say("report --all --top 1")
            .contains(": kmemleak report --all --top 25\n")
    );
    assert!(lab.say("new --top 1").contains(": kmemleak new --top 25\n"));
    let none = lab.say("report --top 0");
    assert!(
        none.starts_with(
            "  ... and 25 more groups (2200 bytes, 2.1 KiB): kmemleak report --top 25\n"
        )
    );
    assert!(!none.contains("next: "));
    // One or the other.
    for (command, told) in [
        ("scan --full --top 3", "scan: --top does not go with --full"),
        ("new --json --full", "new: --json does not go with --full"),
        (
            "report --top 3 --json",
            "report: --json does not go with --top",
        ),
    ] {
        let answer = lab.say(command);
        assert!(answer.contains(told), "{answer}");
        assert_eq!(answer.starts_with('{'), command.contains("json"));
    }
}

#[test]
fn of_suspects_too() {
    let lab = Lab::new();
    block(&lab, "probe", 64);
    lab.machine.set_stop(Stop::Unsupported);
    let scan = lab.say("scan");
    assert!(scan.starts_with("    # suspects     bytes "), "{scan}");
    assert_eq!(rows(&scan), [row("#1", "1", "probe")]);
    assert!(scan.ends_with(", 1 suspect\nnext: kmemleak show #1\n"));
}

#[test]
fn what_is_new_counts_for_its_leader_if_that_is_new_too() {
    let lab = Lab::new();
    let (old, later) = (block(&lab, "old", 64), block(&lab, "later", 40));
    lab.hold(0, later);
    block(&lab, "pair", 8);
    lab.say("mark");
    // Owned by one that was lost before.
    lab.machine.write(old, later);
    lab.hold(0, 0);
    let (leader, owned) = (block(&lab, "pair", 8), block(&lab, "below", 100));
    lab.machine.write(leader, owned);
    let new = lab.say("new");
    let lines: Vec<&str> = new.lines().collect();
    assert_eq!(
        lines[1..4],
        [
            "   #1        1       8 B     100 B   1.0 s pair",
            "   #4        1      40 B         -   3.0 s later",
            "kmemleak: 3 objects (148 bytes) new since the mark",
        ]
    );
    assert_eq!(json(&lab, "new --json", "object").len(), 3);
}

#[test]
fn without_memory_there_are_lines_of_objects() {
    let (mut flat, mut ungrouped) = (0, 0);
    for pages in 0..40 {
        let lab = Lab::new();
        (0..8).for_each(|number| _ = block(&lab, &format!("s{number}"), 64));
        // The bootstrap pool is used up.
        lab.machine.set_metadata_budget(0);
        let fill: Vec<usize> = (0..3000).map(|_| lab.block(16)).collect();
        fill.into_iter().for_each(|start| lab.free(start));
        lab.machine.set_metadata_budget(pages);
        let summary = lab.detector.check().expect("on");
        let report = lab.say("report");
        let listed = report
            .lines()
            .filter(|line| line.contains("      64 B "))
            .count();
        assert_eq!(listed, 8, "{report}");
        let told = |what: &str| report.starts_with(&format!("kmemleak: no memory to {what}"));
        assert_eq!(
            told("tell leaders from what they own"),
            summary.leaders.is_none()
        );
        let no_groups = summary.leaders.is_some() && summary.groups.is_none();
        assert_eq!(told("group the objects by call stack"), no_groups);
        flat += usize::from(summary.leaders.is_none());
        ungrouped += usize::from(no_groups);
    }
    assert!(flat > 0 && ungrouped > 0, "{flat}, {ungrouped}");
}

#[test]
fn what_was_listed_is_shown() {
    let lab = Lab::new();
    let lost: Vec<usize> = (0..25).map(|_| block(&lab, "pair", 64)).collect();
    let owned = block(&lab, "owned", 16);
    lab.machine.write(lost[0], owned);
    lab.say("scan");
    let shown = lab.say("show #1");
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines[0],
        "group of 25 unreferenced objects (1600 bytes, 1.6 KiB) that own 1 object (16 bytes), age 1.000s to 25.000s, #1:"
    );
    assert_eq!(
        lines[2..5],
        [
            "    pair",
            "    main",
            "    # address                bytes     owned     age task"
        ]
    );
    let first = format!("   #3 {:#018x}      64 B      16 B  25.0 s test/1", lost[0]);
    assert_eq!(lines[5], first);
    let last = format!(
        "  #22 {:#018x}      64 B         -   6.0 s test/1",
        lost[19]
    );
    assert_eq!(lines[24], last);
    assert_eq!(
        lines[25..],
        [
            "  ... and 5 more objects (320 bytes): kmemleak show #1 --top 25",
            "next: kmemleak show #3"
        ]
    );
    assert_eq!(lab.say("show #1 --top 25").matches(" test/1\n").count(), 25);
    // An object, with what it owns.
    let shown = lab.say("show #3");
    assert!(shown.starts_with(&format!(
        "unreferenced object {:#018x} (size 64), #3:\n",
        lost[0]
    )));
    assert!(shown.contains("  owns 1 object (16 bytes)\n"));
    let below = format!(
        "  owns:\n    # address                bytes     owned     age task\n  #28 {owned:#018x}      16 B         -    0 ms"
    );
    assert!(shown.contains(&below), "{shown}\n{below}");
    assert!(shown.ends_with("\nnext: kmemleak why #3\n"));
    let shown = lab.say("show #28");
    assert!(
        shown.contains(&format!("  owned by {:#018x}, #3\n", lost[0])),
        "{shown}"
    );
    // A group of one leader is that leader.
    let alone = Lab::new();
    let only = block(&alone, "pair", 64);
    alone.say("scan");
    let shown = alone.say("show #1");
    assert!(
        shown.starts_with(&format!(
            "unreferenced object {only:#018x} (size 64), #2:\n"
        )),
        "{shown}"
    );
    assert!(shown.ends_with("\nnext: kmemleak why #1\n"), "{shown}");
    // A group that others own.
    let shown = lab.say("show #2");
    assert!(
        shown.starts_with("group of 1 owned object (16 bytes), #2:\n"),
        "{shown}"
    );
    assert!(shown.contains(&format!("  #28 {owned:#018x}")));
    // What is alive.
    let held = block(&lab, "held", 24);
    lab.hold(0, held);
    let objects = lab.say("objects");
    assert!(
        !objects.contains(&format!("{held:#018x}")),
        "it is too young: {objects}"
    );
    let site = json(&lab, "sites 100 --json", "site");
    let site = site
        .iter()
        .find(|site| site["backtrace"][0] == "held")
        .expect("it is alive");
    let answer = lab.say(&format!("show #{}", site["handle"]));
    assert!(
        answer.contains("the last check lists nothing of it"),
        "{answer}"
    );
    let answer = lab.say(&format!("site #{}", site["handle"]));
    let (_, handle) = answer.split_once("\n  #").expect("its object");
    let (handle, _) = handle.split_once(' ').expect("its address");
    let answer = lab.say(&format!("show #{handle}"));
    assert!(
        answer.starts_with(&format!("object {held:#018x} (size 24):\n")),
        "{answer}"
    );
    assert!(answer.ends_with(&format!("\nnext: kmemleak path #{handle}\n")));
}
