//! Groups: leaks by call stack, the order in which they are reported, and their sums.

use serde_json::Value;

use crate::lab::{Lab, many};

fn block(lab: &Lab, function: &str, size: usize) -> usize {
    lab.machine.call_from(&[function, "main"]);
    lab.machine.advance_us(999_999);
    lab.block(size)
}

/// The lines of this kind.
fn json(lab: &Lab, command: &str, kind: &str) -> Vec<Value> {
    let answer = lab.say(command);
    let values = answer
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    values
        .filter(|value: &Value| value["kind"] == kind)
        .collect()
}

/// Starts of the objects in a text report, in its order.
fn told(report: &str) -> Vec<usize> {
    let lines = report.lines();
    lines
        .filter_map(|line| {
            let line = line
                .strip_prefix("unreferenced")
                .or(line.strip_prefix("suspected"))?;
            line.strip_prefix(" object 0x")
        })
        .map(|rest| usize::from_str_radix(&rest[..16], 16).expect("an address"))
        .collect()
}

#[test]
fn by_what_is_at_stake_and_those_that_others_own_last() {
    let lab = Lab::new();
    let leaf = block(&lab, "leaf", 4000);
    let small = block(&lab, "small", 64);
    let (one, other) = (block(&lab, "pair", 56), block(&lab, "pair", 56));
    let owner = block(&lab, "owner", 8);
    let tiny = block(&lab, "tiny_leaf", 8);
    lab.machine.write(owner, leaf);
    lab.machine.write(small, tiny);
    lab.leaks();
    assert_eq!(told(&lab.report()), [owner, one, other, small]);
    assert_eq!(
        told(&lab.say("report --all --full")),
        [owner, leaf, one, other, small, tiny]
    );
    let groups = json(&lab, "report --json", "group");
    let names: Vec<&str> = groups
        .iter()
        .map(|group| group["backtrace"][0].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["owner", "pair", "small", "leaf", "tiny_leaf"]);
    let figures = |place: usize| {
        [
            "leaders",
            "leader_bytes",
            "owned_objects",
            "owned_bytes",
            "objects",
            "bytes",
        ]
        .map(|name| groups[place][name].as_u64().expect("a number"))
    };
    assert_eq!(figures(0), [1, 8, 1, 4000, 1, 8]);
    assert_eq!(figures(1), [2, 112, 0, 0, 2, 112]);
    assert_eq!(figures(2), [1, 64, 1, 8, 1, 64]);
    assert_eq!(figures(3), [0, 0, 0, 0, 1, 4000]);
}

#[test]
fn ties_are_told_of_in_the_order_of_allocation() {
    let lab = Lab::new();
    let blocks: Vec<usize> = (0..20)
        .map(|number| block(&lab, &format!("site_{}", (number * 7) % 20), 64))
        .collect();
    lab.leaks();
    assert_eq!(told(&lab.report()), blocks);
}

#[test]
fn sums_are_the_totals() {
    let lab = Lab::new();
    let blocks: Vec<usize> = (0..many(600))
        .map(|number| {
            block(
                &lab,
                &format!("site_{}", number % 37),
                16 + 8 * (number % 5),
            )
        })
        .collect();
    for (number, &start) in blocks.iter().enumerate() {
        if number % 3 == 0 {
            lab.machine
                .write(start, blocks[(number * 31 + 7) % blocks.len()]);
        }
    }
    let summary = lab.detector.check().expect("on");
    let groups = json(&lab, "report --json", "group");
    let sum = |name: &str| -> u64 {
        groups
            .iter()
            .map(|group| group[name].as_u64().expect("a number"))
            .sum()
    };
    assert_eq!(groups.len(), summary.groups.expect("memory"));
    assert_eq!(sum("objects"), summary.objects as u64);
    assert_eq!(sum("bytes"), summary.bytes as u64);
    assert_eq!(sum("leaders"), summary.leaders.expect("memory") as u64);
    assert_eq!(sum("leader_bytes"), summary.leader_bytes as u64);
    assert_eq!(sum("leaders") + sum("owned_objects"), sum("objects"));
    assert_eq!(sum("leader_bytes") + sum("owned_bytes"), sum("bytes"));
    let mut all = told(&lab.say("report --all --full"));
    assert_eq!(all.len(), blocks.len());
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), blocks.len(), "each once");
    assert_eq!(told(&lab.report()).len(), sum("leaders") as usize);
    // Each leader comes with what it owns behind it.
    let objects = json(&lab, "report --all --json", "object");
    let mut leader = Value::Null;
    for object in &objects {
        if object["rank"] == "leader" {
            leader = object["address"].clone();
        } else {
            assert_eq!(object["leader"], leader);
        }
    }
}

