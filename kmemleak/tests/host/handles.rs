//! Handles: what they mean, how long, and where they are taken.

use std::collections::BTreeSet;

use crate::lab::{Lab, many, try_to};

fn block(lab: &Lab, function: &str, size: usize) -> usize {
    lab.machine.call_from(&[function]);
    lab.machine.advance_us(1000);
    lab.block(size)
}

#[test]
fn they_are_taken_in_place_of_addresses() {
    let lab = Lab::new();
    let (lost, lower) = (block(&lab, "lost", 64), block(&lab, "lower", 32));
    lab.machine.write(lost, lower);
    let held = block(&lab, "held", 16);
    lab.hold(3, held);
    lab.say("scan --full");
    // A group is its first leader; the object has a number of its own.
    for handle in ["#1", "#3"] {
        for command in ["dump", "holders", "path", "why"] {
            let by_address = lab.say(&format!("{command} {lost:#x}"));
            let by_handle = lab.say(&format!("{command} {handle}"));
            assert_eq!(by_handle, by_address, "{command} {handle}");
            let json = lab.say(&format!("{command} {handle} --json"));
            assert_eq!(json, lab.say(&format!("{command} {lost:#x} --json")));
        }
    }
    let objects = lab.say("objects");
    let (before, _) = objects
        .split_once(&format!(" {held:#018x}"))
        .expect("listed");
    let (_, handle) = before.rsplit_once(' ').expect("a number");
    assert_eq!(
        lab.say(&format!("path {handle}")),
        lab.say(&format!("path {held:#x}"))
    );
}

#[test]
fn a_number_stays_until_another_check_is_reported() {
    let lab = Lab::new();
    let large = block(&lab, "large", 64);
    lab.say("scan");
    let told = lab.say("show #1");
    assert!(
        told.contains(&format!("object {large:#018x} (size 64), #2:")),
        "{told}"
    );
    // A check that is not reported, as that of the background, takes no number away.
    let larger = block(&lab, "larger", 128);
    lab.say("mark");
    lab.detector.check().expect("on");
    assert!(
        lab.say("show #2")
            .starts_with(&format!("unreferenced object {large:#018x}"))
    );
    assert!(lab.say("sites").contains("\n   #1        1      64 B "));
    lab.say("report");
    assert!(
        lab.say("show #1")
            .contains(&format!("object {larger:#018x} (size 128), #3:"))
    );
    assert!(
        lab.say("show #2")
            .contains(&format!("object {large:#018x} (size 64), #4:"))
    );
    // Listed again it keeps its number.
    let full = lab.say("report --all --full");
    assert!(
        full.contains(&format!("{larger:#018x} (size 128), #3:")),
        "{full}"
    );
    assert_eq!(lab.say("report --all --full"), full);
}

#[test]
fn what_leads_to_nothing_says_why() {
    let lab = Lab::new();
    let none = "kmemleak: nothing has a number yet: `scan`, `report`, `objects` and `sites` give numbers to what they list\n";
    assert_eq!(lab.say("show #1"), none);
    let (one, other) = (block(&lab, "pair", 64), block(&lab, "pair", 64));
    lab.say("scan");
    for handle in ["#2", "#0", "#4294967295"] {
        for command in ["show", "dump", "holders", "path", "why", "site", "suppress"] {
            let answer = lab.say(&format!("{command} {handle}"));
            assert_eq!(
                answer,
                format!("kmemleak: no {handle}: only #1 has been listed\n")
            );
        }
    }
    lab.say("show #1");
    assert_eq!(
        lab.say("why #9"),
        "kmemleak: no #9: #1 to #3 have been listed\n"
    );
    // Freed since: the next leader stands for the group, as long as there is one.
    lab.free(one);
    let freed = format!("kmemleak: #2 was object {one:#018x}, which has been freed since\n");
    assert_eq!(lab.say("dump #2"), freed);
    assert!(
        lab.say("dump #1")
            .starts_with(&format!("object {other:#018x}"))
    );
    let shown = lab.say("show #2");
    assert!(shown.contains("\n  freed since\n"), "{shown}");
    assert!(lab.say("show #1").contains(", freed since\n"));
    lab.free(other);
    let gone = "kmemleak: #1 is a call stack, and the last check lists nothing of it that is still there: `site #1` shows what is alive\n";
    assert_eq!(lab.say("dump #1"), gone);
    // Another block at the same place is another object.
    lab.machine.advance_us(1);
    lab.detector.alloc(one, 64, kmemleak::AllocOptions::new());
    assert_eq!(lab.say("dump #2"), freed);
    for word in ["#", "#x", "#-1", "#+1", "#1x", "##1", "#99999999999"] {
        let answer = lab.say(&format!("show {word}"));
        let invalid = format!(
            "kmemleak: show: invalid value `{word}`: expected a number from a report, like #1\n"
        );
        assert_eq!(answer, invalid);
    }
}

