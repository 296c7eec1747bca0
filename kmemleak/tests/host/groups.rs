//! Groups: how old they are, and which of them a report has a line for.

use kmemleak::Group;

use crate::lab::Lab;

/// A lost block that this function allocated, a second after the one before.
fn lose(lab: &Lab, function: &str, size: usize) -> usize {
    lab.machine.call_from(&[function, "caller"]);
    lab.machine.advance_us(999_999);
    lab.block(size)
}

/// The group of the blocks that a function allocated, in the order of reports.
fn groups(lab: &Lab) -> Vec<Group> {
    lab.leaks();
    let mut groups = Vec::new();
    lab.detector
        .for_each_group(&mut |group, _| groups.push(*group))
        .expect("asked from outside");
    groups
}

/// The lines of a report's table: count, bytes, owned bytes, age and function, with one space between two of them.
fn lines(lab: &Lab, command: &str) -> Vec<String> {
    let report = lab.say(command);
    let lines = report.lines().filter(|line| line.starts_with("   #"));
    let words = lines.map(|line| line.split_whitespace().skip(1));
    words
        .map(|words| words.collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn the_age_of_a_group_is_that_of_its_leaders() {
    let lab = Lab::new();
    // Owned before and after the leaders, all from one call stack.
    let blocks: Vec<usize> = (0..4).map(|_| lose(&lab, "mixed", 64)).collect();
    lab.machine.write(blocks[1], blocks[0]);
    lab.machine.write(blocks[2], blocks[3]);
    let [group] = groups(&lab)[..] else {
        panic!("one call stack");
    };
    assert_eq!((group.leaders, group.owned_objects), (2, 2));
    let (oldest, newest) = (group.oldest_us, group.newest_us);
    assert_eq!(newest - oldest, 1_000_000);
    // Only what leads counts, so the last one may go.
    lab.machine.write(blocks[2], 0);
    lab.free(blocks[3]);
    let [group] = groups(&lab)[..] else {
        panic!("one call stack");
    };
    assert_eq!((group.oldest_us, group.newest_us), (oldest, newest));
    lab.free(blocks[1]);
    let [group] = groups(&lab)[..] else {
        panic!("one call stack");
    };
    assert_eq!(
        (group.oldest_us, group.newest_us),
        (oldest - 1_000_000, newest),
        "the first one leads now"
    );
}

#[test]
fn the_age_of_a_group_without_leaders_is_that_of_its_objects() {
    let lab = Lab::new();
    let owned: Vec<usize> = (0..3).map(|_| lose(&lab, "owned", 64)).collect();
    let owner = lose(&lab, "owner", 64);
    for (place, &block) in owned.iter().enumerate() {
        lab.machine.write(owner + 8 * place, block);
    }
    let [first, second] = groups(&lab)[..] else {
        panic!("two call stacks");
    };
    assert_eq!((first.leaders, second.leaders), (1, 0));
    assert_eq!(second.newest_us - second.oldest_us, 2_000_000);
    assert_eq!(first.newest_us, first.oldest_us);
    assert_eq!(first.oldest_us - second.newest_us, 1_000_000);
}

#[test]
fn a_report_has_a_line_for_each_group_that_its_objects_come_from() {
    let lab = Lab::new();
    let owned = lose(&lab, "owned", 48);
    let owner = lose(&lab, "owner", 16);
    lab.machine.write(owner, owned);
    lose(&lab, "single", 32);
    lab.leaks();
    let leaders = ["1 16 B 48 B 1.0 s owner", "1 32 B - 0 ms single"];
    assert_eq!(lines(&lab, "report"), leaders);
    let all = [
        "1 48 B 2.0 s owned",
        "1 32 B 0 ms single",
        "1 16 B 1.0 s owner",
    ];
    assert_eq!(lines(&lab, "report --all"), all);
    assert_eq!(lines(&lab, "report"), leaders, "nothing of that is left");
    lab.say("mark");
    // Each new object counts for itself, but for one that another new one owns.
    let more: Vec<usize> = (0..2).map(|_| lose(&lab, "single", 32)).collect();
    let fresh = lose(&lab, "fresh", 8);
    lab.machine.write(more[1], fresh);
    let new = ["2 64 B 8 B 2.0 s single"];
    assert_eq!(lines(&lab, "new"), new);
    lab.machine.write(more[1], 0);
    let new = ["2 64 B - 2.0 s single", "1 8 B - 0 ms fresh"];
    assert_eq!(lines(&lab, "new"), new);
}

#[test]
fn the_order_is_that_of_what_is_lost_with_a_groups_leaders() {
    let lab = Lab::new();
    let large = lose(&lab, "large", 128);
    let (few, many) = (lose(&lab, "few", 16), lose(&lab, "many", 64));
    let (leaf, leaves) = (lose(&lab, "leaf", 24), lose(&lab, "leaf", 256));
    lab.machine.write(few, leaf);
    lab.machine.write(many, leaves);
    let at_stake = |group: &Group| group.leader_bytes + group.owned_bytes;
    let groups = groups(&lab);
    let sums: Vec<usize> = groups.iter().map(at_stake).collect();
    assert_eq!(sums, [64 + 256, 128, 16 + 24, 0]);
    assert_eq!(lab.listed(), [large, few, many, leaf, leaves]);
}

#[test]
fn a_leader_to_which_others_lead_back_is_in_a_cycle() {
    let lab = Lab::new();
    let (first, second) = (lose(&lab, "first", 64), lose(&lab, "second", 64));
    let in_cycle = |from: usize, to: usize| {
        for block in [first, second] {
            lab.machine.write(block, 0);
        }
        lab.machine.write(first + 8, second);
        lab.machine.write(from, to);
        lab.say("scan --full").contains("in a cycle")
    };
    assert!(in_cycle(second, first));
    assert!(!in_cycle(first, first), "to itself");
    assert!(!in_cycle(second, second));
    assert!(!in_cycle(first, second));
}
