//! The oracle's own tests: graphs small enough to be judged by looking at them.

use crate::opinion;
use crate::verdict::matches;
use crate::world::World;

/// What the oracle has against a script that is right.
fn agrees(text: &str) {
    assert_eq!(opinion(text), Ok(()), "{text}");
}

fn disagrees(text: &str) {
    assert!(opinion(text).is_err(), "{text}");
}

/// Three objects, to which a test adds.
const THREE: &str = "alloc A 16\nalloc B 32\nalloc C 64\n";

#[test]
fn a_block_without_pointers_is_lost() {
    agrees(&format!("{THREE}bss 0 = A\ncheck\nexpect leaks B C"));
    disagrees(&format!("{THREE}bss 0 = A\ncheck\nexpect leaks A B C"));
    disagrees(&format!("{THREE}bss 0 = A\ncheck\nexpect leaks B"));
}

#[test]
fn dead_words_hold_nothing_and_live_ones_do() {
    agrees("alloc A 100\ndead 0 = A\ncheck\nexpect leaks A\nexpect holders A none");
    agrees("alloc A 100\nstack 0 = A\ncheck\nexpect leaks none\nexpect path A stack 0");
    agrees("alloc A 100\nreg 0 = A\nstack off\ncheck\nexpect leaks A\nexpect holders A none");
}

#[test]
fn a_tree_that_loses_a_branch() {
    agrees(
        "alloc A 16\nalloc B 16\nalloc C 16\nalloc D 16\nalloc E 16\nalloc F 16\nalloc G 16\n\
         bss 0 = A\nA+0 = B\nA+8 = C\nB+0 = D\nB+8 = E\nC+0 = F\nC+8 = G\n\
         check\nexpect leaks none\nA+8 = 0\ncheck\n\
         expect direct C\nexpect indirect F G\nexpect record C 16 32\nexpect total 48 3",
    );
}

#[test]
fn rings_and_who_leads_them() {
    let ring = format!("{THREE}B+0 = A\nA+0 = C\nC+0 = B\n");
    agrees(&format!(
        "{ring}check\nexpect direct A\nexpect indirect B C\nexpect record A 16 96"
    ));
    agrees(&format!(
        "{ring}alloc D 8\nD+0 = B\ncheck\nexpect direct D\nexpect indirect A B C\nexpect record D 8 112"
    ));
    disagrees(&format!("{ring}check\nexpect direct B"));
}

#[test]
fn the_elder_leader_owns_what_two_share() {
    let shared = format!("{THREE}C+0 = A\nB+0 = A\ncheck\n");
    agrees(&format!(
        "{shared}expect direct B C\nexpect record B 32 16\nexpect record C 64 0"
    ));
    disagrees(&format!("{shared}expect record C 64 16"));
}

#[test]
fn what_is_not_scanned_owns_nothing() {
    agrees(&format!(
        "{THREE}A+0 = B\nno_scan A\ncheck\nexpect direct A B C"
    ));
    agrees(&format!(
        "{THREE}C+40 = B\nscan_area C 0 40\ncheck\nexpect direct A B C"
    ));
    agrees(&format!(
        "{THREE}C+40 = B\nscan_area C 40 8\ncheck\nexpect direct A C"
    ));
    agrees(&format!(
        "{THREE}A+0 = B\nignore A\ncheck\nexpect direct B C"
    ));
}

#[test]
fn counts_of_references() {
    let two = "alloc A 64 min_count=2\nbss 0 = A\n";
    agrees(&format!("{two}check\nexpect direct A"));
    agrees(&format!("{two}A+0 = A\ncheck\nexpect direct A"));
    agrees(&format!(
        "{two}data 0 = A+63\ncheck\nexpect leaks none\nexpect interior none"
    ));
    agrees(&format!(
        "{two}alloc B 8\nB+0 = A\ncheck\nexpect direct B\nexpect indirect A"
    ));
}

#[test]
fn the_middle_and_the_start() {
    let held = format!("{THREE}bss 0 = A+8\nA+0 = B\nB+8 = C\n");
    agrees(&format!("{held}check\nexpect interior A B C"));
    agrees(&format!("{held}bss 1 = B\ncheck\nexpect interior A"));
    agrees(&format!("{held}bss 1 = C+1\ncheck\nexpect interior A B C"));
}

#[test]
fn holders_and_paths() {
    agrees(&format!(
        "{THREE}bss 2 = A\nA+8 = B+8\ndata 1 = B\ncheck\nexpect holders B A+8 data 1"
    ));
    agrees(&format!(
        "{THREE}data 0 = A\nA+0 = B\ncheck\nexpect path B data 0 A+0"
    ));
    agrees(&format!(
        "{THREE}data 0 = A\nA+0 = B\nnot_leak A\ncheck\nexpect path B A+0"
    ));
    // Two that are as short.
    disagrees(&format!(
        "{THREE}data 0 = A\nbss 0 = A\ncheck\nexpect path A data 0"
    ));
    disagrees(&format!(
        "{THREE}data 0 = A\ndata 1 = B\nA+0 = C\nB+0 = C\ncheck\nexpect path C data 0 A+0"
    ));
}