#[test]
fn a_function_is_suppressed_by_its_number() {
    let lab = Lab::new();
    block(&lab, "kernel::net::open", 64);
    block(&lab, "kernel::fs::read", 32);
    lab.say("scan --full");
    assert_eq!(
        lab.say("suppress #1"),
        "kmemleak: \"kernel::net::open\" hides 1 of the 2 leaks last reported (64 B) from the next check on\n"
    );
    // By an object, with a ceiling.
    assert_eq!(
        lab.say("suppress #4:max=3"),
        "kmemleak: \"kernel::fs::read:max=3\" hides 1 of the 2 leaks last reported (32 B) from the next check on\n"
    );
    let scan = lab.say("scan");
    assert!(
        scan.contains("kmemleak: 2 objects (96 bytes) suppressed\n"),
        "{scan}"
    );
    lab.machine.call_from(&[]);
    lab.block(8);
    lab.say("scan");
    assert_eq!(
        lab.say("suppress #1"),
        "kmemleak: #1: no call stack is known of it\n"
    );
}

#[test]
fn without_memory_nothing_has_a_number() {
    let lab = Lab::new();
    (0..4000).for_each(|_| _ = lab.block(16));
    lab.detector.exhaust_metadata(true);
    let scan = lab.say("scan");
    assert!(scan.contains("\n    -        1      16 B "), "{scan}");
    assert!(!scan.contains("next: "), "{scan}");
    assert!(
        lab.say("scan --json")
            .contains("\"kind\":\"object\",\"handle\":null,")
    );
}

/// The numbers themselves are no pointers.
#[test]
fn what_has_a_number_is_lost_all_the_same() {
    let lab = Lab::new();
    let blocks: Vec<usize> = (0..50).map(|_| block(&lab, "lost", 64)).collect();
    for _ in 0..3 {
        lab.say("scan --full");
        lab.say("objects --top 100");
        assert_eq!(lab.leaks(), blocks);
    }
    lab.say("off");
    lab.say("clear");
    assert_eq!(lab.machine.metadata_pages(), 0);
}

/// Whichever request for memory is refused: a number names what it stood beside, also later, or nothing has one; and then all have
/// one.
#[test]
fn whatever_memory_is_refused_no_number_names_another_thing() {
    for first in 0..many(60) as u64 {
        let lab = Lab::new();
        let blocks: Vec<usize> = (0..40)
            .map(|index| block(&lab, &format!("f{index}"), 64))
            .collect();
        lab.leaks();
        lab.detector.refuse_metadata(first..first + 70);
        let mut listed = String::new();
        for line in [
            "report --top 40",
            "objects --top 40",
            "sites 40",
            "interior",
        ] {
            let answer = try_to(&lab.detector, line).1;
            let first_words = answer
                .lines()
                .filter_map(|line| line.split_whitespace().next());
            let numbers: Vec<&str> = first_words
                .filter(|word| word.len() > 1 && word.starts_with('#'))
                .collect();
            let different: BTreeSet<&str> = numbers.iter().copied().collect();
            assert_eq!(different.len(), numbers.len(), "{first}: {answer}");
            listed += &answer;
        }
        lab.detector.refuse_metadata(0..0);
        listed += &lab.say("objects --top 40");
        let mut numbered = 0;
        for line in listed.lines().filter(|line| line.contains(" 0x")) {
            let mut words = line.split_whitespace();
            if let Some(number) = words.next().filter(|number| number.starts_with('#')) {
                let address = words.next().expect("an address");
                let named = lab.say(&format!("dump {number}"));
                assert!(named.contains(address), "{first}: {line}: {named}");
                numbered += 1;
            }
        }
        assert!(numbered >= blocks.len(), "{first}: {numbered}");
        assert_eq!(lab.leaks(), blocks);
        assert!(lab.say("report --top 40").contains("  #40 "), "{first}");
    }
}