#[test]
fn one_of_several_leaders_is_headed_by_its_group() {
    let lab = Lab::new();
    let (one, other) = (block(&lab, "pair", 64), block(&lab, "pair", 64));
    let lone = block(&lab, "lone", 32);
    let owned = block(&lab, "owned", 16);
    lab.machine.write(other, owned);
    lab.machine.advance_us(999_999);
    lab.leaks();
    let report = lab.report();
    let crc = |name: &str| {
        let (before, _) = report
            .split_once(&format!(":\n    {name}\n"))
            .expect("it is there");
        before[before.len() - 9..before.len() - 1].to_owned()
    };
    let (pair, single) = (crc("pair"), crc("lone"));
    let zeros = format!("    {} ................\n", "00 ".repeat(16));
    // Lines that are equal are told once.
    let all_zeros = format!("{zeros}    *\n");
    let word = {
        let bytes = owned.to_le_bytes();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x} ")).collect();
        let text: String = bytes
            .iter()
            .map(|&byte| {
                if (32..127).contains(&byte) {
                    byte as char
                } else {
                    '.'
                }
            })
            .collect();
        format!("    {hex}{} {text}........\n{}", "00 ".repeat(8), zeros)
    };
    let expected = format!(
        "\
group of 2 unreferenced objects (128 bytes) that own 1 object (16 bytes), age 3.000s to 4.000s, #1:
  backtrace (crc {pair}):
    pair
    main
unreferenced object {one:#018x} (size 64), #4:
  comm \"test\", pid 1, cpu 0, age 4.000s
  hex dump (first 32 bytes):
{}  backtrace (crc {pair}): as above
unreferenced object {other:#018x} (size 64), #5:
  comm \"test\", pid 1, cpu 0, age 3.000s
  owns 1 object (16 bytes)
  hex dump (first 32 bytes):
{word}  backtrace (crc {pair}): as above
unreferenced object {lone:#018x} (size 32), #6:
  comm \"test\", pid 1, cpu 0, age 2.000s
  hex dump (first 32 bytes):
{}  backtrace (crc {single}):
    lone
    main
kmemleak: 3 leaders (160 bytes) from 2 call stacks; they own 1 object (16 bytes) from 1 more call stack
kmemleak: 4 unreferenced objects (176 bytes)
",
        all_zeros, all_zeros
    );
    assert_eq!(report, expected);
}

#[test]
fn a_group_is_as_old_as_its_objects() {
    let lab = Lab::new();
    for _ in 0..3 {
        block(&lab, "site", 8);
    }
    block(&lab, "other", 8);
    lab.leaks();
    let groups = json(&lab, "report --json", "group");
    let ages = |place: usize| {
        (
            groups[place]["newest_age_us"].clone(),
            groups[place]["oldest_age_us"].clone(),
        )
    };
    assert_eq!(ages(0), (1_000_001.into(), 3_000_001.into()));
    assert_eq!(ages(1), (1.into(), 1.into()));
}

#[test]
fn a_new_call_stack_moves_an_object_to_another_group() {
    let lab = Lab::new();
    let (one, other) = (block(&lab, "pool", 64), block(&lab, "pool", 64));
    assert_eq!(lab.detector.check().expect("on").groups, Some(1));
    lab.machine.call_from(&["user"]);
    lab.detector.update_trace(other);
    assert_eq!(lab.detector.check().expect("on").groups, Some(2));
    let groups = json(&lab, "report --json", "group");
    assert_eq!(groups[0]["backtrace"][0], "pool");
    assert_eq!(groups[1]["backtrace"][0], "user");
    lab.detector.update_trace(one);
    let summary = lab.detector.check().expect("on");
    assert_eq!((summary.groups, summary.objects), (Some(1), 2));
    assert_eq!(
        json(&lab, "report --json", "group")[0]["backtrace"][0],
        "user"
    );
}

#[test]
fn without_a_call_stack_is_a_group_too() {
    let lab = Lab::new();
    (0..2).for_each(|_| _ = lab.block(64));
    lab.leaks();
    assert!(lab.report().starts_with(
        "group of 2 unreferenced objects (128 bytes), age 0.000s to 0.000s, #1:\n  backtrace: none recorded\n"
    ));
}

#[test]
fn without_memory_for_groups_all_leaders_are_told_of() {
    let mut seen = 0;
    for pages in 0..40 {
        let lab = Lab::new();
        let blocks: Vec<usize> = (0..8)
            .map(|number| block(&lab, &format!("s{number}"), 64))
            .collect();
        // The bootstrap pool is used up.
        lab.machine.set_metadata_budget(0);
        let fill: Vec<usize> = (0..3000).map(|_| lab.block(16)).collect();
        fill.into_iter().for_each(|start| lab.free(start));
        lab.machine.set_metadata_budget(pages);
        let summary = lab.detector.check().expect("on");
        assert_eq!((summary.listed(), summary.listed_bytes()), (8, 512));
        let report = lab.report();
        let mut starts = told(&report);
        starts.sort_unstable();
        assert_eq!(starts, blocks);
        let ungrouped = summary.leaders.is_some() && summary.groups.is_none();
        assert_eq!(
            report.contains("kmemleak: no memory to group the objects by call stack\n"),
            ungrouped
        );
        if ungrouped {
            assert_eq!(json(&lab, "report --json", "group"), [] as [Value; 0]);
            assert_eq!(
                json(&lab, "report --json", "summary")[0]["groups"],
                Value::Null
            );
            seen += 1;
        }
    }
    assert!(seen > 0, "room for the list, and none for the groups");
}

#[test]
fn many_call_stacks_are_told_apart() {
    let lab = Lab::new();
    let count = many(6000);
    for round in 0..2 {
        for number in 0..count {
            lab.machine.call_from(&[&format!("site_{number}")]);
            if number % 2 == round || number % 3 == 0 {
                lab.block(8);
            }
        }
    }
    let blocks = lab.tracked();
    let summary = lab.detector.check().expect("on");
    assert_eq!(summary.groups, Some(count));
    let groups = json(&lab, "report --json", "group");
    let mut names: Vec<&str> = groups
        .iter()
        .map(|group| group["backtrace"][0].as_str().expect("a name"))
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    let sum = |values: &[Value], name: &str| -> u64 {
        let values = values.iter().map(|value| value[name].as_u64());
        values.map(|value| value.expect("a number")).sum()
    };
    assert_eq!(sum(&groups, "objects"), blocks as u64);
    let sites = json(&lab, "sites 100000 --json", "site");
    assert_eq!(sites.len(), count);
    assert_eq!(sum(&sites, "objects"), blocks as u64);
}