#[test]
fn what_is_suppressed() {
    let known = "alloc A 16 site=net_rx\nalloc B 32\nalloc C 64\nA+0 = B\nC+0 = B\nsuppress net*\n";
    agrees(&format!(
        "{known}check\nexpect leaks C\nexpect record C 64 0\nexpect suppressed A B"
    ));
    agrees(&format!(
        "{known}bss 0 = A\ncheck\nexpect leaks C\nexpect suppressed none"
    ));
    for (pattern, label, fits) in [
        ("net*", "net", true),
        ("*", "net", true),
        ("net", "net", true),
        ("net", "nets", false),
        ("*net", "internet", true),
        ("a*a", "a", false),
        ("a*a", "aa", true),
        ("*b*c", "abcabc", true),
        ("*b*c", "acb", false),
        ("rx", "net::rx", true),
        ("net::rx", "a::net::rx", true),
        ("rx", "net::rx::x", false),
        ("et::rx", "net::rx", false),
        ("rx", "net:rx", false),
        ("net::*", "a::net::rx::x", true),
    ] {
        assert_eq!(matches(pattern, label), fits, "{pattern} {label}");
    }
}

#[test]
fn scans_wait() {
    agrees(&format!(
        "{THREE}scan\nexpect leaks none\nscan\nexpect leaks A B C"
    ));
    agrees(&format!(
        "{THREE}scan\nA+0 = 7\nB+0 = C\nscan\nexpect leaks none\nscan\nexpect leaks A B C"
    ));
    agrees(&format!(
        "{THREE}scan\ntransient_leak A\nscan\nexpect leaks B C"
    ));
    agrees("min_age 5\nalloc A 8\nscan\nscan\nexpect leaks none\nadvance 5\nscan\nexpect leaks A");
    // What was reported waits no more, as long as it is a leak.
    agrees(&format!(
        "{THREE}scan\nscan\nA+0 = 7\nmin_age 1000\nscan\nexpect leaks A B C\n\
         bss 0 = A\nscan\nexpect leaks B C\nbss 0 = 0\nscan\nexpect leaks B C"
    ));
    agrees(&format!(
        "{THREE}scan\nscan\ntransient_leak A\nscan\nexpect leaks B C\nscan\nexpect leaks A B C"
    ));
}

#[test]
fn marks() {
    agrees(&format!(
        "{THREE}bss 0 = B\ncheck\nmark\nbss 0 = 0\nfree A\ncheck\nexpect new B\nexpect growth A -16 -1"
    ));
    agrees("alloc A 8\ncheck\nmark\nfree A\nalloc A 8\ncheck\nexpect new A\nexpect growth A 0 0");
}

#[test]
fn parts_and_moves() {
    agrees(
        "alloc A 16384 from=pages\nalloc B 64\nbss 0 = A\nA+12288 = B\nfree_part A 4096 4096\ncheck\n\
         expect direct A.tail\nexpect indirect B\nexpect record A.tail 8192 64\n\
         bss 1 = A+12288\ncheck\nexpect leaks none\nexpect interior A.tail B",
    );
    agrees(&format!(
        "{THREE}A+0 = B\nB+0 = A\nrealloc A 40\nB+0 = A\ncheck\nexpect direct B C\nexpect record B 32 40"
    ));
}

#[test]
fn what_scripts_must_not_do() {
    // To give out memory while something points at what was freed.
    disagrees("alloc A 8\nbss 0 = A\nfree A\nalloc B 8");
    disagrees("alloc A 8\nbss 0 = A\nrealloc A 16\nalloc B 8");
    disagrees("alloc A 8192 from=pages\nbss 0 = A+4096\nfree_part A 4096 4096\nalloc B 8");
    agrees("alloc A 8\nbss 0 = A\nfree A\nerase bss 0\nalloc B 8\ncheck\nexpect leaks B");
    // To point where a neighbour may be.
    disagrees("alloc A 8\nalloc B 8\nbss 0 = end A\ncheck");
    disagrees("alloc A 8\nalloc B 8\nbss 0 = A-8\ncheck");
    agrees("alloc A 9\nalloc B 8\nbss 0 = end A\ncheck\nexpect leaks A B");
    agrees("alloc A 8\nbss 0 = A-8\ncheck\nexpect leaks A");
    // To expect what is not about the last verdict.
    disagrees("alloc A 8\ncheck\nbss 0 = A\nexpect leaks A");
    agrees("alloc A 8\ncheck\nmark\nexpect leaks A");
}

#[test]
fn stale_words_are_named() {
    let mut world = World::default();
    for line in [
        "alloc A 8",
        "alloc B 8",
        "B+0 = A",
        "data 3 = A",
        "dead 1 = B",
        "free A",
    ] {
        world.line(line).expect("a statement");
    }
    let stale = world.stale();
    let written: Vec<String> = stale.iter().map(|&slot| world.written(slot)).collect();
    assert_eq!(written, ["data 3", "B+0"]);
}

#[test]
fn tasks_that_wait_for_each_other() {
    let two = format!("{THREE}bss 0 = A\nbss 1 = B\nA+0 = C\nblocked A on C+8\n");
    agrees(&format!("{two}expect lost A\nexpect retains A 80 2"));
    disagrees(&format!("{two}expect lost none"));
    disagrees(&format!("{two}expect retains A 16 1"));
    agrees(&format!("{two}B+0 = C\nexpect lost none"));
    disagrees(&format!("{two}B+0 = C\nexpect retains A 80 2"));
    agrees(&format!(
        "{two}B+0 = C\nblocked B on C\nexpect lost A B\nexpect retains A 16 1"
    ));
    agrees(&format!("{two}blocked B on end A\nexpect lost A B"));
    agrees(&format!(
        "{two}blocked B on end A\nwoken A\nexpect lost none"
    ));
    agrees(&format!(
        "{two}blocked B on end A\nbss 0 = 0\nfree A\nexpect lost none"
    ));
    agrees(&format!(
        "{two}bss 2 = C+63\nexpect lost none\ntask_list B\nexpect lost none"
    ));
    agrees(&format!("{two}B+0 = C\ntask_list B\nexpect lost A"));
    agrees(&format!(
        "{two}dead 0 = C\nreg 0 = C\nblocked on C\nstack off\nexpect lost A parked"
    ));
    agrees(&format!("{two}reg 0 = C\nstack off\nexpect lost none"));
    agrees(&format!("{two}no_scan A\nexpect retains A 16 1"));
}

#[test]
fn tasks_have_one_copy_and_wait_for_memory() {
    disagrees("alloc A 16 from=percpu\nblocked A on bss 0");
    disagrees("alloc A 16 from=percpu\ntask_list A");
    agrees("alloc A 16 from=percpu\nalloc B 8\nblocked B on A[1]+8\nexpect lost B");
    disagrees("alloc A 8\nalloc B 8\nblocked B on A\nfree A\nalloc C 8");
    agrees("alloc A 8\nalloc B 8\nblocked B on A\nfree A\nwoken B\nalloc C 8\nexpect lost none");
    // The name alone makes no task.
    agrees("alloc A 8\nalloc B 8\nblocked A on B\nfree A\nalloc A 8\nexpect lost none");
    agrees(
        "alloc A 8\nalloc B 8\nblocked A on B\nrealloc A 16\nexpect lost A\nexpect retains A 16 1",
    );
    // Nothing was kept of it.
    disagrees("metadata off\nalloc A 8\nmetadata on\nalloc B 8\nblocked B on A\nexpect lost none");
}

#[test]
fn cycles_of_leaks() {
    let ring = format!("{THREE}A+0 = C\nC+0 = B\nB+0 = A+15\ncheck\n");
    agrees(&format!("{ring}expect cycle A A C B\nexpect cycle B none"));
    disagrees(&format!("{ring}expect cycle A C B A"));
    disagrees(&format!("{ring}expect cycle A none"));
    agrees(&format!("{THREE}A+0 = A\ncheck\nexpect cycle A none"));
    agrees(&format!(
        "{THREE}A+0 = B\nB+0 = A\nB+8 = C\nC+0 = A\ncheck\nexpect cycle A A B"
    ));
    // Two that are as short, and one that is scanned in part.
    disagrees(&format!(
        "{THREE}A+0 = B\nB+0 = A\nA+8 = C\nC+0 = A\ncheck\nexpect cycle A A B"
    ));
    disagrees(&format!(
        "{THREE}A+0 = B\nB+0 = A\nscan_area B 0 8\ncheck\nexpect cycle A A B"
    ));
}

#[test]
fn types_as_reports_write_them() {
    for (text, written) in [
        ("kernel::Node", "kernel::Node"),
        ("[u8;24]", "[u8;24]"),
        ("alloc::sync::ArcInner<kernel::Task>", "Arc<kernel::Task>"),
        (
            "alloc::rc::RcInner<[alloc::string::String;2]>",
            "Rc<[String;2]>",
        ),
        (
            "core::option::Option<alloc::sync::ArcInner<u8>>",
            "Option<ArcInner<u8>>",
        ),
    ] {
        let block = format!("alloc A 24 type={text} site=push\nalloc B 24 site=push\n");
        agrees(&format!(
            "{block}expect type A {written}\nexpect type B none"
        ));
        agrees(&format!(
            "{block}update_trace A site=push\nexpect type A none"
        ));
        agrees(&format!(
            "{block}realloc A 32\nexpect type A {written}\ncheck\nexpect groups 2"
        ));
        disagrees(&format!("{block}expect type A none"));
    }
    agrees("alloc A 24 counted site=push\nexpect type A Arc<push>");
    // A pattern sees the constructor as well.
    agrees("alloc A 24 type=usb::Urb\nsuppress Box*\ncheck\nexpect suppressed A");
    agrees("alloc A 24 type=usb::Urb\nsuppress Urb>\ncheck\nexpect suppressed A");
    agrees("alloc A 24 type=usb::Urb\nsuppress Urb\ncheck\nexpect suppressed none");
}
